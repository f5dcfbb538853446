import subprocess
import sys

import numpy as np
import pytest

from hepgen.metrics.roc import Ranking
from hepgen.plots.figures import Axis
from hepgen.tagging import figures
from hepgen.tagging.figures import Scorer

N = 20_000
MASS = Axis(label="mass [GeV]")


def scorer(scores, label=None, role="model"):
    label = np.arange(N) % 2 if label is None else label
    return Scorer("model", role, np.stack(scores), [Ranking(score, label).roc() for score in scores])


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def mass(rng):
    return rng.exponential(500, N) + 2500


def test_names_need_no_torch():
    code = "import sys, hepgen.tagging.figures; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_random_score_lies_on_its_guide(rng):
    figure = figures.roc_curves([scorer([rng.random(N) for _ in range(3)])])
    line, guide = figure.lines
    expected = np.interp(line.x, guide.x, guide.y)
    # 10,000 events of each class: 2 % at εS = 0.25; three of these.
    wide = np.array(line.x) > 0.25
    np.testing.assert_allclose(np.array(line.y)[wide], expected[wide], rtol=0.06)
    assert np.all(np.array(line.low) <= line.high)


def test_curves_end_where_no_background_is_left(rng):
    score = np.where(np.arange(N) % 2 == 1, 2 + rng.random(N), rng.random(N))
    score[:200:2] = 2.5  # 1 % of background in the midst of the signal
    line = figures.sic_curves([scorer([score])]).lines[0]
    assert min(line.x) == pytest.approx(0.51, abs=0.02)


def test_a_perfect_score_has_no_curve(rng):
    label = np.arange(N) % 2
    for curves in (figures.roc_curves, figures.sic_curves):
        perfect, random, *_ = curves([scorer([label + rng.random(N)])]).lines
        assert not perfect.x
        assert random.label == "random"


def test_the_floors_of_a_small_sample_are_numbers_of_events(rng):
    """Of 10,000 background events the published efficiency leaves none; the line is drawn at 6 of them."""
    *_, published, events = figures.sic_curves([scorer([rng.random(N)])]).lines
    for line, floor in ((published, 6e-4), (events, 2.5e-3)):
        assert line.y[-1] / line.x[-1] == pytest.approx(1 / np.sqrt(floor))
        assert f"{floor:.2g}" in line.label


@pytest.mark.parametrize("rejection", [0.5, 0.9, 0.99])
def test_a_cut_rejects_a_fraction_of_the_weight(rng, rejection):
    score = rng.random(N)
    left = figures.passing(score, score**3, rejection)
    # To within one event of the largest weight.
    assert np.sum(score[left] ** 3) / np.sum(score**3) == pytest.approx(1 - rejection, abs=4 / N)


def test_a_score_that_does_not_know_the_mass_has_a_flat_profile(rng, mass):
    line = figures.mass_profile([scorer([rng.random(N)])], mass, np.ones(N), MASS).lines[0]
    # The median of 2,000 uniform numbers has an error of 0.5/√2000 = 0.011; four of these.
    np.testing.assert_allclose(line.y, 0.5, atol=0.045)


def test_the_mass_itself_has_the_steepest_profile(mass):
    line = figures.mass_profile([scorer([mass])], mass, np.ones(N), MASS).lines[0]
    np.testing.assert_allclose(line.y, np.linspace(0.05, 0.95, 10), atol=1e-3)


def test_weights_enter_the_profile(mass):
    """Weights that favour large masses push the quantile of every mass down."""
    line = figures.mass_profile([scorer([mass])], mass, mass - 2500, MASS).lines[0]
    # The quantile of t = (m − 2500)/500 under the weighted density t exp(−t) is 1 − (1 + t) exp(−t).
    t = (np.array(line.x) - 2500) / 500
    np.testing.assert_allclose(line.y, 1 - (1 + t) * np.exp(-t), atol=0.05)


def test_a_random_cut_leaves_the_mass_spectrum_alone(rng, mass):
    edges = np.linspace(2500, 3250, 6)
    weight = rng.exponential(1, N)
    reference, *cuts = figures.mass_spectra(scorer([rng.random(N)]), mass, weight, edges, MASS).histograms
    assert [cut.label for cut in cuts] == ["50 % rejected", "90 % rejected", "99 % rejected"]
    for cut in cuts:
        pulls = (np.array(cut.values) - reference.values) / cut.errors
        assert np.sum(pulls**2) < 16.7  # χ² of 5 bins, p = 0.5 %


def test_score_histograms_have_unit_area(rng):
    label = np.arange(N) % 2
    figure = figures.score_histograms(scorer([rng.normal(label, 1)]), 7, label, np.ones(N))
    assert figure.notes == ["training with seed 7"]
    for histogram in figure.histograms:
        assert np.sum(np.array(histogram.values) * np.diff(figure.edges)) == pytest.approx(1, abs=0.01)
