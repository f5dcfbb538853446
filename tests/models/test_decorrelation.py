"""Penalties and the transformation that take an observable out of a score."""

import numpy as np
import pytest
import torch
from torch import nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models.decorrelation import ConditionalRank, DisCo, Pivot, distance_correlation
from hepgen.training import Adversarial, Descent, train


def textbook(a, b, weight):
    """The squared distance correlation from doubly centred distances, in double precision."""
    weight = weight.double() / weight.double().sum()

    def centred(x):
        distance = (x.double()[:, None] - x.double()[None, :]).abs()
        mean = distance @ weight
        return distance - mean[:, None] - mean[None, :] + weight @ mean

    def product(p, q):
        return weight @ (p * q) @ weight

    first, second = centred(a), centred(b)
    return product(first, second) / (product(first, first) * product(second, second)).sqrt()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_distance_correlation_is_that_of_the_definition(scale):
    generator = torch.Generator().manual_seed(1)
    a, noise, weight = torch.randn(3, 300, generator=generator)
    b, weight = a.abs() + 0.3 * noise, weight.square()
    found = distance_correlation(scale * a, b, weight)
    # Single precision, in a difference of terms of order 1.
    assert float(found) == pytest.approx(float(textbook(a, b, weight)), abs=5e-6)
    assert float(distance_correlation(a, b)) == pytest.approx(float(textbook(a, b, torch.ones(300))), abs=5e-6)


def test_distance_correlation_of_known_cases():
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 2000, generator=generator)
    assert float(distance_correlation(a, 3 - 2 * a)) == pytest.approx(1, abs=1e-5)
    # Of n independent normal events it is E|x − x'|² / n = 4 / (π n) over their distance variance, 0.40: 3.2 / n.
    assert 0 < float(distance_correlation(a, b)) < 2 * 3.2 / 2000
    # For a correlation of 1/2 of normal variables: Székely, Rizzo, Bakirov 2007, theorem 7.
    rho = 0.5
    expected = rho * np.arcsin(rho) + np.sqrt(1 - rho**2) - rho * np.arcsin(rho / 2) - np.sqrt(4 - rho**2) + 1
    expected /= 1 + np.pi / 3 - np.sqrt(3)
    assert float(distance_correlation(a, rho * a + np.sqrt(1 - rho**2) * b)) == pytest.approx(expected, abs=0.03)


def test_a_weight_of_2_is_the_event_twice():
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(3))
    b = b + a
    weight = torch.arange(100) % 3
    twice = torch.arange(100).repeat_interleave(weight)
    weighted = distance_correlation(a, b, weight.float())
    assert float(weighted) == pytest.approx(float(distance_correlation(a[twice], b[twice])), abs=5e-6)


@pytest.mark.parametrize("events", [0, 1, 5])
def test_scores_that_are_equal_have_no_correlation_and_no_gradient(events):
    score = torch.zeros(events, requires_grad=True)
    value = distance_correlation(score, torch.arange(float(events)))
    value.backward()
    assert float(value.detach()) == 0
    assert torch.equal(score.grad, torch.zeros(events))


class Logit(nn.Module):
    """A supervised tagger of two inputs."""

    supervised = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))

    def score(self, x):
        return self.layers(x).squeeze(1)

    def loss(self, x, y, weight=None):
        losses = nn.functional.binary_cross_entropy_with_logits(self.score(x), y, reduction="none")
        return (losses if weight is None else weight * losses).mean()


def events(n):
    """Inputs, labels and the standardised mass, NaN for signal: one input is nearly the mass, the other one is not."""
    generator = torch.Generator().manual_seed(4)
    label = (torch.arange(n) % 2).float()
    mass, other = torch.randn(2, n, generator=generator) + label
    return torch.stack([mass, other], dim=1), label, torch.where(label == 0, mass, torch.nan)


def background_correlation(network, x, label):
    with torch.no_grad():
        score = network.score(x)[label == 0]
    return abs(float(torch.corrcoef(torch.stack([score, x[label == 0, 0]]))[0, 1]))


@pytest.mark.parametrize(("penalty", "method", "strength"), [(DisCo, Descent, 1.0), (Pivot, Adversarial, 0.3)])
def test_a_penalty_takes_the_mass_out_of_the_score_and_leaves_the_rest(penalty, method, strength):
    x, label, mass = events(2000)
    found = {}
    for value in (0.0, strength):
        network = Logit()
        pupil = penalty(network, value)
        settings = Training(epochs=15, batch_size=256, learning_rate=1e-2)
        train(pupil, [x, label, mass], settings=settings, seed=1, method=method, verbose=False)
        found[value] = background_correlation(network, x, label)
        with torch.no_grad():
            score = network.score(x)
        assert (score[label == 1].mean() > score[label == 0].mean()).item()
    # Both inputs tell the same: their sum, which a free tagger learns, has a correlation of 1 / √2 with either.
    assert found[0.0] == pytest.approx(np.sqrt(0.5), abs=0.1)
    assert found[strength] < 0.25


