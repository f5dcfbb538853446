"""Observables: definitions, labels, ranges and bounds."""

import math
import subprocess
import sys

import awkward as ak
import numpy as np
import pytest

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.jets import cluster
from hepgen.observables import OBSERVABLES, Observable, compute, describe, event_observable, jet_observable


@pytest.fixture(scope="module")
def jets():
    rng = np.random.default_rng(1)
    spray = rng.normal(size=(400, 40, 2)) * 0.25
    side = rng.integers(0, 2, (400, 40))
    phi = np.mod(rng.uniform(-np.pi, np.pi, (400, 1)) + np.pi * side + spray[..., 0] + np.pi, 2 * np.pi) - np.pi
    pt = 20 * rng.exponential(size=(400, 40)) + 0.1
    events = ak.zip({"pt": pt.tolist(), "eta": (spray[..., 1] + side).tolist(), "phi": phi.tolist()})
    return cluster(events, JetDefinition())[0]


@pytest.fixture(scope="module")
def columns(jets):
    return compute(jets)


def two_prongs(separation):
    """A jet of two particles with z = 0.3, and a hard one opposite to it."""
    event = [
        {"pt": 70.0, "eta": 0.0, "phi": 0.0},
        {"pt": 30.0, "eta": separation, "phi": 0.0},
        {"pt": 90.0, "eta": 0.0, "phi": -3.0},
    ]
    return cluster(ak.Array([event]), JetDefinition())[0]


def test_two_prongs_by_hand():
    """Analytic values for a pair of massless particles."""
    jets = two_prongs(0.4)
    columns = {name: float(values[0]) for name, values in compute(jets).items()}
    mass = math.sqrt(2 * 70 * 30 * (math.cosh(0.4) - 1))
    assert columns["pt_j1"] == pytest.approx(100, rel=1e-6)
    assert columns["mass_j1"] == pytest.approx(mass, rel=1e-5)
    assert columns["msd_j1"] == pytest.approx(mass, rel=1e-5)
    assert columns["zg_j1"] == pytest.approx(0.3, rel=1e-6)
    assert columns["ln_rho_j1"] == pytest.approx(2 * math.log(mass / 100), rel=1e-5)
    # the winner takes all, so that the axis of τ1 is the harder particle
    assert columns["tau1_j1"] == pytest.approx(0.3 * 0.4, rel=1e-6)
    assert columns["tau2_j1"] == columns["tau21_j1"] == columns["tau32_j1"] == 0
    eta = math.asinh(30 * math.sinh(0.4) / 100)
    assert columns["width_j1"] == pytest.approx(0.7 * eta + 0.3 * (0.4 - eta), rel=1e-5)
    assert (columns["multiplicity_j1"], columns["multiplicity_j2"]) == (2, 1)
    assert columns["zg_j2"] == 0
    assert columns["ln_rho_j2"] == -14
    assert columns["dphi_jj"] == pytest.approx(2 * math.pi - 3, rel=1e-6)
    assert columns["deta_jj"] == pytest.approx(eta, rel=1e-5)
    assert columns["mjj"] == pytest.approx(
        math.sqrt((70 + 30 * math.cosh(0.4) + 90) ** 2
                  - (100 + 90 * math.cos(3)) ** 2 - (90 * math.sin(3)) ** 2 - (30 * math.sinh(0.4)) ** 2),
        rel=1e-5,
    )  # fmt: skip


def test_lighter_and_heavier_jet(columns):
    first_is_heavier = columns["mass_j1"] > columns["mass_j2"]
    assert 0 < first_is_heavier.mean() < 1
    for name in ("mass", "tau21", "tau32"):
        heavy, light = columns[f"{name}_heavy"], columns[f"{name}_light"]
        np.testing.assert_array_equal(heavy, np.where(first_is_heavier, columns[f"{name}_j1"], columns[f"{name}_j2"]))
        np.testing.assert_array_equal(light, np.where(first_is_heavier, columns[f"{name}_j2"], columns[f"{name}_j1"]))
    np.testing.assert_allclose(columns["delta_mass"], columns["mass_heavy"] - columns["mass_light"], atol=1e-3)


def test_every_column_is_finite_and_within_its_support(columns):
    for name, values in columns.items():
        low, high = describe(name).support
        assert np.isfinite(values).all(), name
        assert values.dtype == np.float32
        assert (values >= np.float32(low)).all(), name
        assert (values <= np.float32(high)).all(), name


def test_columns_cover_the_registry(columns):
    expected = {n for n, o in OBSERVABLES.items() if o.jets}
    expected |= {f"{n}_j{rank}" for n, o in OBSERVABLES.items() if not o.jets for rank in (1, 2)}
    assert columns.keys() == expected


def test_single_jets_have_no_dijet_observables():
    event = ak.Array([[{"pt": 70.0, "eta": 0.0, "phi": 0.0}]])
    jets, _ = cluster(event, JetDefinition(number=1))
    assert compute(jets).keys() == {f"{name}_j1" for name, observable in OBSERVABLES.items() if not observable.jets}


def test_describe():
    assert describe("mjj").axis_label == r"$m_{jj}$ [GeV]"
    assert describe("tau21_j1").label == r"leading jet $\tau_{21}$"
    assert describe("pt_j2").axis_label == r"subleading jet $p_\mathrm{T}$ [GeV]"
    assert describe("mass_j3").label == "jet 3 mass"
    assert describe("missing_energy") == Observable("missing_energy", "missing energy")
    assert describe("mjj_j1").ranges == ()


def test_labels_are_valid_mathtext():
    from matplotlib.mathtext import MathTextParser

    for observable in OBSERVABLES.values():
        assert MathTextParser("path").parse(observable.axis_label).width > 0


def test_range_suits_the_values():
    """Narrow and wide jets, and a sample at another energy."""
    rng = np.random.default_rng(1)
    assert describe("mass_j1").range_for(rng.exponential(10, 1000)) == (0, 75)
    assert describe("mass_j1").range_for(rng.exponential(100, 1000)) == (0, 800)
    low, high = describe("mjj").range_for(rng.uniform(100, 200, 1000))
    assert 100 <= low < 101
    assert 199 < high <= 200
    assert describe("unknown").range_for(np.full(5, 3.0)) == (2.5, 3.5)


def test_own_observables_are_computed(jets, monkeypatch):
    monkeypatch.setattr("hepgen.observables.OBSERVABLES", OBSERVABLES.copy())

    @jet_observable("pt_in_tev", r"$p_T$", "TeV", ranges=((0, 5),))
    def _pt_in_tev(jets):
        return jets.pt / 1000

    @event_observable("ht", r"$H_\mathrm{T}$", "GeV", ranges=((0, 5000),), jets=1)
    def _ht(jets):
        return jets.pt.sum(1)

    columns = compute(jets)
    np.testing.assert_allclose(columns["pt_in_tev_j2"], columns["pt_j2"] / 1000, rtol=1e-6)
    np.testing.assert_allclose(columns["ht"], columns["pt_j1"] + columns["pt_j2"], rtol=1e-6)
    with pytest.raises(HepgenError, match="'ht' is registered already"):
        event_observable("ht", "", ranges=())(_ht)


def test_labels_need_neither_torch_nor_fastjet():
    """Plans and figures look labels up; they must not pay for the packages that compute."""
    code = "import sys, hepgen.observables; print({'torch', 'fastjet', 'awkward'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
