"""A bundle gives any observable's unfolded spectrum, the configured ones' as they were measured, in HDF5 and ROOT."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
import uproot

from hepgen.cli import app
from hepgen.errors import HepgenError
from hepgen.export import export
from hepgen.table import read_tables
from hepgen.unfolding.bundle import read_bundle, write_bundle
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import read_binned
from hepgen.unfolding.uncertainties import budget


def by_source(found):
    return {"central": found.central, **found.components, "total": found.total}


def assert_same(found, expected):
    found, expected = by_source(found), by_source(expected)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6 * np.abs(values).max(), err_msg=name)


@pytest.fixture(scope="module")
def bundle(measurement):
    path = measurement.folder / "bundle.h5"
    write_bundle(
        measurement.config, "weighted", measurement.tables, [measurement.measured["weighted"]], measurement.files, path
    )
    return read_bundle(path)


def test_measured_spectra_and_planes_come_back_with_every_source_of_uncertainty(bundle, measurement):
    spectra = read_binned(measurement.measured["weighted"])
    assert {len(binned.spectrum.observables) for binned in spectra} == {1, 2}
    for binned in spectra:
        expected = budget(binned, choose(spectra))
        assert expected.components.keys() == {"data", "simulation", "seeds", "other"}
        spectrum = binned.spectrum
        assert_same(bundle.histogram([*spectrum.observables], [*spectrum.truth]), expected)


def test_without_replicas_or_other_simulations(make_measurement, tmp_path):
    made = make_measurement(tmp_path, replicas=0, systematics=[])
    measured = [made.measured["weighted"]]
    assert write_bundle(made.config, "weighted", made.tables, measured, made.files, tmp_path / "b.h5") > 0
    binned = read_binned(*measured)[1]
    found = read_bundle(tmp_path / "b.h5").histogram(binned.spectrum.name, binned.spectrum.truth[0])
    assert found.components.keys() == {"events", "seeds"}
    assert_same(found, budget(binned, choose([binned])))


def test_a_new_observable_as_expression_and_as_values(bundle):
    edges = [0, 50, 100, 400]
    found = bundle.histogram("mass_j1 * (1 + alpha**2)", edges)
    values = {}
    for sample in bundle.about.samples:
        columns = bundle.columns(sample)
        values[sample] = columns["mass_j1"] * (1 + columns["alpha"] ** 2)
    assert_same(bundle.histogram(values, edges), found)
    with h5py.File(bundle.path) as file:
        by_hand = np.histogram(values["simulation"], edges, weights=file["events/weight"][:])[0]
    np.testing.assert_allclose(found.central, by_hand, rtol=1e-5)
    assert np.linalg.eigvalsh(found.total).min() > -1e-6 * np.trace(found.total)


def test_unit_area(bundle):
    edges = np.array([15.0, 18, 25, 60])
    found, plain = (bundle.histogram("mass_j1", edges, normalised=normalised) for normalised in (True, False))
    np.testing.assert_allclose(found.central, plain.central / plain.central.sum() / np.diff(edges))
    for matrix in found.components.values():
        # The sum over all bins does not vary.
        np.testing.assert_allclose(matrix @ np.diff(edges), 0, atol=1e-9 * matrix.max())
    shift, small = plain.shifts["other"].value, 1e-6
    changed = plain.central + small * shift
    slope = (changed / changed.sum() / np.diff(edges) - found.central) / small
    np.testing.assert_allclose(found.components["other"], np.outer(slope, slope), rtol=1e-3)


def test_weights_stand_for_the_data_and_events_pass_at_particle_level(bundle, measurement):
    truth = read_tables(measurement.tables["simulation"], unseen=True).passed("truth")
    with h5py.File(bundle.path) as file:
        for sample, events in (("events", truth.sum()), ("systematics/other", None)):
            group = file[sample]
            assert all(np.isfinite(x[:]).all() for x in group["columns"].values())
            np.testing.assert_allclose(group["weight"][:], group["weights"][next(iter(group["weights"]))][:].mean(0))
            assert events is None or group["weight"].shape == (events,)
    about = bundle.about
    assert (about.iteration, about.iterations, about.seeds, about.replicas) == (2, 2, [1, 2], 3)
    assert about.columns["alpha"].unfolded
    assert not about.columns["beta"].unfolded
    assert about.columns["mass_j1"].unit == "GeV"


def test_root_file_has_the_same_numbers_for_plain_uproot(bundle, tmp_path):
    export([bundle.path], tmp_path / "bundle.root")
    with uproot.open(tmp_path / "bundle.root") as file:
        about = json.loads(str(file["provenance"]))["bundle"]
        tree = file["events"]
        mass, edges = tree["mass_j1"].array(library="np"), np.linspace(15, 60, 6)

        def spectrum(name):
            return np.histogram(mass, edges, weights=tree[name].array(library="np"))[0]

        names = [[f"weight_data_{r + 1}_seed_{s}" for s in about["seeds"]] for r in range(about["replicas"])]
        replicas = np.array([[spectrum(name) for name in row] for row in names])
        other = np.sort(file["systematic_other"]["mass_j1"].array(library="np"))
        value = spectrum("weight")
    found = bundle.histogram("mass_j1", edges)
    np.testing.assert_allclose(value, found.central, rtol=1e-5)
    assert about == bundle.about.model_dump(mode="json")
    np.testing.assert_array_equal(other, np.sort(bundle.columns("other")["mass_j1"]))
    with h5py.File(bundle.path) as product:
        weights = [product[f"events/weights/data-{r}"][:] for r in (1, 2, 3)]
    expected = [[np.histogram(mass, edges, weights=row)[0] for row in replica] for replica in weights]
    np.testing.assert_array_equal(replicas, expected)


def test_only_root_has_room_for_several_trees(bundle, tmp_path):
    with pytest.raises(
        HepgenError, match=r"bundle\.h5: holds more than one table \(systematic_other\); export to .root"
    ):
        export([bundle.path], tmp_path / "bundle.npz")


def test_bundles_and_variations_are_not_joined(bundle, measurement, tmp_path):
    shutil.copy(bundle.path, tmp_path / "copy.h5")
    with pytest.raises(HepgenError, match="every bundle stands for all of the data"):
        export([bundle.path, tmp_path / "copy.h5"], tmp_path / "x.root")
    results = [measurement.folder / f"weighted_{name}_1.h5" for name in ("nominal", "data-1")]
    with pytest.raises(HepgenError, match=r"is of 'weighted, data-1', .* of 'weighted, nominal'"):
        export(results, tmp_path / "x.root")


@pytest.mark.parametrize(
    ("observables", "edges", "message"),
    [
        ("mass", [0, 1], "unknown column of the bundle 'mass'"),
        ("mass_j1", [1, 0], "two or more rising numbers"),
        (["mass_j1", "alpha"], [[0, 1]], "2 observables need as many lists"),
        ("mass_j1", [-3, -2], "no event lies in these bins of mass_j1"),
        (np.ones(3), [0, 2], "has the shape"),
        ({"simulation": "all"}, [0, 2], "has the shape"),
        ("1", [0, 2], "has the shape"),
    ],
)
def test_what_cannot_be_histogrammed(bundle, observables, edges, message):
    if isinstance(observables, dict):
        observables = {"simulation": bundle.columns()["alpha"]}
        message = "no values of the observable for the events of 'other'"
    with pytest.raises(HepgenError, match=message):
        bundle.histogram(observables, edges)


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def change(name, value):
    def apply(path):
        with h5py.File(path, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value

    return apply


def describe_otherwise(**changes):
    def apply(path):
        with h5py.File(path, "a") as file:
            stamp = json.loads(file.attrs["provenance"])
            stamp["bundle"] |= changes
            file.attrs["provenance"] = json.dumps(stamp)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a readable HDF5 file"),
        (change("events/weights/data-2", None), "damaged HDF5 file"),
        (change("events/weights/nominal", np.ones((2, 7))), "nominal of 'simulation' have not one number"),
        (change("systematics/other/columns/alpha", np.ones(7)), "alpha of 'other' have not one number"),
        (describe_otherwise(version=2), "a bundle of another version"),
        (describe_otherwise(seeds=[1, 2, 3]), "have not one number for each event and seed"),
    ],
)
def test_damaged_bundles_are_refused(bundle, tmp_path, damage, message):
    path = shutil.copy(bundle.path, tmp_path / "b.h5")
    damage(path)
    with pytest.raises(HepgenError, match=message):
        read_bundle(path)


def test_refused_are_other_products_and_methods_without_weights(measurement, tmp_path):
    with pytest.raises(HepgenError, match="expected bundle, found measured"):
        read_bundle(measurement.measured["ibu"])
    given = [*measurement.measured.values()], measurement.files, tmp_path / "b.h5"
    with pytest.raises(HepgenError, match="gives no event a weight"):
        write_bundle(measurement.config, "ibu", measurement.tables, *given)
    with pytest.raises(HepgenError, match=r"no result of weighted \(nominal, seed 1\) was given"):
        write_bundle(measurement.config, "weighted", measurement.tables, given[0], [], given[2])
    assert not given[2].exists()


def test_command_line_prints_and_writes_a_histogram(bundle, tmp_path, capsys):
    arguments = ["unfolding", "histogram", str(bundle.path), "--observable", "alpha", "--edges", "-1,0,1"]
    for output in (tmp_path / "h.csv", tmp_path / "h.json"):
        app([*arguments, "--output", str(output)], standalone_mode=False)
    expected = bundle.histogram("alpha", [-1, 0, 1])
    heading, *rows = csv.reader((tmp_path / "h.csv").read_text().splitlines())
    assert heading == ["alpha low", "alpha high", "value", "error", "data", "simulation", "seeds", "other"]
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.central)
    np.testing.assert_allclose([float(row[3]) for row in rows], np.sqrt(np.diag(expected.total)))
    assert f"{expected.central[0]:.6g}" in capsys.readouterr().out
    written = json.loads((tmp_path / "h.json").read_text())
    np.testing.assert_allclose(written["covariance"]["total"], expected.total)
    for wrong, message in ((["--edges", "a,b"], "is no list of numbers"), (["-o", "h.txt"], "as .json or .csv")):
        with pytest.raises(HepgenError, match=message):
            app([*arguments, *wrong], standalone_mode=False)
