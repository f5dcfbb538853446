import copy
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from hepgen.config import json_schema, load, parse
from hepgen.errors import HepgenError
from hepgen.models import GENERATORS

ROOT = Path(__file__).parents[1]
EMBEDDED = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def changed(path, value):
    """The embedded configuration with one key changed; the path's parts are separated by dots."""
    content = copy.deepcopy(EMBEDDED)
    *parents, last = path.split(".")
    node = content
    for part in parents:
        node = node[part]
    node[last] = value
    return content


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_in_the_project_is_valid(path):
    config = load(path)
    assert config.samples or config.integration
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sead", 1, r"^sead: unknown key 'sead' \(did you mean 'seed'\?\); known: .*samples"),
        ("tagging.modles", {}, r"tagging\.modles: unknown key 'modles' \(did you mean 'models'\?\)"),
        ("samples.qcd.event", 5, r"samples\.qcd\.event: unknown key 'event' \(did you mean 'events'\?\)"),
        ("samples.qcd.process", "ttbar", r"samples\.qcd\.process: .*'qcd'.*found 'ttbar'"),
        (
            "samples.qcd.source",
            "pithia",
            r"samples\.qcd: unknown source 'pithia' \(did you mean 'pythia'\?\); known: .*lhco",
        ),
        ("samples.qcd.events", 0, r"samples\.qcd\.events: .*greater than 0"),
        (
            "samples.qcd.jets",
            "dijets",
            r"samples\.qcd\.jets: unknown jet definition 'dijets' \(did you mean 'dijet'\?\)",
        ),
        ("tagging.samples", ["qdc"], r"tagging\.samples: unknown sample 'qdc' \(did you mean 'qcd'\?\); known: qcd"),
        ("tagging.models.pca.type", "pac", r"tagging\.models\.pca: unknown tagger 'pac'"),
        (
            "tagging.models.pca.settings",
            {"latent": 2},
            r"tagging\.models\.pca: unknown setting of tagger 'pca' 'latent'",
        ),
        ("generation.samples", ["qdc"], r"generation\.samples: unknown sample 'qdc'"),
        ("unfolding.data", "nature", r"unfolding\.data: unknown sample 'nature'"),
        ("unfolding.methods.omnifold.model", "mpl", r"unfolding\.methods\.omnifold: unknown classifier 'mpl'"),
        ("unfolding.methods.ibu.model", "mlp", r"unfolding\.methods\.ibu\.model: iterative .* has no network"),
        ("unfolding.methods.omnifold.model", "deep_sets", r"omnifold\.inputs: deep_sets is not made for observables"),
        ("unfolding.methods.omnifold.inputs", "constituents", r"omnifold\.inputs: mlp is not made for constituents"),
        (
            "unfolding.methods.trees",
            {"type": "omnifold", "model": "gradient_boosting", "training": {"epochs": 5}},
            r"trees\.training: gradient_boosting is not trained in epochs",
        ),
        ("unfolding.methods.omnifold.type", "bayes", r"methods\.omnifold\.type: .*'omnifold', 'ibu'"),
        ("unfolding.methods.flow", {"type": "neural_bayes", "model": "gan"}, r"flow\.model: gan has no exact density"),
        (
            "unfolding.methods.flow",
            {"type": "conditional_flow", "inputs": "constituents"},
            r"flow\.inputs: conditional_flow sees observables only",
        ),
        ("unfolding.systematics", ["z_vincia"], r"unfolding\.systematics: unknown sample 'z_vincia'"),
        ("unfolding.systematics", ["qcd"], r"unfolding\.systematics: sample 'qcd' has no particle level"),
        ("unfolding.background", ["z_nature"], r"unfolding: a sample is listed twice among simulation, data, back"),
        ("unfolding.studied", ["bayes"], r"unfolding\.studied: unknown entry of unfolding\.methods 'bayes'"),
        (
            "unfolding.binning",
            {"mas_j1": {"edges": [0, 1]}},
            r"unfolding\.binning: unknown entry .* 'mas_j1' \(did you",
        ),
        ("unfolding.binning", {"mass_j1": {"edges": [1, 0]}}, r"unfolding\.binning\.mass_j1\.edges: .*must be finite"),
        ("unfolding.binning", {"mass_j1": {"edges": [0, float("inf")]}}, r"mass_j1\.edges: .*must be finite and rise"),
        ("unfolding.replicas", 1, r"unfolding\.replicas: the spread of a single one is not known; take 10 or more"),
        ("unfolding.toys", 1, r"unfolding\.toys: the spread of a single one is not known"),
        (
            "unfolding.planes",
            {"both": {"mass_j1": {"edges": [0, 1]}, "pt_j1": {"edges": [0, 1]}}},
            r"unfolding\.planes\.both: unknown entry of unfolding\.observables 'pt_j1'",
        ),
        ("unfolding.planes", {"both": {"mass_j1": {"edges": [0, 1]}}}, r"unfolding\.planes\.both: .*at least 2"),
        (
            "tagging.models.pca.inputs",
            ["tau21"],
            r"pca\.inputs: unknown observable of sample 'qcd' 'tau21' \(did you mean",
        ),
        ("tagging.models.pca.inputs", [], r"tagging\.models\.pca\.inputs.*at least 1 item"),
        ("tagging.mass", "mj", r"tagging\.mass: unknown observable of sample 'qcd' 'mj' \(did you mean 'mjj'\?\)"),
        ("tagging.cuts.mass_cut.observable", "masss", r"cuts\.mass_cut\.observable: unknown observable"),
        (
            "tagging.cuts",
            {"pca": {"observable": "mjj", "signal": "high"}},
            r"tagging\.cuts\.pca: one of the models has this name too",
        ),
        ("tagging.test", ["qcd"], r"tagging: a sample is listed twice"),
        ("tagging.seeds", [1, 1], r"tagging\.seeds: .*only once"),
        ("tagging.seeds", [-1], r"tagging\.seeds\.0: .*greater than or equal to 0"),
        ("generation.features", ["pt_j3"], r"generation\.features: unknown observable of sample 'qcd' 'pt_j3'"),
        ("generation.features", ["pt_j1", "pt_j1"], r"generation\.features: every value may be given only once"),
        ("generation.models", {}, r"generation\.models: .*at least 1 item"),
        (
            "generation.models.rqs_flow.inputs",
            "images",
            r"models\.rqs_flow\.inputs: rqs_flow makes features, not images",
        ),
        (
            "generation.models.dijet_gan.training.ema",
            0.9,
            r"dijet_gan\.training\.ema: is for one network; dijet_gan has",
        ),
        (
            "generation.models.dijet_gan.training.patience",
            3,
            r"dijet_gan\.training\.patience: is for one network; dijet_gan has two",
        ),
        (
            "unfolding.observables",
            ["mass_j2"],
            r"unfolding\.observables: unknown observable of sample 'z_simulation' 'mass_j2'",
        ),
        ("unfolding.data", "z_simulation", r"unfolding\.data: is the simulation itself"),
        ("tagging.models.dense_ae.training.epochs", "many", r"tagging\.models\.dense_ae\.training\.epochs: .*integer"),
    ],
)
def test_each_mistake_is_named_with_its_place(path, value, message):
    with pytest.raises(HepgenError, match=message):
        parse(changed(path, value))


