"""Typed configuration: one source of truth for what a run may contain."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import combinations, pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from hepgen import datasets
from hepgen.errors import HepgenError
from hepgen.models import CLASSIFIERS, GENERATORS, TAGGERS
from hepgen.plugins import load_plugins
from hepgen.registry import Registry, look_up, unknown_name
from hepgen.samples import SAMPLES, TAGS, FilePath, FileSample, Name, PluginSample, Sample, Strict
from hepgen.sources import SOURCES

__all__ = [
    "Binning",
    "Classes",
    "Config",
    "Constituents",
    "Cut",
    "Decorrelation",
    "Generation",
    "Generator",
    "Images",
    "Integration",
    "IntegrationMethod",
    "JetDefinition",
    "Model",
    "Scan",
    "Search",
    "Tagger",
    "Tagging",
    "Training",
    "Unfolding",
    "UnfoldingMethod",
    "check_abilities",
    "json_schema",
    "load",
    "parse",
    "rising",
]


def _unique(values: list[Any]) -> list[Any]:
    """Refuse repeated values: one training counted twice would look like two."""
    if len(set(values)) < len(values):
        msg = "every value may be given only once"
        raise ValueError(msg)
    return values


# The other sources of uncertainty beside the systematics, see `hepgen.unfolding.uncertainties.Budget`, and their sum.
SOURCES_OF_ERRORS = {"data", "simulation", "events", "seeds", "total"}

# How YAML files fail to be read: the library lets through what a value does not fit its explicit tag by, or digits by
# the thousand.
UNREADABLE = (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
# Beyond these nothing is a configuration: a few lines of YAML can stand for more values than the memory holds.
MOST_VALUES, DEEPEST = 1_000_000, 50
LONGEST_SHOWN = 200

Fraction = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Word = Annotated[str, Field(max_length=50)]
Seeds = Annotated[list[NonNegativeInt], Field(min_length=1), AfterValidator(_unique)]


class JetDefinition(Strict):
    """How events are clustered into jets."""

    algorithm: Literal["antikt", "cambridge", "kt"] = "antikt"
    radius: PositiveFloat = Field(1.0, description="jet radius R")
    number: PositiveInt = Field(
        2, description="how many leading jets an event must have; events with fewer are dropped"
    )
    pt_min: PositiveFloat = Field(20.0, description="smallest jet pT [GeV]")


class Images(Strict):
    """Jet images and the steps that prepare them; each step can be switched off."""

    pixels: PositiveInt = 40
    width: PositiveFloat = Field(1.6, description="side of the square window in η and φ")
    center: bool = Field(True, description="shift the pT-weighted centroid to the origin")
    rotate: bool = Field(True, description="turn the principal axis vertical")
    flip: bool = Field(True, description="bring the hardest quadrant to the upper right corner")
    normalize: bool = Field(True, description="divide by the sum of the pixels")
    power: PositiveFloat = Field(
        1.0, le=1, description="exponent of the pixels; below 1 soft radiation counts for more"
    )


class Constituents(Strict):
    """The hardest constituents of each jet, in the coordinates of its image."""

    number: PositiveInt = Field(40, description="how many are kept; jets with fewer are padded with zeros")
    center: bool = Field(True, description="shift the pT-weighted centroid to the origin")
    rotate: bool = Field(True, description="turn the principal axis vertical")
    flip: bool = Field(True, description="bring the hardest quadrant to the upper right corner")


class Training(Strict):
    """How a network is trained."""

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 256
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Decay, Decay] = Field(
        (0.9, 0.999), description="how long adamw remembers gradients and their squares; networks that compete take 0.5"
    )
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradient")
    ema: Fraction | None = Field(None, description="decay of the exponential moving average of the weights")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a better validation loss")

    @model_validator(mode="after")
    def _betas_of_adamw(self) -> "Training":
        if self.optimizer != "adamw" and self.betas != type(self).model_fields["betas"].default:
            msg = f"{self.optimizer} has no betas; leave them out"
            raise ValueError(msg)
        return self


class Model(Strict):
    """A registered model and how it is trained."""

    type: str
    settings: dict[str, Any] = Field({}, description="keyword arguments of the model's constructor")
    training: Training = Training()


class Decorrelation(Strict):
    """How a tagger's score is made independent of an observable of the background."""

    method: Literal["disco", "adversary", "planing", "quantiles"]
    observable: Name | None = Field(None, description="what the score must not know; tagging.mass without it")
    strength: NonNegativeFloat | None = Field(
        None, description="weight λ of the penalty; disco and adversary need one, planing and quantiles have none"
    )

    @model_validator(mode="after")
    def _strength_of_a_penalty(self) -> "Decorrelation":
        penalty = self.method in ("disco", "adversary")
        if penalty != (self.strength is not None):
            msg = f"{self.method} needs a strength" if penalty else f"{self.method} has no strength; leave it out"
            raise ValueError(msg)
        return self


