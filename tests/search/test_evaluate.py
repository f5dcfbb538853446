"""A search in spectra that are known: background from the dijet function, a narrow signal at 3.65 TeV."""

import copy

import numpy as np
import pytest

from hepgen import plan
from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.metrics.record import read_metrics
from hepgen.plots.figures import read_figure
from hepgen.search.evaluate import evaluate
from hepgen.search.figures import figure_names
from hepgen.search.statistics import discovery, model_of
from hepgen.storage import create_h5, read_json
from hepgen.table import Table, write_table

COLUMNS = ["mjj", "tau21_heavy"]
ARRAYS = {"source": "arrays", "path": "unused.npy", "columns": {name: i for i, name in enumerate(COLUMNS)}}
SETTINGS = {
    "samples": {"qcd": ARRAYS | {"label": 0}, "signal": ARRAYS | {"label": 1}},
    "tagging": {
        "samples": ["qcd", "signal"],
        "test": [],
        "seeds": [1, 2],
        "cuts": {"cut": {"observable": "tau21_heavy", "signal": "low"}},
        "models": {
            "net": {"type": "pca", "inputs": ["tau21_heavy"],
                    "decorrelation": {"method": "quantiles", "observable": "mjj"}},
        },
    },
    "search": {
        "taggers": ["net", "cut"], "efficiencies": [0.2, 0.03, 0.001], "injected": [60], "range": [2800, 6800],
        "toys": 40,
    },
}  # fmt: skip
EVENTS = {"qcd": 6000, "signal": 600}


def draw(events, label, spectrum, seed):
    rng = np.random.default_rng(seed)
    edges, dijet = spectrum
    if label:
        mass = rng.normal(3650, 80, events)
    else:
        bins = rng.choice(40, events, p=dijet(1))
        mass = edges[bins] + rng.random(events) * 100
    tau21 = rng.normal(0.3 if label else 0.6, 0.1, events)
    columns = {"mjj": mass, "tau21_heavy": tau21, "label": np.full(events, label, np.int8)}
    return Table(columns, {}, ())


