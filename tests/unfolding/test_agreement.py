import numpy as np
import pytest

from hepgen.unfolding.agreement import agreement, merged, projected

TRIALS = 400


def share_below(p_values, level):
    return np.mean(np.array(p_values) < level)


@pytest.mark.parametrize("correlated", [False, True])
def test_noise_of_ten_replicas_agrees_as_often_as_it_should(correlated):
    rng = np.random.default_rng(1)
    cells = np.arange(30)
    root = np.exp(-0.5 * ((cells[:, None] - cells) / 3) ** 2) if correlated else np.diag(1 + cells / 10)
    found = [agreement(root @ rng.normal(size=30), 7 + rng.normal(size=(10, 30)) @ root.T, 0.05) for _ in range(TRIALS)]
    p_values = [each.p_value for each in found]
    # Binomial: 0.5 ± 0.025 and 0.05 ± 0.011; the χ² is approximate where cells are correlated, then up to 0.07.
    assert share_below(p_values, 0.5) == pytest.approx(0.5, abs=0.08)
    assert 0.02 < share_below(p_values, 0.05) < 0.1
    assert share_below(p_values, 0.05) == np.mean([each.statistic > each.limit for each in found])
    # The mean of F over its noise, which 9 × n degrees of freedom of the replicas hardly raise.
    assert np.mean([each.statistic for each in found]) == pytest.approx(1, abs=0.1)


def test_a_difference_beyond_noise_is_seen_by_five_replicas():
    rng = np.random.default_rng(2)
    assert agreement(2 + rng.normal(size=30), rng.normal(size=(5, 30)), 0.01).p_value < 1e-3


def projections(shrink, size):
    """p-values of spectra that are linear in data of 30 cells, for a model that is wrong in what they keep."""
    rng = np.random.default_rng(3)
    kept, variances = rng.normal(size=(5, 30)), rng.uniform(50, 200, 30)
    wrong = size * variances * kept[0] / np.sqrt(kept[0] ** 2 @ variances)
    for _ in range(TRIALS):
        folded = wrong + np.sqrt(variances) * rng.normal(size=30)
        replicas = shrink * np.sqrt(variances) * rng.normal(size=(15, 30)) @ kept.T
        yield projected(kept @ folded, replicas, folded, variances, 0.05)


@pytest.mark.parametrize("size", [0, 10])
def test_a_projection_of_the_data_is_no_stronger_than_the_data(size):
    found = list(projections(1, size))
    # Binomial: 0.05 ± 0.011, 0.5 ± 0.025.
    assert share_below([each.p_value for each in found], 0.05) == pytest.approx(0.05, abs=0.035)
    assert share_below([each.p_value for each in found], 0.5) == pytest.approx(0.5, abs=0.08)
    assert all((each.p_value < 0.05) == (each.statistic > each.limit) for each in found)
    # Five cells of a non-central χ², whose inverse covariance is corrected: its error is 0.6 of the value each time.
    assert np.mean([each.statistic for each in found]) == pytest.approx(5 + size**2, rel=0.15)


def test_too_small_a_covariance_is_found():
    assert share_below([each.p_value for each in projections(0.4, 10)], 0.05) > 0.9


def test_cells_are_merged_into_groups_of_like_contents():
    contents = np.array([0.0, 0.0, 4.0, 4.0, 2.0, 2.0, 2.0, 2.0, 0.0])
    groups = merged(contents, 4)
    assert (contents @ groups).tolist() == [4, 4, 4, 4]
    assert groups.sum(1).tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert merged(np.array([9.0, 1.0]), 2).tolist() == [[1, 0], [0, 1]]
