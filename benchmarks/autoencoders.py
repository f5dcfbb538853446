"""Training autoencoders through hepgen, a plain DataLoader loop, scikit-learn and the bare step, side by side.

Every round trains each of them anew from a seed of its own, one after the other, on one thread; the time is that of
the processor. The AUC of each shows that they have learnt the same.

python benchmarks/autoencoders.py [--rounds 7]
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hepgen.config import Training
from hepgen.models import TAGGERS
from hepgen.training import train

BATCH = 256
RATE = 1e-3
WIDTHS = (32, 16, 2, 16, 32)

Score = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A network, its events and how long it is trained."""

    model: str
    background: Tensor
    signal: Tensor
    epochs: int


def observables(features: int, events: int) -> tuple[Tensor, Tensor]:
    """Background on a curved surface of two dimensions, blurred; signal beside it."""
    generator = torch.Generator().manual_seed(1)
    surface = torch.randn(2, features, generator=generator)
    samples = []
    for blur in (0.1, 0.4):
        latent = torch.randn(events, 2, generator=generator)
        samples.append(torch.tanh(latent @ surface) + blur * torch.randn(events, features, generator=generator))
    return samples[0], samples[1]


def images(pixels: int, events: int) -> tuple[Tensor, Tensor]:
    """Jets of 40 constituents about one axis, or close to one of two for signal; a mean square of 1."""
    rng = np.random.default_rng(1)
    samples = []
    for distance, width in ((0.0, 0.1), (0.15, 0.04)):
        axes = 0.5 + distance * rng.choice([-1, 1], size=(events, 40, 1))
        place = np.clip(rng.normal(axes, width, (events, 40, 2)) * pixels, 0, pixels - 1).astype(int)
        bins = np.arange(events)[:, None] * pixels**2 + place[..., 0] * pixels + place[..., 1]
        flat = np.bincount(bins.ravel(), rng.exponential(size=bins.size), events * pixels**2)
        samples.append(torch.from_numpy(flat.reshape(events, 1, pixels, pixels)).float())
    scale = samples[0].square().mean().sqrt()
    return samples[0] / scale, samples[1] / scale


def network(case: Case, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return TAGGERS.load(case.model)(tuple(case.background.shape[1:]))


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """The one of hepgen.training."""
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    loss = model.loss(x)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def bare(case: Case, seed: int) -> Score:
    """The least that training is: batches ready in memory, always the same ones."""
    model, batches = network(case, seed), case.background.split(BATCH)
    optimizer = optimizer_of(model)
    for _ in range(case.epochs):
        for x in batches:
            step(model, optimizer, x)
    return of(model)


def loader(case: Case, seed: int) -> Score:
    """The loop that everyone writes, with torch's defaults."""
    model = network(case, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for _ in range(case.epochs):
        for (x,) in DataLoader(TensorDataset(case.background), batch_size=BATCH, shuffle=True):
            step(model, optimizer, x)
    return of(model)


def hepgen(case: Case, seed: int) -> Score:
    model = network(case, seed)
    settings = Training(epochs=case.epochs, batch_size=BATCH, learning_rate=RATE, schedule="constant")
    train(model, [case.background], settings=settings, seed=seed, verbose=False)
    return of(model)


def sklearn(case: Case, seed: int) -> Score:
    """A fully connected autoencoder of the same widths, whose hidden layers all have the same activation."""
    model = MLPRegressor(
        hidden_layer_sizes=WIDTHS, activation="tanh", alpha=0.0, batch_size=BATCH, learning_rate_init=RATE,
        max_iter=case.epochs, random_state=seed, tol=0.0, n_iter_no_change=case.epochs,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(case.background.numpy(), case.background.numpy())
    return lambda x: np.square(model.predict(x.numpy()) - x.numpy()).mean(1)


def of(model: nn.Module) -> Score:
    return torch.no_grad()(lambda x: model.eval().score(x).numpy())


def compare(case: Case, rounds: int) -> None:
    """Print the time of an epoch and the AUC of each way, and its time beside that of hepgen in the same round."""
    ways = [bare, loader, hepgen, *([sklearn] if case.background.ndim == 2 else [])]
    seconds, aucs = defaultdict(list), defaultdict(list)
    label = np.repeat([0, 1], [len(case.background), len(case.signal)])
    for seed in range(rounds + 1):
        for way in ways:
            start = time.process_time()
            score = way(case, seed)
            elapsed = (time.process_time() - start) / case.epochs
            if seed:  # the first round warms up
                seconds[way].append(elapsed)
                aucs[way].append(roc_auc_score(label, score(torch.cat([case.background, case.signal]))))
    for way in ways:
        ratios = sorted(own / ours for own, ours in zip(seconds[way], seconds[hepgen], strict=True))
        print(
            f"{case.model:18s} {tuple(case.background.shape)!s:20s} {way.__name__:8s}"
            f" {1e3 * median(seconds[way]):8.1f} ms/epoch, hepgen's time × {median(ratios):.2f}"
            f" ({ratios[0]:.2f}-{ratios[-1]:.2f}), AUC {median(aucs[way]):.3f}"
            f" ({min(aucs[way]):.3f}-{max(aucs[way]):.3f})",
            flush=True,
        )
    overhead = median(own / least for own, least in zip(seconds[hepgen], seconds[bare], strict=True))
    print(f"{case.model}: hepgen takes {overhead:.2f} × the time of the bare step\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="after one to warm up")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for features in (4, 8, 12):
            compare(Case("dense_autoencoder", *observables(features, 25_600), epochs=5), rounds)
        compare(Case("conv_autoencoder", *images(40, 2_048), epochs=4), rounds)


if __name__ == "__main__":
    main()
