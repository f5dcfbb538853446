"""Train one generator with one seed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.generation.dataset import read_split
from hepgen.models import GENERATORS
from hepgen.models.files import save_model
from hepgen.observables import describe
from hepgen.plan import provenance
from hepgen.preprocessing import MinMax, Support
from hepgen.provenance import digest
from hepgen.registry import look_up
from hepgen.storage import checksum
from hepgen.training import Adversarial, Descent, pick_device
from hepgen.training import train as train_network

__all__ = ["Mirrored", "make_scaler", "mirror_eta", "support", "train"]

# How far below the smallest pT its cut is taken to lie, in standard deviations.
MARGIN = 1e-3


def train(config: Config, model: str, seed: int, paths: Sequence[Path], output: Path, device: str = "auto") -> None:
    """Train a generator on a sample's training part and save it with its scaler and its history.

    Args:
        config: The run.
        model: An entry of ``generation.models``.
        seed: Fixes the weights that the network starts from and the order of its batches.
        paths: Observables of all chunks of the sample, in order.
        output: Model file to write.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the events or the settings are unfit for training.
    """
    generation = config.generation
    entry = look_up("entry of generation.models", model, generation.models)
    split = read_split(generation, config.seed, paths)
    torch.manual_seed(seed)
    network = GENERATORS.load(entry.type)(len(generation.features), **entry.settings).to(pick_device(device))
    scaler = make_scaler(network.scaler, generation.features)
    mirror = getattr(network, "mirror_eta", False)
    scaler.fit(torch.from_numpy(mirror_eta(split.train, generation.features) if mirror else split.train))
    data, validation = (scaler(torch.from_numpy(part)) for part in (split.train, split.validation))
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    made_from = provenance(config, "generation_train", model)
    history = train_network(
        network,
        [Mirrored(data, generation.features) if mirror else data],
        [validation] if len(validation) else (),
        settings=entry.training,
        seed=seed,
        method=Adversarial if hasattr(network, "discriminator_loss") else Descent,
        checkpoint=checkpoint,
        card=digest([made_from, seed, checksum(paths)]),
        name=f"{model}, seed {seed}",
    )
    card = {
        "model": model, "type": entry.type, "settings": entry.settings, "seed": seed,
        "features": generation.features, "history": asdict(history),
    }  # fmt: skip
    save_model(output, {"network": network, "scaler": scaler}, card, made_from)
    checkpoint.unlink(missing_ok=True)


def make_scaler(kind: str, features: Sequence[str]) -> nn.Module:
    """The preprocessing that a generator asks for, not yet fitted.

    Raises:
        HepgenError: if it asks for an unknown one.
    """
    known = {"support": lambda: _FromCut(features), "minmax": lambda: MinMax(len(features))}
    return look_up("scaler of a generator", kind, known)()


class _FromCut(Support):
    """`Support` of named observables, whose pT start at the selection's cut instead of at 0."""

    def __init__(self, features: Sequence[str]) -> None:
        super().__init__([describe(name).support for name in features])
        self.features = features

    def fit(self, x: Tensor) -> "_FromCut":
        self.bounds.copy_(torch.tensor(support(self.features, x.numpy()), dtype=torch.float64).T)
        super().fit(x)
        return self


def support(features: Sequence[str], x: np.ndarray) -> list[tuple[float, float]]:
    """The (low, high) bounds of every feature, with those of pT raised to just below the smallest value.

    The spectrum falls steeply from the selection's cut, an edge that is smooth in the logarithm of pT − cut.

    Raises:
        HepgenError: if more than 1 % of a feature's values lie outside its bounds; fewer, as rounding makes
            them, are moved inside by `Support`.
    """
    bounds = []
    for name, values in zip(features, x.T, strict=True):
        low, high = describe(name).support
        outside = np.mean((values < low) | (values > high))
        if outside > 0.01:
            msg = (
                f"generation.features: {outside:.1%} of {name} lie outside its physical range {low:g} to {high:g}; "
                "check the column's units and conventions"
            )
            raise HepgenError(msg)
        if name.startswith("pt_"):
            low = float(values.min() - MARGIN * values.std())
        bounds.append((low, high))
    return bounds


def mirror_eta(x: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """Events of shape (n, d), then the same reflected along the beam: (2n, d) with every η of the copy negated."""
    sign = np.array([-1.0 if name.startswith("eta_") else 1.0 for name in features])
    return np.concatenate([x, x * sign])


class Mirrored:
    """Scaled events of which every batch reflects a random half along the beam, η → −η.

    Colliding protons have no forward direction. The scaler must have been fitted to data that are symmetric
    in η, so that it maps 0 to 0.
    """

    def __init__(self, data: Tensor, features: Sequence[str]) -> None:
        self.data = data
        self.sign = torch.tensor([-1.0 if name.startswith("eta_") else 1.0 for name in features])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Tensor) -> Tensor:
        flip = torch.rand(len(index), 1) < 0.5
        return torch.where(flip, self.data[index] * self.sign, self.data[index])
