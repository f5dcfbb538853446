"""Exported models: physical inputs give hepgen's own scores, of any batch and padding, noise hepgen's own events."""

import json
from functools import partial

import awkward as ak
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import hepgen
from hepgen.cli import app
from hepgen.config import Constituents, Generation, Generator, Images, parse
from hepgen.constituents import JetConstituents
from hepgen.errors import HepgenError
from hepgen.export import export, graphs
from hepgen.export.onnx import export_model
from hepgen.generation.dataset import inputs as rows_of
from hepgen.generation.generators import Pool, Trained, build, load_generator, save
from hepgen.generation.scaling import make_scaler
from hepgen.images import JetImages
from hepgen.models import GENERATORS, TAGGERS
from hepgen.models.files import load_model, save_model
from hepgen.preprocessing import Standard
from hepgen.table import Table, write_table
from hepgen.tagging.dataset import load
from hepgen.tagging.score import score
from hepgen.tagging.train import train

OBSERVABLES = ["mass_j1", "tau21_j1", "delta"]
SHAPES = {"observables": (3,), "images": (1, 16, 16), "constituents": (12, 3)}
# Single precision of sums that the two libraries take in different order.
TOLERANCE = 1e-5


def draw_jets(rng, n, most=30):
    """Jets of 1 to `most` constituents anywhere in the detector, some across φ = ±π."""
    counts = rng.integers(1, most + 1, n)
    axes = np.repeat(np.stack([rng.uniform(-2.5, 2.5, n), rng.uniform(-np.pi, np.pi, n)], axis=1), counts, axis=0)
    eta, phi = (axes + rng.normal(0, 0.3, axes.shape)).T
    fields = {"pt": rng.exponential(20, len(eta)) + 0.1, "eta": eta, "phi": (phi + np.pi) % (2 * np.pi) - np.pi}
    return ak.unflatten(ak.zip({name: values.astype(np.float32) for name, values in fields.items()}), counts)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Events of two classes: 250 each, with jets."""
    folder = tmp_path_factory.mktemp("observables")
    found = {}
    for label, sample in enumerate(("qcd", "signal")):
        rng = np.random.default_rng(label)
        columns = {name: rng.gamma(4, 50, 250) * (1 + label) for name in (*OBSERVABLES, "mjj")}
        columns["label"] = np.full(250, label, np.int8)
        found[sample] = [folder / f"{sample}.h5"]
        write_table(found[sample][0], [Table(columns, {}, (draw_jets(rng, 250), draw_jets(rng, 250)))])
    return found


def make_config(**entry):
    source = {"source": "arrays", "path": "x.npy", "columns": {n: i for i, n in enumerate([*OBSERVABLES, "mjj"])}}
    model = {"inputs": OBSERVABLES, "training": {"epochs": 1, "batch_size": 64}, **entry}
    tagging = {
        "samples": ["qcd", "signal"], "images": {"pixels": 16, "power": 0.5}, "constituents": {"number": 12},
        "models": {"mine": model},
    }  # fmt: skip
    return parse({"samples": {"qcd": source, "signal": source}, "tagging": tagging})


@pytest.fixture
def exported(paths, tmp_path):
    """Trains a tagger and exports it: a session, the graph's inputs for the test events, and hepgen's scores."""

    def make(**entry):
        config = make_config(**entry)
        file = tmp_path / "model.safetensors"
        train(config, "mine", 3, paths, file, "cpu")
        expected = score(config, file, paths, tmp_path / "scores.h5", "cpu")
        export_model([file], tmp_path / "x.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
        (table,) = load(config, paths, [*OBSERVABLES, "mjj"], ("test",), constituents=True)
        arrays = {
            "observables": table.matrix(OBSERVABLES),
            "constituents": np.stack([padded(jets, 32) for jets in table.constituents], axis=1),
            "mass": table.columns["mjj"].astype(np.float64),
        }
        return session, {value.name: arrays[value.name] for value in session.get_inputs()}, expected

    return make


def padded(jets, length):
    """Jets as (pT, η, φ), zero-padded, shape (n, length, 3)."""
    fields = (ak.fill_none(ak.pad_none(jets[name], length, clip=True), 0) for name in ("pt", "eta", "phi"))
    return np.stack([ak.to_numpy(values).astype(np.float64) for values in fields], axis=-1)


def inputs_for(kind):
    """What a registered tagger takes by default: the first of the three that it can be built for."""
    for inputs, shape in SHAPES.items():
        try:
            TAGGERS.load(kind)(shape)
        except HepgenError:
            continue
        return OBSERVABLES if inputs == "observables" else inputs
    pytest.fail(f"{kind} takes none of {SHAPES}")
    return None


def assert_close(found, expected):
    assert (np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("kind", list(TAGGERS))
def test_every_tagger_scores_as_in_hepgen(kind, exported):
    settings = {"pretraining": 1} if kind == "normalised_autoencoder" else {}
    session, inputs, expected = exported(type=kind, inputs=inputs_for(kind), settings=settings)
    assert_close(session.run(["score"], inputs)[0], expected)
    some = {name: values[5:6] for name, values in inputs.items()}
    assert_close(session.run(["score"], some)[0], expected[5:6])


@pytest.mark.parametrize("inputs", ["images", "constituents"])
def test_neither_length_nor_place_of_the_padding_matters(inputs, exported):
    session, arrays, expected = exported(type="gradient_boosting", inputs=inputs, settings={"rounds": 3})
    jets = arrays["constituents"]
    for other in (np.pad(jets, [(0, 0), (0, 0), (7, 0), (0, 0)]), jets[:, :, :30]):
        assert_close(session.run(None, {"constituents": other})[0], expected)
    assert session.run(None, {"constituents": jets[:0]})[0].shape == (0,)


def test_an_empty_jet_has_no_score(exported):
    session, arrays, expected = exported(type="pca", inputs="images")
    arrays["constituents"][3, 1] = 0
    found = session.run(None, arrays)[0]
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]
    assert_close(np.delete(found, 3), np.delete(expected, 3))


@pytest.mark.parametrize(("inputs", "scores"), [(OBSERVABLES, ["latent"]), ("images", [])])
def test_quantiles_and_scores_of_other_kinds(inputs, scores, exported, tmp_path):
    session, arrays, expected = exported(
        type="dense_autoencoder", inputs=inputs, scores=scores, decorrelation={"method": "quantiles"}
    )
    assert set(arrays) == {"observables" if inputs == OBSERVABLES else "constituents", "mass"}
    assert_close(session.run(None, arrays)[0], expected)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["inputs"])["mass"] == ["mjj [GeV]"]
    assert about["score"] == (scores or ["mse"])[0]


FEATURES = ["pt_j1", "eta_j1", "mass_j1", "dphi_jj"]
# Each step of these is a network of its own in the graph.
FEW = {"steps": 4, "sampling_steps": 2, "layers": 2, "blocks": 1, "density": "gaussian"}


def make_generator(file, kind, conditions, views=("features", "images", "constituents")):
    """The file of a generator with random weights, for the first of the views that it can make."""
    rng = np.random.default_rng(1)
    columns = {name: rng.uniform(1, 2, 200) for name in (*FEATURES, "mjj")}
    table = Table(columns, {}, (draw_jets(rng, 200),))
    settings = {name: value for name, value in FEW.items() if name in GENERATORS.settings(kind)}
    for view in views:
        entry = Generator(type=kind, inputs=view, conditions=conditions, settings=settings)
        about = {"images": {"pixels": 12}, "constituents": {"number": 6}}
        block = Generation(samples=["qcd"], features=FEATURES, models={"mine": entry}, **about)
        torch.manual_seed(1)
        try:
            network = build("mine", entry, block)
        except HepgenError:
            continue
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        x = rows_of(block, entry, table)[torch.arange(200)]
        c = torch.from_numpy(table.matrix(["mjj"])[:, : len(conditions)])
        scaler, told = make_scaler(network, entry, block), Standard(len(conditions)).fit(c)
        scaler.fit(x)
        pool = Pool(c, torch.stack(c.aminmax(dim=0)))
        card = {"name": "mine", "seed": 3, "history": {}}
        save(file, Trained(entry, block, network.eval(), scaler, told, pool, None, card), "{}")
        return
    pytest.fail(f"{kind} makes none of {views}")


def assert_same_events(file, output, events):
    """The graph makes of noise and conditions what hepgen does, to 10⁻⁵ of 1 or of an event's largest number."""
    trained = load_generator(file, torch.device("cpu"))
    random = torch.Generator().manual_seed(5)
    noise = trained.network.noise(events, random)
    c = trained.pool.order(5)[:events]
    expected = trained.draw(noise, c).x
    session = onnxruntime.InferenceSession(output)
    counts = json.loads(session.get_modelmeta().custom_metadata_map["noise"])
    normal, uniform = noise.split([*counts.values()], dim=1)
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert normal.numel() < 100 or normal.min() < 0
    inputs = {"noise": noise.numpy()} | ({"conditions": c.numpy()} if trained.entry.conditions else {})
    (found,) = session.run(["events"], inputs)
    assert found.shape == expected.shape
    assert found.dtype == np.float64
    size = np.maximum(1, np.abs(expected).reshape(events, -1).max(1)).reshape(-1, *[1] * (expected.ndim - 1))
    assert (np.abs(found - expected) <= TOLERANCE * size).all()
    assert len(np.unique(expected.reshape(events, -1), axis=0)) == events


