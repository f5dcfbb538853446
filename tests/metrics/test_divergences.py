import numpy as np
import pytest

from hepgen.metrics.divergences import effective_events, triangular, triangular_floor


def test_triangular_of_known_histograms():
    assert triangular(np.array([1, 3]), np.array([3, 1])) == pytest.approx(0.25)  # ½ (¼ + ¼)
    assert triangular(np.array([2, 0, 0]), np.array([0, 1, 0])) == pytest.approx(1)
    assert triangular(np.array([1, 2, 0]), np.array([10, 20, 0])) == 0


def test_triangular_is_symmetric_and_broadcasts():
    rng = np.random.default_rng(1)
    p, q = rng.random((4, 3, 10)), rng.random(10)
    assert triangular(p, q).shape == (4, 3)
    np.testing.assert_allclose(triangular(p, q), triangular(q, p), rtol=1e-14)
    assert triangular(p, q)[2, 1] == pytest.approx(triangular(p[2, 1], q))


def test_triangular_of_an_empty_histogram_is_undefined():
    assert np.isnan(triangular(np.zeros(3), np.ones(3)))


@pytest.mark.parametrize(("first", "second"), [(2000, 2000), (1000, 8000)])
def test_floor_is_the_mean_of_two_samples_of_one_distribution(first, second):
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.full(20, 5.0))
    values = triangular(rng.multinomial(first, p, 2000), rng.multinomial(second, p, 2000))
    # The sum over 20 bins has 19 degrees of freedom; its mean over 2000 pairs is known to 0.7 %.
    assert values.mean() == pytest.approx(19 / 20 * triangular_floor(20, first, second), rel=0.03)


def test_effective_events():
    assert effective_events(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_events(np.array([1.0, 0, 0])) == pytest.approx(1)
