"""Decorrelated taggers from their entries: what each sees, what is refused, and what a failed training leaves."""

import awkward as ak
import numpy as np
import pytest
import torch

from hepgen import checkpoints, training
from hepgen.config import Tagger
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.files import load_model
from hepgen.models.linear import PCA
from hepgen.table import Table, read_tables, write_table
from hepgen.tagging import decorrelation
from hepgen.tagging.score import score
from hepgen.tagging.train import train

from .conftest import INPUTS

TRAINING = {"epochs": 3, "batch_size": 128}
DENSE = {"type": "dense_autoencoder", "inputs": INPUTS, "training": TRAINING}
MLP = {"type": "mlp_classifier", "inputs": INPUTS, "training": TRAINING}
CONV = {
    "type": "conv_autoencoder",
    "inputs": "images",
    "settings": {"channels": [4], "hidden": 8, "latent_dim": 2},
    "training": {"epochs": 1, "batch_size": 256},
}


@pytest.fixture
def made(change, paths, tmp_path):
    """Trains an entry and scores with it; returns the model's file and the scores."""

    def trained(entry, name="model", given=paths, **tagging):
        config = change(models={"tagger": entry}, **tagging)
        train(config, "tagger", 1, given, tmp_path / name, "cpu")
        return tmp_path / name, score(config, tmp_path / name, given, tmp_path / f"{name}.h5", "cpu")

    return trained


def with_method(entry, method, strength=1.0, **changes):
    penalty = {"strength": strength} if method in ("disco", "adversary") else {}
    return {**entry, **changes, "decorrelation": {"method": method, **penalty}}


@pytest.mark.parametrize("entry", [DENSE, MLP, CONV], ids=["dense", "mlp", "conv"])
@pytest.mark.parametrize("method", ["disco", "adversary", "planing", "quantiles"])
def test_every_method_changes_the_scores_of_every_network(made, entry, method):
    _, plain = made(entry, "plain")
    _, scores = made(with_method(entry, method, 0.01), "decorrelated")
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert not np.array_equal(scores, plain)


@pytest.mark.parametrize("method", ["disco", "adversary"])
def test_a_strength_of_0_is_no_decorrelation(made, method):
    (plain, expected), (other, scores) = made(MLP, "plain"), made(with_method(MLP, method, 0.0), "other")
    np.testing.assert_array_equal(scores, expected)
    weights, others = (load_model(path)[0]["model"] for path in (plain, other))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_ranks_are_those_of_background_of_the_same_mass(made, paths, change):
    _, scores = made(with_method(DENSE, "quantiles"))
    tests = score_background(change, paths, scores)
    heavy = tests["mjj"] > np.median(tests["mjj"])
    for half in (heavy, ~heavy):
        # 300 events tested and 600 learnt: three times √(0.25 / 300 + 0.25 / 300).
        assert np.mean(tests["score"][half] > 0.5) == pytest.approx(0.5, abs=0.12)


def score_background(change, paths, scores):
    from hepgen.tagging.dataset import load

    (table,) = load(change(), paths, ["mjj"], ("test",))
    background = table.columns["label"] == 0
    return {"mjj": table.columns["mjj"][background], "score": scores[background]}


def events(mass, label, weight=None):
    n = len(mass)
    columns = {"mjj": mass, "label": label.astype(np.int8), "weight": np.ones(n) if weight is None else weight}
    return Table(columns)