class Classes(Strict):
    """Samples that a supervised model learns to tell apart, whatever the labels of their events."""

    background: list[Name] = Field(min_length=1)
    signal: list[Name] = Field(min_length=1)


class Tagger(Model):
    """A tagger: what it sees, what it learns from and what it gives."""

    inputs: list[Name] | Literal["images", "constituents"] = Field(
        min_length=1, description="observables, 'images' or 'constituents' of the two leading jets"
    )
    preprocessing: Literal["standard", "scale", "unit"] | None = Field(
        None, description="scaling of the inputs: to mean 0 and deviation 1, to a mean square of 1, or into [0, 1]"
    )
    scores: Annotated[list[Name], AfterValidator(_unique)] = Field(
        [], description="scores to compare, the first one is the tagger's; its own without them"
    )
    decorrelation: Decorrelation | None = None
    normal: Literal["background", "signal"] = Field(
        "background", description="the class that an unsupervised tagger learns; signal is the inverse task"
    )
    contamination: float = Field(0.0, ge=0, lt=1, description="share of the other class among the learnt events")
    events: PositiveInt | None = Field(None, description="how many events of the normal class to learn from, at most")
    classes: Classes | None = Field(
        None, description="samples to tell apart in place of labels: 'data' against background, as in CWoLa"
    )


class Scan(Strict):
    """Trainings of the same taggers with one setting varied."""

    models: Annotated[list[Name], AfterValidator(_unique)] = Field(min_length=1)
    vary: str = Field(
        description="the setting, e.g. contamination, events, decorrelation.strength, settings.latent_dim"
    )
    values: Annotated[list[bool | int | float | Word], AfterValidator(_unique)] = Field(min_length=2)


class Cut(Strict):
    """A single observable used as an anomaly score: the trivial baseline."""

    observable: Name
    signal: Literal["high", "low"] = Field(description="the side on which the signal is expected")


class Tagging(Strict):
    """Anomaly tagging: train on background (label 0), score background and signal."""

    samples: list[Name] = Field(min_length=1, description="samples to train on and, without `test`, to test on")
    test: list[Name] = Field([], description="samples held out for the test; without them a part of `samples` is")
    test_fraction: Fraction = 0.5
    validation_fraction: Fraction = 0.1
    seeds: Seeds = [1, 2, 3]
    transfer: list[Name] = Field([], description="further signals that are never trained on, to test on")
    images: Images = Images()
    constituents: Constituents = Constituents()
    cuts: dict[Name, Cut] = {}
    external: dict[Name, Annotated[FilePath, Field(pattern="^[^{}]+$")]] = Field(
        {}, description="scores of other tools: HDF5 or npz files; their names have no braces"
    )
    mass: Name = Field("mjj", description="observable of the background that no cut should shape")
    profiles: list[Name] = Field([], description="further observables that the scores are profiled against")
    models: dict[Name, Tagger]
    scans: dict[Name, Scan] = {}

    @cached_property
    def entries(self) -> dict[str, Tagger]:
        """Everything that is trained: the models, then what the scans make of them."""
        varied = [
            point for scan in self.scans for model in self.scans[scan].models for point in self.points(scan, model)
        ]
        return self.models | {name: entry for name, _, entry in varied}

    def observable_of(self, entry: Tagger) -> str:
        """What the entry's score must not know, if it is decorrelated."""
        return (entry.decorrelation and entry.decorrelation.observable) or self.mass

    def points(self, scan: str, model: str) -> list[tuple[str, bool | int | float | str, Tagger]]:
        """Name, value and settings of each training of a model in a scan; the model itself where it has the value."""
        entry, path = self.models[model], self.scans[scan].vary.split(".")
        points = []
        for value in self.scans[scan].values:
            changed = _varied(entry, path, value)
            called = re.sub(r"\W", "_", str(value), flags=re.ASCII)
            points.append((model if changed == entry else f"{model}__{scan}_{called}", value, changed))
        return points


