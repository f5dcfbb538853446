import math

import pytest
import torch

from hepgen.preprocessing import MinMax, Scale, Standard, Support, Unit

SUPPORT = [(0.0, math.inf), (-math.inf, math.inf), (0.0, 1.0)]
SCALERS = {
    "standard": lambda: Standard(3),
    "minmax": lambda: MinMax(3),
    "scale": lambda: Scale(3),
    "unit": lambda: Unit(3),
    "support": lambda: Support(SUPPORT),
}


@pytest.fixture
def data():
    """A mass in GeV, an angle and a fraction."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    return torch.stack([100 * z[:, 0].exp(), z[:, 1], z[:, 2].sigmoid()], dim=1)


@pytest.fixture(params=SCALERS)
def scaler(request, data):
    return SCALERS[request.param]().fit(data)


def test_inverse(scaler, data):
    # Single precision in between, relative to the spread of the column.
    torch.testing.assert_close(scaler.inverse(scaler(data)), data, rtol=2e-5, atol=1e-4)


def test_log_jacobian_is_the_derivative(scaler, data):
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: forward_double(scaler, row[None])[0]))(data[:50])
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(scaler.log_jacobian(data[:50]).double(), expected, rtol=1e-6, atol=1e-6)


def forward_double(scaler, x):
    u = scaler._to_line(x) if isinstance(scaler, Support) else x
    return (u - scaler.shift) / scaler.scale


def test_state_is_saved(scaler, data, request):
    fresh = SCALERS[request.node.callspec.params["scaler"]]()
    fresh.load_state_dict(scaler.state_dict())
    assert torch.equal(fresh(data), scaler(data))


def test_standard_and_support_have_mean_0_and_deviation_1(data):
    for scaler in (Standard(3), Support(SUPPORT)):
        z = scaler.fit(data)(data)
        torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_minmax_spans_the_unit_interval(data):
    z = MinMax(3).fit(data)(data)
    assert torch.equal(z.amin(0), -torch.ones(3))
    assert torch.equal(z.amax(0), torch.ones(3))


def test_scale_keeps_zeros_and_makes_the_root_mean_square_1():
    images = torch.zeros(10, 4, 4)
    images[:, 1, 2] = 0.5
    z = Scale(1).fit(images)(images)
    assert torch.equal(z == 0, images == 0)
    assert float(z.square().mean()) == pytest.approx(1, abs=1e-6)


def test_constant_columns_stay_finite():
    x = torch.full((20, 2), 3.0, dtype=torch.float64)
    for scaler in (Standard(2), MinMax(2), Support([(0, math.inf), (0, 10)])):
        assert torch.equal(scaler.fit(x)(x), torch.zeros(20, 2))


def test_whatever_a_network_makes_is_inside_the_support(data):
    scaler = Support(SUPPORT).fit(data)
    x = scaler.inverse(20 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(2)))
    assert torch.all(x[:, 0] >= 0)
    assert torch.all((x[:, 2] >= 0) & (x[:, 2] <= 1))


def test_values_on_the_edge_of_the_support_stay_finite():
    x = torch.tensor([[0.0], [0.5], [1.0]], dtype=torch.float64)
    scaler = Support([(0.0, 1.0)]).fit(x)
    assert torch.isfinite(scaler(x)).all()
    torch.testing.assert_close(scaler.inverse(scaler(x)), x, atol=1e-6, rtol=0)


def test_tail_of_a_bounded_column_is_extrapolated_linearly():
    """Noise 2 beyond the largest of 1000 exponential values adds less than twice their range."""
    x = torch.distributions.Exponential(0.01).icdf(torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64))[:, None]
    scaler = Support([(0.0, math.inf)]).fit(x)
    assert float(scaler.inverse(scaler(x).max() + torch.full((1, 1), 2.0))) < 3 * float(x.max())


def test_scale_has_a_factor_for_each_feature():
    x = torch.randn(500, 10, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor([1e-3, 1.0, 50.0])
    x[:, 6:] = 0
    z = Scale(3).fit(x)(x)
    torch.testing.assert_close(z.square().mean((0, 1)), torch.ones(3), atol=1e-5, rtol=0)
    assert torch.equal(z == 0, x == 0)


def test_unit_is_the_unit_interval_and_keeps_the_zeros_of_images():
    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(4)) + 0.5
    images[:, :, 1] = 0
    z = Unit(1).fit(images)(images)
    assert torch.equal(z == 0, images == 0)
    assert float(z.max()) == 1
    signed = Unit(1).fit(images - 1)(images - 1)
    assert (float(signed.min()), float(signed.max())) == (0, 1)
