"""Normalizing flows: densities that are exact, what they learn, and their agreement with nflows."""

import math

import numpy as np
import pytest
import torch
from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import GENERATORS
from hepgen.models.flows import RQSCouplingFlow
from hepgen.training import train

FLOWS = ["rqs_flow", "affine_flow", "maf"]
SMALL = {"hidden": 16, "blocks": 1}


@pytest.fixture(params=FLOWS)
def name(request):
    return request.param


def build(name, features, conditions=0, *, scale=0.3, **settings):
    """A flow away from the identity that it starts as."""
    torch.manual_seed(1)
    flow = GENERATORS.load(name)((features,), conditions, **(settings or SMALL))
    with torch.no_grad():
        for key, parameter in flow.named_parameters():
            if key.endswith(("final_layer.weight", "final_layer.bias")):
                parameter += scale * torch.randn_like(parameter)
    return flow


def none(n, dtype=torch.float32):
    return torch.empty(n, 0, dtype=dtype)


def test_starts_as_the_identity(name):
    x = torch.randn(500, 7)
    z, log_jacobian = GENERATORS.load(name)((7,), 0)(x, none(500))
    # float32: a spline of eight bins up to 5 adds up rounding errors of 1e-7 of its range in each layer
    torch.testing.assert_close(z.float(), x, atol=5e-6, rtol=0)
    torch.testing.assert_close(log_jacobian.float(), torch.zeros(500), atol=5e-5, rtol=0)


