"""Trained taggers as ONNX graphs from physical inputs to scores, and generators from noise to events."""

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import hepgen
from hepgen.config import Constituents, Images, Tagger
from hepgen.errors import HepgenError
from hepgen.export.graphs import EventGenerator, JetTagger, ObservableTagger
from hepgen.generation.generators import load_generator
from hepgen.models.files import load_model, read_card
from hepgen.observables import describe
from hepgen.storage import atomic, refuse_inputs
from hepgen.tagging.dataset import LEADING
from hepgen.tagging.taggers import Trained, restore, score_kinds

__all__ = ["export_model"]

OPSET = 18
VIEWS = {"images": Images, "constituents": Constituents}


def export_model(paths: Sequence[str | Path], output: str | Path) -> str:
    """Write a trained tagger or generator as an ONNX graph that holds its preprocessing too.

    A tagger's inputs are ``observables`` (events, d), or ``constituents`` (events, 2, N, 3): pT in GeV, η and φ of the
    two leading jets, pT = 0 for padding; and ``mass`` (events,) for a score that was decorrelated by quantiles. The
    output is ``score`` (events,). All are float64.

    A generator's are ``noise`` (events, k), float32, of the distributions that its description and the metadata
    ``noise`` name, and ``conditions`` (events, c), float64, if it is told any. The output is ``events`` (events, d) in
    GeV and radians, or images or constituents of (events, *shape), float64.

    The metadata say what each column is.

    Args:
        paths: One model file that a training wrote.
        output: File to write, whole or not at all.

    Returns:
        What was written, in words.

    Raises:
        HepgenError: if the file is no trained tagger or generator, its model cannot be written as ONNX, or the output
            cannot be written.
    """
    if len(paths) != 1:
        msg = f"{output}: an ONNX file holds one trained model; {len(paths)} files were given"
        raise HepgenError(msg)
    path = Path(paths[0])
    refuse_inputs(output, [path])
    card = read_card(path)
    if not card.keys() & {"inputs", "block"}:
        msg = f"{path}: is a trained {card.get('type', 'model')}, neither a tagger nor a generator of this version"
        raise HepgenError(f"{msg}; only these are exported as ONNX")
    model, about, words = (_tagger if "inputs" in card else _generator)(path)
    onnx.helper.set_model_props(model, {"hepgen": hepgen.__version__, "provenance": card["provenance"], **about})
    with atomic(output) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return f"{card['name']}, seed {card['seed']}: {words}"


def _tagger(path: Path) -> tuple[onnx.ModelProto, dict[str, str], str]:
    """A tagger's graph, its metadata and what it is in words."""
    tagger, card = _load(path)
    inputs = _inputs(tagger.entry, card)
    shapes = {"observables": (2, len(tagger.scaler.shift)), "constituents": (2, LEADING, 3, 3), "mass": (2,)}
    axes = {name: {0: "events"} for name in (*inputs, "score")}
    axes |= {"constituents": {0: "events", 2: "constituents"}} if "constituents" in inputs else {}
    examples = {name: torch.ones(shapes[name], dtype=torch.float64) for name in inputs}
    model = _traced(path, tagger.entry.type, _module(path, tagger, card), examples, "score", axes)
    for value in model.graph.input:
        value.doc_string = ", ".join(inputs[value.name])
    kinds = tagger.entry.scores or score_kinds(tagger.network)
    about = {
        "tagger": card["name"],
        "type": tagger.entry.type,
        "seed": str(card["seed"]),
        "score": kinds[0] if kinds else "",
        "inputs": json.dumps(inputs),
    }
    return model, about, f"score of {' and '.join(inputs)}"


