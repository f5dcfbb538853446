"""Jets as sets: neither order nor padding matters."""

import pytest
import torch
from scipy.spatial.distance import cdist

from hepgen.models.sets import ConstituentAutoencoder, chamfer_distance


def make_jets(n=20, number=8, seed=1):
    """Jets of 1 to `number` constituents, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, number + 1, (n, 1), generator=generator)
    return torch.rand(n, number, 3, generator=generator) * (torch.arange(number) < counts)[..., None]


def test_the_chamfer_distance_is_that_of_its_definition():
    x, y = make_jets(n=1)[:, :4], make_jets(n=1, seed=2)[:, :6]
    (a, b) = (jet[0][jet[0, :, 0] > 0].double().numpy() for jet in (x, y))
    table = cdist(a, b, "sqeuclidean")
    expected = (a[:, 0] * table.min(1)).sum() / a[:, 0].sum() + (b[:, 0] * table.min(0)).sum() / b[:, 0].sum()
    # Single precision.
    assert float(chamfer_distance(x, y)) == pytest.approx(expected, rel=1e-5)
    assert float(chamfer_distance(x, x[:, [2, 0, 3, 1]])) == 0


@pytest.mark.parametrize("kind", ["chamfer", "latent", "kl", "elbo"])
def test_neither_order_nor_more_padding_changes_a_score(kind):
    torch.manual_seed(1)
    model, jets = ConstituentAutoencoder((8, 3), beta=1.0).eval(), make_jets()
    with torch.no_grad():
        shuffled = model.score(jets[:, torch.randperm(8)], kind)
        # Sums in another order: the precision of a float32.
        torch.testing.assert_close(shuffled, model.score(jets, kind), rtol=1e-5, atol=1e-6)


def test_an_empty_jet_has_a_finite_score_and_gradient():
    model, jets = ConstituentAutoencoder((8, 3)), torch.zeros(2, 8, 3)
    model.loss(jets).backward()
    assert torch.isfinite(model.score(jets)).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_noise_leaves_padding_as_it_is():
    torch.manual_seed(1)
    jets = make_jets()
    noisy = ConstituentAutoencoder((8, 3), noise=0.5).corrupt(jets)
    assert torch.equal(noisy[..., 0] > 0, jets[..., 0] > 0)
    assert (noisy[jets[..., 0] == 0] == 0).all()
    assert not torch.equal(noisy, jets)