@pytest.mark.parametrize("features", [2, 3, 7])
def test_log_jacobian_is_that_of_autograd(name, features):
    flow = build(name, features, 1).double()
    x, c = torch.randn(4, features, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    _, log_jacobian = flow(x, c)
    for row, condition, value in zip(x, c, log_jacobian, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v, c=condition: flow(v[None], c[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(value.item(), abs=1e-8)


def test_density_integrates_to_one_under_every_condition(name):
    """The midpoint rule over ±8: exact to 2e-3 with 250 steps a side where less than that is left beyond."""
    flow = build(name, 2, 1, scale=0.1, layers=2, **SMALL).double()
    side = torch.linspace(-8, 8, 251, dtype=torch.float64)
    grid = torch.cartesian_prod(*[(side[1:] + side[:-1]) / 2] * 2)
    with torch.no_grad():
        for condition in (-1.0, 2.0):
            density = flow.log_prob(grid, torch.full((len(grid), 1), condition, dtype=torch.float64)).exp()
            assert density.sum().item() * (16 / 250) ** 2 == pytest.approx(1, abs=2e-3)


def test_round_trip_in_float32(name):
    """Data to noise and back, with the same Jacobian: off by more than 1e-3 on below 0.1 % of the points."""
    flow = build(name, 7, 2, scale=0.1 if name == "affine_flow" else 0.3)
    x, c = torch.randn(5000, 7), torch.randn(5000, 2)
    with torch.no_grad():
        z, forward = flow(x, c)
        back, backward = flow.inverse(z, c)
        assert forward.abs().mean() > 0.5, "the flow is too close to the identity to be a test"
        assert ((back - x).abs().amax(1) > 1e-3).float().mean() < 1e-3
        assert ((forward + backward).abs() > 1e-2).float().mean() < 1e-3


def test_steep_flow_is_inverted_where_bare_nflows_stops():
    """Rounding in float32 makes the discriminant of nflows' quadratic negative, on which it asserts."""
    flow = build("rqs_flow", 7, scale=6.0, layers=4, hidden=64)
    with torch.no_grad():
        z, _ = flow(torch.randn(2000, 7), none(2000))
        assert flow.inverse(z.float(), none(2000))[0].isfinite().all()
        as_nflows(flow)
        with pytest.raises(AssertionError):
            flow.inverse(z.float(), none(2000))


def as_nflows(flow):
    for layer in flow.transform._transforms:
        layer.__class__ = PiecewiseRationalQuadraticCouplingTransform


@pytest.mark.parametrize("conditions", [0, 2])
def test_agrees_with_bare_nflows(conditions):
    flow = build("rqs_flow", 7, conditions).double()
    x, c = torch.randn(100, 7, dtype=torch.float64), torch.randn(100, conditions, dtype=torch.float64)
    own = [flow.log_prob(x, c), flow.inverse(x, c)[0]]
    as_nflows(flow)
    for value, expected in zip(own, [flow.log_prob(x, c), flow.inverse(x, c)[0]], strict=True):
        torch.testing.assert_close(value, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("features", [2, 3, 7, 12])
@pytest.mark.parametrize("coupling", ["rqs_flow", "affine_flow"])
def test_coupling_links_all_features(coupling, features):
    """2 ⌈log₂ features⌉ layers are enough for each output to depend on each input."""
    flow = build(coupling, features, layers=2 * math.ceil(math.log2(features)), **SMALL).double()
    x = torch.randn(features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None], none(1, v.dtype))[0][0], x)
    assert (jacobian != 0).all()


@pytest.mark.parametrize("direction", ["log_prob", "inverse"])
def test_compiles_without_a_break(direction):
    flow = build("rqs_flow", 4, 1, layers=1, **SMALL)
    explained = torch._dynamo.explain(getattr(flow, direction))(torch.randn(8, 4), torch.randn(8, 1))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_learns_a_ring():
    """A density with a hole: 0.3 % of the ring are beyond 3 σ of its radius, of a normal with its moments 37 %."""
    rng = np.random.default_rng(1)
    radius, angle = rng.normal(1.5, 0.25, 2000), rng.uniform(0, 2 * math.pi, 2000)
    x = torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)).float()
    torch.manual_seed(1)
    flow = RQSCouplingFlow((2,), 0, layers=2, hidden=16, blocks=1)
    settings = Training(epochs=8, batch_size=200, learning_rate=2e-2, ema=0.9)
    train(flow, [x, none(2000)], settings=settings, seed=1, verbose=False)
    drawn = flow.draw(flow.noise(4000, torch.Generator().manual_seed(1)), none(4000))
    assert ((drawn.norm(dim=1) - 1.5).abs() > 0.75).float().mean() < 0.1
    assert drawn.sign().mean(0).tolist() == pytest.approx([0, 0], abs=0.2)


def test_learns_a_density_that_depends_on_a_condition(name):
    """x ~ N(c, eᶜ / 2) and y ~ N(−x, 0.5) at conditions within those of the training.

    Moments of 4000 draws scatter by up to 0.02; what the short training misses is below 0.1.
    """
    rng = np.random.default_rng(1)
    c = rng.uniform(-1, 1, 3000)
    x = rng.normal(c, np.exp(c) / 2)
    events = torch.from_numpy(np.stack([x, rng.normal(-x, 0.5)], axis=1)).float()
    torch.manual_seed(1)
    flow = GENERATORS.load(name)((2,), 1, layers=2, hidden=16, blocks=1)
    settings = Training(epochs=5, batch_size=150, learning_rate=2e-2, ema=0.9)
    train(flow, [events, torch.from_numpy(c[:, None]).float()], settings=settings, seed=1, verbose=False)
    for condition in (-0.7, 0.0, 0.5):
        told = torch.full((4000, 1), condition)
        drawn = flow.draw(flow.noise(4000, torch.Generator().manual_seed(1)), told)
        width = math.exp(condition) / 2
        assert drawn.mean(0).tolist() == pytest.approx([condition, -condition], abs=0.12)
        assert drawn.std(0).tolist() == pytest.approx([width, math.hypot(width, 0.5)], abs=0.12)


@pytest.mark.parametrize("name", ["rqs_flow", "affine_flow"])
def test_a_single_feature_needs_a_condition(name):
    torch.manual_seed(1)
    flow = GENERATORS.load(name)((1,), 1, layers=2, hidden=8, blocks=1)
    for parameter in flow.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    x = torch.linspace(-30, 30, 6001)[:, None]
    for condition in (-1.0, 1.0):
        density = flow.log_prob(x, torch.full_like(x, condition)).detach().exp()
        # Sums over steps of 0.01 of what is smooth but for the knots of splines.
        assert float(density.sum() * 0.01) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("flow", "shape", "settings", "message"),
    [
        ("rqs_flow", (1,), {}, "at least 2 features, found 1"),
        ("affine_flow", (1,), {}, "at least 2 features, found 1"),
        ("maf", (1, 8, 8), {}, r"events of shape \(1, 8, 8\); a flow takes the rows of a table"),
        ("rqs_flow", (3,), {"layers": 0}, "settings.layers: is 0; it must be at least 1"),
        ("rqs_flow", (3,), {"bins": 1}, "settings.bins: is 1; it must be at least 2"),
        ("rqs_flow", (3,), {"bins": 1000}, "settings.bins: is 1000; it must be below 1000"),
        ("rqs_flow", (3,), {"tail_bound": 0}, "settings.tail_bound: is 0; it must be at least 1"),
        ("affine_flow", (3,), {"hidden": 0}, "settings.hidden: is 0; it must be at least 1"),
        ("maf", (3,), {"hidden": 2}, "settings.hidden: is 2; it must be at least 3"),
        ("maf", (3,), {"blocks": 0}, "settings.blocks: is 0; it must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(flow, shape, settings, message):
    with pytest.raises(HepgenError, match=message):
        GENERATORS.load(flow)(shape, 0, **settings)