@pytest.mark.parametrize("model", [DENSE, MLP], ids=["dense", "mlp"])
def test_planed_events_have_the_promised_spectrum(change, model):
    """Flat for the one class of an autoencoder; the same for both classes of a classifier."""
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [20_000, 5_000])
    mass = np.where(label, rng.uniform(1500, 3000, 25_000), 1000 + rng.exponential(600, 25_000).clip(max=3000))
    entry = Tagger.model_validate(with_method(model, "planing"))
    weight = rng.uniform(0.5, 1.5, 25_000)
    (planed,) = decorrelation.planed(change(), entry, [events(mass, label, weight)])
    new = planed.columns["weight"]
    edges = np.linspace(1600, 2900, 6)
    if model is DENSE:  # it sees no labels
        spectrum = np.histogram(mass, edges, weights=new)[0]
        np.testing.assert_allclose(spectrum / spectrum.mean(), 1, atol=0.1)
        assert new.sum() == pytest.approx(weight.sum())
        beyond = mass > np.quantile(mass, 0.99)
        edge = (mass > np.quantile(mass, 0.97)) & ~beyond
        ratio = new / weight
        assert ratio.max() == pytest.approx(np.median(ratio[edge]))  # no event beyond counts for more than at the edge
        assert np.ptp(ratio[beyond]) < 1e-9
    else:
        # What is multiplied is what both have: the sums are kept, so that each factor is at most 1 over the overlap.
        shares = [np.histogram(mass[label == k], np.linspace(1000, 4000, 31), density=True)[0] for k in (0, 1)]
        overlap = 100 * np.minimum(*shares).sum()
        assert (new / weight).max() < 1.1 / overlap
        spectra = [np.histogram(mass[label == k], edges, weights=new[label == k])[0] for k in (0, 1)]
        ratio = spectra[0] / spectra[1]
        np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.05)
        for k in (0, 1):
            assert new[label == k].sum() == pytest.approx(weight[label == k].sum())


@pytest.mark.parametrize(
    ("mass", "model", "message"),
    [
        (np.append(np.full(995, 3000.0), [1.0, 2, 3, 4, 5]), DENSE, "mjj, which is the same for 98 % of the events"),
        (np.arange(1000.0), MLP, "no value is that of background and of signal events"),
    ],
    ids=["constant", "apart"],
)
def test_events_that_cannot_be_planed_are_refused(change, mass, model, message):
    table = events(mass, np.arange(1000) >= 500)
    with pytest.raises(HepgenError, match=message):
        decorrelation.planed(change(), Tagger.model_validate(with_method(model, "planing")), [table])


@pytest.mark.parametrize("method", ["disco", "adversary"])
def test_the_first_score_is_the_one_that_is_penalised(change, method):
    table = events(np.arange(50.0), np.zeros(50))
    for scores in ([], ["latent"], ["latent", "mse"]):
        entry = Tagger.model_validate(with_method(DENSE, method, scores=scores))
        pupil, _, _ = decorrelation.in_training(change(), entry, torch.nn.Linear(1, 1), [table], [50])
        assert pupil.kind == "".join(scores[:1])


class Unread(PCA):
    """A tagger whose base is of another package: what it offers is known when it is loaded."""


def test_what_the_source_does_not_tell_is_refused_when_the_training_starts(change, tmp_path, monkeypatch):
    monkeypatch.setitem(TAGGERS.targets, "unread", f"{__name__}:Unread")
    config = change(models={"tagger": with_method({"type": "unread", "inputs": INPUTS}, "disco")})
    with pytest.raises(HepgenError, match="decorrelation: unread has no loss to penalise"):
        train(config, "tagger", 1, {"qcd": [tmp_path / "absent.h5"]}, tmp_path / "model", "cpu")


def test_a_fitted_network_is_on_the_device_before_it_scores(change, paths, tmp_path, monkeypatch):
    calls = []
    to, score_of = PCA.to, PCA.score
    monkeypatch.setattr(PCA, "to", lambda self, *where: (calls.append(where), to(self, *where))[1])
    monkeypatch.setattr(PCA, "score", lambda self, *x: (calls.append("score"), score_of(self, *x))[1])
    train(change(models={"tagger": {"type": "pca", "inputs": INPUTS}}), "tagger", 1, paths, tmp_path / "model", "cpu")
    assert calls[:2] == [(torch.device("cpu"),), "score"]


