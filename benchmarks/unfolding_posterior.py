"""Speed of the posterior of neural empirical Bayes: weighted truths of measured events, and what they are worth.

The events are six smeared observables like those of a jet: steeply falling, bounded, a whole number, and one with an
atom. The flows are trained on them for a few epochs. With one thread the clock is the processor time of the process,
which other work on the machine lengthens less than the wall's. Each round runs all in turn; given are medians.

python benchmarks/unfolding_posterior.py [--events 20000] [--candidates 4 8] [--threads 1 2] [--rounds 5]
    [--epochs 3] [--hidden 64]
"""

import argparse
import time
from statistics import median

import numpy as np
import torch

from hepgen.config import Training, UnfoldingMethod
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.neural_bayes import learn

NAMES = ["mass_j1", "multiplicity_j1", "width_j1", "ln_rho_j1", "tau21_j1", "zg_j1"]


def observables(events, seed):
    """Truth and reco, shape (events, 6) each, of jets of a common hardness."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=events)
    noise = rng.normal(size=(5, events))
    mass, width = rng.gamma(4, np.exp(1.2 + 0.3 * hard)), rng.beta(2, 10 - 2 * np.tanh(hard))
    number = rng.poisson(np.exp(2.7 + 0.2 * hard))
    rho = -rng.gamma(20, 0.3, events) * np.exp(-0.1 * hard)
    tau, momentum = rng.beta(4, 3, events), rng.beta(1, 2, events) / 2
    groomed = np.where(momentum < 0.1, 0.0, momentum)
    truth = np.stack([mass, number, width, rho, tau, groomed], axis=1)
    kept = rng.binomial(number, 0.9)
    odds = np.log(np.stack([width, tau]) / (1 - np.stack([width, tau]))) + 0.2 * noise[:2]
    width, tau = 1 / (1 + np.exp(-odds))
    lost = (rng.random(events) < 0.05) | (groomed == 0)
    smeared = np.where(lost, 0.0, np.clip(groomed + 0.02 * noise[3], 0.1, 0.4999))
    reco = [mass * np.exp(0.1 * noise[2]), kept, width, rho * np.exp(0.05 * noise[4]), tau, smeared]
    return truth, np.stack(reco, axis=1)


def train(settings):
    """The flows of a simulation of as many events as are measured."""
    truth, reco = observables(settings.events, seed=1)
    everything = np.ones(settings.events, bool)
    pairs = Pairs(truth, reco, np.ones(settings.events), everything, everything)
    data = Level(observables(settings.events, seed=2)[1], np.ones(settings.events))
    method = UnfoldingMethod(
        type="neural_bayes",
        settings={"hidden": settings.hidden, "blocks": 1},
        training=Training(epochs=settings.epochs, batch_size=500, learning_rate=2e-3),
    )
    return learn(Problem(pairs, data, data.rows(slice(0))), data, method, NAMES, seed=1, device="cpu"), data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=64)
    settings = parser.parse_args()
    known, data = train(settings)
    for threads in settings.threads:
        torch.set_num_threads(threads)
        clock, kind = (time.process_time, "processor") if threads == 1 else (time.perf_counter, "wall")
        found = {number: [] for number in settings.candidates}
        # After a round that does not count.
        for turn in range(settings.rounds + 1):
            for number, times in found.items():
                start = clock()
                effective = known.posterior(data.values, candidates=number, seed=turn).effective.mean()
                times.append((clock() - start, effective))
        for number, times in found.items():
            taken, effective = (median(column) for column in zip(*times[1:], strict=True))
            print(f"{threads} threads ({kind} time)  {number:3d} candidates  {len(data.values) / taken:8.0f} events/s  "
                  f"effective {effective:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
