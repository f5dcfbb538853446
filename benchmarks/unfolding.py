"""MultiFold with networks in hepgen, in a plain DataLoader loop and in the `omnifold` package, side by side in one run.

All train fully connected networks of the same size on the same events, for as many epochs of as large batches, and stop
no training early. hepgen enters a simulated event once in the second step, with its share of the weights as its label;
the others enter it in both classes, as published programs do. hepgen and the loop train a fresh network in every step,
the package goes on with those of the iteration before. With one thread the clock is the processor time of the process,
which other work on the machine lengthens less than the wall's. Each round runs all in turn; ratios are those of one
round. The triangular discriminator to the truth, averaged over the observables, shows that all do the work. Then
hepgen's cost against the number of events: one iteration, and the exponent of a power law.

python benchmarks/unfolding.py [--events 100000] [--epochs 3] [--batch 1024] [--rounds 3]
"""

import argparse
import contextlib
import io
import time
from importlib.util import find_spec
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from hepgen.config import Training
from hepgen.metrics.divergences import triangular, triangular_floor
from hepgen.models.classifiers import MLPClassifier
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.omnifold import omnifold as unfolded
from hepgen.unfolding.reweighting import Reweighter, normal_scores

HIDDEN = (64, 64, 64)
RATE = 1e-3
OBSERVABLES, BINS = 6, 50
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def observables(events, seed, shift=0.0):
    """Both levels of skewed, correlated observables, shape (events, 6), and of data with another mean."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.cholesky(0.5 + 0.5 * np.eye(OBSERVABLES))
    truth = rng.normal(size=(events, OBSERVABLES)) @ mixing.T + shift * np.linspace(1, 0.3, OBSERVABLES)
    return truth, np.exp(0.5 * (truth + rng.normal(0, 0.5, truth.shape)))


class Case:
    """A simulation and data of as many events, with all that is to be trained."""

    def __init__(self, events, epochs, batch, iterations):
        (self.truth, self.reco), (self.target, self.data) = observables(events, 1), observables(events, 2, 0.2)
        self.epochs, self.batch, self.iterations = epochs, batch, iterations
        self.inputs = [normal_scores(np.concatenate([self.data, self.reco])), normal_scores(self.truth)]

    def score(self, weights):
        """Mean triangular discriminator × 10³, and its floor."""
        found = []
        for truth, target in zip(self.truth.T, self.target.T, strict=True):
            edges = np.linspace(*np.quantile(target, [0.005, 0.995]), BINS + 1)
            found.append(triangular(np.histogram(truth, edges, weights=weights)[0], np.histogram(target, edges)[0]))
        return 1e3 * np.mean(found), 1e3 * triangular_floor(BINS, len(self.truth), len(self.target))


def hepgen(case, seed):
    every, ones = np.ones(len(case.truth), bool), np.ones(len(case.truth))
    problem = Problem(
        Pairs(case.truth, case.reco, ones, every, every), Level(case.data, ones), Level(case.data[:0], ones[:0])
    )
    training = Training(epochs=case.epochs, batch_size=case.batch, learning_rate=RATE, schedule="constant")
    reweighter = Reweighter("mlp", {"hidden": HIDDEN}, training, "cpu")
    return unfolded(problem, iterations=case.iterations, reweighter=reweighter, seed=seed).weights[-1]


def loader(case, seed):
    """The loop that everyone writes, with torch's defaults."""
    torch.manual_seed(seed)
    reco, truth = case.inputs
    data, n = len(reco) - len(truth), len(truth)
    push = torch.ones(n)
    for _ in range(case.iterations):
        pull = push * ratio(case, reco, labels(data, n), torch.cat([torch.ones(data), push]), reco[data:])
        push = ratio(case, truth.repeat(2, 1), labels(n, n), torch.cat([pull, torch.ones(n)]), truth)
    return push.numpy()


def labels(first, second):
    return torch.cat([torch.ones(first), torch.zeros(second)])