def test_the_observable_of_a_jet_is_its_events_and_signal_has_none(change):
    rng = np.random.default_rng(2)
    table = events(rng.normal(3000, 500, 50), np.arange(50) % 2)
    for model, counted in ((MLP, table.columns["label"] == 0), (DENSE, np.ones(50, dtype=bool))):
        entry = Tagger.model_validate(with_method(model, "disco"))
        network = torch.nn.Linear(1, 1)
        _, _, ((jets,), (single,)) = decorrelation.in_training(change(), entry, network, [table, table], [100, 50])
        assert torch.equal(jets[:50].nan_to_num(9), jets[50:].nan_to_num(9))
        assert torch.equal(jets[:50].nan_to_num(9), single.nan_to_num(9))
        np.testing.assert_array_equal(~single.isnan().numpy(), counted)
        assert float(single[~single.isnan()].mean()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            with_method(MLP, "disco", 1e4, training={**TRAINING, "epochs": 10}),
            "disco has won; lower decorrelation.stre",
        ),
        (
            with_method(DENSE, "adversary", 1e4, training={**TRAINING, "epochs": 10, "learning_rate": 0.3}),
            "no better than before the training: the penalty of adversary has won; lower",
        ),
        ({**DENSE, "training": {**TRAINING, "optimizer": "sgd", "learning_rate": 1e30}}, "diverged in epoch 1"),
        ({**DENSE, "contamination": 0.9}, "a contamination of 0.9 takes 4860 events of the other class; there are 135"),
    ],
)
def test_a_failed_training_leaves_nothing(made, tmp_path, monkeypatch, entry, message):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    with pytest.raises(HepgenError, match=message):
        made(entry)
    assert not list(tmp_path.iterdir())


def rewritten(paths, folder, change):
    """The samples' files with their tables changed."""
    given = {}
    for sample, files in paths.items():
        table = read_tables(files, constituents=True)
        columns, jets = dict(table.columns), list(table.constituents)
        change(columns, jets)
        given[sample] = [folder / f"{sample}.h5"]
        write_table(given[sample][0], [Table(columns, {}, tuple(jets))])
    return given


def same_everywhere(columns, jets):
    for name in INPUTS:
        columns[name] = np.full(len(columns[name]), 3.0)
    jets[:] = [jet[np.zeros(len(jet), dtype=int)] for jet in jets[:1] * 2]


def not_finite(columns, jets):
    jets[1] = ak.with_field(jets[1], jets[1].eta * np.nan, "eta")


def without_particles(columns, jets):
    jets[1] = jets[1][jets[1].pt < 0]


@pytest.mark.parametrize(
    ("entry", "edit", "message"),
    [
        (DENSE, same_everywhere, "all .* validation scores equal .*; are its inputs constant"),
        (MLP, same_everywhere, "are its inputs constant"),
        (CONV, not_finite, "values of the jets' constituents are not finite"),
        (CONV, without_particles, "540 of 1080 jets have no constituents"),
    ],
)
def test_unusable_inputs_are_refused(made, paths, tmp_path_factory, tmp_path, entry, edit, message):
    given = rewritten(paths, tmp_path_factory.mktemp("given"), edit)
    with pytest.raises(HepgenError, match=message):
        made(entry, given=given)
    assert not list(tmp_path.iterdir())


def test_an_observable_that_is_constant_is_refused(made, paths, tmp_path_factory):
    def constant(columns, jets):
        columns["mjj"] = np.full(len(columns["mjj"]), 3000.0)

    given = rewritten(paths, tmp_path_factory.mktemp("given"), constant)
    with pytest.raises(HepgenError, match="mjj, which is the same for all 540 events; set"):
        made(with_method(MLP, "disco"), given=given)


def test_fewer_events_than_the_batch_are_one_batch(made):
    whole = {**TRAINING, "batch_size": 540}  # 45 % of 1200
    (_, expected), (_, scores) = (
        made({**DENSE, "training": whole}),
        made({**DENSE, "training": {**TRAINING, "batch_size": 100_000}}, "large"),
    )
    np.testing.assert_array_equal(scores, expected)


def test_more_events_than_there_are_means_all_of_them_and_is_reported(made, capsys):
    _, expected = made(DENSE)
    _, scores = made({**DENSE, "events": 100_000}, "many")
    np.testing.assert_array_equal(scores, expected)
    assert "events is 100000; there are 540 background events, and all are learnt" in capsys.readouterr().err


def test_a_resumed_adversarial_training_equals_an_uninterrupted_one(made, tmp_path, monkeypatch):
    entry = with_method(MLP, "adversary", 0.1)
    path, expected = made(entry)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    update, calls = training.Adversarial.update, []

    def interrupted(self, *batch):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return update(self, *batch)

    monkeypatch.setattr(training.Adversarial, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(entry, "resumed")
    assert (tmp_path / "resumed.checkpoint").exists()
    resumed, scores = made(entry, "resumed")
    np.testing.assert_array_equal(scores, expected)
    assert resumed.read_bytes() == path.read_bytes()