CASES = [*((kind, {}) for kind in GENERATORS), ("flow_matching", {"views": ["constituents"]})]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_generator_makes_the_events_of_hepgen(kind, options, tmp_path):
    for conditions in [["mjj"], []][: 2 if kind == "dijet_gan" else 1]:
        make_generator(tmp_path / "m.safetensors", kind, conditions, **options)
        export_model([tmp_path / "m.safetensors"], tmp_path / "x.onnx")
        for events in (1, 30):
            assert_same_events(tmp_path / "m.safetensors", tmp_path / "x.onnx", events)


def test_a_generator_says_what_it_makes_and_is_told(tmp_path):
    make_generator(tmp_path / "m.safetensors", "dijet_gan", ["mjj"])
    result = CliRunner().invoke(app, ["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "x.onnx")])
    assert result.stdout == f"{tmp_path / 'x.onnx'}: mine, seed 3: events of noise and conditions\n"
    model = onnx.load(tmp_path / "x.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about == {
        "hepgen": hepgen.__version__, "generator": "mine", "type": "dijet_gan", "seed": "3", "provenance": "{}",
        "noise": '{"normal": 0, "uniform": 64}',
        "events": '["pt_j1 [GeV]", "eta_j1", "mass_j1 [GeV]", "dphi_jj"]', "conditions": '["mjj [GeV]"]',
    }  # fmt: skip
    assert model.graph.output[0].doc_string == "pt_j1 [GeV], eta_j1, mass_j1 [GeV], dphi_jj"
    assert model.graph.input[0].doc_string == "0 normal numbers, then 64 uniform in [0, 1)"
    assert model.graph.input[1].doc_string == "mjj [GeV]"


SETTINGS = [
    Images(pixels=32), Images(pixels=25, rotate=False, normalize=False, power=0.3), Images(center=False, flip=False),
    Constituents(number=10), Constituents(number=60, center=False),
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_jets_are_prepared_alike_bit_for_bit(settings):
    jets = draw_jets(np.random.default_rng(1), 3000)
    view, kind = (graphs.images, JetImages) if isinstance(settings, Images) else (graphs.hardest, JetConstituents)
    found = view(*torch.from_numpy(padded(jets, 40)).unbind(-1), settings)
    expected = kind(jets, settings)[torch.arange(len(jets))]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_the_command_says_what_it_wrote_and_the_file_what_it_is(paths, tmp_path):
    file = tmp_path / "model.safetensors"
    train(make_config(type="pca"), "mine", 3, paths, file, "cpu")
    for name in ("a.onnx", "b.onnx"):
        result = CliRunner().invoke(app, ["export", str(file), "-o", str(tmp_path / name)])
        assert result.stdout == f"{tmp_path / name}: mine, seed 3: score of observables\n"
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    _, card = load_model(file)
    assert about == {
        "hepgen": hepgen.__version__, "tagger": "mine", "type": "pca", "seed": "3", "score": "mse",
        "inputs": '{"observables": ["mass_j1 [GeV]", "tau21_j1", "delta"]}', "provenance": card["provenance"],
    }  # fmt: skip
    assert model.graph.input[0].doc_string == "mass_j1 [GeV], tau21_j1, delta"


class Branching(nn.Module):
    """A model whose score depends on the batch by Python's own means."""

    def __init__(self, shape):
        super().__init__()
        for name in ("shift", "scale"):
            self.register_buffer(name, torch.ones(2, dtype=torch.float64))

    def score(self, x):
        return x[:, 0] if x.mean() > 0 else x[:, 1]


class Sorting(Branching):
    """A model that calls what ONNX has not."""

    def score(self, x):
        return torch.linalg.svdvals(x[:, :, None])[:, 0]


class Plain:
    """A model that is no module of torch's."""

    def __init__(self, shape):
        pass

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(
    ("plugin", "message"),
    [(Branching, "Converting a tensor to a Python boolean"), (Sorting, "linalg_svd"), (Plain, "is no torch module")],
)
def test_a_plugin_that_has_no_graph_is_an_error(plugin, message, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(TAGGERS.targets, "mine", "unused:Mine")
    monkeypatch.setattr(TAGGERS, "load", lambda name: plugin)
    file = tmp_path / "m.safetensors"
    card = {"name": "m", "seed": 1, "shape": [2], "type": "mine", "inputs": ["a", "b"]}
    save_model(file, {"preprocessing": Branching([2]), "model": Branching([2])}, card)
    with pytest.raises(HepgenError, match=message) as error:
        export_model([file], tmp_path / "x.onnx")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [file]
    assert capfd.readouterr() == ("", "")


def save_card(path, **card):
    save_model(path, {"model": nn.Linear(1, 1)}, {"name": "m", "seed": 1, **card})


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (partial(save_card, type="rqs_flow"), "m.safetensors", "is a trained rqs_flow, neither a tagger nor a gen"),
        (partial(save_card, type="pca", inputs="images"), "m.safetensors", "does not say how its images are made"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n"), "events.h5", "not a readable model file"),
    ],
)
def test_what_is_no_tagger_is_an_error(write, name, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(HepgenError, match=message):
        export_model([tmp_path / name], tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_one_model_goes_to_one_onnx_file_and_nowhere_else(tmp_path):
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    with pytest.raises(HepgenError, match="holds one trained model; 2 files were given"):
        export_model(files, tmp_path / "x.onnx")
    with pytest.raises(HepgenError, match="is a trained model, not a product with rows"):
        export(files, tmp_path / "x.root")
    result = CliRunner().invoke(app, ["export", str(files[0]), "-o", str(tmp_path / "x.onnx"), "--rntuple"])
    assert "are for .root files" in str(result.exception)