def _generator(path: Path) -> tuple[onnx.ModelProto, dict[str, str], str]:
    """The same of a generator."""
    trained = load_generator(path, torch.device("cpu"))
    entry, card = trained.entry, trained.card
    random = torch.Generator().manual_seed(1)
    examples = {"noise": trained.network.noise(2, random)}
    if entry.conditions:
        examples["conditions"] = trained.pool.order(1)[:1].expand(2, -1)
    axes = {name: {0: "events"} for name in (*examples, "events")}
    model = _traced(path, entry.type, EventGenerator(trained), examples, "events", axes)
    columns = [_with_unit(name) for name in trained.block.features] if entry.inputs == "features" else [entry.inputs]
    told = [_with_unit(name) for name in entry.conditions]
    uniforms = getattr(trained.network, "uniforms", 0)
    normals = examples["noise"].shape[1] - uniforms
    model.graph.output[0].doc_string = ", ".join(columns)
    model.graph.input[0].doc_string = f"{normals} normal numbers, then {uniforms} uniform in [0, 1)"
    for value in model.graph.input[1:]:
        value.doc_string = ", ".join(told)
    about = {
        "generator": card["name"],
        "type": entry.type,
        "seed": str(card["seed"]),
        "noise": json.dumps({"normal": normals, "uniform": uniforms}),
        "events": json.dumps(columns),
        "conditions": json.dumps(told),
    }
    return model, about, f"events of {' and '.join(examples)}"


def _load(path: Path) -> tuple[Trained, dict[str, Any]]:
    parts, card = load_model(path)
    entry = Tagger.model_validate({name: card[name] for name in Tagger.model_fields if name in card})
    if isinstance(entry.inputs, str) and entry.inputs not in card:
        msg = f"{path}: does not say how its {entry.inputs} are made, as older versions left it; train the model again"
        raise HepgenError(msg)
    return restore(path, entry, parts, card), card


def _inputs(entry: Tagger, card: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the graph's inputs, and what each holds."""
    if isinstance(entry.inputs, str):
        inputs = {"constituents": ["pt [GeV]", "eta", "phi"]}
    else:
        inputs = {"observables": [_with_unit(name) for name in entry.inputs]}
    return inputs | ({"mass": [_with_unit(card["observable"])]} if "observable" in card else {})


def _with_unit(name: str) -> str:
    unit = describe(name).unit
    return f"{name} [{unit}]" if unit else name


def _module(path: Path, tagger: Trained, card: dict[str, Any]) -> nn.Module:
    """The tagger as a graph of tensors."""
    network = tagger.network
    if not isinstance(network, nn.Module) and not hasattr(network, "forest"):
        msg = f"{path}: a {tagger.entry.type} is no torch module, so that it cannot be written as ONNX"
        raise HepgenError(msg)
    if not isinstance(tagger.entry.inputs, str):
        return ObservableTagger(tagger)
    return JetTagger(tagger, VIEWS[tagger.entry.inputs].model_validate(card[tagger.entry.inputs]))


def _traced(
    path: Path, kind: str, module: nn.Module, examples: dict[str, Tensor], output: str, axes: dict[str, dict[int, str]]
) -> onnx.ModelProto:
    """The graph that a module runs.

    The exporter by tracing, rather than that of `torch.export`, which rounds constants of float64 graphs to float32:
    with its π constituents move to other pixels. The one used says that it is deprecated.

    Args:
        path: The model's file, for messages.
        kind: The model's type.
        module: What takes the inputs.
        examples: The inputs by name.
        output: Name of the output.
        axes: Names of the dimensions that are free.

    Raises:
        HepgenError: if what the module does depends on values, or has no counterpart in ONNX.
    """
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.onnx.export(
                module.eval(), tuple(examples.values()), buffer,
                input_names=[*examples], output_names=[output], dynamic_axes=axes, opset_version=OPSET, dynamo=False,
                do_constant_folding=False, operator_export_type=torch.onnx.OperatorExportTypes.ONNX_FALLTHROUGH,
            )  # fmt: skip
        for warning in caught:
            if issubclass(warning.category, torch.jit.TracerWarning):
                raise warning.message
        model = onnx.load_from_string(buffer.getvalue())
        # These fall through, because the exporter's own error prints the whole graph.
        unknown = sorted({node.op_type for node in model.graph.node if node.domain})
        if unknown:
            msg = f"ONNX has no {', '.join(unknown)}"
            raise ValueError(msg)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # what the code of a plug-in may raise is not known
        reason = str(error).strip().splitlines()[0]
        msg = f"{path}: this {kind} cannot be written as ONNX ({reason})"
        raise HepgenError(f"{msg}; its {output} must be made of torch operations whatever the values") from error
    return model
