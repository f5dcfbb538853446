"""The posterior of every measured event's truth: learnt once, then drawn for the events of any table."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from hepgen.checkpoints import resumable
from hepgen.config import Config, UnfoldingMethod
from hepgen.errors import HepgenError
from hepgen.models.files import load_model, read_card, save_model
from hepgen.plan import provenance
from hepgen.preprocessing import Standard, Support
from hepgen.progress import Log
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.storage import create_h5
from hepgen.table import read_tables
from hepgen.training import pick_device
from hepgen.unfolding.dataset import Tables, read_problem
from hepgen.unfolding.flows import genuine_data
from hepgen.unfolding.neural_bayes import NeuralBayes, learn, maximise

__all__ = ["KIND", "Learnt", "draw_posterior", "learn_posterior", "load_posterior", "save_posterior"]

KIND = "posterior"
# Events that are worked on at once.
STEP = 50_000


@dataclass(frozen=True)
class Learnt:
    """What posteriors are drawn from.

    Attributes:
        known: The flows and their preprocessing.
        settings: How they were made.
        observables: Names of the d observables.
        seed: Of the training.
    """

    known: NeuralBayes
    settings: UnfoldingMethod
    observables: list[str]
    seed: int


def learn_posterior(config: Config, method: str, seed: int, tables: Tables, output: Path, device: str = "auto") -> None:
    """Train the flows of a ``neural_bayes`` method on the measurement and save them.

    Args:
        config: The run.
        method: An entry of ``unfolding.methods``.
        seed: Fixes every random number.
        tables: Observables of all chunks of each sample, in order; the truth of the data, if any, is not read.
        output: Model file to write.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the method is unknown or of another type, or the events are unfit.
    """
    block = config.unfolding
    settings = look_up("entry of unfolding.methods", method, block.methods)
    if settings.type != "neural_bayes":
        msg = f"unfolding.methods.{method}: is of type {settings.type}; posteriors come from neural_bayes only"
        raise HepgenError(msg)
    problem = read_problem(block, tables)
    made_from = provenance(config, "unfolding_posterior", method)
    with resumable(output, made_from, seed, inputs=chain.from_iterable(tables.values())):
        data, _ = genuine_data(problem, seed=seed_for(seed, "genuine"))
        known = learn(problem, data, settings, block.observables, seed=seed, device=device)
        for iteration, effective in enumerate(maximise(known, data, settings, seed=seed), 1):
            Log()(f"{method}: iteration {iteration}/{settings.iterations}  effective candidates {effective:.1f}")
        save_posterior(output, Learnt(known, settings, block.observables, seed), made_from)


def draw_posterior(
    model: Path, tables: Tables, output: Path, *, candidates: int, seed: int = 0, device: str = "auto"
) -> float:
    """Draw truths for the measured events of a sample.

    Leaves ``truth`` of shape (n, candidates, d), ``weights`` (n, candidates), which add up to one, and ``effective``,
    (n,), how many independent draws an event's candidates are worth; ``columns`` names the d observables.

    Args:
        model: Written by `learn_posterior`.
        tables: Observables of all chunks of one sample, in order; events without jets at detector level are left out.
        output: HDF5 file to write.
        candidates: Truths of each event.
        seed: Fixes them.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The mean of ``effective``.

    Raises:
        HepgenError: if the model or a table is unusable, an observable is missing or not finite, or the tables are not
            of one sample.
    """
    learnt = load_posterior(model, device)
    if len(tables) != 1:
        msg = f"tables of {len(tables)} samples ({', '.join(tables) or 'none'}); give those of one"
        raise HepgenError(msg)
    ((sample, paths),) = tables.items()
    reco = read_tables(paths).matrix(learnt.observables)
    if not np.isfinite(reco).all():
        msg = f"sample {sample!r}: some of {', '.join(learnt.observables)} are not finite; repair the sample"
        raise HepgenError(msg)
    with create_h5(output, KIND, read_card(model)["provenance"]) as file:
        n, d = reco.shape
        file.attrs["columns"] = learnt.observables
        shapes = {"truth": (n, candidates, d), "weights": (n, candidates), "effective": (n,)}
        sets = [file.create_dataset(name, shape, np.float32, track_times=False) for name, shape in shapes.items()]
        total = 0.0
        for start in range(0, n, STEP):
            part = slice(start, start + STEP)
            drawn = learnt.known.posterior(reco[part], candidates=candidates, seed=seed_for(learnt.seed, seed, start))
            for dataset, values in zip(sets, drawn, strict=True):
                dataset[part] = values
            total += drawn.effective.sum()
    return total / n


def save_posterior(path: Path, learnt: Learnt, made_from: str) -> None:
    """Write what posteriors are drawn from."""
    known = learnt.known
    columns = {
        name: [scaler.support, scaler.periods] for name, scaler in (("truth", known.truth), ("reco", known.reco))
    }
    about = {"settings": learnt.settings.model_dump(mode="json"), "observables": learnt.observables}
    save_model(path, {"known": known}, {**about, "seed": learnt.seed, "columns": columns}, made_from)


def load_posterior(path: Path, device: str = "auto") -> Learnt:
    """What posteriors are drawn from, from its file alone.

    Raises:
        HepgenError: if the file is damaged or of another kind of model.
    """
    parts, card = load_model(path)
    try:
        settings = UnfoldingMethod.model_validate(card["settings"])
        truth, reco = (Support(*card["columns"][name]) for name in ("truth", "reco"))
        known = NeuralBayes(settings, truth, reco, Standard(len(truth.shift)), pick_device(device), card["seed"])
        known.load_state_dict(parts["known"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{path}: holds no posterior of this version of hepgen; name a file that `hepgen unfolding learn` wrote"
        raise HepgenError(msg) from error
    return Learnt(known.eval(), settings, card["observables"], card["seed"])
