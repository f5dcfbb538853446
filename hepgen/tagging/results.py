"""What the trainings left in their score files, and the scorers that they, cuts and other tools make."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from hepgen.config import Config, Cut
from hepgen.errors import HepgenError
from hepgen.storage import open_h5
from hepgen.table import Table
from hepgen.tagging.external import read_scores, tested_samples
from hepgen.tagging.figures import inputs_of, with_codes
from hepgen.tagging.score import KIND
from hepgen.tagging.scorers import Scorer

__all__ = ["Results", "cut_scores", "read_results", "scorers_of"]


@dataclass
class Results:
    """What all trainings of one tagger left.

    Attributes:
        supervised: Whether it learnt from labels.
        scores: Seed → kind of score → scores, shape (n,); the tagger's own kind first.
        history: Part → losses of every training by epoch.
        latent: Arrays of codes of each training, for models that have them, in the order of the seeds.
        images: Example images of the first training by name, for models that see some.
    """

    supervised: bool = False
    scores: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    history: dict[str, list[list[float]]] = field(default_factory=lambda: {"train": [], "validation": []})
    latent: list[dict[str, np.ndarray]] = field(default_factory=list)
    images: dict[str, np.ndarray] = field(default_factory=dict)


def read_results(config: Config, files: list[Path], events: int) -> dict[str, Results]:
    """Results of every training of the configuration, in its order.

    Raises:
        HepgenError: if one is missing or was made of other test events or for other kinds of score.
    """
    opened: dict[tuple[str, int], Path] = {}
    for path in files:
        with open_h5(path, KIND) as file:
            opened[str(file.attrs["name"]), int(file.attrs["seed"])] = path
    results, coded = {}, with_codes(config)
    for name, entry in config.tagging.entries.items():
        results[name] = Results()
        for seed in config.tagging.seeds:
            if (name, seed) not in opened:
                msg = f"tagging: no scores of model {name!r}, seed {seed}; run the scoring first"
                raise HepgenError(msg)
            path = opened[name, seed]
            with open_h5(path, KIND) as file:
                needed = ["score", *(["latent"] if name in coded else [])]
                absent = [group for group in needed if not isinstance(file.get(group), h5py.Group)]
                if absent:
                    msg = f"{path}: holds no group {absent[0]!r} of {name!r}; score the events again"
                    raise HepgenError(msg)
                _add(results[name], file, path, entry.scores or ["default"], events)
    return results


def _add(results: Results, file: h5py.File, path: Path, kinds: list[str], events: int) -> None:
    """Add what one training left."""
    found = {kind: data[:] for kind, data in file["score"].items()}
    if not set(kinds) <= found.keys() or any(len(scores) != events for scores in found.values()):
        shapes = ", ".join(f"{kind}: {len(scores)}" for kind, scores in found.items())
        msg = f"{path}: holds other scores ({shapes}) than {', '.join(kinds)} of {events} test events; score them again"
        raise HepgenError(msg)
    first = not results.scores
    results.supervised = bool(file.attrs["supervised"])
    results.scores[int(file.attrs["seed"])] = {kind: found[kind] for kind in kinds}
    for part, losses in json.loads(file.attrs["history"]).items():
        results.history[part].append(losses)
    if "latent" in file:
        results.latent.append({name: data[:] for name, data in file["latent"].items()})
    if first and "images" in file:
        arrays: dict[str, np.ndarray] = {}
        file["images"].visititems(
            lambda name, item: arrays.update({name: item[:]}) if isinstance(item, h5py.Dataset) else None
        )
        results.images = arrays


def scorers_of(config: Config, results: dict[str, Results], table: Table) -> list[Scorer]:
    """All scorers: models, trainings of scans, cuts, other tools."""
    tagging = config.tagging
    scorers = []
    for name, result in results.items():
        entry = tagging.entries[name]
        role = "supervised" if result.supervised else "model"
        scanned = name not in tagging.models
        for number, kind in enumerate(entry.scores[: 1 if scanned else None] or ["default"]):
            scores = np.stack([result.scores[seed][kind] for seed in tagging.seeds])
            called = f"{name} ({kind})" if number else name
            exchanged = entry.normal == "signal" and not result.supervised
            scorers.append(Scorer(called, role, scores, inputs_of(entry), number == 0, scanned, exchanged))
    scorers += [Scorer(name, "cut", cut_scores(cut, table)) for name, cut in tagging.cuts.items()]
    samples = tested_samples(config)
    external = {name: read_scores(name, path, samples, table) for name, path in tagging.external.items()}
    return scorers + [Scorer(name, "external", scores) for name, scores in external.items()]


def cut_scores(cut: Cut, table: Table) -> np.ndarray:
    """A single observable as a score, higher for more anomalous events, shape (1, n)."""
    values = table.columns[cut.observable].astype(np.float64)[None]
    return values if cut.signal == "high" else -values
