"""What supervised networks promise beyond the contract of all taggers."""

import pytest
import torch

from hepgen.errors import HepgenError
from hepgen.models.supervised import ConvClassifier, DeepSets, DenseClassifier


def make_jets(n=20, number=8, seed=1):
    """Jets of 1 to `number` constituents, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, number + 1, (n, 1), generator=generator)
    return torch.rand(n, number, 3, generator=generator) * (torch.arange(number) < counts)[..., None]


@pytest.mark.parametrize(("kind", "shape"), [(DenseClassifier, (6,)), (ConvClassifier, (1, 9, 9)), (DeepSets, (8, 3))])
def test_a_weighted_loss_is_that_of_repeated_events(kind, shape):
    torch.manual_seed(1)
    model, x, y = kind(shape), torch.rand(4, *shape), torch.tensor([0.0, 1.0, 1.0, 0.0])
    repeated = [0, 2, 2, 3]
    weighted = model.loss(x, y, torch.tensor([1.0, 0.0, 2.0, 1.0]))
    torch.testing.assert_close(weighted, model.loss(x[repeated], y[repeated]))
    torch.testing.assert_close(model.loss(x, y, torch.ones(4)), model.loss(x, y))


def test_deep_sets_do_not_know_the_order_of_constituents():
    model, jets = DeepSets((8, 3)), make_jets()
    torch.testing.assert_close(model.score(jets[:, torch.randperm(8)]), model.score(jets))


def test_deep_sets_do_not_see_padding():
    """A place without pT counts for nothing, whatever else it holds."""
    model, jets = DeepSets((8, 3)), make_jets()
    filled = torch.where(jets[..., :1] == 0, torch.tensor([0.0, 5.0, -5.0]), jets)
    assert not torch.equal(filled, jets)
    torch.testing.assert_close(model.score(filled), model.score(jets))


def test_images_of_an_odd_side_go_through_convolutions():
    score = ConvClassifier((1, 37, 37)).score(torch.rand(3, 1, 37, 37))
    assert score.shape == (3,)
    assert len(score.unique()) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseClassifier((6,), dropout=1.0), "dropout is 1.0"),
        (lambda: ConvClassifier((1, 9, 9), channels=[]), r"channels: is \[\]"),
        (lambda: DeepSets((8, 3), hidden=(0,)), "at least 1"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()


@pytest.mark.parametrize("kind", [ConvClassifier, DeepSets])
def test_other_inputs_are_refused(kind):
    with pytest.raises(HepgenError, match=r"inputs of shape \(6,\); it takes (images|constituents)"):
        kind((6,))
