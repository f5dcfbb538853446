"""EnergyFlow's layouts: quark and gluon jets against EnergyFlow's own kinematics, Z + jets against its definitions."""

import awkward as ak
import energyflow
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.events import write_events
from hepgen.samples import EnergyflowSample
from hepgen.sources import energyflow as source
from hepgen.table import write_table

JETS = 30
PDG = [22, 211, -211, 130, 321, -2212, 2112, 11, -13]


def stream(path, data, chunk=0, **settings):
    jets = "small" if data == "qg_jets" else None
    return source.stream(EnergyflowSample(source="energyflow", data=data, path=str(path), jets=jets, **settings), chunk)


def quark_gluon(columns=4):
    rng = np.random.default_rng(1)
    particles = np.zeros((JETS, 12, 4))
    for jet in range(JETS):
        count = rng.integers(1, 13)
        pt, y = rng.exponential(30, count), rng.normal(0, 1.5, count)
        particles[jet, :count] = np.column_stack([pt, y, rng.uniform(0, 2 * np.pi, count), rng.choice(PDG, count)])
    return {"X": particles[..., :columns], "y": rng.integers(0, 2, JETS).astype(float)}


def z_jets():
    """Numbers of the kind that the published files hold; three jets are missing at one level."""
    rng = np.random.default_rng(2)
    values = {}
    for level in ("gen", "sim"):
        pt, mass = rng.uniform(20, 500, JETS), rng.exponential(20, JETS)
        values[f"{level}_jets"] = np.column_stack([pt, rng.normal(0, 1.5, JETS), rng.uniform(0, 6.28, JETS), mass])
        values[f"{level}_mults"] = rng.integers(1, 60, JETS)
        values[f"{level}_widths"] = rng.uniform(0, 0.4, JETS)
        values[f"{level}_tau2s"] = rng.uniform(0, 0.2, JETS)
        values[f"{level}_sdms"] = rng.exponential(10, JETS)
        values[f"{level}_zgs"] = rng.uniform(0.1, 0.5, JETS)
    values["gen_widths"][4] = values["gen_sdms"][5] = 0
    values["sim_jets"][7] = values["sim_jets"][8] = values["gen_jets"][9] = 0
    values["sim_zgs"][7] = np.nan
    return values


def save(path, values, **changes):
    np.savez_compressed(path, **{name: array for name, array in (values | changes).items() if array is not None})
    return path


def change(array, index, value):
    array = np.array(array, float)
    array[index] = value
    return array


def test_particles_against_energyflow(tmp_path):
    """float32 holds 7 digits."""
    values = quark_gluon()
    (batch,) = stream(save(tmp_path / "x.npz", values), "qg_jets")
    assert batch.columns["label"].tolist() == values["y"].tolist()
    for found, padded in zip(batch.particles, values["X"], strict=True):
        given = padded[padded[:, 0] > 0]
        p4s = energyflow.p4s_from_ptyphipids(given)
        np.testing.assert_allclose(found.pt, given[:, 0], rtol=1e-6)
        np.testing.assert_allclose(found.eta, energyflow.etas_from_p4s(p4s), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.mass, energyflow.pids2ms(given[:, 3]), rtol=1e-6)
        np.testing.assert_allclose(np.exp(1j * found.phi.to_numpy()), np.exp(1j * given[:, 2]), atol=1e-6)
        assert np.abs(found.phi).to_numpy().max() <= np.float32(np.pi)


def test_without_pdg_numbers_massless(tmp_path):
    values = quark_gluon(3)
    (batch,) = stream(save(tmp_path / "x.npz", values), "qg_jets")
    assert ak.all(batch.particles.mass == 0)
    np.testing.assert_allclose(ak.flatten(batch.particles.eta), values["X"][values["X"][..., 0] > 0][:, 1], rtol=1e-6)