@pytest.mark.parametrize("penalty", [DisCo, Pivot])
def test_event_weights_reach_the_penalty_and_signal_does_not(penalty):
    """An event without weight does not count, and neither does one without an observable, whatever its input."""
    x, label, mass = events(60)
    pupil = penalty(Logit(), 1e6)  # so that the tagger's own loss does not show

    def loss(x, weight, mass):
        name = "loss" if penalty is DisCo else "generator_loss"
        with torch.no_grad():
            return float(getattr(pupil, name)(x, label, weight, mass)) / 1e6

    weight = torch.ones(60)
    plain = loss(x, weight, mass)
    moved = x.clone()
    moved[1] = 50.0  # signal
    assert loss(moved, weight, mass) == pytest.approx(plain, rel=1e-3, abs=1e-4)
    moved[0] = 50.0
    light = weight.clone()
    light[0] = 0.0
    left_out = torch.where(torch.arange(60) == 0, torch.nan, mass)
    assert loss(moved, light, mass) == pytest.approx(loss(x, weight, left_out), rel=1e-3, abs=1e-4)
    assert abs(loss(moved, weight, mass) - plain) > 0.005


class TwoScores(Logit):
    def score(self, x, kind="own"):
        return super().score(x) if kind == "own" else x[:, 1]


@pytest.mark.parametrize("penalty", [DisCo, Pivot])
def test_the_named_score_is_penalised(penalty):
    x, label, mass = events(100)
    for kind, depends in (("own", True), ("other", False)):
        pupil = penalty(TwoScores(), 1e6, kind)
        loss = pupil.loss(x, label, mass) if penalty is DisCo else pupil.generator_loss(x, label, mass)
        tagger = pupil.tagger if penalty is DisCo else pupil.generator
        (gradient, *_) = torch.autograd.grad(loss, list(tagger.parameters()))
        assert (float(gradient.norm()) > 100) == depends  # of the tagger's own loss it is of order 1


@pytest.mark.parametrize("penalty", [DisCo, Pivot])
def test_a_batch_without_background_has_no_penalty(penalty):
    x, label, mass = (values[1:2] for values in events(4))
    network = Logit()
    pupil = penalty(network, 10.0)
    with torch.no_grad():
        loss = pupil.loss(x, label, mass) if penalty is DisCo else pupil.generator_loss(x, label, mass)
        assert float(loss) == float(network.loss(x, label))


def test_large_batches_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr("hepgen.models.decorrelation.LARGEST", 1000)
    x, label, mass = events(6000)
    network = Logit()
    with torch.no_grad():
        score, background = network.score(x)[label == 0], mass[label == 0]
        parts = [distance_correlation(s, m) for s, m in zip(score.chunk(3), background.chunk(3), strict=True)]
        expected = network.loss(x, label) + 2 * sum(parts) / 3
        assert float(DisCo(network, 2.0).loss(x, label, mass)) == pytest.approx(float(expected), rel=1e-5)


def test_a_tagger_learns_alone_before_the_adversary_counts():
    x, label, mass = events(100)
    pupil = Pivot(Logit(), 5.0, alone=2)
    with torch.no_grad():
        own = float(pupil.generator.loss(x, label))
        found = [float(pupil.generator_loss(x, label, mass)) for _ in range(3)]
    assert found[:2] == [own, own]
    assert found[2] != own


