import awkward as ak
import numpy as np
import pytest

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.jets import observe_file
from hepgen.table import Table
from hepgen.unfolding.dataset import Level, Pairs, Problem, read_pairs, read_problem, warn_empty, warn_uncovered
from hepgen.unfolding.spectra import Spectrum


def table(n=6, **columns):
    x = np.arange(n, dtype=float)
    return Table({"mass_j1": x + 0.5, "alpha": 10 * x, **columns}, {"alpha": 10 * x + 1, "mass_j1": x})


def without_truth(content):
    return Table(content.columns)


@pytest.fixture
def read(make_config, store):
    """The problem of a simulation and data, both `table()` where nothing else is said."""

    def make(simulation=None, data=None, background=None, **changes):
        tables = {
            "simulation": store("simulation", simulation or table(), chunks=2),
            "nature": store("nature", data or without_truth(table())),
        }
        if background:
            tables["background"] = store("background", background)
            changes["background"] = ["background"]
        return read_problem(make_config(**changes).unfolding, tables)

    return make


def test_columns_are_matched_by_name(read):
    turned = Table(dict(reversed(table().columns.items())))
    problem = read(data=turned, observables=["alpha", "mass_j1"])
    x = np.arange(6)
    np.testing.assert_array_equal(problem.simulation.truth, np.stack([10 * x + 1, x], 1))
    np.testing.assert_array_equal(problem.simulation.reco, np.stack([10 * x, x + 0.5], 1))
    np.testing.assert_array_equal(problem.data.values, problem.simulation.reco)
    np.testing.assert_array_equal(problem.simulation.weights, np.ones(6))


def test_event_weights_are_read_on_both_levels(read):
    weights = np.array([0, 1, 2, 3, 4, 5.0])
    problem = read(table(weight=weights), table(weight=2 * weights), table(weight=0.5 * weights))
    np.testing.assert_array_equal(problem.simulation.weights, weights)
    np.testing.assert_array_equal(problem.data.weights, 2 * weights)
    np.testing.assert_array_equal(problem.background.weights, 0.5 * weights)
    assert problem.signal == 1.5 * weights.sum()


@pytest.mark.parametrize("worst", [np.nan, np.inf, -0.5])
@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("simulation", "unfolding: sample 'simulation'"),
        ("data", r"unfolding\.data 'nature'"),
        ("background", r"unfolding\.background 'background'"),
    ],
)
def test_unusable_weights(read, part, where, worst):
    weights = np.array([1, 1, 1, 1, worst, worst])
    with pytest.raises(
        HepgenError, match=rf"{where}: column 'weight': 2 of 6 .*not finite, e.g. {worst}; mend the sample"
    ):
        read(**{part: table(weight=weights)})


def test_all_weights_zero(read):
    with pytest.raises(HepgenError, match=r"'nature': column 'weight': all 6 event weights are zero"):
        read(data=table(weight=np.zeros(6)))


def test_missing_observable(read):
    with pytest.raises(HepgenError, match=r"unknown observable 'mass_j2'.*mass_j1"):
        read(observables=["mass_j2"])


def test_values_that_are_not_finite(read):
    broken = table()
    broken.columns["mass_j1"][2] = np.nan
    with pytest.raises(HepgenError, match=r"'nature': 1 of 6 values of mass_j1 \(columns\)"):
        read(data=broken)
    broken = table()
    broken.truth["alpha"][:2] = np.inf
    with pytest.raises(HepgenError, match=r"'simulation': 2 of 6 values of alpha \(truth\)"):
        read(broken)


def test_a_simulation_needs_truth(make_config, store, read):
    with pytest.raises(HepgenError, match="sample 'simulation': has no particle level"):
        read(without_truth(table()))
    block = make_config(systematics=["other"]).unfolding
    with pytest.raises(HepgenError, match="sample 'other': has no particle level"):
        read_pairs(block, {"other": store("other", without_truth(table()))}, "other")


def test_the_truth_of_the_data_is_ignored_and_this_is_said(read, capsys):
    assert len(read(data=without_truth(table())).data.values) == 6
    assert capsys.readouterr().err == ""
    assert len(read(data=table()).data.values) == 6
    expected = "unfolding.data 'nature': it has a particle level, which no unfolding looks at\n"
    assert capsys.readouterr().err == expected


def partial_table():
    """Of six events, one is missed at detector level and one is a fake."""
    passed = {"pass_reco": np.arange(6) != 1, "pass_truth": np.arange(6) != 4}
    content = table(**passed)
    for name in ("mass_j1", "alpha"):
        content.columns[name][1] = content.truth[name][4] = np.nan
    return content


def test_misses_and_fakes_are_told_apart(read):
    problem = read(partial_table(), partial_table())
    pairs = problem.simulation
    assert pairs.pass_reco.tolist() == [True, False, True, True, True, True]
    assert pairs.pass_truth.tolist() == [True, True, True, True, False, True]
    assert pairs.seen_weights.tolist() == [1, 0, 1, 1, 1, 1]
    assert pairs.true_weights.tolist() == [1, 1, 1, 1, 0, 1]
    assert np.isfinite(pairs.seen.values).all()
    assert problem.data.values[:, 0].tolist() == [0, 20, 30, 40, 50]


