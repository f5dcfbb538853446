"""What each stage of a run depends on: its slice of the configuration and the code that it runs.

Snakemake tracks both as parameters of a job, and every product carries both as its provenance, so that a
changed setting or an edited module reruns just the jobs that it reaches.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from hepgen.config import Config, Generator, UnfoldingMethod
from hepgen.inputs import matching
from hepgen.models import CLASSIFIERS, GENERATORS, TAGGERS
from hepgen.observables import plugin_modules
from hepgen.provenance import digests, fingerprint, stamp
from hepgen.registry import look_up
from hepgen.samples import FileSample, Sample
from hepgen.sources import SOURCES
from hepgen.unfolding import METHODS, RATIO

__all__ = ["card", "code", "generator_modules", "method_modules", "modules", "provenance", "resolved"]


def resolved(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON, patterns of files replaced by the files that they match now."""
    content = config.model_dump(mode="json")
    for name, sample in config.samples.items():
        if isinstance(sample, FileSample):
            content["samples"][name]["path"] = matching(sample.path)
    return content


def card(config: Config | None, stage: str, name: str = "") -> dict[str, Any]:
    """The settings that a stage reads, as plain JSON; `name` is its sample, model or method."""
    return _plain(_CARDS[stage](config, name))


def code(config: Config | None, stage: str, name: str = "") -> str:
    """The fingerprint of the code that a stage runs."""
    return fingerprint(*_modules(config, stage, name))


def modules(config: Config | None, stage: str, name: str = "") -> dict[str, str]:
    """The hash of each module that a stage runs."""
    return digests(*_modules(config, stage, name))


def provenance(config: Config, stage: str, name: str = "", inputs: Iterable[str] = ()) -> str:
    """Settings, code, versions and the user's files that were read, as they are written into the stage's product."""
    origin = {"inputs": list(inputs)} if inputs else {}
    return stamp({"stage": stage, "name": name, **origin, **card(config, stage, name)}, _modules(config, stage, name))


def generator_modules(entry: Generator) -> list[str]:
    """The modules of the plug-ins that a generator is made of: its network and what reweights its events."""
    modules = [GENERATORS.target(entry.type)[0]]
    return [*modules, TAGGERS.target(entry.reweighting)[0]] if entry.reweighting else modules


def method_modules(entry: UnfoldingMethod) -> list[str]:
    """The modules that an unfolding loads by name: the method's and its networks'; binned unfolding loads none."""
    if entry.type == "ibu":
        return []
    if entry.type == "omnifold":
        learnt = [CLASSIFIERS.target(entry.model or "mlp")]
    else:
        learnt = [GENERATORS.target(entry.model or "rqs_flow"), CLASSIFIERS.target(RATIO)]
    return [module for module, _ in (METHODS.target(entry.type), *learnt)]


