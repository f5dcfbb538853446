import io
import math
import warnings

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
    "angle": lambda: Support([(0.0, math.inf), (-math.pi, math.pi), (0.0, 1.0)], [None, 2 * math.pi, None]),
    "order": lambda: Support([(0.0, math.inf), (-math.inf, math.inf), (0.0, math.inf)], None, [None, None, 0]),
}


@pytest.fixture
def data():
    """A mass in GeV, an angle and a fraction."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    return torch.stack([1 + 100 * z[:, 0].exp(), z[:, 1].clamp(-3, 3), z[:, 2].sigmoid()], dim=1)


@pytest.fixture(params=SCALERS)
def scaler(request, data):
    return SCALERS[request.param]().fit(data)


def test_inverse(scaler, data):
    # Single precision in between, relative to the spread of the column.
    torch.testing.assert_close(scaler.inverse(scaler(data)), data, rtol=2e-5, atol=1e-4)


def test_log_jacobian_is_the_derivative(scaler, data):
    jacobian = torch.autograd.functional.jacobian(lambda x: forward_double(scaler, x), data[:20])
    expected = torch.linalg.slogdet(jacobian[range(20), :, range(20)]).logabsdet
    torch.testing.assert_close(scaler.log_jacobian(data[:20]).double(), expected, rtol=1e-6, atol=1e-6)


def forward_double(scaler, x):
    u = scaler._to_line(scaler._straighten(x)) if isinstance(scaler, Support) else x
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
    x = torch.full((20, 2), 3.5, dtype=torch.float64)
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


def uniform(n=4000, low=0.0, high=1.0):
    return low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5)[:, None] / n


def assert_normal(z):
    """Quantiles at −3 to 3 standard deviations, as `Support`'s cubic is within 1.4e-4 of the normal distribution."""
    levels = torch.special.ndtr(torch.linspace(-3, 3, 7, dtype=torch.float64))
    torch.testing.assert_close(z.double().quantile(levels), torch.linspace(-3, 3, 7).double(), atol=0.1, rtol=0)


def test_uniform_values_become_normal():
    """On a circle, between known bounds, and between the sharp edges of an unbounded column."""
    angles = uniform(low=-math.pi, high=math.pi)
    assert_normal(Support([(-math.pi, math.pi)], [2 * math.pi]).fit(angles)(angles))
    for support in ((0.0, 1.0), (-math.inf, math.inf), (0.0, math.inf)):
        assert_normal(Support([support]).fit(uniform())(uniform()))


def test_narrow_peak_of_an_angle_becomes_normal():
    """A peak with tails of 20 times its width, as the angle between two jets has."""
    x = math.pi + 0.05 * torch.special.ndtri(uniform()).sinh()
    assert_normal(Support([(0.0, 2 * math.pi)], [2 * math.pi]).fit(x)(x))


def test_circle_is_cut_where_no_events_are():
    """Angles around π on both sides of the support's end are neighbours, and come back on their own side."""
    x = math.pi + 0.3 * uniform(low=-1.0)
    x = torch.where(x > math.pi, x - 2 * math.pi, x)
    scaler = Support([(-math.pi, math.pi)], [2 * math.pi]).fit(x)
    z = scaler(x)
    assert math.remainder(float(scaler.cut), 2 * math.pi) == pytest.approx(0, abs=0.01)
    assert float(z[x > 0].max()) < float(z[x < 0].min())
    torch.testing.assert_close(scaler.inverse(z), x, atol=1e-6, rtol=0)


@pytest.fixture
def atoms():
    """Columns with 5 % of their events on one value: below, above and among the others."""
    rng = torch.Generator().manual_seed(5)
    low = 0.1 + 0.4 * torch.rand(4000, generator=rng, dtype=torch.float64)
    middle = torch.randn(4000, generator=rng, dtype=torch.float64)
    high = torch.randn(4000, generator=rng, dtype=torch.float64).exp()
    for column, value in ((low, 0.0), (middle, 0.5), (high, 200.0)):
        column[:200] = value
    return torch.stack([low, middle, high], 1)


ATOMS = [(0.0, 0.5), (-math.inf, math.inf), (0.0, math.inf)]


