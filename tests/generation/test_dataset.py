"""One split for all models, and events that no density can be learnt from."""

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.dataset import conditions, inputs, read_split
from hepgen.provenance import seed_for
from hepgen.table import Table, read_tables, write_table

FEATURES = ["pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2"]


def rows(table):
    return {tuple(row) for row in table.matrix(FEATURES)}


def test_split_uses_every_event_once(config, paths):
    split = read_split(config, paths, ["flow"])
    assert {part: len(table) for part, table in split.items()} == {"test": 2000, "validation": 200, "train": 1800}
    assert set().union(*map(rows, split.values())) == rows(read_tables(paths["qcd"]))
    assert set(split["train"].columns) == {*FEATURES, "weight"}
    np.testing.assert_array_equal(split["train"].columns["weight"], 1)


def test_split_depends_on_seed_and_sample_only(config, settings, paths):
    split = read_split(config, paths, ["flow"])
    settings["generation"] |= {"seeds": [7], "events": 10}
    settings["generation"]["models"]["flow"]["conditions"] = ["deta_jj"]
    more = {"qcd": [paths["qcd"][0].with_name("more.h5")]}
    table = read_tables(paths["qcd"])
    columns = table.columns | {"deta_jj": np.abs(table.columns["eta_j1"] - table.columns["eta_j2"])}
    write_table(more["qcd"][0], [Table(columns)])
    again = read_split(parse(settings), more, ["flow"])
    for part, table in split.items():
        np.testing.assert_array_equal(table.matrix(FEATURES), again[part].matrix(FEATURES))
    entry = parse(settings).generation.models["flow"]
    eta = again["test"].matrix(["eta_j1", "eta_j2"])
    np.testing.assert_allclose(conditions(entry, again["test"])[:, 0], np.abs(eta[:, 0] - eta[:, 1]), atol=1e-6)
    settings["seed"] = 2
    assert rows(split["test"]) != rows(read_split(parse(settings), paths, ["gan"])["test"])


def test_several_samples_are_mixed_and_split_each_by_itself(settings, paths):
    """Events of the first sample fall to the same parts as without the second, and every slice has both."""
    settings["samples"]["more"] = settings["samples"]["qcd"]
    alone = read_split(parse(settings), paths, ["flow"])
    settings["generation"]["samples"] = ["qcd", "more"]
    config = parse(settings)
    entry = config.generation.models["flow"]
    x = read_tables(paths["qcd"])
    shifted = paths["qcd"][0].with_name("shifted.h5")
    write_table(shifted, [Table(x.columns | {"eta_j1": x.columns["eta_j1"] + 10})])
    mixed = read_split(config, paths | {"more": [shifted]}, ["flow"])
    for part, table in mixed.items():
        first = table.columns["eta_j1"] < 5
        assert rows(table[first]) == rows(alone[part])
        # Half of the first 200 events: 3 standard deviations
        assert np.mean(first[:200]) == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(200))
    assert inputs(config.generation, entry, mixed["train"]).shape == (3600, 7)


def bad_file(folder, **changes):
    x = np.random.default_rng(1).uniform(1, 2, (200, 7))
    columns = dict(zip(FEATURES, x.T, strict=True)) | changes
    write_table(folder / "bad.h5", [Table(columns)])
    return {"qcd": [folder / "bad.h5"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta_j2": np.full(200, 0.5)}, "features of 'qcd': eta_j2 is 0.5 in every training event"),
        ({"mass_j1": np.r_[np.nan, np.inf, np.linspace(1, 2, 198)]}, "2 of 200 values of mass_j1 are not finite"),
        ({"weight": np.r_[np.nan, np.ones(199)]}, "sample 'qcd': .*weight"),
    ],
)
def test_unfit_events_are_named(config, tmp_path, changes, message):
    with pytest.raises(HepgenError, match=message):
        read_split(config, bad_file(tmp_path, **changes), ["flow"])


def test_too_few_events(config, tmp_path):
    write_table(tmp_path / "few.h5", [read_tables(bad_file(tmp_path)["qcd"])[:6]])
    with pytest.raises(HepgenError, match="3 training events are too few to learn 7 features; at least 70 are needed"):
        read_split(config, {"qcd": [tmp_path / "few.h5"]}, ["flow"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_fraction": 0.02}, r"4 held-out events are too few .* raise generation.test_fraction"),
        ({"validation_fraction": 0.01}, r"all 1 events of the validation part have the weight 0"),
    ],
)
def test_every_part_has_events_of_some_weight(settings, tmp_path, change, message):
    settings["generation"] |= change
    config = parse(settings)
    order = np.random.default_rng(seed_for(config.seed, "qcd", "split")).permutation(200)
    weight = np.ones(200)
    weight[order[100]] = 0
    with pytest.raises(HepgenError, match=message):
        read_split(config, bad_file(tmp_path, weight=weight), ["flow"])


def test_missing_columns_are_named_with_their_sample(config, tmp_path):
    write_table(tmp_path / "part.h5", [Table({name: np.arange(200.0) for name in FEATURES[:-1]})])
    with pytest.raises(HepgenError, match=r"sample 'qcd': .*mass_j2"):
        read_split(config, {"qcd": [tmp_path / "part.h5"]}, ["flow"])


def test_unknown_feature(settings):
    settings["generation"]["features"][0] = "pt_j0"
    with pytest.raises(HepgenError, match="unknown observable of sample 'qcd' 'pt_j0'"):
        parse(settings)
