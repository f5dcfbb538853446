"""Speed of hepgen's spline flow beside those of nflows, zuko and normflows, side by side in one run.

All are coupling flows of rational-quadratic splines with the same layers, bins and linear maps in their networks.
A step is the gradient of the loss of a batch and an update by AdamW; events are drawn in hepgen's batches. With one
thread the clock is the processor time of the process, which other work on the machine lengthens less than the wall's.
Each round runs all in turn, so that a ratio compares what ran under the same load: given are medians over the rounds,
and of ratios the quartiles too.

python benchmarks/generation.py [--features 7] [--conditions 0] [--threads 1 2] [--rounds 60]
"""

import argparse
import time
from importlib.util import find_spec
from statistics import median, quantiles

import torch

from hepgen.models.flows import RQSCouplingFlow

LAYERS, BINS, BOUND, HIDDEN, BLOCKS = 6, 8, 5.0, 128, 2
BATCH = 256


def hepgen(features, conditions):
    flow = RQSCouplingFlow(
        (features,), conditions, layers=LAYERS, bins=BINS, tail_bound=BOUND, hidden=HIDDEN, blocks=BLOCKS
    )
    generator = torch.Generator().manual_seed(1)
    return flow, flow.log_prob, lambda c: flow.draw(flow.noise(len(c), generator), c)


def nflows(features, conditions):
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import CompositeTransform, PiecewiseRationalQuadraticCouplingTransform
    from nflows.utils import create_alternating_binary_mask

    def network(inputs, outputs):
        return ResidualNet(inputs, outputs, HIDDEN, context_features=conditions or None, num_blocks=BLOCKS)

    layers = [
        PiecewiseRationalQuadraticCouplingTransform(
            create_alternating_binary_mask(features, even=layer % 2 == 0), network, BINS, "linear", BOUND
        )
        for layer in range(LAYERS)
    ]
    flow = Flow(CompositeTransform(layers), StandardNormal([features]))
    given = (lambda c: c) if conditions else (lambda c: None)
    return (
        flow,
        lambda x, c: flow.log_prob(x, given(c)),
        lambda c: flow.sample(1, c) if conditions else flow.sample(len(c)),
    )


def zuko(features, conditions):
    from zuko.distributions import DiagNormal
    from zuko.flows import Flow
    from zuko.flows.coupling import GeneralCouplingTransform
    from zuko.lazy import UnconditionalDistribution
    from zuko.transforms import MonotonicRQSTransform

    layers = [
        GeneralCouplingTransform(
            features, conditions, mask=torch.arange(features) % 2 == layer % 2, univariate=MonotonicRQSTransform,
            shapes=[(BINS,), (BINS,), (BINS - 1,)], hidden_features=[HIDDEN] * (2 * BLOCKS + 1),
        )
        for layer in range(LAYERS)
    ]  # fmt: skip
    base = UnconditionalDistribution(DiagNormal, torch.zeros(features), torch.ones(features), buffer=True)
    flow = Flow(layers, base)
    if conditions:
        return flow, lambda x, c: flow(c).log_prob(x), lambda c: flow(c).sample()
    return flow, lambda x, c: flow().log_prob(x), lambda c: flow().sample((len(c),))


def normflows(features, conditions):
    from normflows import ConditionalNormalizingFlow, NormalizingFlow
    from normflows.distributions import DiagGaussian
    from normflows.flows import CoupledRationalQuadraticSpline

    layers = [
        CoupledRationalQuadraticSpline(
            features, BLOCKS, HIDDEN, num_context_channels=conditions or None, num_bins=BINS, tail_bound=BOUND,
            reverse_mask=layer % 2 == 1,
        )
        for layer in range(LAYERS)
    ]  # fmt: skip
    base = DiagGaussian(features, trainable=False)
    if conditions:
        flow = ConditionalNormalizingFlow(base, layers)
        return flow, flow.log_prob, lambda c: flow.sample(len(c), c)[0]
    flow = NormalizingFlow(base, layers)
    return flow, lambda x, c: flow.log_prob(x), lambda c: flow.sample(len(c))[0]


def step(log_prob, optimizer, x, c):
    loss = -log_prob(x, c).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def draw(sample, c):
    assert len(sample(c)) == len(c)


def seconds(clock, work, *inputs):
    start = clock()
    work(*inputs)
    return clock() - start


def compare(flows, features, conditions, threads, rounds):
    """Seconds for a step and for an event of every flow, (rounds, 2) each, after a round that does not count."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    x, c = torch.randn(BATCH, features), torch.randn(BATCH, conditions)
    told = torch.randn(RQSCouplingFlow.batch, conditions)
    optimizers = {name: torch.optim.AdamW(flow.parameters(), 1e-5, fused=True) for name, (flow, *_) in flows.items()}
    found = {name: [] for name in flows}
    for _ in range(rounds + 1):
        steps = {name: seconds(clock, step, flows[name][1], optimizers[name], x, c) for name in flows}
        for name, (_, _, sample) in flows.items():
            found[name].append((steps[name], seconds(clock, draw, sample, told) / len(told)))
    return {name: times[1:] for name, times in found.items()}


def report(name, parameters, times, own):
    """A line of medians, and of how much faster hepgen is: the median over rounds and the quartiles."""
    cells = []
    for theirs, ours in zip(zip(*times, strict=True), zip(*own, strict=True), strict=True):
        low, middle, high = quantiles((b / a for a, b in zip(ours, theirs, strict=True)), n=4)
        cells.append((median(theirs), f"× {middle:.2f} ({low:.2f} to {high:.2f})"))
    (training, faster), (drawing, quicker) = cells
    print(f"{name:10s} train {training * 1e3:7.2f} ms/step {faster}   sample {1 / drawing:8.0f} events/s {quicker}   "
          f"{parameters:,d} parameters")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=7)
    parser.add_argument("--conditions", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=60)
    settings = parser.parse_args()
    flows = {}
    for make in (hepgen, nflows, zuko, normflows):
        if find_spec(make.__name__):
            torch.manual_seed(1)
            flows[make.__name__] = make(settings.features, settings.conditions)
        else:
            print(f"{make.__name__} is not installed: left out")
    for threads in settings.threads:
        found = compare(flows, settings.features, settings.conditions, threads, settings.rounds)
        print(f"{settings.features} features, {settings.conditions} conditions, {threads} threads, "
              f"{'processor' if threads == 1 else 'wall'} time; ×: hepgen's speed")  # fmt: skip
        for name, times in found.items():
            report(name, sum(p.numel() for p in flows[name][0].parameters()), times, found["hepgen"])


if __name__ == "__main__":
    main()