class Generator(Model):
    """A generator: what it makes of an event, and what it is told of it."""

    inputs: Literal["features", "images", "constituents"] = Field(
        "features", description="the block's features, or the leading jet's image or constituents"
    )
    conditions: Annotated[list[Name], AfterValidator(_unique)] = Field(
        [], description="observables that are given for every event to make, e.g. mjj or label"
    )
    reweighting: Literal["gradient_boosting", "mlp_classifier"] | None = Field(
        None, description="classifier whose odds for truth become the weights of the generated events"
    )


class Generation(Strict):
    """Fast event generation: learn a sample's events, draw new ones, compare with held-out truth."""

    samples: Annotated[list[Name], AfterValidator(_unique)] = Field(
        min_length=1, description="samples to learn, together"
    )
    features: Annotated[list[Name], AfterValidator(_unique)] = Field(
        min_length=1, description="the observables that are learnt"
    )
    images: Images = Images(pixels=25)
    constituents: Constituents = Constituents()
    seeds: Seeds = [1, 2, 3]
    test_fraction: Fraction = 0.5
    validation_fraction: Fraction = 0.1
    events: PositiveInt = Field(50_000, description="events to generate for each model and seed")
    models: dict[Name, Generator] = Field(min_length=1)


def rising(edges: Sequence[float]) -> bool:
    """Whether edges make bins: two or more finite numbers, each larger than the one before."""
    return len(edges) > 1 and all(map(isfinite, edges)) and all(low < high for low, high in pairwise(edges))


def _edges(values: list[float]) -> list[float]:
    """Refuse edges that do not make bins."""
    if not rising(values):
        msg = "bin edges must be finite and rise"
        raise ValueError(msg)
    return values


Edges = Annotated[list[float], Field(min_length=2), AfterValidator(_edges)]


class Binning(Strict):
    """The bins of an observable."""

    edges: Edges
    reco: Edges | None = Field(None, description="bins at detector level; the same without them")


class UnfoldingMethod(Strict):
    """OmniFold, iterative Bayesian unfolding (IBU), a conditional flow or neural empirical Bayes."""

    type: Literal["omnifold", "ibu", "conditional_flow", "neural_bayes"]
    iterations: PositiveInt = Field(5, description="how many are made; the one to report is chosen by the toys, if any")
    inputs: Literal["observables", "constituents"] = Field(
        "observables", description="what OmniFold's classifier sees: the block's observables, or the leading jet too"
    )
    model: str | None = Field(
        None, description="classifier of OmniFold (mlp without it), or flow of the other two (rqs_flow without it)"
    )
    settings: dict[str, Any] = Field({}, description="keyword arguments of the model's constructor")
    training: Training = Training()


class Unfolding(Strict):
    """Unfolding: correct `data` for the detector with the pairs of `simulation`."""

    simulation: Name
    data: Name
    background: Annotated[list[Name], AfterValidator(_unique)] = Field(
        [], description="simulated samples of what else the data hold; their weights add up to the expected events"
    )
    systematics: Annotated[list[Name], AfterValidator(_unique)] = Field(
        [], description="alternative simulations: each unfolds the same data, and is unfolded as if it were data"
    )
    observables: Annotated[list[Name], AfterValidator(_unique)] = Field(min_length=1)
    bins: PositiveInt = Field(50, description="bins of an observable that `binning` does not list")
    binning: dict[Name, Binning] = {}
    planes: dict[Name, Annotated[dict[Name, Binning], Field(min_length=2, max_length=2)]] = Field(
        {}, description="pairs of observables that are unfolded together, by a name of your own, each with its bins"
    )
    constituents: Constituents = Constituents(number=30)
    seeds: Seeds = [1, 2, 3]
    replicas: NonNegativeInt = Field(0, description="bootstrap replicas of the data, and as many of the simulation")
    toys: NonNegativeInt = Field(0, description="pseudo-experiments of known truth that are like the data")
    tests: bool = Field(True, description="whether to unfold pseudo-data for the closure, stress and leakage tests")
    studied: Annotated[list[Name], AfterValidator(_unique)] = Field(
        [], description="methods that replicas, toys, tests and systematics are made for; all without them"
    )
    methods: dict[Name, UnfoldingMethod] = Field(min_length=1)