def _pick(config: Config, block: str, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """A block's own settings without its models and the named ones, and the seed of the splits."""
    settings = getattr(config, block).model_dump(exclude={"models", "methods", "seeds", *without})
    return {"seed": config.seed, **settings}


def _tagger(config: Config, name: str) -> dict[str, Any]:
    """What a tagger's events, inputs and network depend on."""
    entry = look_up("entry of tagging.models", name, config.tagging.entries)
    unseen = {"cuts", "external", "mass", "profiles", "transfer", "scans", "images", "constituents"}
    unseen -= {entry.inputs} if isinstance(entry.inputs, str) else set()
    observable = config.tagging.observable_of(entry)
    used = {"observable": observable, "score": entry.scores[:1]} if entry.decorrelation else {}
    return {"model": entry.model_dump(exclude={"scores"}), **used, **_pick(config, "tagging", without=unseen)}


def _scores(config: Config, name: str) -> dict[str, Any]:
    entry = look_up("entry of tagging.models", name, config.tagging.entries)
    return {**_tagger(config, name), "scores": entry.scores, "transfer": config.tagging.transfer}


def _search(config: Config, _: str) -> dict[str, Any]:
    """The search's settings and what the events and scores that it reads depend on."""
    unseen = {"cuts", "external", "mass", "profiles", "scans", "images", "constituents"}
    models, cuts = config.tagging.models, config.tagging.cuts
    taggers = {name: cuts[name] if name in cuts else models[name].scores for name in config.search.taggers}
    return {"search": config.search, "taggers": taggers, **_pick(config, "tagging", without=unseen)}


def _generator(config: Config, name: str) -> dict[str, Any]:
    entry = look_up("entry of generation.models", name, config.generation.models)
    unseen = {"events", "images", "constituents"} - {entry.inputs}
    unseen |= {"features"} if entry.inputs != "features" else set()
    return {"model": entry, **_pick(config, "generation", without=unseen)}


def _method(config: Config, name: str) -> dict[str, Any]:
    """What an unfolding depends on; how many variations there are changes none of them, and only IBU has bins."""
    entry = look_up("entry of unfolding.methods", name, config.unfolding.methods)
    unseen = {"replicas", "toys", "tests", "studied", "systematics"}
    unseen |= set() if entry.type == "ibu" else {"bins", "binning", "planes"}
    unseen |= set() if entry.inputs == "constituents" else {"constituents"}
    return {"method": entry, **_pick(config, "unfolding", without=unseen)}


def _published(config: Config) -> dict[str, Any]:
    """What is said of a result: how it was made, and of which events."""
    entry = config.samples[config.unfolding.simulation]
    return {"sample": entry, "jets": config.jets.get(entry.jets), **_pick(config, "unfolding")}


def _integrator(config: Config, name: str) -> dict[str, Any]:
    entry = look_up("entry of integration.methods", name, config.integration.methods)
    return {"method": entry, **_pick(config, "integration")}


def _rows(entry: Sample) -> dict[str, Any]:
    """What the rows of a table of ready-made jets are."""
    return entry.model_dump(include={"rows", "match"}) if entry.has_jets else {}


def _sample(config: Config, name: str) -> dict[str, Any]:
    """A sample's entry; which files a chunk reads is known to its job, whatever patterns they were found by."""
    entry = config.samples[name]
    elsewhere = {"jets", "rows", "path", "chunks"} if isinstance(entry, FileSample) else {"jets"}
    return {"seed": config.seed, "sample": entry.model_dump(exclude=elsewhere)}


_CARDS = {
    "ingest": _sample,
    "observe": lambda c, s: {"jets": c.jets_of(s), "rows": _rows(c.samples[s])},
    "tagging_train": _tagger,
    "tagging_score": _scores,
    "tagging_split": lambda c, _: _pick(c, "tagging"),
    "tagging_evaluate": lambda c, _: {**_pick(c, "tagging"), "models": sorted(c.tagging.models)},
    "search": _search,
    "generation_train": _generator,
    "generation_sample": lambda c, _: {"events": c.generation.events},
    "generation_evaluate": lambda c, _: _pick(c, "generation"),
    "unfolding_unfold": _method,
    "unfolding_posterior": _method,
    "unfolding_combine": lambda c, _: _pick(c, "unfolding"),
    "unfolding_evaluate": lambda c, _: _pick(c, "unfolding"),
    "unfolding_verdict": lambda c, _: _pick(c, "unfolding"),
    "unfolding_bundle": lambda c, n: {**_published(c), "method": c.unfolding.methods[n]},
    "export": lambda *_: {},
    "unfolding_hepdata": lambda c, n: {"title": c.title, **_published(c), "method": c.unfolding.methods[n]},
    "integration_sample": _integrator,
    "integration_evaluate": lambda c, _: _pick(c, "integration"),
    "overview": lambda c, _: {"samples": {name: c.columns_of(name) for name in c.samples}},
    "plot": lambda *_: {},
    "summary": lambda c, _: {"title": c.title},
    "account": lambda *_: {},
}

_STAGE_MODULES = {
    "ingest": "hepgen.sources.produce",
    "observe": "hepgen.observables",
    "overview": "hepgen.overview.evaluate",
    "plot": "hepgen.plots.draw",
    "search": "hepgen.search.evaluate",
    "tagging_split": "hepgen.tagging.external",
    "unfolding_combine": "hepgen.unfolding.results",
    "summary": "hepgen.summary",
    "account": "hepgen.account",
}


def _modules(config: Config | None, stage: str, name: str) -> list[str]:
    """The stage's own module and, where it uses a plug-in, the plug-in's."""
    modules = [_STAGE_MODULES.get(stage, f"hepgen.{stage.replace('_', '.')}")]
    if stage == "ingest":
        modules.append(SOURCES.target(config.samples[name].source)[0])
    elif stage == "observe":
        modules.append("hepgen.ready_jets" if config.samples[name].has_jets else "hepgen.jets")
        modules += plugin_modules()
    elif stage in ("tagging_train", "tagging_score"):
        modules.append(TAGGERS.target(config.tagging.entries[name].type)[0])
    elif stage in ("generation_train", "generation_sample"):
        modules += generator_modules(config.generation.models[name])
    elif stage in ("unfolding_unfold", "unfolding_posterior"):
        modules += method_modules(config.unfolding.methods[name])
    elif stage == "export":
        modules.append("hepgen.export.root")
    elif stage == "integration_sample" and config.integration.methods[name].type == "flow":
        modules.append(GENERATORS.target(config.integration.methods[name].model)[0])
    return modules


def _plain(value: Any) -> Any:
    """A JSON-like copy of a value that may hold parts of the configuration, whatever the order of its keys."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
