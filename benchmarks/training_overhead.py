"""Cost of hepgen.training beside the bare forward, backward and optimiser step, measured in turns in one run."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hepgen.config import Training
from hepgen.models.autoencoders import Autoencoder, ConvAutoencoder, DenseAutoencoder
from hepgen.training import train

BATCH = 256
LIMIT = 1.15


def bare(model: Autoencoder, batches: list[Tensor], epochs: int) -> None:
    """The least that training is: batches ready in memory, one optimiser."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, foreach=True)
    model.train()
    for _ in range(epochs):
        for x in batches:
            loss = model.loss(x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def through_hepgen(model: Autoencoder, x: Tensor, epochs: int) -> None:
    train(model, [x], settings=Training(epochs=epochs, batch_size=BATCH), seed=1, verbose=False)


def seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(kind: type[Autoencoder], shape: tuple[int, ...], batches: int, epochs: int, rounds: int) -> float:
    """Median over rounds of time through hepgen / bare time, each round one after the other."""
    x = torch.rand(batches * BATCH, *shape)
    parts = list(x.split(BATCH))
    ratios = []
    for _ in range(rounds):
        torch.manual_seed(1)
        first, second = kind(shape), kind(shape)
        reference = seconds(lambda model=first: bare(model, parts, epochs))
        ratios.append(seconds(lambda model=second: through_hepgen(model, x, epochs)) / reference)
    return statistics.median(ratios)


def main() -> None:
    torch.set_num_threads(1)
    cases = {f"dense, {d} observables": (DenseAutoencoder, (d,), 200, 2, 15) for d in (4, 8, 12)}
    cases["convolution, 40 × 40"] = (ConvAutoencoder, (1, 40, 40), 8, 1, 7)
    print(f"time of hepgen.training / bare step, batch {BATCH}, limit {LIMIT}")
    for name, case in cases.items():
        print(f"{name:24s} {ratio(*case):.3f}", flush=True)


if __name__ == "__main__":
    main()
