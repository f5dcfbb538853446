"""Train one tagger with one seed."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from hepgen import training
from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.models.files import save_model
from hepgen.plan import provenance
from hepgen.progress import Log
from hepgen.provenance import digest, seed_for
from hepgen.registry import look_up
from hepgen.storage import checksum
from hepgen.table import Table
from hepgen.tagging import decorrelation
from hepgen.tagging.dataset import columns_of, load, make_scaler, raw_inputs, scaled
from hepgen.tagging.taggers import build, in_batches, is_supervised
from hepgen.training import Indexable

__all__ = ["train"]

# Enough events to fix a scale, and the moments of residuals and codes.
SOME = 8192
# A supervised model that chance beats so often has learnt nothing.
CHANCE = 0.05


def train(
    config: Config, model: str, seed: int, paths: dict[str, list[Path]], output: Path, device: str = "auto"
) -> training.History:
    """Train the named model and write it with its preprocessing; returns the losses of every epoch.

    Unsupervised models see one class only, background unless the entry says otherwise. A running training keeps its
    state beside the output, in ``<output>.checkpoint``, and goes on from there when it is started again.

    Raises:
        HepgenError: if the model or its inputs are unknown, the entry asks for what the model cannot do, events are
            missing, the training diverges, or what was learnt gives all events one score or tells nothing.
    """
    entry = look_up("entry of tagging.models", model, config.tagging.entries)
    supervised = is_supervised(entry)
    _check(model, entry, supervised)
    tables = decorrelation.planed(config, entry, _tables(config, model, entry, paths, supervised, seed))
    if supervised:
        tables = _balanced(model, entry, tables)
    inputs = [raw_inputs(config, entry, table) for table in tables]
    scaler = make_scaler(entry).fit(inputs[0] if isinstance(inputs[0], Tensor) else _some(inputs[0]))
    inputs = [scaled(x, scaler) for x in inputs]
    data, validation = (_arrays(x, t, supervised) for x, t in zip(inputs, tables, strict=True))
    shape = tuple(data[0][torch.arange(1)].shape[1:])
    torch.manual_seed(seed)
    network = build(model, entry, shape)
    stamp = provenance(config, "tagging_train", model)
    checkpoint = Path(f"{output}.checkpoint")
    events = checksum(chain.from_iterable(paths.values()))
    history = training.History()
    where = training.pick_device(device)
    untrained = _mean_score(network, inputs[1], where) if decorrelation.is_penalised(entry) else np.inf
    if hasattr(network, "loss"):
        rows = [len(x) for x in inputs]
        pupil, method, (more, more_validation) = decorrelation.in_training(config, entry, network, tables, rows)
        history = training.train(
            pupil.to(where), [*data, *more], [*validation, *more_validation], settings=entry.training, seed=seed,
            method=method, checkpoint=checkpoint, card=digest([stamp, seed, events]), name=f"{model}, seed {seed}",
        )  # fmt: skip
    else:
        _fit(network, data, seed)
    if hasattr(network, "calibrate"):
        network.calibrate(_some(inputs[0]).to(where))
    try:
        _refuse_useless(model, entry, network, validation[: 1 + supervised], untrained, where)
    except HepgenError:
        checkpoint.unlink(missing_ok=True)
        raise
    parts = {"model": network, "preprocessing": scaler}
    parts |= decorrelation.after_training(config, entry, network, inputs, tables, where)
    card = {"name": model, "seed": seed, "shape": shape, "supervised": supervised, **entry.model_dump(mode="json")}
    if isinstance(entry.inputs, str):
        card[entry.inputs] = getattr(config.tagging, entry.inputs).model_dump()
    if "decorrelation" in parts:
        card["observable"] = decorrelation.observable_of(config, entry)
    card["history"] = {"train": history.train, "validation": history.validation}
    save_model(output, parts, card, stamp)
    checkpoint.unlink(missing_ok=True)
    return history


def _tables(
    config: Config, model: str, entry: Tagger, paths: dict[str, list[Path]], supervised: bool, seed: int
) -> list[Table]:
    """Events to train and to validate on; `label` is the class that a supervised model is to give them."""
    columns = {*columns_of(entry), *([decorrelation.observable_of(config, entry)] if entry.decorrelation else [])}
    parts = load(config, paths, sorted(columns), ("train", "validation"), constituents=isinstance(entry.inputs, str))
    if supervised:
        return [_in_classes(config, entry, table) for table in parts] if entry.classes else parts
    available = np.sum(parts[0].columns["label"] == (entry.normal == "signal"))
    if entry.events and entry.events > available:
        Log()(f"{model}: events is {entry.events}; there are {available} {entry.normal} events, and all are learnt")
    share = entry.events / max(1, available) if entry.events else 1.0
    return [
        _learnt(table, entry, share, seed_for(config.seed, "tagging", part, seed))
        for part, table in zip(("train", "validation"), parts, strict=True)
    ]


def _check(model: str, entry: Tagger, supervised: bool) -> None:
    """Raise `HepgenError` if an entry has settings that its model cannot follow."""
    where = f"tagging.models.{model}"
    for key in ("normal", "contamination", "events") if supervised else ():
        if getattr(entry, key) != type(entry).model_fields[key].default:
            msg = f"{where}.{key}: is for models that learn one class; {entry.type} learns two"
            raise HepgenError(msg)
    if entry.classes and not supervised:
        msg = f"{where}.classes: {entry.type} learns one class only; give classes to supervised models"
        raise HepgenError(msg)
    decorrelation.check(model, entry)


def _in_classes(config: Config, entry: Tagger, table: Table) -> Table:
    """The events of the samples that make the two classes, these as their labels."""
    numbers = [
        [config.tagging.samples.index(name) for name in names]
        for names in (entry.classes.background, entry.classes.signal)
    ]
    sample = table.columns["sample"]
    kept = table[np.isin(sample, numbers[0] + numbers[1])]
    label = np.isin(kept.columns["sample"], numbers[1]).astype(np.int8)
    return Table({**kept.columns, "label": label}, {}, kept.constituents)


def _balanced(model: str, entry: Tagger, tables: Sequence[Table]) -> list[Table]:
    """The events with weights by which both classes count the same; those of the first table say how.

    Raises:
        HepgenError: if it has events of one class only.
    """
    label, weight = tables[0].columns["label"], tables[0].columns["weight"]
    total = np.bincount(label, weight, 2)
    if total.min() <= 0:
        msg = f"{model}: all {len(label)} training events are {('background', 'signal')[total.argmax()]}"
        raise HepgenError(f"{msg}; {entry.type} is supervised and needs samples of both")
    factor = total.sum() / (2 * total)
    return [
        Table({**t.columns, "weight": t.columns["weight"] * factor[t.columns["label"]]}, {}, t.constituents)
        for t in tables
    ]


def _learnt(table: Table, entry: Tagger, share: float, seed: int) -> Table:
    """The events that an unsupervised model learns: a share of the normal class, and some of the other.

    Raises:
        HepgenError: if there are not enough.
    """
    normal = int(entry.normal == "signal")
    rng = np.random.default_rng(seed)
    kept, other = (rng.permutation(np.flatnonzero(table.columns["label"] == value)) for value in (normal, 1 - normal))
    kept = kept[: max(1, round(min(share, 1.0) * len(kept)))]
    if len(kept) == 0:
        msg = f"tagging: no {entry.normal} events (label {normal}) to train on; add such a sample to tagging.samples"
        raise HepgenError(msg)
    wanted = round(entry.contamination / (1 - entry.contamination) * len(kept))
    if wanted > len(other):
        msg = f"tagging: a contamination of {entry.contamination:g} takes {wanted} events of the other class"
        raise HepgenError(f"{msg}; there are {len(other)} among these {len(table)} events")
    return table[np.sort(np.concatenate([kept, other[:wanted]]))]


def _some(inputs: Indexable) -> Tensor:
    """Evenly chosen inputs."""
    some = np.linspace(0, len(inputs) - 1, min(len(inputs), SOME)).astype(np.int64)
    return inputs[torch.from_numpy(some)]


def _arrays(inputs: Indexable, table: Table, supervised: bool) -> list[Indexable]:
    """Inputs, then labels for a supervised model, then weights unless all are 1; rows are events or jets."""
    columns = [table.columns["label"]] if supervised else []
    if np.any(table.columns["weight"] != 1):
        columns.append(table.columns["weight"])
    repeats = len(inputs) // len(table)
    return [inputs, *(torch.from_numpy(np.tile(column, repeats)).float() for column in columns)]


def _mean_score(network: Any, inputs: Indexable, device: torch.device) -> float:
    network.to(device)
    return float(in_batches(network.score, _some(inputs), device).mean())


def _refuse_useless(
    model: str, entry: Tagger, network: Any, validation: Sequence[Indexable], untrained: float, device: torch.device
) -> None:
    """Raise `HepgenError` if a trained model's scores tell nothing, as where a penalty on them has won.

    Args:
        model: The tagger's name.
        entry: Its configuration.
        network: The trained model.
        validation: Inputs that it did not learn from, and labels if it is supervised.
        untrained: Their mean score before the training, where there was a penalty.
        device: Where the model is.
    """
    scores = in_batches(network.score, _some(validation[0]), device)
    label = [_some(labels).numpy() for labels in validation[1:]]
    if not np.isfinite(scores).all():
        msg = f"{model}: {np.sum(~np.isfinite(scores))} of {len(scores)} validation scores are not finite"
        raise HepgenError(f"{msg}; lower training.learning_rate or set training.clip_norm")
    penalised = decorrelation.is_penalised(entry)
    if len(scores) > 1 and np.ptp(scores) <= 1e-6 * np.abs(scores).max():
        msg = f"{model}: after the training all {len(scores)} validation scores equal {scores[0]:g}"
        cause = "the penalty has won: lower decorrelation.strength" if penalised else "are its inputs constant?"
        raise HepgenError(f"{msg}; {cause}")
    if not penalised:
        return
    if label:
        signal, background = scores[label[0] == 1], scores[label[0] == 0]
        lost = min(len(signal), len(background)) > 0 and (
            mannwhitneyu(signal, background, alternative="greater").pvalue > CHANCE
        )
    else:
        lost = scores.mean() >= untrained
    if lost:
        what = "tell the classes apart no better than by chance" if label else "are no better than before the training"
        msg = f"{model}: its scores {what}: the penalty of {entry.decorrelation.method} has won"
        raise HepgenError(f"{msg}; lower decorrelation.strength")


def _fit(network: Any, data: list[Indexable], seed: int) -> None:
    """Fit an estimator that is not trained by batches."""
    x, *rest = data
    network.fit(x if isinstance(x, Tensor) else x[torch.arange(len(x))], *rest, seed=seed)