def ratio(case, x, y, w, points):
    """Density ratio of class 1 to class 0 at the points."""
    model = MLPClassifier(OBSERVABLES, hidden=HIDDEN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    order = torch.randperm(len(x))
    held_out = len(x) // 5
    validation, learnt = (TensorDataset(x[i], y[i], w[i]) for i in (order[:held_out], order[held_out:]))
    best, state = np.inf, None
    for _ in range(case.epochs):
        model.train()
        for batch in DataLoader(learnt, batch_size=case.batch, shuffle=True):
            loss = model.loss(*batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            losses = [float(model.loss(*batch)) for batch in DataLoader(validation, batch_size=case.batch)]
        if np.mean(losses) < best:
            best, state = np.mean(losses), {name: values.clone() for name, values in model.state_dict().items()}
    model.load_state_dict(state)
    with torch.no_grad():
        return torch.cat([model.logit(part).exp() for (part,) in DataLoader(TensorDataset(points), case.batch)])


def omnifold(case, seed):
    """The package on the same preprocessed events; later iterations go on with the networks of those before."""
    import tensorflow
    from omnifold import MLP, MultiFold
    from omnifold import DataLoader as Events
    from omnifold.net import weighted_binary_crossentropy as loss

    tensorflow.random.set_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the package draws from it
    reco, truth = (x.numpy() for x in case.inputs)
    data, simulated = np.split(reco, [len(reco) - len(truth)])
    # Keras 3 clones a network with its loss, which it asks for by name.
    losses = tensorflow.keras.utils.custom_object_scope({loss.__name__: loss})
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), losses:
        networks = [MLP(OBSERVABLES, layer_sizes=list(HIDDEN), activation="swish") for _ in range(2)]
        fold = MultiFold(
            "benchmark", *networks, Events(reco=data, normalize=False), Events(reco=simulated, gen=truth), folder,
            folder, niter=case.iterations, batch_size=case.batch, epochs=case.epochs, lr=RATE,
            early_stop=case.epochs + 1,
        )  # fmt: skip
        fold.Unfold()
    return fold.weights_push


def compare(case, ways, rounds):
    """Print the time and the score of each, and its time beside that of hepgen in the same round."""
    seconds, scores = {way: [] for way in ways}, {way: [] for way in ways}
    for seed in range(1, rounds + 1):
        for way in ways:
            start = time.process_time()
            weights = way(case, seed)
            seconds[way].append(time.process_time() - start)
            scores[way].append(case.score(weights)[0])
    prior, floor = case.score(np.ones(len(case.truth)))
    print(f"{len(case.truth)} events a side, {OBSERVABLES} observables, {case.iterations} iterations, {case.epochs} "
          f"epochs of batches of {case.batch}; discriminators: prior {prior:.2f}, floor {floor:.2f}")  # fmt: skip
    for way in ways:
        ratios = sorted(theirs / ours for theirs, ours in zip(seconds[way], seconds[hepgen], strict=True))
        print(f"{way.__name__:9s} hepgen's time × {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   "
              f"discriminator {median(scores[way]):.2f}", flush=True)  # fmt: skip


def scaling(epochs, batch):
    """Print the exponent of hepgen's cost against the number of events."""
    hepgen(Case(SIZES[0], epochs, batch, 1), 1)
    seconds = []
    for events in SIZES:
        case = Case(events, epochs, batch, 1)
        start = time.process_time()
        hepgen(case, 1)
        seconds.append(time.process_time() - start)
        print(f"{events:9,d} events: {seconds[-1] / events / (seconds[0] / SIZES[0]):.2f} × the time per event of "
              f"{SIZES[0]:,d}", flush=True)  # fmt: skip
    print(f"cost ∝ events^{np.polyfit(np.log(SIZES), np.log(seconds), 1)[0]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    ways = [hepgen, loader]
    if find_spec("omnifold"):
        import tensorflow

        for kind in ("intra", "inter"):
            getattr(tensorflow.config.threading, f"set_{kind}_op_parallelism_threads")(1)
        ways.append(omnifold)
    else:
        print("omnifold is not installed: left out")
    compare(Case(settings.events, settings.epochs, settings.batch, 5), ways, settings.rounds)
    scaling(settings.epochs, settings.batch)


if __name__ == "__main__":
    main()
