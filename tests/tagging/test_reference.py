"""Figures of merit on the real LHC Olympics signal region, held against what is known of it."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from hepgen.config import parse
from hepgen.metrics.roc import Ranking
from hepgen.sources.produce import produce
from hepgen.table import read_tables
from hepgen.tagging.dataset import load
from hepgen.tagging.score import score
from hepgen.tagging.train import train

CONFIG = Path(__file__).parents[2] / "config" / "lhco_features.yaml"


@pytest.fixture(scope="module")
def config(reference):
    """The shipped configuration, with shorter trainings of the networks."""
    content = yaml.safe_load(CONFIG.read_text().replace("../shared/data", str(reference)))
    models = content["tagging"]["models"]
    models["dense_ae"]["training"] = {"epochs": 4, "batch_size": 1024, "learning_rate": 0.003}
    models["supervised_mlp"]["training"] = {"epochs": 4, "batch_size": 1024, "learning_rate": 0.003}
    return parse(content)


@pytest.fixture(scope="module")
def paths(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("observables")
    paths = {sample: [folder / f"{sample}.h5"] for sample in config.samples}
    for sample, (path,) in paths.items():
        produce(config, sample, 0, path)
    return paths


@pytest.fixture(scope="module")
def tested(config, paths):
    """The held-out events."""
    return load(config, paths, ["mass_light", "tau21_heavy"], ("test",))[0].columns


@pytest.fixture(scope="module")
def rocs(config, paths, tested, tmp_path_factory):
    """The ROC of a tagger on the held-out events."""
    folder = tmp_path_factory.mktemp("scores")

    @cache
    def make(model):
        trained = folder / f"{model}.safetensors"
        train(config, model, 1, paths, trained, "cpu")
        scores = score(config, trained, paths, trained.with_suffix(".h5"), "cpu")
        return Ranking(scores, tested["label"]).roc()

    return make


def test_every_event_is_in_one_sample_only(paths, reference):
    """All events of the three files are used, and none is both learnt from and tested on."""
    tables = [read_tables(files) for files in paths.values()]
    names = ["mjj", "mass_light", "delta_mass", "tau21_light", "tau21_heavy"]
    rows = np.concatenate([table.matrix(names) for table in tables])
    files = (reference / "lhco" / "cathode").glob("*.npy")
    assert len(rows) == sum(len(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_classes_of_the_idealised_search_are_what_they_are_called(paths):
    template, data = (read_tables(paths[name]).columns["label"] for name in ("template", "sr_data"))
    assert not template.any()
    assert data.mean() == pytest.approx(0.0066, abs=1e-4)


def test_the_supervised_reference_is_reached(rocs):
    """Trees reach an AUC of 0.976, which 369 signal events know to 0.003."""
    assert rocs("supervised").auc >= 0.970
    assert rocs("supervised_mlp").auc >= 0.960


def test_data_against_background_finds_the_signal(rocs):
    """No label is learnt here. Over events and five seeds the AUC is 0.872 ± 0.012 and the SIC 12.2 ± 1.0."""
    roc = rocs("idealised")
    assert roc.auc >= 0.86
    assert roc.max_sic(events=25) >= 9
    assert roc.auc < rocs("supervised").auc


def test_the_single_cut(paths, tested):
    """The 369 tested signal events leave the cut's AUC open by 0.01; the 27,263 further ones pin it down to 0.002."""
    assert Ranking(-tested["tau21_heavy"], tested["label"]).roc().auc == pytest.approx(0.847, abs=0.03)
    background, signal = tested["tau21_heavy"][tested["label"] == 0], read_tables(paths["extra_signal"])
    label = np.repeat([0, 1], [len(background), len(signal)])
    roc = Ranking(-np.concatenate([background, signal.columns["tau21_heavy"]]), label).roc()
    assert roc.auc == pytest.approx(0.847, abs=0.01)


@pytest.mark.parametrize("model", ["pca", "dense_ae", "isolation_forest"])
def test_models_of_background_alone_lose_to_the_single_cut(rocs, tested, model):
    cut = Ranking(-tested["tau21_heavy"], tested["label"]).roc().auc
    assert 0.5 < rocs(model).auc < cut