def test_an_adversary_learns_the_density_of_the_observable():
    """−log p of a normal observable that the score tells up to a deviation of 0.5."""
    generator = torch.Generator().manual_seed(5)
    mass, noise = torch.randn(2, 2000, generator=generator)
    score = mass + 0.5 / np.sqrt(0.75) * noise  # leaves a deviation of 0.5
    pupil = Pivot(Logit(), 1.0)
    optimizer = torch.optim.Adam(pupil.discriminator.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = pupil._surprise(1e-3 * score, mass, torch.ones(2000))
        loss.backward()
        optimizer.step()
    entropy = np.log(0.5) + np.log(2 * np.pi * np.e) / 2
    assert float(loss.detach()) == pytest.approx(entropy, abs=0.05)


def spectrum(n=20_000, seed=6):
    """A falling mass and a score that grows and widens with it."""
    rng = np.random.default_rng(seed)
    mass = 1000 + rng.exponential(500, n)
    return mass / 1000 + mass / 2000 * rng.exponential(size=n), mass


@pytest.fixture(scope="module")
def rank():
    score, mass = spectrum()
    return ConditionalRank().fit(score, mass, np.ones(len(score)))


def ranked(rank, score, mass):
    return rank(torch.from_numpy(score), torch.from_numpy(mass)).numpy()


def test_a_cut_on_ranks_rejects_the_same_fraction_at_every_mass(rank):
    score, mass = spectrum(seed=7)
    passing = ranked(rank, score, mass) > 0.9
    for part in np.array_split(np.argsort(mass), 10):
        # Errors of 10 % of 2000 tested and, at the ends, as few learnt events: 0.0067 each are 0.0095; four of them.
        assert passing[part].mean() == pytest.approx(0.1, abs=0.038)
    tenths = np.array_split(score[np.argsort(mass)], 10)
    assert (tenths[-1] > np.quantile(score, 0.9)).mean() > 0.25  # a cut on the score does not


@pytest.mark.parametrize("efficiency", [0.1, 0.01])
def test_a_score_that_drifts_with_the_mass_passes_as_often_at_the_end_of_the_spectrum(efficiency):
    rates = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mass = rng.exponential(0.5, 40_000)  # TeV
        score = rng.normal(size=40_000) + 2 * mass / 1.5
        learnt = ConditionalRank().fit(score[:10_000], mass[:10_000], np.ones(10_000))
        rank, tested = ranked(learnt, score[10_000:], mass[10_000:]), mass[10_000:]
        rates.append([(rank[part] > 1 - efficiency).mean() for part in np.array_split(np.argsort(tested), 30)])
    rates = np.array(rates)
    # In each of 30 bins 333 events of 10,000 that are tested: the map, its end included, is to add less than a fifth
    # to the variance of their number. The five maps are tested with 30,000 events, whose own variance is a third.
    binomial = efficiency * (1 - efficiency) / (10_000 / 30)
    excess = rates.var(axis=0, ddof=1).mean() / binomial - 1 / 3
    assert excess < 0.2
    # Of 5 x 1000 events, and of five maps with as many at the end.
    assert rates[:, -1].mean() == pytest.approx(rates.mean(), abs=3 * np.sqrt(2 * binomial / 15))


def test_ranks_rise_with_the_score_at_every_mass_and_beyond_all_scores(rank):
    score = np.linspace(-100, 100, 4001)
    for mass in (0.0, 1000.0, 1700.0, 1e5):
        values = ranked(rank, score, np.full(len(score), mass))
        assert np.all(np.diff(values) > 0)
        assert values.min() > -1
        assert values.max() < 2


def test_ranks_are_continuous_in_the_mass_and_constant_beyond(rank):
    mass = np.linspace(0, 20_000, 20_001)
    values = ranked(rank, np.full(len(mass), 2.5), mass)
    assert np.abs(np.diff(values)).max() < 1e-2
    assert values[0] == values[100]
    assert values[-1] == values[-100]


def test_weights_enter_the_ranks():
    """Events of weight 0 do not count, and a weight of 2 is the event twice, up to where in it a quantile is read."""
    score, mass = spectrum(3000)
    weight = np.arange(3000) % 3.0
    twice = np.repeat(np.arange(3000), weight.astype(int))
    weighted = ConditionalRank().fit(score, mass, weight)
    repeated = ConditionalRank().fit(score[twice], mass[twice], np.ones(len(twice)))
    a, b = (ranked(found, score, mass) for found in (weighted, repeated))
    np.testing.assert_allclose(a, b, atol=0.1)  # a window of 187 or 250 events, some of them the same
    score[weight == 0] = 1e9
    np.testing.assert_array_equal(
        ranked(ConditionalRank().fit(score, mass, weight), score, mass)[weight > 0], a[weight > 0]
    )


@pytest.mark.parametrize("score", [np.zeros(500), np.arange(500) % 2.0])
def test_equal_scores_and_equal_masses_have_finite_ranks(score):
    values = ranked(
        ConditionalRank().fit(score, np.full(500, 3.0), np.ones(500)), np.array([-1.0, 0, 1, 5]), np.full(4, 3.0)
    )
    assert np.isfinite(values).all()
    assert np.all(np.diff(values) >= 0)


def test_too_few_events_are_refused():
    with pytest.raises(HepgenError, match="100 events cannot fix 101 quantiles"):
        ConditionalRank().fit(np.arange(101.0), np.arange(101.0), np.arange(101.0))
