import numpy as np
import pytest
from scipy.stats import norm

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import LEVEL
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.iterations import average, choose, study

CELLS, TOYS = 40, 50
TARGET = np.full(CELLS, 400.0)


@pytest.fixture
def pretended(make_binned):
    """Toys of a given bias and spread at every iteration, in a measurement that quotes a standard deviation of 20."""

    def make(bias, spread, toys=TOYS, target=TARGET):
        rng = np.random.default_rng(1)
        values = {"nominal": np.broadcast_to(target, (1, len(bias), len(target))).copy()}
        for number in range(1, toys + 1):
            noise = rng.normal(size=(len(bias), len(target))) * np.sqrt(target)
            values[f"toy-{number}"] = (target + np.sqrt(target) * np.array(bias)[:, None] + spread * noise)[None]
        return make_binned(values, {f"toy-{number}": target for number in range(1, toys + 1)})

    return make


def test_study_recovers_bias_variance_and_coverage(pretended):
    found = average([study(pretended([1.0, 0.0], 0.8))])
    # The toys' and the cells' noise is independent here: 4 standard errors of 2000 Gaussians.
    near = {"rtol": 0, "atol": 4 * 2 * 0.8 / np.sqrt(TOYS * CELLS)}
    np.testing.assert_allclose(found.squared_bias.value, [1, 0], **near)
    np.testing.assert_allclose(found.variance.value, 0.64, **near)
    np.testing.assert_allclose(found.mse.value, [1.64, 0.64], **near)
    covered = norm.cdf((1 - np.array([1, 0])) / 0.8) - norm.cdf((-1 - np.array([1, 0])) / 0.8)
    assert np.all(np.abs(found.coverage.value - covered) < 4 * found.coverage.error)
    np.testing.assert_allclose(found.squared_bias.value + found.variance.value, found.mse.value)


def test_errors_of_the_study_are_those_of_its_cells(pretended):
    found = study(pretended([0.5], 1.0))
    assert np.abs(((found.bias - 10) / found.bias_error)[0]).mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.4)
    np.testing.assert_allclose(found.mse, found.bias**2 + found.variance * (TOYS - 1) / TOYS)
    assert found.coverage_error.max() <= 0.5 / np.sqrt(TOYS)


@pytest.mark.parametrize(("kinds", "share"), [(("data",), 0.6566), (("data", "simulation"), 0.6694)])
def test_coverage_by_widths_of_ten_replicas(make_binned, kinds, share):
    """Student's t of 9 degrees of freedom, or 18; how far off one experiment is, is what its error says."""
    rng, target, found = np.random.default_rng(2), np.full(6, 400.0), []
    for _ in range(60):
        # Two cells in three fluctuate together.
        noise = {n: 20 * rng.normal(size=(40, 1, 1, 3)).repeat(2, -1) for n in ("data", "simulation", "toy")}
        toys = {f"toy-{i}": target + np.sqrt(len(kinds)) * noise["toy"][i] for i in range(40)}
        replicas = {
            f"{kind}-{i}": target + (kind in kinds) * noise[kind][i]
            for kind in ("data", "simulation")
            for i in range(1, 11)
        }
        binned = make_binned({"nominal": target[None, None]} | toys | replicas, dict.fromkeys(toys, target))
        found.append(average([study(binned)]))
    coverage, error, expected = (
        np.array([x[0] for x in part])
        for part in zip(*((a.coverage.value, a.coverage.error, a.expected) for a in found), strict=True)
    )
    scatter = coverage.std(ddof=1)
    assert expected.mean() == pytest.approx(share, abs=0.006)
    assert coverage.mean() == pytest.approx(share, abs=4 * scatter / np.sqrt(60))
    assert np.sqrt(np.mean(error**2)) == pytest.approx(scatter, rel=4 / np.sqrt(2 * 60))


@pytest.mark.parametrize(
    ("bias", "chosen"),
    [
        pytest.param([2.0, 0.1, 0.0], 1, id="the first is biased, the last has a larger variance"),
        pytest.param([0.0, 0.0, 0.0], 0, id="the smallest error of those that cover"),
        pytest.param([3.0, 2.0, 1.5], 2, id="none covers: the best coverage"),
    ],
)
def test_choice_on_toys_of_known_answer(pretended, bias, chosen):
    spreads = np.array([0.7, 0.9, 0.99])[:, None]
    assert choose([pretended(bias, spreads)]) == chosen


def test_the_smallest_error_does_not_win_without_coverage(pretended, make_binned):
    small = pretended([0.6, 0.0], np.array([[0.6], [0.95]]))
    found = average([study(small)])
    assert found.mse.value[0] < found.mse.value[1]
    # Quoted is an uncertainty that falls short at the first iteration, as it does where regularisation hides the noise.
    quoted = np.stack([0.3 * TARGET, TARGET])[None]
    assert choose([make_binned(small.values, small.targets, quoted)]) == 1


def test_sparse_cells_do_not_count(pretended):
    target = np.concatenate([TARGET, [9.0, 3.0]])
    found = study(pretended([0.0], 1.0, target=target))
    assert found.populated.sum() == CELLS
    with pytest.raises(HepgenError, match="no bin is expected to hold 10 events"):
        average([study(pretended([0.0], 1.0, target=np.array([5.0, 9.0])))])


def test_the_last_iteration_without_toys(pretended):
    assert choose([pretended([5.0, 0.0, 5.0], 1.0, toys=0)]) == 2


def test_one_toy_is_none(pretended):
    with pytest.raises(HepgenError, match=r"unfolding\.toys: 1 toys"):
        choose([pretended([0.0], 1.0, toys=1)])


def test_iterations_trade_bias_for_variance_and_cover_in_the_end(make_binned):
    """IBU of a Gaussian, data and response drawn anew for each toy and each replica."""
    rng, edges, events = np.random.default_rng(4), np.linspace(-1.8, 2.2, 11), 4000
    size = len(edges) + 1

    def sample(mean, width, number):
        truth = rng.normal(mean, width, number)
        return [np.searchsorted(edges, x, "right") for x in (truth, truth + rng.normal(0, 0.4, number))]

    def unfolded(data, simulation):
        response = response_matrix(*simulation, np.ones(len(simulation[0])), size)
        return ibu(np.bincount(data, minlength=size), *response, iterations=8).unfolded[None, :, 1:-1]

    def data():
        return sample(0.2, 0.8, rng.poisson(events))[1]

    def redrawn(cells):
        return [x[which] for which in [rng.integers(len(cells[0]), size=rng.poisson(len(cells[0])))] for x in cells]

    measured, simulation = data(), sample(0, 1, events)
    values = {"nominal": unfolded(measured, simulation)}
    for number in range(1, 41):
        values[f"data-{number}"] = unfolded(redrawn([measured])[0], simulation)
        values[f"simulation-{number}"] = unfolded(measured, redrawn(simulation))
        values[f"toy-{number}"] = unfolded(data(), sample(0, 1, events))
    target = events * np.diff(norm(0.2, 0.8).cdf(edges))
    binned = make_binned(values, {name: target for name in values if name.startswith("toy")})
    found = average([study(binned)])
    assert found.squared_bias.value[0] > 2 > 0.5 > found.squared_bias.value[-1]
    assert np.all(np.diff(found.variance.value) > 0)
    # The first iteration is biased. At the last, widths of 40 replicas are good to an eighth, the coverage to 0.05.
    assert found.coverage.value[0] < 0.5
    assert found.coverage.value[-1] == pytest.approx(LEVEL, abs=0.05 + 3 * found.coverage.error[-1])
    assert 1 <= choose([binned]) <= 7
