"""From files to a description and a configuration that has been tried on them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hepgen import datasets
from hepgen.errors import HepgenError
from hepgen.inputs import check_file, expand, is_remote
from hepgen.inspection.arrays import inspect_csv, inspect_hdf5, inspect_numpy, inspect_parquet
from hepgen.inspection.findings import COMMON, Finding, Kind
from hepgen.inspection.names import as_name
from hepgen.inspection.text import inspect_hepmc, inspect_lhe
from hepgen.inspection.trees import inspect_root
from hepgen.inspection.trial import Trial, attempt
from hepgen.samples import Name
from hepgen.sources.generators import open_text

__all__ = ["Inspection", "inspect"]

HEAD = 4096
# How files begin, and who reads those; the first that fits.
MAGIC: list[tuple[bytes, Callable[[str], Finding]]] = [
    (b"root", inspect_root),
    (b"\x89HDF\r\n\x1a\n", inspect_hdf5),
    (b"\x93NUMPY", inspect_numpy),
    (b"PK\x03\x04", inspect_numpy),
    (b"PAR1", inspect_parquet),
]
KNOWN = (
    "ROOT files (Delphes, NanoAOD, PFNano, PHYSLITE, EDM4hep, flat trees), HepMC, LHE, HDF5 (LHC Olympics, JetNet, "
    "top tagging, tables), .npy, .npz (EnergyFlow, tables, padded particles), .csv, .parquet"
)


@dataclass
class Inspection:
    """What one or several files of one kind are.

    Attributes:
        findings: What each file is.
        name: The sample's name.
        trials: Of each file, how the chosen reading went; empty where none works or none is needed.
        others: What else the files can be read as, with the option that does.
        failed: Readings that do not work, and why.
        repeated: How many of the events looked at occur more than once.
    """

    findings: list[Finding]
    name: str
    trials: list[Trial] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    repeated: int = 0

    @property
    def needs_entry(self) -> bool:
        """Whether these are inputs, rather than products of hepgen."""
        return not self.findings[0].kind.startswith("hepgen's")


def inspect(paths: Sequence[str], name: str | None = None, kind: Kind | None = None) -> Inspection:
    """Look at the first events of files, and try on them what a configuration could say.

    Args:
        paths: Files of one kind, patterns or addresses.
        name: What to call the sample; else it is made from the first file's name.
        kind: What to read, where there is a choice.

    Raises:
        HepgenError: if the name is none that a configuration takes, a file is missing, damaged or of no known kind,
            or the files are of several kinds.
    """
    if name is not None:
        _check_name(name)
    files = expand(list(paths))
    findings = [_identify(file) for file in files]
    kinds = {finding.kind: finding.path for finding in findings}
    if len(kinds) > 1:
        found = "; ".join(f"{path} is {kind}" for kind, path in kinds.items())
        msg = f"the files are of different kinds, so they cannot be one sample: {found}; inspect them one by one"
        raise HepgenError(msg)
    found = Inspection(findings, name or as_name(Path(files[0]).name.partition(".")[0]))
    _choose(found, kind)
    found.repeated = _repeated(found.trials)
    return found


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        msg = f"{name!r} cannot be the name of a sample: use letters, digits and _, a letter first"
        raise HepgenError(msg) from error


def _identify(path: str) -> Finding:
    """What a file is, by how it begins.

    Raises:
        HepgenError: if that is nothing known; the message says what it begins with.
    """
    if is_remote(path):
        return inspect_root(path)
    datasets.require(path)
    check_file(path)
    if os.stat(path).st_size == 0:  # noqa: PTH116 - paths are strings here
        msg = f"{path}: is empty"
        raise HepgenError(msg)
    with open(path, "rb") as file:  # noqa: PTH123 - paths are strings here
        head = file.read(HEAD)
    for magic, reader in MAGIC:
        if head.startswith(magic):
            return reader(path)
    return _identify_text(path, head)


def _identify_text(path: str, head: bytes) -> Finding:
    with open_text(path, "compressed") as file:
        content = file.read(HEAD)
    if b"HepMC::" in content:
        return inspect_hepmc(path)
    if b"<LesHouchesEvents" in content:
        return inspect_lhe(path)
    if Path(path).suffix == ".csv":
        return inspect_csv(path)
    msg = f"{path}: begins with {head[:16]!r}, which is no known kind of file; known: {KNOWN}"
    raise HepgenError(msg)


def _choose(found: Inspection, kind: Kind | None) -> None:
    """Take the first reading that works and finds something in most events; else the one that finds most."""
    first = found.findings[0]
    readings = [reading for reading in first.readings if kind in (None, reading.kind)]
    if kind and first.readings and not readings:
        known = ", ".join(dict.fromkeys(reading.kind for reading in first.readings))
        msg = f"{first.path}: cannot be read as {kind}, only as {known}"
        raise HepgenError(msg)
    best: Trial | None = None
    for reading in readings:
        try:
            trial = attempt(first, reading)
        except HepgenError as error:
            found.failed.append((reading.what, str(error)))
            continue
        if best is None or trial.share > best.share:
            best = trial
        if trial.share >= COMMON:
            break
    if best is not None:
        found.trials = [best, *(attempt(finding, best.reading) for finding in found.findings[1:])]
        chosen = best.reading.kind
        found.others = list(dict.fromkeys(r.kind for r in first.readings if r.kind != chosen))


def _repeated(trials: list[Trial]) -> int:
    keys = [key for trial in trials for key in trial.keys]
    return len(keys) - len(set(keys))
