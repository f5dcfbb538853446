import numpy as np
import pytest

from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.pseudodata import like_data, stress, vary
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.variations import Variation

from .conftest import NAMES, selected, toy_table


def pairs_of(table, weights=None):
    weights = np.ones(len(table)) if weights is None else weights
    truth, reco = (table.matrix(NAMES, level) for level in ("truth", "columns"))
    return Pairs(truth, reco, weights, table.passed("truth"), table.passed())


@pytest.fixture(scope="module")
def problem():
    """Misses, fakes, weighted events and a background of a twelfth of the data."""
    rng = np.random.default_rng(7)
    simulation = selected(toy_table(6000, 1))
    data, background = pairs_of(selected(toy_table(3000, 2, nature=True))).seen, pairs_of(toy_table(500, 4)).seen
    data = Level.join([data, background.rows(slice(200))])._replace(weights=None)
    data = data._replace(weights=np.full(len(data.values), 2.0))
    weights = background.weights * 0.8
    return Problem(
        pairs_of(simulation, rng.uniform(0.5, 1.5, len(simulation))), data, background._replace(weights=weights)
    )


@pytest.fixture(scope="module")
def varied(make_config, problem):
    """Makes a variation of the problem by its kind."""
    config = make_config()

    def make(kind, number=0, alternative=None, **changes):
        return vary(config, changes.get("problem", problem), Variation(kind, number), alternative)

    return make


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)


def test_nominal_is_the_problem_itself(varied, problem):
    for kind in ("nominal", "leakage", "systematic"):
        assert varied(kind).problem is problem
        assert varied(kind).target is None


def test_a_bootstrap_draws_one_side_and_leaves_the_other(varied, problem):
    data, simulation = varied("data", 1).problem, varied("simulation", 1).problem
    assert data.simulation is problem.simulation
    assert data.background is problem.background
    assert simulation.data is problem.data
    # Poisson numbers of mean one: a sum of n weights w fluctuates by w √n, five of which are allowed.
    n = len(problem.data.weights)
    assert 0 < abs(data.data.weights.sum() - 2.0 * n) < 10 * n**0.5
    assert set(np.unique(data.data.weights)) <= {2.0, 4, 6, 8, 10, 12, 14}
    drawn = simulation.simulation.weights / problem.simulation.weights
    np.testing.assert_allclose(drawn, np.round(drawn))
    assert drawn.mean() == pytest.approx(1, abs=5 / len(drawn) ** 0.5)
    assert drawn.var() == pytest.approx(1, abs=5 * (3 / len(drawn)) ** 0.5)
    assert not same(simulation.background, problem.background)


def test_replicas_differ_and_come_again(varied):
    assert same(varied("data", 1).problem.data, varied("data", 1).problem.data)
    assert not same(varied("data", 1).problem.data, varied("data", 2).problem.data)
    # Another simulation unfolds the same replica.
    assert same(varied("data", 2).problem.data, varied("systematic", 2).problem.data)


@pytest.mark.parametrize("kind", ["closure", "linear", "bump"])
def test_one_half_of_the_simulation_is_unfolded_with_the_other(varied, problem, kind):
    found, target = varied(kind)
    learnt = found.simulation.weights > 0
    true, seen = problem.simulation.pass_truth, problem.simulation.pass_reco
    assert not (learnt & (target > 0)).any()
    assert (learnt | (target > 0))[true].all()
    assert 0.45 < learnt.mean() < 0.55
    # The pseudo-data are the other half's detector level, in the data's yield, on top of as much background.
    background = np.isin(found.data.values, problem.background.values).all(1)
    assert (~background).sum() == (seen & ~learnt).sum()
    # Of a weight of 2, as all data: its variance is 2 Σw, that of what is known of it Σw².
    assert set(found.data.weights[background]) <= {2.0, 4, 6, 8}
    weights = problem.background.weights
    assert found.signal == pytest.approx(problem.signal, abs=5 * np.sqrt((2 * weights + weights**2).sum()))
    both = target[seen & true].sum() / problem.signal
    assert both == pytest.approx(
        problem.simulation.true_weights[seen].sum() / problem.simulation.seen_weights.sum(), abs=0.02
    )


def test_stress_changes_the_shape_of_the_first_observable_alone(problem):
    pairs = problem.simulation
    both = pairs.pass_truth & pairs.pass_reco
    x, weights = pairs.truth[:, 0], pairs.weights
    linear, bump = stress(pairs, "linear"), stress(pairs, "bump")
    for change in (linear, bump):
        assert (change[~pairs.pass_truth] == 1).all()
        assert np.average(change[both], weights=weights[both]) == pytest.approx(1)
    order = np.argsort(x[both])
    assert (np.diff(linear[both][order]) >= 0).all()
    assert linear[both].max() / linear[both].min() == pytest.approx(3)
    median = np.median(x[pairs.pass_truth])
    assert abs(x[both][bump[both].argmax()] - median) < 0.05
    assert bump[both].max() / bump[both].min() == pytest.approx(1.5, abs=0.01)


