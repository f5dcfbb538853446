"""The preprocessing of named observables: sound for whatever a generator makes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.generation.scaling import make_scaler
from hepgen.generation.train import Mirrored, mirror_eta

FEATURES = ["pt_j3", "eta_j1", "pt_j1", "dphi_jj", "pt_j2", "mass_light", "mass_heavy", "multiplicity_j1"]


def scaler_of(kind, features=FEATURES, **changes):
    entry = Generator(type="any", **changes)
    block = Generation(samples=["qcd"], features=features, models={"m": entry})
    return make_scaler(SimpleNamespace(scaler=kind), entry, block)


@pytest.fixture(scope="module")
def x():
    """Three jets above 400 GeV, of which the leading one was selected above 1200 GeV."""
    rng = np.random.default_rng(1)
    pt1 = 1200 + rng.exponential(200, 5000)
    pt2 = 400 + (pt1 - 400) * rng.beta(8, 1, 5000)
    pt3 = 400 + (pt2 - 400) * rng.beta(1, 4, 5000)
    masses = np.sort(rng.gamma(4, 50, (5000, 2)), axis=1).T
    columns = [pt3, rng.normal(0, 0.8, 5000), pt1, rng.normal(math.pi, 0.2, 5000), pt2, *masses, rng.poisson(40, 5000)]
    return torch.from_numpy(np.stack(columns, axis=1))


def made_of_noise(scaler, size=3.0):
    """What becomes of a bad network's events: independent normal variables that are too wide."""
    z = size * torch.randn(2000, len(scaler.shift), generator=torch.Generator().manual_seed(2))
    return dict(zip(FEATURES, scaler.inverse(z).T, strict=True))


def test_generated_jets_are_in_order_and_above_the_cut(x):
    made = made_of_noise(scaler_of("support").fit(x))
    assert torch.all(made["pt_j2"] <= made["pt_j1"])
    assert torch.all(made["pt_j3"] <= made["pt_j2"])
    assert torch.all(made["mass_light"] <= made["mass_heavy"])
    # The cut is known to about the distance of neighbouring events there, 200/5000 GeV.
    assert float(made["pt_j1"].min()) == pytest.approx(1200, abs=0.2)
    assert float(made["pt_j3"].min()) == pytest.approx(400, abs=0.2)
    assert torch.all(made["multiplicity_j1"] == made["multiplicity_j1"].round())
    assert torch.all((made["dphi_jj"] >= 0) & (made["dphi_jj"] <= 2 * math.pi))


def test_jets_in_another_order_are_learnt_as_they_are(x):
    swapped = x[:, [2, 1, 0, 3, 4, 6, 5, 7]]
    scaler = scaler_of("support").fit(swapped)
    torch.testing.assert_close(scaler.inverse(scaler(swapped)), swapped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["support", "minmax"])
def test_round_trip_and_reload(kind, x):
    scaler = scaler_of(kind).fit(x)
    again = scaler_of(kind)
    again.load_state_dict(scaler.state_dict())
    # Network inputs in single precision, relative to the range of a column.
    torch.testing.assert_close(again.inverse(scaler(x)), x, rtol=1e-5, atol=1e-5)


def test_angles_elsewhere_are_an_error(x):
    wrapped = x.clone()
    wrapped[:, 3] -= math.pi
    with pytest.raises(
        HepgenError, match=r"of dphi_jj lie outside its physical range 0 to 6.28319; check the column's"
    ):
        scaler_of("support").fit(wrapped)


@pytest.mark.parametrize(("inputs", "shift"), [("images", 1), ("constituents", 3)])
def test_jets_are_scaled_by_factors(inputs, shift):
    assert len(scaler_of("scale", inputs=inputs).shift) == shift


def test_unknown_scaler():
    with pytest.raises(HepgenError, match="unknown scaler of a generator 'robust'"):
        scaler_of("robust")


def test_mirroring_in_network_units_is_mirroring_in_eta(x):
    """Half of the events are reflected; whichever they are, they are events of the mirrored sample."""
    scaler = scaler_of("minmax").fit(mirror_eta(x, FEATURES))
    torch.manual_seed(1)
    data = Mirrored(scaler(x), FEATURES).to(torch.device("cpu"))
    index = torch.arange(2000)
    seen = scaler.inverse(data[index])
    sign = seen[:, 1] / x[index, 1]
    # Single precision, relative to the range of η of 6: where |η| is tiny, the ratio is not known so well.
    clear = x[index, 1].abs() > 0.01
    torch.testing.assert_close(sign.abs()[clear], torch.ones_like(sign[clear]), rtol=0, atol=1e-3)
    torch.testing.assert_close(seen[:, 2:], x[index, 2:], rtol=1e-5, atol=1e-3)
    # 2000 tosses of a coin: 3 standard deviations
    assert float((sign > 0).double().mean()) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(2000))
