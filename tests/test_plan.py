"""What a stage's card holds, and what it leaves out."""

import copy
from functools import cache
from pathlib import Path

import pytest
import yaml

from hepgen import plan
from hepgen.config import Generator, parse
from hepgen.errors import HepgenError

EMBEDDED = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text())
STAGES = [
    ("ingest", "qcd"), ("observe", "qcd"),
    ("tagging_train", "pca"), ("tagging_train", "cnn_ae"), ("tagging_score", "pca"), ("tagging_evaluate", ""),
    ("generation_train", "rqs_flow"), ("generation_sample", "rqs_flow"), ("generation_evaluate", ""),
    ("unfolding_unfold", "omnifold"), ("unfolding_unfold", "ibu"), ("unfolding_combine", "ibu"),
    ("unfolding_evaluate", ""),
    ("plot", ""), ("summary", ""),
]  # fmt: skip

METHODS = {"omnifold", "conditional_flow", "neural_bayes"}


def unchanged(content):
    pass


@cache
def cards(change):
    content = copy.deepcopy(EMBEDDED)
    change(content)
    config = parse(content)
    return {stage: plan.card(config, *stage) for stage in STAGES}


def changed(change):
    before, after = cards(unchanged), cards(change)
    return {f"{stage}:{name}".rstrip(":") for stage, name in STAGES if before[stage, name] != after[stage, name]}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (lambda c: c["samples"]["qcd"].update(events=7), {"ingest:qcd"}),
        (lambda c: c["samples"]["wprime"].update(events=7), set()),
        (lambda c: c["jets"]["dijet"].update(radius=0.8), {"observe:qcd"}),
        (lambda c: c["tagging"]["images"].update(width=3), {"tagging_train:cnn_ae", "tagging_evaluate"}),
        (lambda c: c["tagging"].update(mass="pt_j1"), {"tagging_evaluate"}),
        (lambda c: c["tagging"].update(seeds=[9]), set()),
        (lambda c: c["tagging"]["models"]["pca"].update(settings={}), {"tagging_train:pca", "tagging_score:pca"}),
        (lambda c: c["generation"].update(events=7), {"generation_sample:rqs_flow", "generation_evaluate"}),
        (
            lambda c: c["unfolding"].update(bins=7),
            {"unfolding_unfold:ibu", "unfolding_combine:ibu", "unfolding_evaluate"},
        ),
        (lambda c: c["unfolding"].update(toys=3), {"unfolding_combine:ibu", "unfolding_evaluate"}),
        (lambda c: c.update(title="Another"), {"summary"}),
    ],
)
def test_a_setting_changes_just_the_cards_that_read_it(change, stages):
    assert changed(change) == stages


@pytest.mark.parametrize(
    ("settings", "trained_anew"),
    [
        ({"scores": ["mse", "latent"]}, False),
        ({"scores": ["latent", "mse"]}, True),
        ({"decorrelation": {"method": "disco", "strength": 1, "observable": "mass_light"}}, True),
    ],
)
def test_a_training_depends_on_the_score_that_is_decorrelated(settings, trained_anew):
    def card(**changes):
        content = copy.deepcopy(EMBEDDED)
        content["tagging"]["models"]["dense_ae"] |= {"decorrelation": {"method": "disco", "strength": 1}, **changes}
        return plan.card(parse(content), "tagging_train", "dense_ae")

    assert (card(scores=["mse"]) != card(**{"scores": ["mse"], **settings})) == trained_anew


def test_tagging_mass_means_nothing_to_a_training_with_an_observable_of_its_own():
    def card(mass, **observable):
        content = copy.deepcopy(EMBEDDED)
        content["tagging"]["mass"] = mass
        content["tagging"]["models"]["pca"]["decorrelation"] = {"method": "planing", **observable}
        return plan.card(parse(content), "tagging_train", "pca")

    assert card("mjj") != card("pt_j1")
    assert card("mjj", observable="mass_light") == card("pt_j1", observable="mass_light")


def test_the_order_of_keys_means_nothing():
    reordered = parse(yaml.safe_load(yaml.safe_dump(EMBEDDED, sort_keys=True)))
    for stage, expected in cards(unchanged).items():
        assert repr(plan.card(reordered, *stage)) == repr(expected)


def test_code_names_the_module_of_the_model():
    config = parse(EMBEDDED)
    assert plan.code(config, "tagging_train", "pca") != plan.code(config, "tagging_train", "cnn_ae")


def test_the_code_of_a_generator_is_that_of_its_reweighting_too():
    entry = Generator(type="rqs_flow", reweighting="mlp_classifier")
    assert plan.generator_modules(entry) == ["hepgen.models.flows", "hepgen.models.supervised"]


@pytest.fixture
def modules():
    """The modules, without the package's name, that the code of a stage covers."""
    content = copy.deepcopy(EMBEDDED)
    content["unfolding"]["methods"] = {name: {"type": name} for name in METHODS | {"ibu"}}
    content["unfolding"]["methods"]["trees"] = {"type": "omnifold", "model": "gradient_boosting"}
    config = parse(content)
    return lambda stage, name="": {module.removeprefix("hepgen.") for module in plan.modules(config, stage, name)}


@pytest.mark.parametrize(
    ("name", "method", "networks"),
    [
        ("ibu", set(), set()),
        ("omnifold", {"omnifold"}, {"classifiers"}),
        ("trees", {"omnifold"}, {"trees"}),
        ("conditional_flow", {"conditional_flow"}, {"flows", "trees"}),
        ("neural_bayes", {"neural_bayes"}, {"flows", "trees"}),
    ],
)
def test_the_code_of_an_unfolding_is_that_of_its_own_method_and_networks(modules, name, method, networks):
    found = modules("unfolding_unfold", name)
    assert {other for other in METHODS if f"unfolding.{other}" in found} == method
    assert {part for part in ("classifiers", "trees", "flows") if f"models.{part}" in found} == networks
    assert {"unfolding.unfold", "unfolding.ibu", "unfolding.pseudodata"} <= found


def test_what_is_made_of_unfoldings_does_not_depend_on_how_these_are_made(modules):
    for stage in ("combine", "verdict", "evaluate", "bundle", "hepdata"):
        found = modules(f"unfolding_{stage}", "omnifold")
        assert "unfolding.results" in found
        assert not {f"unfolding.{name}" for name in METHODS | {"unfold", "pseudodata"}} & found, stage


def test_a_bundle_for_root_depends_on_its_writer_alone(modules):
    assert {"export", "export.root", "export.products"} <= modules("export")
    assert "export.root" not in modules("unfolding_bundle", "omnifold")
    assert not any(module.startswith("unfolding") for module in modules("export"))


def test_an_unknown_model_is_named():
    with pytest.raises(HepgenError, match=r"unknown entry of tagging\.models 'pac'"):
        plan.card(parse(EMBEDDED), "tagging_train", "pac")
