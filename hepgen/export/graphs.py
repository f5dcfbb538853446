"""Trained models as graphs of tensors: from physical inputs to scores, or from noise to events, nothing outside."""

import math

import torch
from torch import Tensor, nn

from hepgen.config import Constituents, Images
from hepgen.generation import generators
from hepgen.models.trees import Forest
from hepgen.tagging.taggers import Trained

__all__ = ["EventGenerator", "JetTagger", "ObservableTagger"]


class EventGenerator(nn.Module):
    """Events made of noise.

    Args:
        generator: The trained generator.
    """

    def __init__(self, generator: generators.Trained) -> None:
        super().__init__()
        self.network, self.scaler, self.told = generator.network, generator.scaler, generator.told

    def forward(self, noise: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Events in GeV and radians, images or constituents, shape (n, *shape), float64.

        Args:
            noise: Random numbers as `Generator.noise` gives them, shape (n, k).
            conditions: Physical values, float64, shape (n, conditions).
        """
        told = noise[:, :0] if conditions is None else self.told(conditions)
        return self.scaler.inverse(self.network.draw(noise, told))


class ObservableTagger(nn.Module):
    """Scores of events by their observables.

    Args:
        tagger: The trained tagger, its network a module or made of trees.
    """

    def __init__(self, tagger: Trained) -> None:
        super().__init__()
        self.network = tagger.network if isinstance(tagger.network, nn.Module) else tagger.network.forest()
        self.scaler, self.rank = tagger.scaler, tagger.rank
        self.kind = next(iter(tagger.entry.scores), None)

    def forward(self, inputs: Tensor, mass: Tensor | None = None) -> Tensor:
        """Scores of shape (n,), float64.

        Args:
            inputs: Physical values, float64; observables of shape (n, d).
            mass: What a score was decorrelated from by quantiles, shape (n,).
        """
        scores = self._scores(inputs)
        return self.rank(scores, mass) if self.rank else scores.double()

    def _scores(self, inputs: Tensor) -> Tensor:
        x = self.scaler(inputs)
        if isinstance(self.network, Forest):
            return self.network(x.flatten(1)).float()
        return (self.network.score(x, self.kind) if self.kind else self.network.score(x)).float()


class JetTagger(ObservableTagger):
    """Scores of events by the constituents of their two leading jets, of which images or lists are made.

    Args:
        tagger: The trained tagger, its network a module or made of trees.
        settings: How `hepgen.images` or `hepgen.constituents` prepare the jets.
    """

    def __init__(self, tagger: Trained, settings: Images | Constituents) -> None:
        super().__init__(tagger)
        self.settings = settings

    def _scores(self, inputs: Tensor) -> Tensor:
        """Means over the jets, NaN where one is empty, of constituents of shape (n, 2, N, 3)."""
        jets = inputs.flatten(0, 1)
        view = images if isinstance(self.settings, Images) else hardest
        scores = super()._scores(view(*jets.unbind(-1), self.settings))
        empty = (jets[..., 0] > 0).sum(1) == 0
        return torch.where(empty, math.nan, scores).reshape(-1, inputs.shape[1]).mean(1)


def images(pt: Tensor, eta: Tensor, phi: Tensor, settings: Images) -> Tensor:
    """Jet images as of `hepgen.images.JetImages`, shape (m, 1, pixels, pixels), float32.

    Args:
        pt: Transverse momenta in GeV, shape (m, N), float64; 0 is padding.
        eta: Pseudorapidities, shape (m, N); phi alike.
        phi: Azimuths.
        settings: Pixels, window and steps.
    """
    x, y = prepare(pt, eta, phi, settings)
    column, row = (((u / settings.width + 0.5) * settings.pixels).floor() for u in (x, y))
    inside = (column >= 0) & (column < settings.pixels) & (row >= 0) & (row < settings.pixels)
    place = torch.where(inside, column * settings.pixels + row, 0.0).long()
    empty = torch.zeros(1, settings.pixels**2, dtype=pt.dtype).expand(pt.shape[0], -1)
    pixels = empty.scatter_add(1, place, torch.where(inside, pt, 0.0)).pow(settings.power)
    if settings.normalize:
        pixels = pixels / _positive(pixels.sum(1, keepdim=True))
    return pixels.float().view(-1, 1, settings.pixels, settings.pixels)


def hardest(pt: Tensor, eta: Tensor, phi: Tensor, settings: Constituents) -> Tensor:
    """The hardest constituents as of `hepgen.constituents.JetConstituents`, shape (m, number, 3), float32.

    Args:
        pt: Transverse momenta in GeV, shape (m, N), float64; 0 is padding.
        eta: Pseudorapidities, shape (m, N); phi alike.
        phi: Azimuths.
        settings: How many, and the steps of the preparation.
    """
    x, y = prepare(pt, eta, phi, settings)
    fraction = pt / _positive(pt.sum(1, keepdim=True))
    features = torch.where((pt > 0)[..., None], torch.stack([fraction, x, y], dim=-1), 0.0)
    features = nn.functional.pad(features, (0, 0, 0, settings.number))
    _, order = nn.functional.pad(pt, (0, settings.number)).topk(settings.number, dim=1)
    return features.gather(1, order[..., None].expand(-1, -1, 3)).float()


def prepare(pt: Tensor, eta: Tensor, phi: Tensor, settings: Images | Constituents) -> tuple[Tensor, Tensor]:
    """As `hepgen.images.prepare`, for padded jets of shape (m, N)."""

    def total(values: Tensor) -> Tensor:
        """Sum over the constituents of each jet, shape (m, 1)."""
        return values.sum(1, keepdim=True)

    weight = pt / _positive(total(pt))
    if settings.center:
        first = (pt > 0).long().argmax(1, keepdim=True)
        x, y = eta - eta.gather(1, first), _wrap(phi - phi.gather(1, first))
        x, y = x - total(weight * x), y - total(weight * y)
    else:
        px, py, pz = total(pt * phi.cos()), total(pt * phi.sin()), total(pt * (eta.exp() - (-eta).exp()) / 2)
        slope = pz / _positive((px.square() + py.square()).sqrt())
        axis = slope.sign() * (slope.abs() + (slope.square() + 1).sqrt()).log()
        x, y = eta - axis, _wrap(phi - _angle(py, px))
    if settings.rotate:
        mean_x, mean_y = (0.0, 0.0) if settings.center else (total(weight * x), total(weight * y))
        xx, yy = total(weight * x * x) - mean_x**2, total(weight * y * y) - mean_y**2
        xy = total(weight * x * y) - mean_x * mean_y
        turn = math.pi / 2 - _angle(2 * xy, xx - yy) / 2
        cos, sin = turn.cos(), turn.sin()
        x, y = ((u * 1e12).round() / 1e12 for u in (x * cos - y * sin, x * sin + y * cos))
    if settings.flip:
        quadrant = 2 * (x > 0).long() + (y > 0).long()
        sums = torch.stack([total(torch.where(quadrant == number, pt, 0.0)) for number in range(4)])
        hardest = sums.argmax(0)
        x, y = torch.where(hardest < 2, -x, x), torch.where(hardest % 2 == 0, -y, y)
    return x, y


def _angle(y: Tensor, x: Tensor) -> Tensor:
    """atan2 in float64: onnxruntime has it in float32 only, and one step of Newton's makes an error of 1e-7 1e-21."""
    x = torch.where((x == 0) & (y == 0), 1.0, x)
    rough = torch.atan2(y.float(), x.float()).double()
    return rough + (y * rough.cos() - x * rough.sin()) / (x.square() + y.square()).sqrt()


def _wrap(phi: Tensor) -> Tensor:
    return phi - 2 * math.pi * ((phi + math.pi) / (2 * math.pi)).floor()


def _positive(total: Tensor) -> Tensor:
    """Totals to divide by: 1 in place of the 0 of an empty jet."""
    return torch.where(total > 0, total, 1.0)
