import h5py
import numpy as np
import pytest

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models.files import save_model
from hepgen.table import read_tables
from hepgen.unfolding.posterior import draw_posterior, learn_posterior

TRAINING = Training(epochs=2, batch_size=100, learning_rate=1e-2).model_dump()
METHOD = {"type": "neural_bayes", "iterations": 1, "training": TRAINING}


@pytest.fixture(scope="module")
def learnt(toy, make_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("posterior") / "model.safetensors"
    config = make_config(methods={"neb": {**METHOD, "settings": {"hidden": 16, "layers": 2, "blocks": 1}}})
    learn_posterior(config, "neb", 1, toy, path, "cpu")
    return path


def test_truths_are_drawn_from_the_file_alone(learnt, toy, tmp_path):
    nature = {"nature": toy["nature"][:1]}
    means = [draw_posterior(learnt, nature, tmp_path / name, candidates=4) for name in ("a.h5", "b.h5")]
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    reco = read_tables(toy["nature"]).matrix(["alpha", "mass_j1"])
    with h5py.File(tmp_path / "a.h5") as file:
        truth, weights, effective = (file[name][:] for name in ("truth", "weights", "effective"))
        assert file.attrs["columns"].tolist() == ["alpha", "mass_j1"]
    assert truth.shape == (len(reco), 4, 2)
    assert (truth[..., 1] > 0).all()
    assert np.allclose(weights.sum(1), 1)
    assert 1 < effective.mean() <= 4
    assert means == pytest.approx([effective.mean()] * 2)
    # The noise is 0.7 beside a width of 0.85 in one, 15 % beside 50 % in the other: a flow that learnt nothing gives 0.
    for column, least in ((0, 0.6), (1, 0.7)):
        assert np.corrcoef((weights * truth[..., column]).sum(1), reco[:, column])[0, 1] > least


def test_unfit_files_and_methods_are_refused(learnt, toy, make_config, tmp_path):
    with pytest.raises(HepgenError, match=r"unfolding\.methods\.ibu: is of type ibu; posteriors come from"):
        learn_posterior(make_config(), "ibu", 1, {}, tmp_path / "model")
    with pytest.raises(HepgenError, match=r"tables of 2 samples \(a, b\); give those of one"):
        draw_posterior(learnt, {"a": toy["nature"], "b": toy["other"]}, tmp_path / "out.h5", candidates=2)
    save_model(tmp_path / "other", {}, {"entry": 1})
    with pytest.raises(HepgenError, match="other: holds no posterior"):
        draw_posterior(tmp_path / "other", {"a": toy["nature"]}, tmp_path / "out.h5", candidates=2)