def test_atoms_come_back_exactly_and_as_often(atoms):
    scaler = Support(ATOMS).fit(atoms)
    z = scaler(atoms)
    back = scaler.inverse(z)
    assert torch.equal(back[:200], atoms[:200])
    torch.testing.assert_close(back, atoms, rtol=1e-5, atol=1e-5)
    # Whatever a network makes of the first column is the atom, or lies above the cut at 0.1 that the others begin at.
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(6))
    made = scaler.inverse(noise)[:, 0]
    assert float(made[made > 0].min()) == pytest.approx(0.1, abs=1e-3)
    # The mixture is uniform on its whole length, so that normal noise makes 5 % atoms: 3 standard deviations.
    assert float((made == 0).double().mean()) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 4000))


@pytest.mark.parametrize("column", range(3))
def test_probability_of_atoms_and_the_rest_is_1(atoms, column):
    """Normal noise on the line: ∫ p(x) dx over the continuum and the mean of p over draws of the atom."""
    x = atoms[:, [column]]
    scaler = Support([ATOMS[column]]).fit(x)

    def density(values):
        z = scaler._to_line(scaler._straighten(values)) - scaler.shift
        return (
            torch.distributions.Normal(0.0, 1.0).log_prob(z / scaler.scale)[:, 0] + scaler.log_jacobian(values)
        ).exp()

    value, start, length, _ = scaler.atom[:, 0].tolist()
    low, high = {0: (start + length, 0.5), 1: (-8.0, 8.0), 2: (0.0, start)}[column]
    atom = float(density(torch.full((20_000, 1), value, dtype=torch.float64)).mean())
    rest = float(density(uniform(200_001, low, high)).mean()) * (high - low)
    made = scaler.inverse(torch.randn(100_000, 1, generator=torch.Generator().manual_seed(7)))
    # 100,000 draws know the share of 5 % to 0.0007: 3 standard deviations, and as much for the draws of the atom
    assert atom == pytest.approx(float((made == value).double().mean()), abs=0.004)
    assert atom + rest == pytest.approx(1, abs=0.005)


def test_whole_numbers_come_back():
    """Few of an unknown kind between the data's bounds, and counts, which may exceed the data's."""
    rng = torch.Generator().manual_seed(8)
    counts = torch.poisson(torch.full((3000,), 30.0, dtype=torch.float64), generator=rng)
    x = torch.stack([torch.randint(3, (3000,), generator=rng).double(), counts], 1)
    scaler = Support([(-math.inf, math.inf), (0.0, math.inf)]).fit(x)
    z = scaler(x)
    assert torch.equal(scaler.inverse(z), x)
    assert len(z[:, 0].unique()) > 2900
    made = scaler.inverse(10 * z)
    assert set(made[:, 0].tolist()) == {0, 1, 2}
    assert float(made[:, 1].max()) > float(counts.max())
    assert torch.equal(scaler(x), z)


def test_sharp_edges_are_found_and_tails_are_not():
    """A cut at 1200 of a falling spectrum is the bound, known to about the distance of neighbouring values there."""
    spectrum = 1200 - 200 * (1 - uniform()).log()
    assert float(Support([(0.0, math.inf)]).fit(spectrum).bounds[0]) == pytest.approx(1200, abs=0.1)
    tail = torch.special.ndtri(uniform())
    for x in (1200 + 200 * tail, tail.exp()):
        assert float(Support([(0.0, math.inf)]).fit(x).bounds[0]) == 0


def test_inverse_is_an_onnx_graph(atoms, data):
    """Made of operations that ONNX has and that its runtime has in double precision."""
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.cat([atoms[:500], data, data[:, [0]].floor(), data[:, [0]] * data[:, [2]]], 1)
    support = [*ATOMS, (1.0, math.inf), (-math.pi, math.pi), (0.0, 1.0), (0.0, math.inf), (0.0, math.inf)]
    scaler = Support(support, [*[None] * 4, 2 * math.pi, *[None] * 3], [*[None] * 7, 3]).fit(x)
    assert scaler.ordered[7]
    z = scaler(x)

    class Inverse(torch.nn.Module):
        def forward(self, values):
            return scaler.inverse(values)

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Inverse(), (z[:2],), buffer, dynamo=False, opset_version=18, dynamic_axes={"z": {0: "n"}}, input_names=["z"]
        )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"z": z.numpy()})[0]), scaler.inverse(z))
