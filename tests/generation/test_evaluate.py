"""Evaluation: every figure of merit beside its null value, and the verdicts that known inputs deserve."""

import json

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.columns import as_generated
from hepgen.generation.evaluate import BASELINE, evaluate
from hepgen.generation.figures import figure_names
from hepgen.generation.jets import jet_names
from hepgen.generation.speed import SIMULATION, simulation_rate
from hepgen.metrics.record import read_metrics
from hepgen.plots.draw import draw
from hepgen.plots.figures import read_figure
from hepgen.storage import Columns, Jagged, create_h5
from hepgen.table import Table, write_table

EVENTS = 1200
MODELS = {
    "flow": {"type": "rqs_flow", "conditions": ["multiplicity_j1"], "reweighting": "gradient_boosting"},
    "gan": {"type": "dijet_gan"},
    "pictures": {"type": "dcgan", "inputs": "images"},
    "sets": {"type": "flow_matching", "inputs": "constituents"},
}


def write_benchmark(path, *seconds):
    path.write_text("s\th:m:s\tmax_rss\n" + "".join(f"{value}\t0:00:01\t12.3\n" for value in seconds))
    return path


def draw_events(dijets, events, seed, smearing=0.0):
    """Dijets whose leading jets have a few particles each; `smearing` moves masses, and particles about."""
    rng = np.random.default_rng(seed)
    table = dijets(events, seed)
    mass = (table.columns["mass_j1"] * np.exp(smearing * rng.normal(size=events))).astype(np.float32)
    counts = rng.integers(3, 9, events)
    angle = (0.15 + smearing) * rng.normal(size=(2, counts.sum()))
    flat = {"pt": rng.exponential(1, counts.sum()), "eta": angle[0], "phi": angle[1]}
    columns = table.columns | {"mass_j1": mass, "multiplicity_j1": counts.astype(np.float32)}
    return Table(columns, {}, (ak.unflatten(ak.zip(flat), counts),))


def write_generated(dijets, config, folder, model, seed, smearing):
    """A file of generated events that are those of `draw_events`."""
    block = config.generation
    entry = block.models[model]
    table = as_generated(entry, block, draw_events(dijets, block.events, 100 + seed, smearing))
    weights = np.random.default_rng(seed).gamma(4, 0.25, len(table)) if entry.reweighting else None
    path = folder / f"{model}_{seed}.h5"
    with create_h5(path, "generated", "{}") as file:
        columns = Columns(file.create_group("columns"))
        columns.append(table.columns | ({} if weights is None else {"weight": weights}))
        for rank, jets in enumerate(table.constituents):
            Jagged(file.require_group(f"constituents/{rank}")).append(jets)
        likelihood = {"nll": [7.5, 0.25], "held_out": 77} if model == "flow" else {"nll": None, "held_out": 0}
        device = "cuda" if model == "pictures" else "cpu"
        about = {"model": model, "seed": seed, "seconds": 0.5, "device": device} | likelihood
        file.attrs["generation"] = json.dumps(about)
        Columns(file.create_group("history")).append({"train": np.array([2.0, 1.0])})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, dijets):
    """Configuration, tables, generated events and the folder of what an evaluation of them wrote."""
    folder = tmp_path_factory.mktemp("verdict")
    features = list(dijets(1, 1).columns)
    generation = {"samples": ["qcd"], "features": features, "seeds": [1], "events": 600, "models": MODELS}
    generation |= {"images": {"pixels": 9, "width": 1.2}, "constituents": {"number": 8}}
    qcd = {"source": "pythia", "process": "qcd", "events": EVENTS, "jets": "fat"}
    config = parse({"jets": {"fat": {}}, "samples": {"qcd": qcd}, "generation": generation})
    write_table(folder / "table.h5", [draw_events(dijets, EVENTS, 1)])
    smearing = {"flow": 0.0, "gan": 0.8, "pictures": 0.0, "sets": 0.1}
    generated = [write_generated(dijets, config, folder, model, 1, amount) for model, amount in smearing.items()]
    timings = [write_benchmark(folder / f"{k}.tsv", 3.0) for k in range(2)]
    paths = {"qcd": [folder / "table.h5"]}
    evaluate(config, paths, generated, folder / "out", timings)
    return config, paths, generated, folder / "out"


def found(run):
    return {(metric.model, metric.metric): metric for metric in read_metrics(run[-1] / "metrics.json")}


def test_evaluation_writes_what_it_announces(run):
    config, _, _, output = run
    figures = {path.stem: read_figure(path) for path in (output / "figures").iterdir()}
    assert set(figures) == set(figure_names(config))
    for figure in figures.values():
        plt.close(draw(figure))