def test_tables_hold_the_published_observables(tmp_path):
    values = z_jets()
    (table,) = stream(save(tmp_path / "x.npz", values), "zjets_delphes")
    names = EnergyflowSample(source="energyflow", data="zjets_delphes", path="x.npz").columns_for(0)
    assert list(table.columns) == [*names, "pass_reco", "pass_truth"]
    assert list(table.truth) == names
    assert np.flatnonzero(~table.columns["pass_reco"]).tolist() == [7, 8]
    assert np.flatnonzero(~table.columns["pass_truth"]).tolist() == [9]
    for level, columns, missing in (("sim", table.columns, [7, 8]), ("gen", table.truth, [9])):
        seen = ~np.isin(np.arange(JETS), missing)
        assert all(np.isnan(columns[name][missing]).all() and np.isfinite(columns[name][seen]).all() for name in names)
        pt, y, phi, mass = values[f"{level}_jets"][seen].T
        transverse = np.sqrt(pt**2 + mass**2)
        found = {name.removesuffix("_j1"): columns[name][seen] for name in names}
        np.testing.assert_allclose(found["pt"], pt, rtol=1e-6)
        np.testing.assert_allclose(np.sinh(found["eta"]) * pt, transverse * np.sinh(y), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(np.exp(1j * found["phi"]), np.exp(1j * phi), atol=1e-6)
        np.testing.assert_allclose(found["mass"], mass, rtol=1e-6)
        for name, key in (("multiplicity", "mults"), ("width", "widths"), ("msd", "sdms"), ("zg", "zgs")):
            np.testing.assert_allclose(found[name], values[f"{level}_{key}"][seen], rtol=1e-6)
        usable = values[f"{level}_widths"][seen] > 0
        ratio = values[f"{level}_tau2s"][seen][usable] / values[f"{level}_widths"][seen][usable]
        np.testing.assert_allclose(found["tau21"][usable], ratio, rtol=1e-6)
        groomed = values[f"{level}_sdms"][seen] > 0
        rho = 2 * np.log(values[f"{level}_sdms"][seen][groomed] / pt[groomed])
        np.testing.assert_allclose(found["ln_rho"][groomed], np.maximum(rho, -14), rtol=1e-5)
    assert table.truth["tau21_j1"][4] == 0
    assert table.truth["ln_rho_j1"][5] == -14
    assert table.columns["pass_reco"].dtype == bool


@pytest.mark.parametrize("data", ["qg_jets", "zjets_delphes"])
def test_chunks_of_the_first_events_are_the_whole(tmp_path, monkeypatch, data):
    values = quark_gluon() if data == "qg_jets" else z_jets()
    path = save(tmp_path / "x.npz", values)
    (whole,) = stream(path, data)
    monkeypatch.setattr(source, "JETS_STEP", 4)
    monkeypatch.setattr(source, "TABLE_STEP", 4)
    batches = [batch for chunk in range(3) for batch in stream(path, data, chunk, events=25, chunks=3)]
    assert max(len(batch) for batch in batches) == 4
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(np.concatenate([batch.columns[name] for batch in batches]), column[:25])
    if data == "qg_jets":
        assert ak.array_equal(ak.concatenate([batch.particles for batch in batches]), whole.particles[:25])


def test_products_can_be_written(tmp_path):
    jets, table = save(tmp_path / "q.npz", quark_gluon()), save(tmp_path / "z.npz", z_jets())
    assert write_events(tmp_path / "q.h5", stream(jets, "qg_jets")) == JETS
    assert write_table(tmp_path / "z.h5", stream(table, "zjets_delphes")) == JETS


QUARKS, Z = quark_gluon(), z_jets()
X = QUARKS["X"]
BAD = {
    "unknown array of": ("qg_jets", {"X": None, "x": X}),
    "'X' (did you mean 'XX'?); known: XX, y": ("qg_jets", {"X": None, "XX": X}),
    "array 'X' has shape (30, 12, 2)": ("qg_jets", {"X": X[..., :2]}),
    "array 'X' has shape (30, 12)": ("qg_jets", {"X": X[..., 0]}),
    "array 'y' has shape (29,) and type float64, not numbers of shape (30)": ("qg_jets", {"y": QUARKS["y"][1:]}),
    "pickled objects, which are never read": ("qg_jets", {"y": np.array([print] * JETS)}),
    "event 3 (counted from 0) has a number that is not finite": ("qg_jets", {"X": change(X, (3, 0, 1), np.nan)}),
    "event 4 (counted from 0) has a negative pT": ("qg_jets", {"X": change(X, (4, 0, 0), -1)}),
    "event 5 (counted from 0) has a label other than 0": ("qg_jets", {"y": change(QUARKS["y"], 5, 2)}),
    "event 6 (counted from 0) has PDG number 12345, whose mass": ("qg_jets", {"X": change(X, (6, 0, 3), 12345)}),
    "'sim_sdms' (did you mean 'sim_mults'?)": ("zjets_delphes", {"sim_sdms": None}),
    "array 'gen_zgs' has shape (29,)": ("zjets_delphes", {"gen_zgs": Z["gen_zgs"][1:]}),
    "array 'gen_jets' has shape (30, 3)": ("zjets_delphes", {"gen_jets": Z["gen_jets"][:, :3]}),
    "event 2 (counted from 0) has a pT in sim_jets": ("zjets_delphes", {"sim_jets": change(Z["sim_jets"], (2, 0), -1)}),
    "event 2 (counted from 0) has a number in gen_jets that is not finite": (
        "zjets_delphes",
        {"gen_jets": change(Z["gen_jets"], (2, 1), np.inf)},
    ),
    "event 1 (counted from 0) has a number in sim_tau2s": (
        "zjets_delphes",
        {"sim_tau2s": change(Z["sim_tau2s"], 1, np.nan)},
    ),
    "event 1 (counted from 0) has numbers in gen_jets that give no eta_j1": (
        "zjets_delphes",
        {"gen_jets": change(Z["gen_jets"], (1, 1), 1e5)},
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_file_is_one_clear_error(tmp_path, message):
    data, changes = BAD[message]
    path = save(tmp_path / "x.npz", quark_gluon() if data == "qg_jets" else z_jets(), **changes)
    with pytest.raises(HepgenError) as error:
        list(stream(path, data))
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_other_files(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(HepgenError, match=r"EnergyFlow's data sets are \.npz files"):
        list(stream(tmp_path / "x.h5", "qg_jets"))
    (tmp_path / "x.npz").write_bytes(b"x")
    with pytest.raises(HepgenError, match=r"not a readable \.npz file"):
        list(stream(tmp_path / "x.npz", "qg_jets"))


@pytest.mark.parametrize(("data", "make"), [("qg_jets", quark_gluon), ("zjets_delphes", z_jets)])
def test_empty_files_among_others(tmp_path, capsys, data, make):
    arrays = make()
    full, empty = save(tmp_path / "x.npz", arrays), tmp_path / "y.npz"
    np.savez(empty, **{name: values[:0] for name, values in arrays.items()})
    entry = EnergyflowSample(
        source="energyflow", data=data, path=[str(empty), str(full)], jets="one" if data == "qg_jets" else None
    )
    assert sum(map(len, source.stream(entry))) == JETS
    assert capsys.readouterr().err == f"warning: {empty} holds no event\n"


def test_events_without_a_jet_at_either_level_are_left_out(tmp_path):
    arrays = z_jets()
    for level, rows in (("sim", [3, 4]), ("gen", [4, 5])):
        arrays[f"{level}_jets"] = arrays[f"{level}_jets"].copy()
        arrays[f"{level}_jets"][rows] = 0
    (table,) = stream(save(tmp_path / "x.npz", arrays), "zjets_delphes")
    seen, true = (np.delete(arrays[f"{level}_jets"][:, 0] > 0, 4) for level in ("sim", "gen"))
    assert len(table) == JETS - 1
    np.testing.assert_array_equal(table.columns["pass_reco"], seen)
    np.testing.assert_array_equal(table.columns["pass_truth"], true)
    np.testing.assert_array_equal(np.isnan(table.truth["pt_j1"]), ~true)
    nothing = {name: np.zeros_like(values) for name, values in arrays.items()}
    assert list(stream(save(tmp_path / "y.npz", nothing), "zjets_delphes")) == []
