import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.table import Table
from hepgen.unfolding.dataset import (
    Level,
    Pairs,
    bin_edges,
    read_data,
    read_data_pairs,
    read_simulation,
    warn_uncovered,
)


def table(n=6, **columns):
    x = np.arange(n, dtype=float)
    return Table({"mass_j1": x + 0.5, "alpha": 10 * x, **columns}, {"alpha": 10 * x + 1, "mass_j1": x})


def test_columns_are_matched_by_name(make_config, store):
    block = make_config(observables=["alpha", "mass_j1"]).unfolding
    simulation = read_simulation(block, store("s", table(), chunks=2))
    np.testing.assert_array_equal(simulation.truth, np.stack([10 * np.arange(6) + 1, np.arange(6)], 1))
    np.testing.assert_array_equal(simulation.reco, np.stack([10 * np.arange(6), np.arange(6) + 0.5], 1))
    np.testing.assert_array_equal(simulation.weights, np.ones(6))


def test_event_weights_are_read_on_both_levels(make_config, store):
    block, weights = make_config().unfolding, np.array([0, 1, 2, 3, 4, 5.0])
    paths = store("s", table(weight=weights))
    for level in (read_simulation(block, paths), read_data(block, paths), read_data_pairs(block, paths)):
        np.testing.assert_array_equal(level.weights, weights)


@pytest.mark.parametrize("worst", [np.nan, np.inf, -0.5])
def test_unusable_weights(make_config, store, worst):
    weights = np.array([1, 1, 1, 1, 1, worst])
    with pytest.raises(HepgenError, match=rf"unfolding\.data 'nature': event weights .* found {worst}"):
        read_data(make_config().unfolding, store("d", table(weight=weights)))


def test_all_weights_zero(make_config, store):
    with pytest.raises(HepgenError, match="not all zero"):
        read_data(make_config().unfolding, store("d", table(weight=np.zeros(6))))


def test_missing_observable(make_config, store):
    block = make_config(observables=["mass_j2"]).unfolding
    with pytest.raises(HepgenError, match=r"unknown observable 'mass_j2'.*mass_j1"):
        read_data(block, store("d", table()))


def test_values_that_are_not_finite(make_config, store):
    broken = table()
    broken.columns["mass_j1"][2] = np.nan
    with pytest.raises(HepgenError, match=r"'nature': 1 of 6 values of mass_j1 \(columns\)"):
        read_data(make_config().unfolding, store("d", broken))
    broken = table()
    broken.truth["alpha"][:2] = np.inf
    with pytest.raises(HepgenError, match=r"'simulation': 2 of 6 values of alpha \(truth\)"):
        read_simulation(make_config().unfolding, store("s", broken))


def test_simulation_without_truth(make_config, store):
    with pytest.raises(HepgenError, match="has no particle level"):
        read_simulation(make_config().unfolding, store("s", Table(table().columns)))


def test_data_need_no_truth(make_config, store):
    assert len(read_data(make_config().unfolding, store("d", Table(table().columns))).values) == 6


def partial_table():
    """Of six events, one is missed at detector level and one is a fake."""
    passed = {"pass_reco": np.arange(6) != 1, "pass_truth": np.arange(6) != 4}
    content = table(**passed)
    for name in ("mass_j1", "alpha"):
        content.columns[name][1] = content.truth[name][4] = np.nan
    return content


def test_misses_and_fakes_are_told_apart(make_config, store):
    block, paths = make_config().unfolding, store("s", partial_table(), chunks=2)
    for pairs in (read_simulation(block, paths), read_data_pairs(block, paths)):
        assert pairs.pass_reco.tolist() == [True, False, True, True, True, True]
        assert pairs.pass_truth.tolist() == [True, True, True, True, False, True]
        assert pairs.seen_weights.tolist() == [1, 0, 1, 1, 1, 1]
        assert pairs.true_weights.tolist() == [1, 1, 1, 1, 0, 1]
        assert np.isfinite(pairs.reco[pairs.pass_reco]).all()
    assert read_data(block, paths).values[:, 0].tolist() == [0, 20, 30, 40, 50]