class Search(Strict):
    """A bump hunt in the mass spectrum that cuts on the taggers leave."""

    mass: Name = Field("mjj", description="the spectrum's observable")
    taggers: Annotated[list[Name], AfterValidator(_unique)] = Field(
        min_length=1, description="models and cuts of the tagging block"
    )
    efficiencies: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(_unique)] = Field(
        [1.0, 0.1, 0.01], min_length=1, description="shares of the events that the cuts keep"
    )
    injected: Annotated[list[NonNegativeInt], AfterValidator(_unique)] = Field(
        [0, 50, 100], min_length=1, description="signal events before the cut"
    )
    bins: PositiveInt = 40
    range: tuple[float, float] | None = Field(
        None, description="of the spectrum [GeV]; without it where the background falls smoothly"
    )
    toys: PositiveInt = Field(1000, description="pseudo-experiments of each p-value")


class IntegrationMethod(Strict):
    """A sampler of the matrix element: uniform, VEGAS's map, the map with adaptive strata (VEGAS+), or a flow."""

    type: Literal["uniform", "vegas", "vegas_plus", "flow"]
    points: int = Field(20_000, ge=100, description="evaluations of each iteration or epoch of the adaptation")
    iterations: PositiveInt = Field(10, description="iterations of VEGAS's adaptation")
    model: str = Field("rqs_flow", description="generator of the flow, one with an exact density")
    settings: dict[str, Any] = Field({}, description="keyword arguments of the flow's constructor")
    training: Training = Training()


class Integration(Strict):
    """Integral and events of e⁺e⁻ → γ* → q q̄ g within cuts, by several samplers side by side."""

    energy: PositiveFloat = Field(35.0, description="collision energy [GeV]")
    y_cut: Annotated[float, Field(gt=0, lt=1 / 3)] = Field(
        0.01, description="smallest squared mass of each pair of partons over the squared collision energy"
    )
    min_energy: NonNegativeFloat = Field(2.0, description="smallest energy of each parton [GeV]")
    max_cos_theta: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="largest |cos θ| of each parton to the beam"
    )
    events: int = Field(200_000, ge=100, description="evaluations after the adaptation, which the results are from")
    seeds: Seeds = [1, 2, 3]
    methods: dict[Name, IntegrationMethod] = Field(min_length=1)


def _folder(value: str) -> str:
    """Refuse names that Snakemake, its report or a command line would not take for those of a folder."""
    if not value or set(value) & set("{}<>") or not value.isprintable() or value.startswith("-"):
        msg = "a folder's name holds no braces, angle brackets, line breaks or invisible signs, nor begins with -"
        raise ValueError(msg)
    if value != value.strip():
        msg = "a folder's name neither begins nor ends with a space"
        raise ValueError(msg)
    return value


class Config(Strict):
    """A whole run."""

    title: str = "hepgen analysis"
    seed: int = Field(1, description="enters every random number of the samples and the splits")
    output: Annotated[str, AfterValidator(_folder)] = Field(
        "results", description="folder that receives every product; its name has no braces or angle brackets"
    )
    plugins: list[str] = Field([], description="modules of your own that register sources, observables or models")
    jets: dict[Name, JetDefinition] = {}
    samples: dict[Name, Sample]
    tagging: Tagging | None = None
    search: Search | None = None
    generation: Generation | None = None
    unfolding: Unfolding | None = None
    integration: Integration | None = None

    def jets_of(self, sample: str) -> JetDefinition:
        """How a sample's jets are made, or chosen from those it has.

        Raises:
            HepgenError: if there is no such sample, or it holds observables without jets.
        """
        entry = look_up("sample", sample, self.samples)
        if entry.jets is None:
            msg = f"sample {sample!r} is a table of observables: it has no events to cluster"
            raise HepgenError(msg)
        return self.jets[entry.jets]

    def columns_of(self, sample: str, level: Literal["reco", "truth"] = "reco") -> list[str]:
        """The observables of a sample's table, at detector or at particle level, which not every sample has."""
        entry = look_up("sample", sample, self.samples)
        if level == "truth" and not entry.has_truth:
            return []
        return entry.columns_for(self.jets[entry.jets].number if entry.jets else 0, level)


