"""Official data sets by name: where their files come from, where they lie and how they are checked."""

import json
import os
import re
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from rich.filesize import decimal

from hepgen.errors import HepgenError
from hepgen.registry import look_up, unknown_name
from hepgen.storage import atomic

__all__ = [
    "PREFIX",
    "DataSet",
    "File",
    "catalogue",
    "fetch",
    "files",
    "folder",
    "official_name",
    "overview",
    "require",
    "select",
]

URL = "https://zenodo.org/records/{record}/files/{name}?download=1"
# What a sample's path to a data set begins with.
PREFIX = "dataset:"

Checksum = Annotated[str, Field(pattern="^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|adler32:[0-9a-f]{8})$")]


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Block):
    """What is known of a file, or of numbered files: size in bytes, checksum, and who states them."""

    size: int | None = None
    about: str | None = None
    checksum: Checksum | None = None
    source: str | None = None
    numbers: tuple[int, int] | None = None


class File(Entry):
    """One file of a data set."""

    dataset: str
    record: int
    name: str
    energyflow: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return URL.format(record=self.record, name=self.name)

    def stated_checksum(self) -> str | None:
        """The checksum that a source states, such as ``md5:271c…``; None if none does."""
        return self.checksum or (_energyflow_checksum(*self.energyflow) if self.energyflow else None)


class DataSet(Block):
    """Files of one record that can be read together."""

    title: str
    record: int
    energyflow: tuple[str, ...] = ()
    files: dict[str, Entry]

    @property
    def doi(self) -> str:
        return f"10.5281/zenodo.{self.record}"

    def expanded(self, dataset: str) -> list[File]:
        """All files, numbered ones one by one."""
        named: dict[str, Entry] = {}
        for name, entry in self.files.items():
            first, last = entry.numbers or (0, 0)
            named |= {name.format(number): entry for number in range(first, last + 1)}
        known = {"dataset": dataset, "record": self.record}
        return [
            File(
                **entry.model_dump(), **known, name=name, energyflow=self.energyflow and (*self.energyflow, str(index))
            )
            for index, (name, entry) in enumerate(named.items())
        ]


def _energyflow_checksum(module: str, *keys: str) -> str:
    """A file's sha256 as the energyflow package states it; the last key is the file's number."""
    import energyflow

    *keys, number = keys
    if module == "qg_jets":
        hashes = energyflow.datasets.qg_jets.HASHES
    else:
        hashes = json.loads(resources.files(energyflow).joinpath("data/ZjetsDelphes.json").read_text())["hashes"]
    for key in keys:
        hashes = hashes[key]
    return f"sha256:{hashes['sha256'][int(number)]}"


@cache
def catalogue() -> dict[str, DataSet]:
    """All data sets that have a name."""
    content = resources.files("hepgen").joinpath("datasets.yaml").read_text()
    return TypeAdapter(dict[str, DataSet]).validate_python(yaml.safe_load(content))


@cache
def _files(dataset: str) -> list[File]:
    return look_up("data set", dataset, catalogue()).expanded(dataset)


def folder() -> Path:
    """Where data sets lie: the folder that HEPGEN_DATA names, else ``data`` in the current one."""
    return Path(os.environ.get("HEPGEN_DATA") or "data")


def select(name: str) -> list[File]:
    """The files of a data set, or those that match the pattern after its name, as in ``qg_jets/QG_jets_1?.npz``.

    Raises:
        HepgenError: if there is no such data set, or the pattern matches none of its files.
    """
    dataset, _, pattern = name.partition("/")
    found = [file for file in _files(dataset) if fnmatchcase(file.name, pattern or "*")]
    if not found:
        raise unknown_name(f"file of data set {dataset!r}", pattern, [file.name for file in _files(dataset)])
    return found


def files(name: str) -> list[str]:
    """Where the selected files of a data set lie or are going to lie; see `select` and `folder`."""
    return [str(folder() / file.dataset / file.name) for file in select(name)]