def test_every_figure_of_merit_is_there(run):
    config, _, _, output = run
    metrics = read_metrics(output / "metrics.json")
    names = {model: {m.metric for m in metrics if m.model == model} for model in {m.model for m in metrics}}
    observables = [*config.generation.features, "mjj", "deta_jj", "dr_jj"]
    common = {
        "c2st_auc", "c2st_auc_mlp", "max_delta_pearson", "sliced_wasserstein", "fpd", "kpd", "precision", "recall",
        "density", "coverage", "memorisation", "amplification",
    }  # fmt: skip
    kinds = ("chi2_ndf", "w1", "top_weights")
    each = {f"{kind}/{name}" for kind in kinds for name in observables}
    speed = {"events_per_second", "speed_up"}
    assert names["gan"] == common | each | speed
    assert names["flow"] == common | each | speed | {"nll"}
    assert names["flow, reweighted"] == common | each | {"effective_share"}
    assert names["sets"] == common | speed | {f"{k}/{n}" for k in kinds for n in jet_names()}
    assert names["sets"] - names["pictures"] == {"speed_up"}, "drawn by a GPU"
    assert names[SIMULATION] == {"events_per_second"}
    assert all(m.low <= m.value <= m.high for m in metrics)
    assert all(m.null is not None for m in metrics if m.metric not in ("events_per_second", "nll"))
    tested = [m for m in metrics if m.metric.split("/")[0] in (common | {"chi2_ndf", "w1"}) - {"amplification"}]
    assert all(0 <= m.p_value <= 1 for m in tested)


def test_tails_need_ten_true_events_beyond_the_quantile(run):
    """300 events on each side: 3 of them lie beyond the 99 % quantile."""
    assert not any(metric.startswith("tail") for _, metric in found(run))


def test_truth_passes_and_a_smeared_mass_fails(run):
    metrics = found(run)
    for name in ("c2st_auc", "w1/mass_j1", "chi2_ndf/mass_j1"):
        assert metrics["gan", name].p_value < 0.02 < metrics["flow", name].p_value, name
    # One column of ten, in units of both samples' deviation, which the smearing raises.
    assert metrics["gan", "sliced_wasserstein"].p_value < 0.05
    assert metrics["gan", "c2st_auc"].value > 0.6
    assert metrics["gan", "w1/eta_j1"].p_value > 0.02, "only the mass is smeared"
    assert metrics["sets", "c2st_auc"].value > metrics["pictures", "c2st_auc"].value


def test_what_the_files_say_is_reported(run):
    metrics = found(run)
    nll = metrics["flow", "nll"]
    assert (nll.value, nll.high, nll.n) == (7.5, 7.75, 77)
    # Gamma weights of shape 4 have a relative variance of 1/4, known to about √(2/600) · 2.
    assert metrics["flow, reweighted", "effective_share"].value == pytest.approx(0.8, abs=0.06)


def test_speed_is_that_of_the_jobs(run):
    """1200 events in two jobs of 3 s; 600 drawn in half a second."""
    metrics = found(run)
    assert metrics[SIMULATION, "events_per_second"].value == 200
    assert metrics["gan", "events_per_second"].value == 1200
    assert metrics["gan", "speed_up"].value == 6


def test_speed_is_not_compared_without_timings(run, settings, tmp_path):
    assert simulation_rate(run[0], []) == {}
    arrays = {"source": "arrays", "path": "a.npy", "columns": dict.fromkeys(settings["generation"]["features"], 0)}
    settings["samples"]["qcd"] = arrays
    assert simulation_rate(parse(settings), [write_benchmark(tmp_path / "a.tsv", 1.0)]) == {}


def test_repeats_of_a_benchmark_are_averaged(run, tmp_path):
    timings = write_benchmark(tmp_path / "a.tsv", 4.0, 6.0), write_benchmark(tmp_path / "b.tsv", 1.0)
    assert simulation_rate(run[0], timings) == {SIMULATION: [200]}


def test_benchmarks_of_a_part_of_the_jobs_are_refused(run, tmp_path):
    with pytest.raises(HepgenError, match="1 benchmarks of the simulation were given, but its chunks have 2"):
        simulation_rate(run[0], [write_benchmark(tmp_path / "a.tsv", 4.0)])


def test_a_file_that_is_no_benchmark(run, tmp_path):
    (tmp_path / "a.tsv").write_text("seconds\n1\n")
    with pytest.raises(HepgenError, match="column 's'"):
        simulation_rate(run[0], 2 * [tmp_path / "a.tsv"])


def test_missing_seed_is_named(run, tmp_path):
    config, paths, generated, _ = run
    with pytest.raises(HepgenError, match=r"models.gan: expected events of seeds \[1\], found none"):
        evaluate(config, paths, generated[:1], tmp_path)


def test_baseline_has_the_right_shapes_only(run):
    metrics = found(run)
    assert metrics[BASELINE, "max_delta_pearson"].value > 0.5
    assert metrics[BASELINE, "chi2_ndf/eta_j1"].value < 3