def test_values_of_an_event_that_passes_must_be_finite(make_config, store):
    broken = partial_table()
    broken.truth["alpha"][0] = np.nan
    with pytest.raises(HepgenError, match=r"1 of 5 values of alpha \(truth\)"):
        read_simulation(make_config().unfolding, store("s", broken))


def test_nothing_is_seen(make_config, store):
    paths = store("d", table(pass_reco=np.zeros(6, bool), pass_truth=np.ones(6, bool)))
    with pytest.raises(HepgenError, match=r"unfolding\.data 'nature': no events"):
        read_data(make_config().unfolding, paths)


def test_no_events(make_config, monkeypatch):
    empty = Table({"alpha": np.empty(0), "mass_j1": np.empty(0)})
    monkeypatch.setattr("hepgen.unfolding.dataset.read_tables", lambda paths, **_: empty)
    with pytest.raises(HepgenError, match=r"unfolding\.data 'nature': no events"):
        read_data(make_config().unfolding, ["any"])


@pytest.mark.parametrize(
    ("name", "scale", "bins", "low", "high"),
    [
        ("mass_j1", 20, 50, 0, 75),
        ("multiplicity_j2", 20, 80, 0, 80),
        ("zg_j1", 0.2, 50, 0, 0.5),
        ("pt_j1", 300, 30, 0, 600),
    ],
)
def test_binning(name, scale, bins, low, high):
    values = scale * np.random.default_rng(1).uniform(0.5, 1.5, 1000)
    np.testing.assert_allclose(bin_edges(name, 30, values), np.linspace(low, high, bins + 1))


def test_wide_jets_are_not_binned_as_narrow_ones():
    values = np.random.default_rng(1).uniform(50, 500, 1000)
    np.testing.assert_allclose(bin_edges("mass_j1", 30, values), np.linspace(0, 800, 31))


def test_unknown_observables_are_binned_over_their_own_range():
    edges = bin_edges("alpha", 10, np.linspace(-3, 3, 1001))
    assert len(edges) == 11
    assert edges[0] == pytest.approx(-2.97)
    assert edges[-1] == pytest.approx(2.97)


def uncovered(simulated, measured, weights=None):
    weights = np.ones(len(simulated)) if weights is None else weights
    everything = np.ones(len(simulated), dtype=bool)
    simulation = Pairs(simulated[:, None], simulated[:, None], weights, everything, everything)
    data = Level(measured[:, None], np.ones(len(measured)))
    return warn_uncovered(["mass_j1"], [np.linspace(0, 50, 11)], simulation, data)


def test_uncovered_regions_are_named(capsys):
    rng = np.random.default_rng(2)
    simulated = np.concatenate([rng.uniform(10, 20, 500), rng.uniform(30, 60, 500)])
    data = np.concatenate([simulated, np.linspace(1, 5, 20), np.linspace(22, 27, 30), np.linspace(80, 90, 40)])
    lines = uncovered(simulated, data)
    regions = [
        "20 data events between 1 and 5 GeV",
        "30 data events between 22 and 27 GeV",
        "40 data events between 80 and 90 GeV",
    ]
    assert len(lines) == 3
    assert all(region in line and "mass_j1" in line for region, line in zip(regions, lines, strict=True))
    assert "".join(f"{line}\n" for line in lines) == capsys.readouterr().err


def test_a_few_events_in_the_tails_are_no_gap():
    rng = np.random.default_rng(3)
    assert uncovered(rng.exponential(10, 5000), rng.exponential(10, 5000)) == []


def test_simulated_events_of_zero_weight_cover_nothing():
    x = np.linspace(0, 50, 401)
    assert uncovered(x, x) == []
    (line,) = uncovered(x, x, np.where(x < 25, 1.0, 0.0))
    assert "201 data events between 25 and 50 GeV" in line
