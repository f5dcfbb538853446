import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.table import Table, read_tables, write_table
from hepgen.tagging.dataset import load, split
from hepgen.tagging.train import train

PARTS = ("train", "validation", "test")


def test_every_event_is_in_one_part(config):
    parts = split(config, "qcd", 1001)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(1001))
    assert [len(parts[part]) for part in PARTS] == [451, 50, 500]


def test_the_split_depends_on_the_seed_and_the_sample_alone(config, change):
    def test(config, sample):
        return split(config, sample, 1000)["test"]

    other_models = change(models={}, seeds=[7], cuts={})
    np.testing.assert_array_equal(test(config, "qcd"), test(other_models, "qcd"))
    assert not np.array_equal(test(config, "qcd"), test(config, "signal"))
    assert not np.array_equal(test(config, "qcd"), test(config.model_copy(update={"seed": 2}), "qcd"))


def test_test_samples_are_held_out_entirely(change, paths):
    config = change(samples=["qcd"], test=["signal"])
    (test,) = load(config, paths, ["mjj"], ("test",))
    np.testing.assert_array_equal(test.columns["mjj"], read_tables(paths["signal"]).columns["mjj"])
    parts = load(config, {"qcd": paths["qcd"]}, ["mjj"], ("train", "validation"))
    assert [len(part) for part in parts] == [1080, 120]


def test_canonical_order_is_that_of_the_configuration(config, paths):
    shuffled = dict(reversed(paths.items()))
    for a, b in zip(load(config, paths, ["mjj"], PARTS), load(config, shuffled, ["mjj"], PARTS), strict=True):
        np.testing.assert_array_equal(a.columns["mjj"], b.columns["mjj"])


def test_only_what_is_asked_for_is_kept(config, paths):
    (table,) = load(config, paths, ["mjj"], ("test",))
    assert set(table.columns) == {"mjj", "label", "weight", "sample", "event"}
    assert not table.constituents
    assert np.all(table.columns["weight"] == 1)


def test_a_weight_that_only_one_sample_has_is_1_elsewhere(config, paths, tmp_path):
    table = read_tables(paths["signal"], constituents=True)
    weighted = Table({**table.columns, "weight": np.full(len(table), 0.5)})
    write_table(tmp_path / "0.h5", [weighted])
    (test,) = load(config, {**paths, "signal": [tmp_path / "0.h5"]}, ["mjj"], ("test",))
    label, weight = test.columns["label"], test.columns["weight"]
    np.testing.assert_array_equal(weight, np.where(label == 1, 0.5, 1.0))


def changed_file(paths, path, change):
    table = read_tables(paths["qcd"])
    columns = dict(table.columns)
    change(columns)
    write_table(path, [Table(columns)])
    return {**paths, "qcd": [path]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("label"), "sample 'qcd' has no label column; set samples.qcd.label"),
        (lambda c: c.pop("mjj"), "sample 'qcd': unknown observable 'mjj'"),
        (lambda c: c["mjj"].__setitem__(3, np.nan), "1 of 1200 values of mjj are not finite"),
        (lambda c: c.update(weight=np.append(np.ones(1199), -1)), "sample 'qcd': column 'weight': 1 of .* -1"),
        (lambda c: c.update(weight=np.append(np.ones(1199), np.nan)), "sample 'qcd': column 'weight': 1 of .* nan"),
    ],
)
def test_unusable_tables_are_refused(config, paths, tmp_path, edit, message):
    with pytest.raises(HepgenError, match=message):
        load(config, changed_file(paths, tmp_path / "0.h5", edit), ["mjj"], ("train",))


def test_a_sample_that_was_not_given_is_named(config, paths):
    with pytest.raises(HepgenError, match="no observables of sample 'signal' were given; given are qcd"):
        load(config, {"qcd": paths["qcd"]}, ["mjj"], ("train",))


@pytest.mark.parametrize(
    ("samples", "model", "message"),
    [
        (["signal"], "pca", "no background events"),
        (["qcd"], "trees", "all .* training events are background"),
        (["qcd", "signal"], "typo", "unknown entry of tagging.models 'typo'"),
    ],
)
def test_untrainable_models_are_refused(change, paths, tmp_path, samples, model, message):
    with pytest.raises(HepgenError, match=message):
        train(change(samples=samples), model, 1, paths, tmp_path / "model", "cpu")
    assert not list(tmp_path.iterdir())


def test_images_need_two_jets(config, paths, tmp_path):
    table = read_tables(paths["qcd"], constituents=True)
    write_table(tmp_path / "0.h5", [Table(table.columns, {}, table.constituents[:1])])
    write_table(tmp_path / "1.h5", [Table(table.columns, {}, table.constituents[:1])])
    single = {"qcd": [tmp_path / "0.h5"], "signal": [tmp_path / "1.h5"]}
    with pytest.raises(HepgenError, match="the 2 leading jets are looked into; these events keep 1"):
        train(config, "conv", 1, single, tmp_path / "model", "cpu")