def write_scores(path, seed, values):
    with create_h5(path, "scores") as file:
        file["score/default"] = values
        file.attrs.update({"name": "net", "seed": seed, "supervised": True, "history": "{}"})
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, spectrum):
    """Observables by sample, and scores of two trainings that know a little about the class, nothing about the mass."""
    folder = tmp_path_factory.mktemp("search")
    paths = {name: [folder / f"{name}.h5"] for name in EVENTS}
    for label, (name, number) in enumerate(EVENTS.items()):
        write_table(paths[name][0], [draw(number, label, spectrum, label)])
    label = np.repeat([0.0, 1.0], [number // 2 for number in EVENTS.values()])
    rng = np.random.default_rng(7)
    scores = [write_scores(folder / f"net{s}.h5", s, label + rng.normal(0, 0.7, len(label))) for s in (1, 2)]
    return paths, scores


@pytest.fixture(scope="module")
def result(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    (folder / "workspaces").mkdir()
    (folder / "workspaces/of_an_earlier_search_0.json").touch()
    evaluate(parse(SETTINGS), *inputs, folder)
    return folder, {(m.model, m.metric): m for m in read_metrics(folder / "metrics.json")}


def test_injected_signal_is_found_where_it_is_and_no_signal_is_not(result):
    _, metrics = result
    bump = metrics["cut", "bump_mass/0.2_kept/60_injected"]
    assert bump.low <= 3650 <= bump.high
    assert metrics["cut", "global_p/0.2_kept/60_injected"].value < 0.05
    for tagger in ("net", "cut"):
        null = metrics[tagger, "null_global_p"]
        assert null.value > null.floor == 0.01
        assert metrics[tagger, "observed_significance/0.2_kept/0_injected"].value < 3


def test_observed_and_expected_agree_and_the_cut_beats_none(result):
    """An observed significance fluctuates by one standard deviation."""
    _, metrics = result
    for model, share in (("cut", "0.2_kept"), ("net", "0.2_kept"), ("no cut", "1_kept")):
        expected, observed = (metrics[model, f"{k}_significance/{share}/60_injected"] for k in ("expected", "observed"))
        assert observed.value == pytest.approx(expected.value, abs=3)
        assert metrics[model, f"expected_significance/{share}/0_injected"].value == pytest.approx(0, abs=0.01)
        assert metrics[model, f"observed_limit/{share}/60_injected"].value > 60
    strong = metrics["cut", "expected_significance/0.2_kept/60_injected"].value
    assert strong > metrics["no cut", "expected_significance/1_kept/60_injected"].value
    gain, limit = metrics["cut", "improvement"], metrics["cut", "expected_limit"]
    assert gain.value == pytest.approx(limit.null / limit.value)
    assert 1 < gain.low < gain.value < gain.high < 2 * gain.value


def test_a_cut_that_leaves_too_few_events_is_only_counted(result):
    folder, metrics = result
    assert {name for model, name in metrics if model == "cut" and "0.001" in name} == {
        "events/0.001_kept/0_injected", "events/0.001_kept/60_injected",
    }  # fmt: skip
    assert metrics["cut", "events/0.001_kept/0_injected"].value < 50
    assert "cut, 0.1 % kept" in read_figure(folder / "figures/limits.json").notes[0]


def test_a_cut_that_leaves_little_background_is_hunted_for_bumps_but_has_no_limit(result):
    folder, metrics = result
    background = metrics["cut", "background/0.03_kept/0_injected"]
    assert background.low < background.value < background.floor == 20
    assert ("cut", "global_p/0.03_kept/60_injected") in metrics
    assert not [name for model, name in metrics if "0.03" in name and ("limit" in name or "significance" in name)]
    limits, null = (read_figure(folder / f"figures/{name}.json") for name in ("limits", "null"))
    assert "cut, 3 % kept" in null.categories
    assert "cut, 3 % kept" not in limits.categories
    assert "cut, 3 % kept" in next(note for note in limits.notes if "too few events for a limit" in note)


def test_a_supervised_tagger_is_called_so_and_drawn_as_such(result):
    folder, _ = result
    for name in ("limits", "null"):
        figure = read_figure(folder / f"figures/{name}.json")
        assert "net (supervised), 20 % kept" in figure.categories
        assert {"supervised", "cut", "guide"} == set(figure.roles.values())
        assert any("trained on simulated signal" in note for note in figure.notes)
    for name, role in (("net", "supervised"), ("cut", "cut")):
        figure = read_figure(folder / f"figures/significance_{name}.json")
        assert [group.role for group in figure.groups] == ["guide", "guide", role, role]
        assert any("trained on simulated signal" in note for note in figure.notes) == (name == "net")
    assert "supervised" in {line.role for line in read_figure(folder / "figures/local_significance.json").lines}


def test_figures_say_that_p_values_after_decorrelation_by_quantiles_are_too_small(result):
    folder, _ = result
    for name, said in (("null", True), ("local_significance", True), ("spectrum_net", True), ("spectrum_cut", False)):
        notes = read_figure(folder / f"figures/{name}.json").notes
        assert any("decorrelation by quantiles" in note for note in notes) == said


def test_all_figures_and_valid_workspaces_are_written(result):
    folder, metrics = result
    assert {path.stem for path in (folder / "figures").iterdir()} == set(figure_names(parse(SETTINGS)))
    assert len(list((folder / "workspaces").iterdir())) == 6
    spec = read_json(folder / "workspaces/cut_0.2_60.json")
    model, data = model_of(spec)
    assert model.config.poi_name == "mu"
    assert 0 < sum(data[: model.config.nmaindata]) < metrics["cut", "events/0.2_kept/60_injected"].value
    assert discovery(spec) == pytest.approx(metrics["cut", "observed_significance/0.2_kept/60_injected"].value)


def without_signal(settings):
    settings["tagging"]["samples"] = ["qcd"]


def too_high(settings):
    settings["search"]["range"] = [6900, 9000]


def too_strong(settings):
    settings["search"]["injected"] = [280]


def other_seed(settings):
    settings["tagging"]["seeds"] = [1, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_signal, "no signal"),
        (too_high, r"0 held-out signal events lie between 6900 and 9000 GeV.*change search\.range"),
        (too_strong, r"search\.injected: 280 of 300 held-out signal events leave 20"),
        (other_seed, "no scores of model 'net', seed 3"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(change, message, inputs, tmp_path):
    settings = copy.deepcopy(SETTINGS)
    change(settings)
    paths, scores = inputs
    if change is without_signal:
        settings["search"]["taggers"] = ["cut"]
    with pytest.raises(HepgenError, match=message):
        evaluate(parse(settings), paths, scores, tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_little_background_for_a_limit_without_a_cut_is_refused(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("hepgen.search.evaluate.MIN_BACKGROUND", 3000)
    with pytest.raises(
        HepgenError, match=r"background events are expected around the signal; at least 3000 are needed"
    ):
        evaluate(parse(SETTINGS), *inputs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_constant_and_foreign_scores_are_refused(inputs, tmp_path):
    paths, (first, _) = inputs
    for number, message in ((3300, "same score"), (10, "score them again")):
        constant = write_scores(tmp_path / "net.h5", 2, np.ones(number))
        with pytest.raises(HepgenError, match=message):
            evaluate(parse(SETTINGS), paths, [first, constant], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"range": [3000, 2000]}, r"search\.range: .* is not a lower and an upper edge"),
        ({"taggers": ["cut", "cut"]}, r"search\.taggers: every value may be given only once"),
        ({"efficiencies": [0.1, 0.1]}, r"search\.efficiencies: every value may be given only once"),
        ({"taggers": ["nat"]}, "did you mean 'net'"),
        ({"efficiencies": [0]}, r"search\.efficiencies"),
    ],
)
def test_a_wrong_configuration_is_refused(change, message):
    with pytest.raises(HepgenError, match=message):
        parse({**SETTINGS, "search": SETTINGS["search"] | change})


def test_a_search_depends_on_its_own_taggers_only():
    def card(change):
        settings = copy.deepcopy(SETTINGS)
        change(settings)
        return plan.card(parse(settings), "search")

    known = card(lambda s: None)
    assert card(lambda s: s["tagging"]["cuts"].update(other={"observable": "mjj", "signal": "low"})) == known
    assert card(lambda s: s["tagging"]["cuts"]["cut"].update(signal="high")) != known
    assert card(lambda s: s["search"].update(toys=41)) != known
