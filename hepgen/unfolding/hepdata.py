"""The spectra of one method as a submission to HEPData: tables of values and covariances in its YAML format."""

import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.observables import describe
from hepgen.plan import provenance
from hepgen.registry import look_up
from hepgen.storage import atomic
from hepgen.unfolding.bundle import chosen_by
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import Binned, measured_by
from hepgen.unfolding.spectra import At, Spectrum
from hepgen.unfolding.uncertainties import Budget, budget

__all__ = ["write_submission"]

# More digits than any measurement has, as many as a covariance matrix needs to stay one.
DIGITS = 7
LONGEST_NAME, LARGEST_FILE = 64, 10 << 20


class Table(NamedTuple):
    """A table of a submission: variables in the format of HEPData."""

    name: str
    description: str
    independent: list[dict[str, Any]]
    dependent: list[dict[str, Any]]


def write_submission(config: Config, method: str, measured: Sequence[Path], output: Path) -> int:
    """Write ``submission.yaml`` and its tables as a .tar.gz archive; equal results give equal bytes.

    Of every spectrum there are the unfolded contents with their errors by source, the covariance matrix of each
    source, that of all and the correlations, and the contents at detector level.

    Args:
        config: The run.
        method: An entry of ``unfolding.methods``.
        measured: Products of `hepgen.unfolding.results.combine`, that of the method among them.
        output: Archive to write.

    Returns:
        How many tables it holds.

    Raises:
        HepgenError: if the method's spectra are missing, or a table is longer than HEPData takes.

    References:
        The format: https://hepdata-submission.readthedocs.io
    """
    look_up("unfolding method", method, config.unfolding.methods)
    spectra = measured_by(method, measured)
    iteration = choose(spectra)
    tables = [table for binned in spectra for table in _tables(binned, budget(binned, iteration))]
    files = {_file(table): _yaml(_content(table)) for table in tables}
    for table in tables:
        if len(files[_file(table)]) > LARGEST_FILE or len(table.name) > LONGEST_NAME:
            msg = f"unfolding: the table {table.name!r} is too long for HEPData, which takes {LARGEST_FILE >> 20} MB"
            raise HepgenError(f"{msg} and names of {LONGEST_NAME} letters; take fewer bins or a shorter name")
    head = {
        "comment": _comment(config, spectra, iteration),
        "additional_resources": [{"location": "provenance.json", "description": "settings, code and versions"}],
    }
    documents = [head, *({**_entry(table), "data_file": _file(table)} for table in tables)]
    files["submission.yaml"] = "".join(f"---\n{_yaml(document).decode()}" for document in documents).encode()
    files["provenance.json"] = provenance(config, "unfolding_hepdata", method).encode()
    with atomic(output) as temporary, temporary.open("wb") as file:
        _archive(file, files)
    return len(tables)


def _comment(config: Config, spectra: Sequence[Binned], iteration: int) -> str:
    block, method = config.unfolding, spectra[0].method
    jets = config.samples[block.simulation].jets
    phase_space = [f"{key}: {value}" for key, value in config.jets[jets].model_dump().items()] if jets else []
    sentences = [
        f"{config.title}: {', '.join(block.observables)} of {block.data!r}, unfolded with {method!r} "
        f"({block.methods[method].type}) and the simulation {block.simulation!r}",
        f"Iteration {iteration + 1} of {spectra[0].nominal.shape[1]}, chosen by {chosen_by(spectra)}",
        f"Jets at particle level: {', '.join(phase_space)}" if phase_space else "",
        "Contents are particle-level events that the data stand for, measured or missed, without background, and are "
        "not divided by the bins' widths; the luminosity is not known",
        "Errors named by another simulation are the change when that one is unfolded with, with its sign",
    ]
    return ". ".join(filter(None, sentences)) + "."