def test_every_generator_says_what_it_makes():
    kinds = ("features", "images", "constituents")
    makes = {name: [kind for kind in kinds if GENERATORS.offers(name, f"makes_{kind}")] for name in GENERATORS}
    assert all(makes.values())
    models = {f"{name}_{kind}": {"type": name, "inputs": kind} for name in makes for kind in makes[name]}
    assert parse(changed("generation.models", models)).generation.models.keys() == models.keys()


DISCO = {"method": "disco", "strength": 1}
ADVERSARY = {"method": "adversary", "strength": 1}


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("pca", {"decorrelation": DISCO}, r"models\.pca\.decorrelation: pca has no loss to penalise; take planing"),
        (
            "pca",
            {"type": "gradient_boosting", "settings": {}, "decorrelation": ADVERSARY},
            "gradient_boosting has no loss to penalise",
        ),
        ("dense_ae", {"decorrelation": ADVERSARY, "training": {"patience": 2}}, r"training\.patience: an adversarial"),
        ("dense_ae", {"decorrelation": ADVERSARY, "training": {"ema": 0.9}}, r"training\.ema: is for one network"),
        ("dense_ae", {"decorrelation": {"method": "disco"}}, r"decorrelation: disco needs a strength"),
        ("dense_ae", {"decorrelation": {**DISCO, "method": "planing"}}, "planing has no strength; leave it out"),
        (
            "pca",
            {"decorrelation": {"method": "quantiles"}, "scores": ["mse", "latent"]},
            r"scores: quantiles are those",
        ),
        ("cnn_ae", {"preprocessing": "standard"}, r"preprocessing: standard would shift the empty pixels .* of images"),
        ("dense_ae", {"classes": {"background": ["qcd"], "signal": ["wprime"]}}, "dense_autoencoder learns one class"),
        *(
            (
                "pca",
                {"type": "gradient_boosting", "settings": {}, key: value},
                rf"\.{key}: is for models that learn one class; .*boosting learns two",
            )
            for key, value in {"normal": "signal", "contamination": 0.1, "events": 7}.items()
        ),
    ],
)
def test_what_a_model_cannot_do_is_refused(model, changes, message):
    content = copy.deepcopy(EMBEDDED)
    content["tagging"]["models"][model].update(changes)
    with pytest.raises(HepgenError, match=message):
        parse(content)


@pytest.mark.parametrize("text", ["a: [", "", "- 1", "\x00"], ids=["broken", "empty", "list", "binary"])
def test_a_file_that_is_no_configuration(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(HepgenError, match=r"config\.yaml"):
        load(path)


def test_a_configuration_cannot_be_changed_once_loaded():
    config = parse(EMBEDDED)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2


def test_planning_imports_nothing_that_takes_long():
    """Each job of a batch system plans the run once more before it starts its command."""
    modules = "hepgen.plan, hepgen.tagging.figures, hepgen.search.figures, hepgen.cli"
    fingerprint = "hepgen.plan.code(None, 'tagging_evaluate')"
    found = "{'torch', 'scipy.stats', 'matplotlib', 'awkward'} & sys.modules.keys()"
    command = f"import sys, {modules}; {fingerprint}; print(*{found})"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "\n"