def official_name(path: str) -> str:
    """``NAME/FILE`` of a path in the folder of data sets; empty if it is no file of a data set."""
    name = os.path.relpath(path or os.curdir, folder())
    dataset, _, file = name.partition("/")
    return name if dataset in catalogue() and file in {known.name for known in _files(dataset)} else ""


def require(path: str) -> None:
    """Raise `HepgenError` for a file of a data set that is not here: it says how to get it."""
    name = official_name(path)
    if name and not Path(path).exists():
        msg = f"{path}: not here yet; run `hepgen fetch {name}` where there is a connection to the internet"
        raise HepgenError(msg)


def fetch(file: File, root: Path) -> str:
    """Get a file unless it is there, and check it: against the stated checksum or that of the first download.

    Without a stated checksum, the sha256 of what was downloaded is recorded in ``<file>.sha256`` (the format of
    sha256sum) and holds from then on. A file that is there is checked without contacting anyone; where it came from
    otherwise, and no source states a checksum, there is nothing to check it against but a stated size.

    Args:
        file: What to get.
        root: Folder of all data sets; the file goes to ``<root>/<data set>/<name>``.

    Returns:
        One line: path, size and checksum.

    Raises:
        HepgenError: if the file cannot be got, or is not the right one.
    """
    # Imported here: every command imports this module, and few need the web.
    from hepgen.download import digest, download, mismatch

    path = root / file.dataset / file.name
    record = path.with_name(f"{path.name}.sha256")
    stated = file.stated_checksum()
    known = stated or _recorded(record)
    there = path.is_file()
    if not there:
        _refuse_others(path)
        download(file.url, path, size=file.size, checksum=known)
    elif wrong := mismatch(path, file.size, known):
        against = "" if stated or not known else f", which was recorded in {record}"
        msg = f"{path}: is not the official file: {wrong}{against}; move it away and run `hepgen fetch` again"
        raise HepgenError(msg)
    remark = "as stated" if stated else "as recorded before"
    if known is None:
        known = f"sha256:{digest(path, 'sha256')}"
        remark = f"nothing to check it against{' but its size' if file.size else ''}: no source states a checksum"
        if not there:
            remark = f"recorded in {record.name}; no source states one"
            with atomic(record) as temporary:
                temporary.write_text(f"{known.removeprefix('sha256:')}  {path.name}\n")
    return f"{path}: {decimal(path.stat().st_size)}, {known.replace(':', ' ')} ({remark})"


def _refuse_others(path: Path) -> None:
    """Raise `HepgenError` if a folder or anything else stands where a file should come."""
    if path.exists() or path.is_symlink():
        msg = f"{path}: is no file, but a folder, a broken link or a device; move it away"
        raise HepgenError(msg)


def _recorded(record: Path) -> str | None:
    """The checksum that was recorded at the first download, if there was one."""
    try:
        found = re.match(r"[0-9a-f]{64}\b", record.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        found = None
    if found is None:
        msg = f"{record}: holds no sha256 in the format of sha256sum; remove it to have it written anew"
        raise HepgenError(msg)
    return f"sha256:{found[0]}"


def overview() -> list[tuple[str, ...]]:
    """All data sets as rows of text: name, title, number of files, size, DOI and how many of the files are here."""
    rows = [("name", "title", "files", "size", "DOI", "here")]
    for name, dataset in catalogue().items():
        here = sum(Path(path).is_file() for path in files(name))
        count = len(_files(name))
        rows.append((name, dataset.title, str(count), _size(_files(name)), dataset.doi, f"{here} of {count}"))
    return rows


def _size(files: list[File]) -> str:
    """The size of files as far as it is known."""
    if all(file.size for file in files):
        return decimal(sum(file.size for file in files))
    return f"about {files[0].about}" if len(files) == 1 and files[0].about else "not stated"