def _tables(binned: Binned, found: Budget) -> Iterator[Table]:
    spectrum = binned.spectrum
    labels = " and ".join(describe(name).label for name in spectrum.observables)
    name, bins = spectrum.name, _bins(spectrum, "truth")
    yield Table(name, f"Unfolded events by {labels}.", bins, [_events(found)])
    measured = f"Measured events by {labels} at detector level, background subtracted."
    yield Table(f"{name} measured", measured, _bins(spectrum, "reco"), [_counts(binned.measured)])
    matrices = {f"covariance {source}": matrix for source, matrix in found.components.items()}
    matrices |= {"covariance total": found.total, "correlation": found.correlation}
    for kind, matrix in matrices.items():
        about = f"Matrix ({kind}) of the unfolded events by {labels}; its cells are the rows of the table {name}."
        values = [{"value": _rounded(value)} for value in matrix.ravel().tolist()]
        yield Table(f"{name} {kind}", about, _pairs(spectrum), [{"header": {"name": kind}, "values": values}])


def _bins(spectrum: Spectrum, at: At) -> list[dict[str, Any]]:
    """The bins of every observable, one for each cell."""
    columns = zip(*product(*(pairwise(edges.tolist()) for edges in spectrum.edges(at))), strict=True)
    return [
        {"header": _header(name), "values": [{"low": _rounded(low), "high": _rounded(high)} for low, high in column]}
        for name, column in zip(spectrum.observables, columns, strict=True)
    ]


def _pairs(spectrum: Spectrum) -> list[dict[str, Any]]:
    """The cells of a matrix: bins of one observable, or numbers of cells of several."""
    if len(spectrum.observables) == 1:
        (variable,) = _bins(spectrum, "truth")
        header, values = variable["header"], variable["values"]
    else:
        header, values = {"name": "cell"}, [{"value": number + 1} for number in range(np.prod(spectrum.shape("truth")))]
    rows, columns = zip(*product(values, values), strict=True)
    return [{"header": header, "values": [*rows]}, {"header": header, "values": [*columns]}]


def _header(name: str) -> dict[str, str]:
    known = describe(name)
    return {"name": known.label, "units": known.unit} if known.unit else {"name": known.label}


def _events(found: Budget) -> dict[str, Any]:
    """Contents with errors by source; those by other simulations have a sign, for they move all bins together."""
    values = []
    for cell, content in enumerate(found.central.tolist()):
        errors = []
        for source, matrix in found.components.items():
            if source in found.shifts:
                shift = _rounded(float(found.shifts[source].value[cell]))
                error = {"asymerror": {"plus": shift, "minus": -shift}}
            else:
                error = {"symerror": _rounded(float(np.sqrt(matrix[cell, cell])))}
            errors.append({**error, "label": source})
        values.append({"value": _rounded(content), "errors": errors})
    return {"header": {"name": "events"}, "values": values}


def _counts(counts: Counts) -> dict[str, Any]:
    pairs = zip(counts.values.tolist(), np.sqrt(counts.variances).tolist(), strict=True)
    values = [{"value": _rounded(x), "errors": [{"symerror": _rounded(e), "label": "stat"}]} for x, e in pairs]
    return {"header": {"name": "events"}, "values": values}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _entry(table: Table) -> dict[str, Any]:
    keywords = [{"name": "phrases", "values": ["unfolding"]}]
    return {"name": table.name, "description": table.description, "keywords": keywords}


def _content(table: Table) -> dict[str, Any]:
    return {"independent_variables": table.independent, "dependent_variables": table.dependent}


def _file(table: Table) -> str:
    return f"{table.name.replace(' ', '_')}.yaml"


class _Dumper(yaml.CSafeDumper):
    """Writes bins that a table has twice in full: HEPData's tables have no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: dict[str, Any]) -> bytes:
    options = {"default_flow_style": None, "sort_keys": False, "allow_unicode": True, "width": 1000}
    return yaml.dump(document, Dumper=_Dumper, encoding="utf-8", **options)


def _archive(file: io.BufferedIOBase, files: dict[str, bytes]) -> None:
    """A .tar.gz without times, owners and names of this machine."""
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