def test_values_of_an_event_that_passes_must_be_finite(read):
    broken = partial_table()
    broken.truth["alpha"][0] = np.nan
    with pytest.raises(HepgenError, match=r"1 of 5 values of alpha \(truth\)"):
        read(broken)


@pytest.mark.parametrize("seen", [0, 1])
def test_too_little_is_seen(read, seen):
    few = table(pass_reco=np.arange(6) < seen, pass_truth=np.ones(6, bool))
    with pytest.raises(
        HepgenError, match=rf"unfolding\.data 'nature': {seen} events \(columns\); unfolding needs more"
    ):
        read(data=few)
    with pytest.raises(HepgenError, match=rf"sample 'simulation': {seen} events \(columns\)"):
        read(few)


@pytest.mark.parametrize("weight", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
def test_nothing_is_simulated_at_both_levels(read, weight):
    """Neither if all weights of the events that are seen are zero, nor if those are all fakes."""
    passed = {"pass_reco": np.arange(6) < 3, "pass_truth": np.arange(6) >= 1 + 2 * weight[0]}
    with pytest.raises(HepgenError, match="no simulated event of positive weight passes at both levels"):
        read(table(weight=np.array(weight, float), **passed))


@pytest.mark.parametrize("scale", [1, 3])
def test_a_background_as_large_as_the_data(read, scale):
    with pytest.raises(
        HepgenError, match=rf"{6 * scale} events of background are expected in data of 6; check the wei"
    ):
        read(background=table(weight=np.full(6, float(scale))))


def test_the_background_is_subtracted_cell_by_cell():
    data, background = Level(np.array([[0.5], [0.5], [1.5]]), np.ones(3)), Level(np.array([[1.5]]), np.array([2.0]))
    everything = np.ones(3, bool)
    pairs = Pairs(data.values, data.values, data.weights, everything, everything)
    edges = (np.array([0.0, 1, 2]),)
    measured = Problem(pairs, data, background).measured(Spectrum("x", ("x",), (0,), edges, edges))
    assert measured.values.tolist() == [0, 2, -1, 0]
    assert measured.variances.tolist() == [0, 2, 1 + 4, 0]


def jets_of(number):
    """Events with one jet each, of the given numbers of particles."""
    pt = ak.unflatten(np.linspace(20, 30, sum(number)), number)
    return ak.zip({"pt": pt, "eta": 0 * pt, "phi": 0 * pt})


def test_constituents_are_read_at_both_levels_where_a_method_sees_them(make_config, tmp_path):
    tables = {}
    for name, reco, truth in (("simulation", [2, 0, 3, 1], [1, 2, 0, 4]), ("nature", [1, 2], None)):
        events = Events(jets_of(reco), truth=None if truth is None else jets_of(truth))
        write_events(tmp_path / "events.h5", [events])
        tables[name] = [tmp_path / f"{name}.h5"]
        observe_file(tmp_path / "events.h5", *tables[name], JetDefinition(radius=0.4, number=1, pt_min=5))
    block = make_config(observables=["mass_j1"], constituents={"number": 3}).unfolding
    assert read_problem(block, tables).simulation.particles is None
    problem = read_problem(block, tables, particles=True)
    for particles, counts in (
        (problem.simulation.particles, [2, 0, 3, 1]),
        (problem.simulation.true_particles, [1, 2, 0, 3]),
        (problem.data.particles, [1, 2]),
    ):
        assert particles.shape == (len(counts), 3, 3)
        assert (particles[:, :, 0] > 0).sum(1).tolist() == counts


def uncovered(simulated, measured, weights=None):
    weights = np.ones(len(simulated)) if weights is None else weights
    everything = np.ones(len(simulated), dtype=bool)
    simulation = Pairs(simulated[:, None], simulated[:, None], weights, everything, everything)
    data = Level(measured[:, None], np.ones(len(measured)))
    edges = (np.linspace(0, 50, 11),)
    problem = Problem(simulation, data, data.rows(slice(0)))
    return warn_uncovered([Spectrum("mass_j1", ("mass_j1",), (0,), edges, edges)], problem)


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


def test_empty_truth_bins_are_named(capsys):
    x = np.array([[0.5, 5.0], [1.5, 15.0], [1.5, 5.0]])
    everything = np.ones(3, bool)
    pairs = Pairs(x, x, np.array([1.0, 1, 0]), everything, everything)
    first, second = np.array([0.0, 1, 2, 3]), np.array([0.0, 10, 20])
    spectra = [
        Spectrum("a", ("a",), (0,), (first,), (first,)),
        Spectrum("b", ("b",), (1,), (second,), (second,)),
        Spectrum("plane", ("a", "b"), (0, 1), (first, second), (first, second)),
    ]
    lines = [
        "warning: a: 1 of 3 bins hold no simulated truth and stay empty (a 2 to 3)",
        "warning: plane: 4 of 6 bins hold no simulated truth and stay empty "
        "(a 0 to 1 and b 10 to 20; a 1 to 2 and b 0 to 10; a 2 to 3 and b 0 to 10; ...)",
    ]
    assert warn_empty(spectra, pairs) == lines
    assert capsys.readouterr().err.splitlines() == lines