def _varied(entry: Tagger, path: Sequence[str], value: Any) -> Tagger:
    """A copy of an entry with one of its settings changed."""
    content = entry.model_dump(mode="json")
    block = content
    for key in path[:-1]:
        block[key] = block[key] or {}
        block = block[key]
    block[path[-1]] = value
    return Tagger.model_validate(content)


def load(path: str | Path) -> Config:
    """Read and cross-check a configuration file.

    Raises:
        HepgenError: naming the file, the key and what is known there.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except UNREADABLE as error:
        msg = f"{path}: not a readable YAML file ({' '.join(str(error).split())})"
        raise HepgenError(msg) from error
    try:
        return parse(content)
    except HepgenError as error:
        msg = f"{path}: {error}"
        raise HepgenError(msg) from error


def parse(content: Any) -> Config:
    """Check the content of a configuration file; see `load`."""
    values, depth = _extent(content, {})
    if values > MOST_VALUES or depth > DEEPEST:
        msg = f"holds more than {MOST_VALUES:,} values, or nests them more than {DEEPEST} deep, aliases followed"
        raise HepgenError(f"{msg}; that is no configuration")
    plugins = content.get("plugins", []) if isinstance(content, dict) else []
    if isinstance(plugins, list) and all(isinstance(module, str) for module in plugins):
        load_plugins(plugins)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise HepgenError(_explain(error)) from error
    _check_references(config)
    return config


def _extent(value: Any, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """How many values a value is made of, aliases followed, and how deep they nest; infinite where it holds itself.

    Args:
        value: What was read from YAML or JSON.
        known: The same of the values already looked at, by identity.
    """
    if not isinstance(value, dict | list):
        return 1, 0
    if id(value) not in known:
        known[id(value)] = (float("inf"), float("inf"))
        parts = [_extent(part, known) for part in (value.values() if isinstance(value, dict) else value)]
        known[id(value)] = (1 + sum(values for values, _ in parts), 1 + max((depth for _, depth in parts), default=0))
    return known[id(value)]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors and for `config/schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        tags = TAGS if item["loc"][:1] == ("samples",) else ()
        parts = item["loc"][:2] + tuple(part for part in item["loc"][2:] if part not in tags)
        where = ".".join(map(str, parts)) or "the file"
        if item["type"] == "extra_forbidden":
            known = _fields_at(item["loc"][:-1])
            lines.append(f"{where}: {unknown_name('key', str(item['loc'][-1]), known)}")
        else:
            reason = item["msg"].removeprefix("Value error, ")
            found = repr(item["input"])
            shown = found if len(found) <= LONGEST_SHOWN else f"{found[:LONGEST_SHOWN]}…"
            lines.append(f"{where}: {reason[0].lower()}{reason[1:]} (found {shown})")
    return "; ".join(lines)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known in the block at a location."""
    schema = Config.model_json_schema()
    nodes = _alternatives(schema, schema)
    for part in location:
        nodes = [child for node in nodes for child in _children(node, part, schema)]
    return sorted({name for node in nodes for name in node.get("properties", {})})