def test_a_constant_observable_cannot_be_stressed(problem):
    pairs = problem.simulation._replace(truth=np.full_like(problem.simulation.truth, 3.0))
    for kind in ("linear", "bump"):
        np.testing.assert_allclose(stress(pairs, kind), 1)


def test_another_simulation_takes_the_place_of_the_data(varied, problem):
    other = pairs_of(selected(toy_table(1000, 5)))
    found, target = varied("alternative", alternative=other)
    assert target is None
    assert found.simulation is problem.simulation
    seen = other.seen.values
    np.testing.assert_array_equal(found.data.values[: len(seen)], seen)
    assert found.data.weights[: len(seen)].sum() == pytest.approx(problem.signal)
    assert np.isin(found.data.values[len(seen) :], problem.background.values).all()


def test_toys_are_like_the_data(problem):
    """The reweighted simulation is nearer to the data in each observable, and its fakes and yield are as they were."""
    pairs = problem.simulation
    factors = like_data(problem)
    both = pairs.pass_truth & pairs.pass_reco
    assert (factors[~pairs.pass_truth] == 1).all()
    assert np.average(factors[both], weights=pairs.weights[both]) == pytest.approx(1)
    for column in range(2):
        edges = (np.quantile(pairs.reco[pairs.pass_reco, column], np.linspace(0, 1, 9)),)
        spectrum = Spectrum("x", ("x",), (column,), edges, edges)
        goal = problem.measured(spectrum).values / problem.signal

        def distance(weights, spectrum=spectrum, goal=goal):
            cells = spectrum.cells(pairs.reco, "reco")
            folded = np.bincount(cells, weights * pairs.pass_reco, spectrum.size("reco"))
            return np.square(folded / folded.sum() - goal).sum()

        assert distance(pairs.weights * factors) < 0.4 * distance(pairs.weights)


def test_toys_are_pseudo_experiments_of_one_truth(varied, problem):
    """Data, background and simulation fluctuate as the real ones do, about the same expectation."""
    toys = [varied("toy", number) for number in range(1, 41)]
    assert all(np.array_equal(target, toys[0].target) for _, target in toys)
    assert (toys[0].target[~problem.simulation.pass_truth] == 0).all()
    data, background, simulation = (
        np.array([getattr(toy, part).weights.sum() for toy, _ in toys]) for part in ("data", "background", "simulation")
    )
    for found, real in (
        (data, problem.data.weights),
        (background, problem.background.weights),
        (simulation, problem.simulation.weights),
    ):
        spread = np.sqrt(np.square(real).sum())
        # Of 40 toys the mean is known to 1/√40 of the spread, and the spread to 1/√80 of itself; four of each.
        assert abs(found.mean() - real.sum()) < 4 / 40**0.5 * spread
        assert found.std(ddof=1) == pytest.approx(spread, rel=4 / 80**0.5)
    # No two of them go together.
    assert np.abs(np.corrcoef([data, background, simulation])[np.triu_indices(3, 1)]).max() < 4 / 40**0.5


def test_pulls_of_toys_have_unit_width(varied, problem):
    """What is drawn fluctuates by as much as data and simulation of this size do, the background included.

    In a single bin nothing but the normalisation is unfolded, with the simulation's mean efficiency and purity.
    """
    spectrum = Spectrum("all", ("x",), (0,), (np.array([-50.0, 50]),), (np.array([-50.0, 50]),))
    values = []
    for number in range(1, 61):
        toy, target = varied("toy", number)
        pairs = toy.simulation
        causes, effects = spectrum.cells(pairs.truth, "truth"), spectrum.cells(pairs.reco, "reco")
        passed = {"pass_truth": pairs.pass_truth, "pass_reco": pairs.pass_reco}
        response = response_matrix(causes, effects, pairs.weights, 3, **passed)
        values.append(ibu(toy.measured(spectrum).values, *response, iterations=1).unfolded[0].sum() / target.sum())
    both, true = problem.simulation.pass_truth & problem.simulation.pass_reco, problem.simulation.true_weights
    efficiency = true[both].sum() / true.sum()
    expected = target[both].sum() / target.sum() / efficiency
    # Relative errors: of the data without the background, of the efficiency, and of the purity.
    data = problem.measured(spectrum).variances.sum() / problem.signal**2
    size = problem.simulation.weights.sum() ** 2 / np.square(problem.simulation.weights).sum()
    purity = true[both].sum() / problem.simulation.seen_weights.sum()
    spread = np.sqrt(data + (1 - efficiency) / (efficiency * size) + (1 - purity) / (purity * size))
    # The mean of 60 is known to 1/√60 of the spread, the spread to 1/√120 of itself; three and a half of each.
    assert abs(np.mean(values) - expected) < 3.5 / 60**0.5 * spread
    assert np.std(values, ddof=1) == pytest.approx(spread, rel=3.5 / 120**0.5)
