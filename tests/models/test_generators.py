"""One contract for every registered generator: noise and conditions go in, events come out."""

from functools import cache

import pytest
import torch

from hepgen.config import Training
from hepgen.generation.scaling import SCALERS
from hepgen.models import GENERATORS
from hepgen.models.files import load_model, save_model
from hepgen.training import Adversarial, train

# What a generator makes, unless a table of five observables: images (1, p, p) or constituents (N, 3); and the settings
# of a small network, which shows all that the contract asks for.
SHAPES = {"dcgan": (1, 7, 7), "lagan": (1, 7, 7)}
SETTINGS = {
    "rqs_flow": {"hidden": 16, "layers": 4},
    "affine_flow": {"hidden": 16, "layers": 4},
    "maf": {"hidden": 16, "layers": 2},
    "dijet_gan": {"pretraining": 0},
    "gan": {"hidden": [16]},
    "dcgan": {"channels": 4, "noise": 8},
    "lagan": {"channels": 4, "noise": 8},
    "vae": {"latent_dim": 3, "hidden": [16]},
    "diffusion": {"hidden": 16, "blocks": 1, "steps": 20, "sampling_steps": 4},
    "flow_matching": {"hidden": 16, "blocks": 1, "steps": 2},
}
CONDITIONS = 2


@pytest.fixture(params=GENERATORS)
def name(request):
    return request.param


def shape_of(name):
    return SHAPES.get(name, (5,))


def build(name, conditions=CONDITIONS):
    """A generator with random weights: one that starts as the identity would pass any test."""
    torch.manual_seed(1)
    model = GENERATORS.load(name)(shape_of(name), conditions, **SETTINGS.get(name, {}))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "weight" in key and not parameter.any():
                parameter.normal_(0, 0.3)
    return model


def batch(name, n=64, conditions=CONDITIONS):
    """Events of order one and their conditions."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(n, *shape_of(name), generator=generator) * 2 - 1
    return x, torch.randn(n, conditions, generator=generator)


def losses(model):
    if hasattr(model, "discriminator_loss"):
        return {"discriminator": model.discriminator_loss, "generator": model.generator_loss}
    return {"": model.loss}


def seeded(n, seed=5):
    return n, torch.Generator().manual_seed(seed)


@cache
def drawn(name, conditions=CONDITIONS):
    """A generator, noise, conditions, and the events that it makes of them while it is in training."""
    model = build(name, conditions)
    noise, (_, c) = model.noise(*seeded(40)), batch(name, 40, conditions)
    return model, noise, c, model.draw(noise, c)


def test_says_what_it_wants(name):
    model = build(name)
    tables = {"support", "minmax"}
    assert model.scaler in (tables if len(shape_of(name)) == 1 else SCALERS)
    assert isinstance(model.mirror_eta, bool)
    assert model.batch >= 1


@pytest.mark.parametrize("conditions", [0, CONDITIONS])
def test_one_event_for_each_row_of_noise(name, conditions):
    _, noise, _, events = drawn(name, conditions)
    assert noise.shape == (40, noise.shape[1])
    assert events.shape == (40, *shape_of(name))
    assert events.dtype == noise.dtype == torch.float32
    assert events.isfinite().all()
    assert not events.requires_grad
    assert len(events.flatten(1).unique(dim=0)) == 40


def test_equal_seeds_mean_equal_events(name):
    model, noise, c, events = drawn(name)
    torch.manual_seed(9)
    assert torch.equal(model.noise(*seeded(40)), noise)
    assert not torch.equal(model.noise(*seeded(40, 6)), noise)
    assert torch.equal(model.draw(noise, c), events)
    generator = seeded(40)[1]
    assert not torch.equal(model.noise(40, generator), model.noise(40, generator))


def test_an_event_does_not_depend_on_those_beside_it(name):
    """The others of a batch do not enter, but by float32's rounding."""
    model, noise, c, events = drawn(name)
    torch.testing.assert_close(model.draw(noise[7:10], c[7:10]), events[7:10], atol=1e-4, rtol=1e-4)


def test_conditions_change_the_events(name):
    model, noise, c, events = drawn(name)
    for column in torch.eye(CONDITIONS):
        other = model.draw(noise, c + column)
        assert ((other - events).abs().flatten(1).amax(1) > 1e-5).float().mean() > 0.5


def test_drawing_leaves_no_trace(name):
    """Neither the global random numbers nor the model change."""
    model, _, c, _ = drawn(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    model.draw(model.noise(*seeded(40)), c)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_saved_and_loaded_model_makes_identical_events(name, tmp_path):
    model, noise, c, events = drawn(name)
    save_model(tmp_path / "model.safetensors", {"network": model}, {})
    parts, _ = load_model(tmp_path / "model.safetensors")
    copy = GENERATORS.load(name)(shape_of(name), CONDITIONS, **SETTINGS.get(name, {}))
    copy.load_state_dict(parts["network"])
    assert torch.equal(copy.draw(noise, c), events)


def test_weights_enter_the_loss(name):
    model, (x, c) = build(name), batch(name)
    half = torch.tensor([2.0, 0.0]).repeat(len(x) // 2)
    for loss in losses(model).values():
        values = []
        for weight in ([], [torch.ones(len(x))], [half]):
            torch.manual_seed(7)
            values.append(loss(x, c, *weight).detach())
        assert values[0].shape == ()
        torch.testing.assert_close(values[1], values[0])
        assert abs(values[2] - values[0]) > 1e-6


def test_every_parameter_gets_a_finite_gradient(name):
    model, (x, c) = build(name), batch(name)
    for part, loss in losses(model).items():
        model.zero_grad()
        loss(x, c).backward()
        for key, parameter in (getattr(model, part) if part else model).named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


def test_training_is_reproducible(name):
    def trained():
        model = build(name)
        method = {"method": Adversarial} if hasattr(model, "discriminator_loss") else {}
        settings = Training(epochs=2, batch_size=32)
        train(model, [*batch(name), torch.ones(64)], settings=settings, seed=4, verbose=False, **method)
        return model.draw(model.noise(*seeded(20)), batch(name, 20)[1])

    first = trained()
    assert torch.equal(first, trained())
    assert not torch.equal(first, drawn(name)[3][:20])


def test_density_is_what_the_loss_is_made_of(name):
    model, _, c, events = drawn(name)
    if not hasattr(model, "log_prob"):
        return
    log_prob = model.log_prob(events, c)
    assert log_prob.shape == (40,)
    assert log_prob.isfinite().all()
    assert not torch.allclose(log_prob, model.log_prob(events, c + 1), atol=1e-3)
    torch.testing.assert_close(model.loss(events, c), -log_prob.mean())
