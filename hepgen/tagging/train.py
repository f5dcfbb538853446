"""Train one tagger with one seed."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from hepgen import checkpoints, training
from hepgen.config import Config, Tagger, check_abilities
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.files import save_model
from hepgen.plan import provenance
from hepgen.preprocessing import Scaler, scaled
from hepgen.registry import look_up
from hepgen.table import Table
from hepgen.tagging import decorrelation
from hepgen.tagging.dataset import make_scaler, raw_inputs
from hepgen.tagging.selection import select
from hepgen.tagging.taggers import build, first_scores, is_supervised
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

    Unsupervised models see one class only, background unless the entry says otherwise. What is learnt is kept beside
    the output until that is written, see `hepgen.checkpoints`.

    Raises:
        HepgenError: if the model or its inputs are unknown, the entry asks for what the model cannot do, events are
            missing, the training diverges, or what was learnt gives all events one score or tells nothing.
    """
    entry = look_up("entry of tagging.models", model, config.tagging.entries)
    has_loss = hasattr(TAGGERS.load(entry.type), "loss")
    check_abilities(f"tagging.models.{model}", entry, loss=has_loss, supervised=is_supervised(entry))
    tables = decorrelation.planed(config, entry, select(config, model, entry, paths, seed))
    inputs, scaler = _prepared(config, entry, tables)
    data, validation = (_arrays(x, t, is_supervised(entry)) for x, t in zip(inputs, tables, strict=True))
    shape = tuple(data[0][torch.arange(1)].shape[1:])
    torch.manual_seed(seed)
    network = build(model, entry, shape)
    stamp = provenance(config, "tagging_train", model)
    where = training.pick_device(device)
    untrained = _mean_score(entry, network, inputs[1], where) if decorrelation.is_penalised(entry) else np.inf
    with checkpoints.resumable(output, stamp, seed, inputs=chain.from_iterable(paths.values())) as checkpoint:
        if has_loss:
            rows = [len(x) for x in inputs]
            pupil, method, (more, more_validation) = decorrelation.in_training(config, entry, network, tables, rows)
            history = training.train(
                pupil.to(where), [*data, *more], [*validation, *more_validation], settings=entry.training, seed=seed,
                method=method, name=f"{model}, seed {seed}",
            )  # fmt: skip
        else:
            history = training.History()
            _fit(network, data, seed, where)
        if hasattr(network, "calibrate"):
            network.calibrate(_some(inputs[0]).to(where))
        try:
            _refuse_useless(model, entry, network, validation, untrained, where)
            parts = decorrelation.after_training(config, entry, network, inputs, tables, where)
        except HepgenError:
            checkpoint.discard()
            raise
        card = {"name": model, "seed": seed, "shape": shape, **_card(config, entry, history)}
        save_model(output, {"model": network, "preprocessing": scaler, **parts}, card, stamp)
    return history


def _prepared(config: Config, entry: Tagger, tables: Sequence[Table]) -> tuple[list[Indexable], Scaler]:
    """What the network sees of each table, and the scaling, fitted on the first one; events count alike in that."""
    inputs = [raw_inputs(config, entry, table) for table in tables]
    scaler = make_scaler(entry).fit(inputs[0] if isinstance(inputs[0], Tensor) else _some(inputs[0]))
    return [scaled(x, scaler) for x in inputs], scaler


def _card(config: Config, entry: Tagger, history: training.History) -> dict[str, Any]:
    """What a model's file says of it, its name, seed and shape aside."""
    card = {"supervised": is_supervised(entry), **entry.model_dump(mode="json")}
    if isinstance(entry.inputs, str):
        card[entry.inputs] = getattr(config.tagging, entry.inputs).model_dump()
    if entry.decorrelation and entry.decorrelation.method == "quantiles":
        card["observable"] = config.tagging.observable_of(entry)
    return {**card, "history": {"train": history.train, "validation": history.validation}}


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


def _mean_score(entry: Tagger, network: nn.Module, inputs: Indexable, device: torch.device) -> float:
    return float(first_scores(entry, network.to(device), _some(inputs), device).mean())


def _refuse_useless(
    model: str, entry: Tagger, network: Any, validation: Sequence[Indexable], untrained: float, device: torch.device
) -> None:
    """Raise `HepgenError` if a trained model's scores tell nothing, as where a penalty on them has won.

    Args:
        model: The tagger's name.
        entry: Its configuration.
        network: The trained model.
        validation: Inputs that it did not learn from, then labels if it is supervised.
        untrained: Their mean score before the training, where there was a penalty.
        device: Where the model is.
    """
    scores = first_scores(entry, network, _some(validation[0]), device)
    label = [_some(labels).numpy() for labels in validation[1:2]] if is_supervised(entry) else []
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


def _fit(network: Any, data: list[Indexable], seed: int, device: torch.device) -> None:
    """Fit an estimator that is not trained by batches, in the CPU's memory, and leave it on the device."""
    checkpoints.fit(network, *data, seed=seed)
    if isinstance(network, nn.Module):
        network.to(device)
