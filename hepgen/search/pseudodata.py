"""Pseudo-data of a search: held-out background, injected signal, and cuts that look at no label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.plots.figures import Role
from hepgen.provenance import seed_for
from hepgen.storage import open_h5
from hepgen.table import Table
from hepgen.tagging.dataset import held_out_samples, load
from hepgen.tagging.results import cut_scores
from hepgen.tagging.score import KIND

__all__ = ["MIN_TEMPLATE", "Events", "Selected", "inject", "load_events", "roles_of", "select"]

# Signal events that must stay out of the pseudo-data for the signal's expected spectrum.
MIN_TEMPLATE = 50


@dataclass(frozen=True)
class Events:
    """Events of one kind.

    Attributes:
        mass: The spectrum's observable, shape (n,).
        scores: Anomaly scores by tagger, shape (trainings, n); one training for a cut.
    """

    mass: np.ndarray
    scores: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.mass)

    def __getitem__(self, which: np.ndarray) -> "Events":
        return Events(self.mass[which], {name: scores[:, which] for name, scores in self.scores.items()})


@dataclass(frozen=True)
class Selected:
    """What a cut keeps: masses of the pseudo-data, and those of signal that was not injected."""

    data: np.ndarray
    signal: np.ndarray


def load_events(config: Config, paths: dict[str, list[Path]], score_files: list[Path]) -> tuple[Events, Events]:
    """The background and the signal that the taggers never saw, without the samples of `tagging.transfer`.

    Raises:
        HepgenError: if scores are missing, constant or not of these events, events are weighted, or one kind lacks.
    """
    block = config.search
    cuts = {name: cut for name, cut in config.tagging.cuts.items() if name in block.taggers}
    columns = {block.mass, *(cut.observable for cut in cuts.values())}
    (table,) = load(config, paths, sorted(columns), ("test",))
    if np.any(table.columns["weight"] != 1):
        msg = "search: the events are weighted, but a search counts events; leave the weights out"
        raise HepgenError(msg)
    found = _scores_of_models(config, score_files, len(table))
    found |= {name: cut_scores(cut, table) for name, cut in cuts.items()}
    events = Events(table.columns[block.mass].astype(np.float64), {name: found[name] for name in block.taggers})
    _refuse_constant(events)
    return _of_label(config, table, events, 0), _of_label(config, table, events, 1)


def roles_of(config: Config, score_files: list[Path]) -> dict[str, Role]:
    """How each cut and each model is drawn."""
    found: dict[str, Role] = dict.fromkeys(config.tagging.cuts, "cut")
    for path in score_files:
        with open_h5(path, KIND) as file:
            found[file.attrs["name"]] = "supervised" if file.attrs["supervised"] else "model"
    return found


def inject(config: Config, background: Events, signal: Events, injected: int) -> tuple[Events, Events]:
    """Pseudo-data with so many signal events, and the signal events that are not among them.

    The background is the same for all strengths, and a stronger injection holds all events of a weaker one: what
    differs between strengths is the signal alone.

    Raises:
        HepgenError: if there is not enough signal.
    """
    left = len(signal) - injected
    if left < MIN_TEMPLATE:
        msg = f"search.injected: {injected} of {len(signal)} held-out signal events leave {left} for the expectation"
        raise HepgenError(f"{msg}; at least {MIN_TEMPLATE} are needed")
    order = np.random.default_rng(seed_for(config.seed, "search", "inject")).permutation(len(signal))
    some = signal[order[:injected]]
    scores = {name: np.concatenate([s, some.scores[name]], axis=1) for name, s in background.scores.items()}
    return Events(np.concatenate([background.mass, some.mass]), scores), signal[order[injected:]]


def select(data: Events, signal: Events, tagger: str | None, efficiency: float) -> Selected:
    """Cut at the quantile of the pseudo-data's own scores that keeps the share `efficiency`; no tagger, no cut.

    The trainings of a tagger vote: an event counts with the mean of its ranks among the pseudo-data.
    """
    if tagger is None:
        return Selected(data.mass, signal.mass)
    known = np.sort(data.scores[tagger], axis=1)
    of_data, of_signal = (_mean_rank(known, events.scores[tagger]) for events in (data, signal))
    threshold = np.quantile(of_data, 1 - efficiency)
    return Selected(data.mass[of_data >= threshold], signal.mass[of_signal >= threshold])


def _mean_rank(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Share of the pseudo-data's scores below each score, ties counted half, mean over trainings, shape (n,)."""
    sides = [
        np.searchsorted(sample, score, side=side)
        for sample, score in zip(known, scores, strict=True)
        for side in ("left", "right")
    ]
    return np.mean(sides, axis=0) / known.shape[1]


def _scores_of_models(config: Config, score_files: list[Path], events: int) -> dict[str, np.ndarray]:
    """Scores of all trainings by model, shape (trainings, n)."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in score_files:
        with open_h5(path, KIND) as file:
            name = file.attrs["name"]
            if name not in config.search.taggers:
                continue
            kind = next(iter(config.tagging.models[name].scores), "default")
            if f"score/{kind}" not in file or len(file[f"score/{kind}"]) != events:
                msg = f"{path}: does not hold the score {kind!r} of the {events} test events; score them again"
                raise HepgenError(msg)
            found.setdefault(name, {})[int(file.attrs["seed"])] = file[f"score/{kind}"][:]
    for name in config.tagging.models:
        missing = sorted(set(config.tagging.seeds) - set(found.get(name, {})))
        if name in config.search.taggers and missing:
            msg = f"search: no scores of model {name!r}, seed {missing[0]}; run the scoring first"
            raise HepgenError(msg)
    return {name: np.stack([found[name][seed] for seed in config.tagging.seeds]) for name in found}


def _refuse_constant(events: Events) -> None:
    for name, scores in events.scores.items():
        if np.any(np.ptp(scores, axis=1) == 0):
            msg = f"search: {name} gives all {len(events)} events the same score, so that no cut can be made on it"
            raise HepgenError(msg)


def _of_label(config: Config, table: Table, events: Events, label: int) -> Events:
    own = table.columns["sample"] < len(held_out_samples(config))
    which = np.flatnonzero(own & (table.columns["label"] == label))
    if len(which) == 0:
        kind = "signal (label 1)" if label else "background (label 0)"
        msg = f"search: there is no {kind} among the held-out events of {', '.join(held_out_samples(config))}"
        raise HepgenError(f"{msg}; add a sample to tagging.samples or tagging.test")
    return events[which]
