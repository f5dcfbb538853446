"""Speed of the generators beside bare nflows of the same size, side by side in one run on one thread.

python benchmarks/generation.py [--features 7] [--repeats 5]
"""

import argparse
import time
from statistics import median

import torch
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import CompositeTransform, PiecewiseRationalQuadraticCouplingTransform
from nflows.utils import create_alternating_binary_mask

from hepgen.models import GENERATORS

EVENTS = 4096
REFERENCE = "bare nflows"


def bare_nflows(features):
    def network(inputs, outputs):
        return ResidualNet(inputs, outputs, 128, num_blocks=2)

    return Flow(
        CompositeTransform(
            [
                PiecewiseRationalQuadraticCouplingTransform(
                    create_alternating_binary_mask(features, even=layer % 2 == 0), network, 8, "linear", 5.0
                )
                for layer in range(6)
            ]
        ),
        StandardNormal([features]),
    )


def train(name, model, data):
    """Seconds per event of one pass, in the batches that the configuration gives each model."""
    if hasattr(model, "discriminator_loss"):
        model.batches.fill_(model.pretraining)
        parts = [(model.discriminator, model.discriminator_loss), (model.generator, model.generator_loss)]
        steps = [(loss, torch.optim.SGD(part.parameters(), 1e-5, foreach=True)) for part, loss in parts]
        batch = 32
    else:
        loss = (lambda x: -model.log_prob(x).mean()) if name == REFERENCE else model.loss
        steps, batch = [(loss, torch.optim.AdamW(model.parameters(), 1e-5, foreach=True))], 256
    start = time.perf_counter()
    for x in data.split(batch):
        for loss, optimizer in steps:
            value = loss(x)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
    return (time.perf_counter() - start) / len(data)


def draw(name, model):
    """Seconds per event of one call."""
    start = time.perf_counter()
    with torch.no_grad():
        model.sample(2 * EVENTS) if name == REFERENCE else model.sample(2 * EVENTS, 1)
    return (time.perf_counter() - start) / (2 * EVENTS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    data = torch.rand(EVENTS, settings.features) * 2 - 1
    models = {REFERENCE: bare_nflows(settings.features)}
    models |= {name: GENERATORS.load(name)(settings.features) for name in GENERATORS}
    seconds = {name: ([], []) for name in models}
    for _ in range(settings.repeats):
        for name, model in models.items():
            seconds[name][0].append(train(name, model, data))
            seconds[name][1].append(draw(name, model))
    best = {name: (median(training), median(drawing)) for name, (training, drawing) in seconds.items()}
    print(f"{settings.features} features, one thread, median of {settings.repeats}; ratio: speed over {REFERENCE}")
    for name, (training, drawing) in best.items():
        ratios = [reference / own for reference, own in zip(best[REFERENCE], (training, drawing), strict=True)]
        print(f"{name:12s} train {training * 1e6:7.0f} µs/event (× {ratios[0]:.2f})   "
              f"sample {1 / drawing:8.0f} events/s (× {ratios[1]:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
