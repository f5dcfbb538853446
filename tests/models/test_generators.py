"""One contract for every registered generator, and what each promises beyond it."""

import math

import numpy as np
import pytest
import torch
from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform
from torch import nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.metrics.two_sample import classifier_auc
from hepgen.models import GENERATORS
from hepgen.models.files import load_model, save_model
from hepgen.models.flows import RQSCouplingFlow
from hepgen.models.gans import DijetGAN
from hepgen.training import Adversarial, train

FEATURES = 7
FLOWS = ["rqs_flow"]


def build(name, features=FEATURES, *, scale=0.3, **settings):
    """A generator with random weights: an untrained flow would be the identity and pass any test."""
    torch.manual_seed(1)
    model = GENERATORS.load(name)(features, **settings)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.weight.normal_(0, scale)
                module.bias.normal_(0, scale)
    return model


@pytest.fixture(params=list(GENERATORS))
def name(request):
    return request.param


def test_says_what_preprocessing_it_wants(name):
    model = build(name)
    assert model.scaler in ("support", "minmax")
    assert isinstance(model.mirror_eta, bool)


def test_sample_shape(name):
    events = build(name).sample(37, 1)
    assert events.shape == (37, FEATURES)
    assert events.dtype == torch.float32
    assert events.isfinite().all()


def test_equal_seeds_give_equal_events(name):
    model = build(name)
    assert torch.equal(model.sample(100, 5), model.sample(100, 5))
    assert torch.equal(model.sample(100, 5), model.sample(100, torch.Generator().manual_seed(5)))
    assert not torch.equal(model.sample(100, 5), model.sample(100, 6))


def test_sampling_leaves_no_trace(name):
    """Neither the global random numbers nor the model change."""
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model.sample(100, 5)
    assert torch.equal(torch.rand(1), expected)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_generator_goes_on_where_it_stopped(name):
    model = build(name)
    generator = torch.Generator().manual_seed(2)
    assert not torch.equal(model.sample(10, generator), model.sample(10, generator))


def test_saved_and_loaded_model_gives_identical_events(name, tmp_path):
    model = build(name)
    model.sample(10, 1)
    save_model(tmp_path / "model.safetensors", {"network": model}, {})
    parts, _ = load_model(tmp_path / "model.safetensors")
    copy = GENERATORS.load(name)(FEATURES)
    copy.load_state_dict(parts["network"])
    assert torch.equal(copy.sample(500, 3), model.sample(500, 3))


def test_every_parameter_gets_a_finite_gradient(name):
    model = build(name)
    x = torch.rand(64, FEATURES) * 2 - 1
    adversarial = hasattr(model, "discriminator_loss")
    if adversarial:
        model.batches += model.pretraining
    for loss in (model.discriminator_loss, model.generator_loss) if adversarial else (model.loss,):
        loss(x).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_training_is_reproducible(name):
    def trained():
        torch.manual_seed(2)
        model = GENERATORS.load(name)(FEATURES)
        data = torch.rand(128, FEATURES, generator=torch.Generator().manual_seed(1)) * 2 - 1
        method = {"method": Adversarial} if hasattr(model, "discriminator_loss") else {}
        train(model, [data], settings=Training(epochs=2, batch_size=32), seed=4, verbose=False, **method)
        return model.sample(50, 1)

    assert torch.equal(trained(), trained())


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_starts_as_the_identity(flow):
    x = torch.randn(500, FEATURES)
    z, log_jacobian = GENERATORS.load(flow)(FEATURES)(x)
    # float32: a spline of eight bins up to 5 adds up rounding errors of 1e-7 of its range in each layer
    torch.testing.assert_close(z, x, atol=5e-6, rtol=0)
    torch.testing.assert_close(log_jacobian, torch.zeros(500), atol=5e-5, rtol=0)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("features", [2, 3, 7, 9])