def _children(node: dict[str, Any], part: int | str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a part of a location leads to: a property, an entry of a mapping or list, or one kind of a union."""
    if part in node.get("properties", {}):
        return _alternatives(node["properties"][part], schema)
    if isinstance(part, int):
        return _alternatives(node.get("items", {}), schema)
    if "patternProperties" in node:
        return [child for entry in node["patternProperties"].values() for child in _alternatives(entry, schema)]
    return [node] if part not in SAMPLES or SAMPLES[part].__name__ == node.get("title") else []


def _alternatives(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A node of the schema, references resolved, or all of a union's."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    options = [*node.get("anyOf", []), *node.get("oneOf", [])]
    return [leaf for option in options for leaf in _alternatives(option, schema)] if options else [node]


def _check_references(config: Config) -> None:
    """Check every name that one block uses for an entry of another."""
    for name, sample in config.samples.items():
        if isinstance(sample, PluginSample):
            _check_model(f"samples.{name}", sample.source, sample.settings, SOURCES)
        if isinstance(sample, FileSample):
            _check_data_sets(f"samples.{name}.path", sample.path)
        if sample.jets is not None:
            _known(f"samples.{name}.jets", "jet definition", sample.jets, config.jets)
    if config.tagging:
        _check_tagging(config, config.tagging)
    if config.search:
        _check_search(config, config.search)
    if config.generation:
        _check_generation(config, config.generation)
    if config.unfolding:
        _check_unfolding(config, config.unfolding)
    if config.integration:
        _check_integration(config.integration)


def _check_data_sets(where: str, paths: str | Sequence[str]) -> None:
    """Check the names of official data sets, whether or not their files are here."""
    for path in [paths] if isinstance(paths, str) else paths:
        if path.startswith(datasets.PREFIX):
            try:
                datasets.select(path.removeprefix(datasets.PREFIX))
            except HepgenError as error:
                msg = f"{where}: {error}"
                raise HepgenError(msg) from error


def _check_tagging(config: Config, block: Tagging) -> None:
    samples = [*block.samples, *block.test, *block.transfer]
    for key in ("samples", "test", "transfer"):
        _check_samples(config, f"tagging.{key}", getattr(block, key))
    if len(set(samples)) < len(samples):
        msg = "tagging: a sample is listed twice in samples, test and transfer; tested events must not be trained on"
        raise HepgenError(msg)
    _check_observables(config, "tagging.mass", [block.mass], samples)
    _check_observables(config, "tagging.profiles", block.profiles, samples)
    for name, cut in block.cuts.items():
        _check_observables(config, f"tagging.cuts.{name}.observable", [cut.observable], samples)
    for name in block.models:
        _check_tagger(config, f"tagging.models.{name}", block.models[name], samples)
    for name, scan in block.scans.items():
        _check_scan(config, f"tagging.scans.{name}", name, scan, samples)
    kinds = {"models": block.models, "cuts": block.cuts, "external": block.external}
    for kind, other in combinations(kinds, 2):
        for name in kinds[kind].keys() & kinds[other].keys():
            msg = f"tagging.{other}.{name}: one of the {kind} has this name too; rename one of them"
            raise HepgenError(msg)


def _check_tagger(config: Config, where: str, entry: Tagger, samples: Sequence[str]) -> None:
    _check_model(where, entry.type, entry.settings, TAGGERS)
    check_abilities(
        where, entry, loss=TAGGERS.offers(entry.type, "loss"), supervised=TAGGERS.offers(entry.type, "supervised")
    )
    if not isinstance(entry.inputs, str):
        _check_observables(config, f"{where}.inputs", entry.inputs, samples)
    if entry.decorrelation and entry.decorrelation.observable:
        _check_observables(config, f"{where}.decorrelation.observable", [entry.decorrelation.observable], samples)
    if entry.classes:
        for key in ("background", "signal"):
            for name in getattr(entry.classes, key):
                _known(f"{where}.classes.{key}", "sample of tagging.samples", name, config.tagging.samples)
        if set(entry.classes.background) & set(entry.classes.signal):
            msg = f"{where}.classes: the same sample is background and signal"
            raise HepgenError(msg)


def check_abilities(where: str, entry: Tagger, *, loss: bool | None, supervised: bool | None) -> None:
    """Raise `HepgenError` if an entry asks for what its kind of model cannot do.

    Args:
        where: The entry's place in the configuration.
        entry: The tagger.
        loss: Whether its type is trained by a loss; None where that is not known before it is imported.
        supervised: Whether its type learns two classes, or None.
    """
    hidden, kind, inputs = entry.decorrelation, entry.type, entry.inputs
    method, penalised = (hidden.method, hidden.strength) if hidden else (None, None)
    competing = method == "adversary" and penalised
    refusals = [
        ("decorrelation", penalised and loss is False, f"{kind} has no loss to penalise; take planing or quantiles"),
        ("training.patience", competing and entry.training.patience, "an adversarial training has no validation loss"),
        ("training.ema", competing and entry.training.ema, "is for one network; an adversary is a second one"),
        ("scores", method == "quantiles" and len(entry.scores) > 1, "quantiles are those of one score; give just one"),
        (
            "preprocessing",
            isinstance(inputs, str) and entry.preprocessing == "standard",
            f"standard would shift the empty pixels and padding of {inputs}; take scale or unit",
        ),
        ("classes", entry.classes and supervised is False, f"{kind} learns one class; they are for supervised models"),
    ]
    for key in ("normal", "contamination", "events"):
        given = getattr(entry, key) != Tagger.model_fields[key].default
        refusals.append((key, given and supervised, f"is for models that learn one class; {kind} learns two"))
    for key, applies, reason in refusals:
        if applies:
            msg = f"{where}.{key}: {reason}"
            raise HepgenError(msg)


def _check_scan(config: Config, where: str, name: str, scan: Scan, samples: Sequence[str]) -> None:
    block = config.tagging
    for model in scan.models:
        _known(f"{where}.models", "entry of tagging.models", model, block.models)
        try:
            points = block.points(name, model)
        except (ValidationError, TypeError, KeyError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "there is no such setting"
            msg = f"{where}.vary: {scan.vary!r} of {model!r} cannot take the values {scan.values} ({reason})"
            raise HepgenError(msg) from error
        for entry, _, settings in points:
            _check_tagger(config, where, settings, samples)
            twice = sum(called == entry for called, _, _ in points) > 1
            if twice or (entry != model and entry in {**block.models, **block.cuts, **block.external}):
                msg = f"{where}: its training {entry!r} is called like another entry; rename the scan"
                raise HepgenError(msg)


def _check_search(config: Config, block: Search) -> None:
    if config.tagging is None:
        msg = "search: there is no tagging block whose scores could be cut on; add one"
        raise HepgenError(msg)
    known = [*config.tagging.models, *config.tagging.cuts]
    for name in block.taggers:
        _known("search.taggers", "model or cut of tagging", name, known)
    tested = config.tagging.test or config.tagging.samples
    _check_observables(config, "search.mass", [block.mass], tested)
    if block.range and not block.range[0] < block.range[1]:
        msg = f"search.range: {list(block.range)} is not a lower and an upper edge"
        raise HepgenError(msg)


def _check_generation(config: Config, block: Generation) -> None:
    _check_samples(config, "generation.samples", block.samples)
    _check_observables(config, "generation.features", block.features, block.samples)
    for name, model in block.models.items():
        where = f"generation.models.{name}"
        _check_model(where, model.type, model.settings, GENERATORS)
        _check_generator(where, model)
        known = {column for sample in block.samples for column in config.columns_of(sample)} | {"label"}
        for condition in model.conditions:
            _known(f"{where}.conditions", "observable", condition, known)
            if model.inputs == "features" and condition in block.features:
                msg = f"{where}.conditions: {condition} is a feature too: it is either given or made"
                raise HepgenError(msg)


def _check_generator(where: str, entry: Generator) -> None:
    """Check what a generator is asked for against what its source says that it can do, without importing it."""
    kinds = get_args(Generator.model_fields["inputs"].annotation)
    makes = [kind for kind in kinds if GENERATORS.offers(entry.type, f"makes_{kind}")]
    if makes and entry.inputs not in makes:
        msg = f"{where}.inputs: {entry.type} makes {' or '.join(makes)}, not {entry.inputs}; take another type"
        raise HepgenError(msg)
    competing = GENERATORS.offers(entry.type, "discriminator_loss")
    for key in ("patience", "ema"):
        if competing and getattr(entry.training, key):
            msg = f"{where}.training.{key}: is for one network; {entry.type} has two that compete; leave it out"
            raise HepgenError(msg)


def _check_unfolding(config: Config, block: Unfolding) -> None:
    _check_samples(config, "unfolding.simulation", [block.simulation])
    _check_samples(config, "unfolding.data", [block.data])
    for key in ("background", "systematics"):
        _check_samples(config, f"unfolding.{key}", getattr(block, key))
    if block.data == block.simulation:
        msg = "unfolding.data: is the simulation itself, which any method unfolds perfectly; name another sample"
        raise HepgenError(msg)
    samples = [block.simulation, block.data, *block.background, *block.systematics]
    if len(set(samples)) < len(samples):
        msg = "unfolding: a sample is listed twice among simulation, data, background and systematics"
        raise HepgenError(f"{msg}; each has one part to play")
    _check_observables(config, "unfolding.observables", block.observables, samples)
    for sample in (block.simulation, *block.systematics):
        if not config.samples[sample].has_truth:
            key = "simulation" if sample == block.simulation else "systematics"
            msg = f"unfolding.{key}: sample {sample!r} has no particle level, so that nothing is learnt of the detector"
            raise HepgenError(f"{msg}; name a sample that has both levels")
        known = config.columns_of(sample, "truth")
        for name in block.observables:
            _known("unfolding.observables", f"observable of the truth of sample {sample!r}", name, known)
    if len({config.samples[name].per_jet for name in samples}) > 1:
        msg = "unfolding: one sample has a row for each jet, another one for each event; give all `rows: jets`"
        raise HepgenError(msg)
    for where, names in {
        "binning": block.binning,
        **{f"planes.{name}": block.planes[name] for name in block.planes},
    }.items():
        for name in names:
            _known(f"unfolding.{where}", "entry of unfolding.observables", name, block.observables)
    for name in block.planes.keys() & set(block.observables):
        msg = f"unfolding.planes.{name}: an observable has this name; choose another one"
        raise HepgenError(msg)
    for key in ("replicas", "toys"):
        if getattr(block, key) == 1:
            msg = f"unfolding.{key}: the spread of a single one is not known; take 10 or more, or none"
            raise HepgenError(msg)
    for name in SOURCES_OF_ERRORS & set(block.systematics):
        msg = f"unfolding.systematics: {name!r} is what another source of uncertainty is called; rename the sample"
        raise HepgenError(msg)
    for name in block.studied:
        _known("unfolding.studied", "entry of unfolding.methods", name, block.methods)
    for name, method in block.methods.items():
        _check_method(config, f"unfolding.methods.{name}", method, samples)


def _check_method(config: Config, where: str, method: UnfoldingMethod, samples: Sequence[str]) -> None:
    for key in ("inputs", "model", "settings", "training"):
        if method.type == "ibu" and getattr(method, key) != UnfoldingMethod.model_fields[key].default:
            msg = f"{where}.{key}: iterative Bayesian unfolding has no network; leave it out"
            raise HepgenError(msg)
    if method.type != "omnifold" and method.inputs != "observables":
        msg = f"{where}.inputs: {method.type} sees observables only; take omnifold, or leave it out"
        raise HepgenError(msg)
    if method.type == "omnifold":
        model = method.model or "mlp"
        _check_model(where, model, method.settings, CLASSIFIERS)
        if CLASSIFIERS.offers(model, f"sees_{method.inputs}") is False:
            msg = f"{where}.inputs: {model} is not made for {method.inputs}; take another model, or other inputs"
            raise HepgenError(msg)
        if method.training != Training() and CLASSIFIERS.offers(model, "loss") is False:
            msg = f"{where}.training: {model} is not trained in epochs; its settings are all that it takes"
            raise HepgenError(msg)
        for sample in samples if method.inputs == "constituents" else ():
            if config.samples[sample].is_table or config.samples[sample].has_jets:
                msg = f"{where}.inputs: sample {sample!r} has no constituents of jets; take observables"
                raise HepgenError(msg)
    elif method.type != "ibu":
        _check_model(where, method.model or "rqs_flow", method.settings, GENERATORS)
        if GENERATORS.offers(method.model or "rqs_flow", "inverse") is False:
            msg = f"{where}.model: {method.model} has no exact density; take a flow"
            raise HepgenError(msg)


def _check_integration(block: Integration) -> None:
    if 3 * block.min_energy >= block.energy:
        msg = f"integration.min_energy: three partons of {block.min_energy:g} GeV or more do not share"
        raise HepgenError(f"{msg} {block.energy:g} GeV; lower it")
    for name, method in block.methods.items():
        where = f"integration.methods.{name}"
        _check_model(where, method.model, method.settings, GENERATORS)
        if method.type == "flow" and GENERATORS.offers(method.model, "inverse") is False:
            msg = f"{where}.model: {method.model} has no exact density to divide by; take a flow"
            raise HepgenError(msg)
        if method.type == "flow" and method.training.patience:
            msg = f"{where}.training.patience: there is no validation loss, every batch being new; leave it out"
            raise HepgenError(msg)


def _check_samples(config: Config, where: str, names: Sequence[str]) -> None:
    for name in names:
        _known(where, "sample", name, config.samples)


def _check_observables(config: Config, where: str, names: Sequence[str], samples: Sequence[str]) -> None:
    """Check that all the samples have these observables."""
    for sample in samples:
        for name in names:
            _known(where, f"observable of sample {sample!r}", name, config.columns_of(sample))


def _known(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        msg = f"{where}: {unknown_name(kind, name, known)}"
        raise HepgenError(msg)


def _check_model(where: str, name: str, settings: dict[str, Any], registry: Registry) -> None:
    try:
        registry.check_settings(name, settings)
    except HepgenError as error:
        msg = f"{where}: {error}"
        raise HepgenError(msg) from error
