"""Submissions to HEPData are valid, reproducible, and hold the spectra with their covariances."""

import tarfile

import numpy as np
import pytest
import yaml

from hepgen.errors import HepgenError
from hepgen.unfolding import hepdata
from hepgen.unfolding.hepdata import write_submission
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import read_binned
from hepgen.unfolding.uncertainties import budget


@pytest.fixture(scope="module", params=["weighted", "ibu"])
def submission(request, measurement):
    path = measurement.folder / f"{request.param}.tar.gz"
    number = write_submission(measurement.config, request.param, [*measurement.measured.values()], path)
    return request.param, path, number


def contents(path):
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    _, *tables = yaml.load_all(files["submission.yaml"], yaml.CSafeLoader)
    return {table["name"]: yaml.load(files[table["data_file"]], yaml.CSafeLoader) for table in tables}


def column(table, number=0):
    return [row["value"] for row in table["dependent_variables"][number]["values"]]


# The validator asks jsonschema for classes that it no longer recommends, and leaves files to be closed by Python.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:jsonschema:DeprecationWarning")
def test_hepdatas_own_validator_finds_nothing(submission):
    from hepdata_validator.full_submission_validator import FullSubmissionValidator

    validator = FullSubmissionValidator(autoload_remote_schemas=False)
    valid = validator.validate(archive=str(submission[1]))
    assert valid, validator.get_messages()


def test_spectra_errors_and_matrices_are_those_of_the_measurement(submission, measurement):
    method, path, number = submission
    tables = contents(path)
    assert len(tables) == number
    spectra = read_binned(measurement.measured[method])
    for binned in spectra:
        found, name = budget(binned, choose(spectra)), binned.spectrum.name
        np.testing.assert_allclose(column(tables[name]), found.central, rtol=1e-6)
        np.testing.assert_allclose(column(tables[f"{name} measured"]), binned.measured.values, rtol=1e-6)
        for source, matrix in {**found.components, "total": found.total}.items():
            np.testing.assert_allclose(column(tables[f"{name} covariance {source}"]), matrix.ravel(), rtol=1e-6)
        np.testing.assert_allclose(column(tables[f"{name} correlation"]), found.correlation.ravel(), rtol=1e-6)
        errors = [row["errors"] for row in tables[name]["dependent_variables"][0]["values"]]
        assert {error["label"] for error in errors[0]} == found.components.keys()
        shifts = [error["asymerror"]["plus"] for row in errors for error in row if error["label"] == "other"]
        np.testing.assert_allclose(shifts, found.shifts["other"].value, rtol=1e-6)
        assert (np.array(shifts) < 0).any()


def test_bins_are_in_the_order_of_the_cells(submission):
    tables = contents(submission[1])
    alpha, mass = (variable["values"] for variable in tables["both"]["independent_variables"])
    assert [(a["low"], m["low"]) for a, m in zip(alpha, mass, strict=True)] == [(-2, 15), (-2, 20), (0, 15), (0, 20)]
    headers = [variable["header"] for variable in tables["mass_j1"]["independent_variables"]]
    assert headers == [{"name": "leading jet mass", "units": "GeV"}]
    rows, columns = (variable["values"] for variable in tables["both correlation"]["independent_variables"])
    assert [(x["value"], y["value"]) for x, y in zip(rows, columns, strict=True)][3:5] == [(1, 4), (2, 1)]


def test_equal_results_give_equal_bytes(submission, measurement, tmp_path):
    method, path, _ = submission
    write_submission(measurement.config, method, [measurement.measured[method]], tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == path.read_bytes()
    with tarfile.open(path) as archive:
        assert {(member.mtime, member.uname) for member in archive} == {(0, "")}
    # Neither has the packing a time.
    assert path.read_bytes()[4:8] == bytes(4)


def test_what_cannot_be_submitted(measurement, tmp_path, monkeypatch):
    arguments = [*measurement.measured.values()], tmp_path / "x.tar.gz"
    with pytest.raises(HepgenError, match="unknown unfolding method 'svd'"):
        write_submission(measurement.config, "svd", *arguments)
    with pytest.raises(HepgenError, match="no measured spectra of weighted were given"):
        write_submission(measurement.config, "weighted", arguments[0][1:], arguments[1])
    monkeypatch.setattr(hepdata, "LARGEST_FILE", 500)
    with pytest.raises(HepgenError, match="the table 'alpha' is too long for HEPData"):
        write_submission(measurement.config, "weighted", *arguments)
    assert not arguments[1].exists()