def test_flow_log_jacobian_is_that_of_autograd(flow, features):
    model = build(flow, features).double()
    x = torch.randn(5, features, dtype=torch.float64)
    _, log_jacobian = model(x)
    for row, value in zip(x, log_jacobian, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(value.item(), abs=1e-8)


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_log_prob_has_the_right_gradient(flow):
    """Autograd against central differences in float64, whose error at a step of 1e-6 is near 1e-8."""
    model = build(flow, 3).double()
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    for column in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.float64)[column]
        with torch.no_grad():
            slope = (model.log_prob(x + step) - model.log_prob(x - step)) / 2e-6
        torch.testing.assert_close(gradient[:, column], slope, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_log_prob_integrates_to_one(flow):
    """The midpoint rule over ±8; the tail outside holds below 1e-9 because the flow is the identity there."""
    model = build(flow, 2, tail_bound=4.0, hidden=16, blocks=1).double()
    side = torch.linspace(-8, 8, 401, dtype=torch.float64)
    middle = (side[1:] + side[:-1]) / 2
    with torch.no_grad():
        density = torch.cat([model.log_prob(x).exp() for x in torch.cartesian_prod(middle, middle).split(10_000)])
    assert density.sum().item() * (16 / 400) ** 2 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_round_trip_in_float32(flow):
    """Data to noise and back: off by more than 1e-3 on below 1 % of the points (0.05 % measured)."""
    model = build(flow)
    x = torch.randn(10_000, FEATURES)
    with torch.no_grad():
        z, forward = model(x)
        back, backward = model.inverse(z)
    assert forward.abs().mean() > 2, "the flow is too close to the identity to be a test"
    assert ((back - x).abs().amax(1) > 1e-3).float().mean() < 0.01
    assert ((forward + backward).abs() > 1e-2).float().mean() < 0.01


def test_spline_inverse_of_float32_noise_is_that_of_float64():
    """Steep splines, of parameters with standard deviation 3: equal up to float32's rounding of the result."""
    torch.manual_seed(1)
    layer = RQSCouplingFlow(12, layers=1).transform._transforms[0]
    z = torch.rand(5000, 6) * 10 - 5
    params = 3 * torch.randn(5000, 6, 23)
    # the layer divides the first 16, the bins' widths and heights, by √hidden, in place
    params[..., :16] *= math.sqrt(128)
    exact, x = (
        layer._coupling_transform_inverse(v, params.flatten(1).to(v.dtype, copy=True))[0] for v in (z.double(), z)
    )
    torch.testing.assert_close(x.double(), exact, atol=5e-7, rtol=0)


def test_steep_flow_is_inverted_where_bare_nflows_stops():
    """Rounding in float32 makes the discriminant of nflows' quadratic negative, on which it asserts."""
    flow = build("rqs_flow", scale=3.0)
    with torch.no_grad():
        z, _ = flow(torch.randn(20_000, FEATURES))
        assert flow.inverse(z)[0].isfinite().all()
        for layer in flow.transform._transforms:
            layer.__class__ = PiecewiseRationalQuadraticCouplingTransform
        with pytest.raises(AssertionError):
            flow.inverse(z)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("features", [2, 3, 7, 12])
def test_flow_links_all_features(flow, features):
    """2 ⌈log₂ features⌉ layers are enough for each output to depend on each input."""
    model = build(flow, features, layers=2 * math.ceil(math.log2(features))).double()
    x = torch.randn(features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0][0], x)
    assert (jacobian != 0).all()


def test_flow_agrees_with_bare_nflows():
    flow = build("rqs_flow")
    x = torch.randn(100, FEATURES)
    expected = flow.log_prob(x)
    for layer in flow.transform._transforms:
        layer.__class__ = PiecewiseRationalQuadraticCouplingTransform
    assert torch.equal(flow.log_prob(x), expected)


def test_flow_learns_a_ring():
    """A density with a hole: trees cannot tell its samples from new ones (0.52 measured, 0.81 for a normal)."""

    def ring(n, seed):
        rng = np.random.default_rng(seed)
        radius, angle = rng.normal(1.5, 0.25, n), rng.uniform(0, 2 * math.pi, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    torch.manual_seed(1)
    flow = RQSCouplingFlow(2, layers=4, hidden=32, blocks=1)
    train(
        flow,
        [torch.from_numpy(ring(10_000, 1)).float()],
        settings=Training(epochs=8, batch_size=200, learning_rate=4e-3, ema=0.99),
        seed=1,
        verbose=False,
    )
    assert classifier_auc(flow.sample(5000, 1).numpy(), ring(5000, 2), 1).value < 0.55


def test_flow_needs_two_features():
    with pytest.raises(HepgenError, match="at least 2 features, found 1"):
        RQSCouplingFlow(1)


def test_gan_pretraining_moves_the_discriminator_only():
    model = build("dijet_gan", pretraining=4)
    weights = {key: value.clone() for key, value in model.named_parameters()}

    def moved(part):
        return any(not torch.equal(p, weights[k]) for k, p in model.named_parameters() if k.startswith(part))

    data = torch.rand(128, FEATURES) * 2 - 1
    settings = Training(epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.01, schedule="constant")
    train(model, [data], settings=settings, seed=1, method=Adversarial, verbose=False)
    assert (moved("discriminator"), moved("generator")) == (True, False)
    train(model, [data], settings=settings, seed=1, method=Adversarial, verbose=False)
    assert moved("generator")


def test_gan_stays_in_the_range_of_its_scaler():
    assert DijetGAN(FEATURES).sample(1000, 1).abs().max() <= 1


def test_gan_makes_an_event_independently_of_its_batch():
    """Batch normalisation uses the statistics of the training: same noise, same event (float32 rounding)."""
    model = build("dijet_gan")
    model.generator_loss(torch.zeros(64, FEATURES))
    torch.testing.assert_close(model.sample(700, 1)[:20], model.sample(20, 1), atol=1e-5, rtol=0)
