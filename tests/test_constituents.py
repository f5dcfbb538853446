"""Padded constituents: their order, their features, and what must not change them."""

import awkward as ak
import numpy as np
import pytest
import torch

from hepgen.config import Constituents
from hepgen.constituents import JetConstituents

STEPS = {"center": True, "rotate": True, "flip": True}


def jets(n=30, seed=1):
    """Jets of one to thirty particles."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 31, n)
    total = counts.sum()
    columns = {
        "pt": rng.exponential(50, total) + 1,
        "eta": np.repeat(rng.normal(size=n), counts) + 0.2 * rng.normal(size=total),
        "phi": np.repeat(rng.uniform(-2, 2, n), counts) + 0.1 * rng.normal(size=total),
    }
    return ak.unflatten(ak.zip(columns), counts)


def padded(constituents, number=20, **steps):
    return JetConstituents(constituents, Constituents(number=number, **steps))


def test_features_of_each_jet_one_by_one():
    """Centred only, they are written down directly: pT fraction, η and φ about the pT-weighted mean."""
    made = padded(jets(), 20, center=True, rotate=False, flip=False)[torch.arange(30)].numpy()
    for row, jet in zip(made, jets(), strict=True):
        pt, eta, phi = (ak.to_numpy(jet[name]) for name in ("pt", "eta", "phi"))
        order = np.argsort(-pt)
        fraction = pt / pt.sum()
        expected = np.stack([fraction, eta - fraction @ eta, phi - fraction @ phi], axis=1)[order][:20]
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-6)
        assert not row[len(expected) :].any()


def test_the_order_of_the_constituents_and_the_place_of_the_jet_do_not_matter():
    plain = jets()
    order = ak.argsort(ak.unflatten(np.random.default_rng(2).random(ak.sum(ak.num(plain))), ak.num(plain)))
    mixed = plain[order]
    moved = ak.zip({"pt": 2 * mixed.pt, "eta": mixed.eta + 0.3, "phi": mixed.phi + 0.5})
    expected, found = (padded(x, **STEPS)[torch.arange(30)] for x in (plain, moved))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_jets_are_prepared_with_all_their_constituents():
    """The hardest few are the same whether more are kept or not."""
    few, many = (padded(jets(), number, **STEPS)[torch.arange(30)] for number in (5, 40))
    assert torch.equal(few, many[:, :5])


@pytest.mark.parametrize("index", [torch.tensor([7, 0, 7]), slice(3, 9), np.arange(30) % 3 == 0])
def test_it_is_indexed_like_a_tensor(index):
    made = padded(jets())
    assert len(made) == 30
    assert torch.equal(made[index], made[:][index])


def test_jets_are_prepared_in_steps(monkeypatch):
    whole = padded(jets())[:]
    monkeypatch.setattr("hepgen.constituents.STEP", 7)
    assert torch.equal(padded(jets())[:], whole)
