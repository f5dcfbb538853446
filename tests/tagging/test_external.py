"""Scores of other tools: what they are given, what they give back, and what is refused."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.storage import open_h5
from hepgen.tagging import external
from hepgen.tagging.dataset import load
from hepgen.tagging.external import read_scores, write_split

DOCS = (Path(__file__).parents[2] / "docs/studies.md").read_text()


@pytest.fixture(scope="module")
def events(config, paths):
    return load(config, paths, ["mjj"], ("test",))[0]


@pytest.fixture
def rows(config, events):
    """The arrays of a file of scores: every test event, in another order, and one that is not tested."""
    order = np.random.default_rng(1).permutation(len(events))
    names = np.array(external.tested_samples(config))[events.columns["sample"]]
    event, score = events.columns["event"], np.arange(len(events)) / 7
    return {
        "sample": np.append(names[order], "another"),
        "event": np.append(event[order], 0),
        "score": np.append(score[order], 0.0),
    }


def read(config, events, arrays, path):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file[key] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
    return read_scores("mine", str(path), external.tested_samples(config), events)


@pytest.mark.parametrize("name", ["scores.npz", "scores.h5"])
def test_scores_are_matched_by_sample_and_event(config, events, rows, tmp_path, name):
    (scores,) = read(config, events, rows, tmp_path / name)
    np.testing.assert_array_equal(scores, np.arange(len(events)) / 7)


def test_several_trainings_are_columns_or_numbered_rows(config, events, rows, tmp_path):
    columns = {**rows, "score": np.stack([rows["score"], -rows["score"]], axis=1)}
    numbered = {key: np.concatenate([values, values]) for key, values in rows.items()}
    numbered["score"] = np.concatenate([rows["score"], -rows["score"]])
    numbered["training"] = np.repeat([3, 8], len(rows["score"]))
    for arrays in (columns, numbered):
        first, second = read(config, events, arrays, tmp_path / "scores.npz")
        np.testing.assert_array_equal(first, np.arange(len(events)) / 7)
        np.testing.assert_array_equal(second, -first)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: {k: v[3:] for k, v in a.items()},
            r"[123] of .* test events of sample .* have no score",
        ),
        (lambda a: {k: np.append(v, v[0]) for k, v in a.items()}, "is there more than once"),
        (lambda a: {**a, "score": np.where(a["event"] == 1, np.nan, a["score"])}, "scores are not finite"),
        (lambda a: {**a, "score": a["score"][1:]}, "the arrays are not equally long"),
        (lambda a: {k: v for k, v in a.items() if k != "event"}, "has no array 'event'; it needs sample, event, score"),
        (lambda a: {**a, "event": a["event"].astype(float)}, "array 'event' is float64 .* integers"),
        (lambda a: {k: v[:0] for k, v in a.items()}, r"holds no scores: .* shape \(0,\)"),
        (lambda a: {**a, "score": a["score"][:, None][:, :0]}, "holds no scores"),
    ],
)
def test_unusable_files_are_refused(config, events, rows, tmp_path, change, message, suffix):
    with pytest.raises(HepgenError, match=message):
        read(config, events, change(rows), tmp_path / f"scores{suffix}")


def test_nothing_is_unpickled(config, events, rows, tmp_path):
    objects = {**rows, "sample": rows["sample"].astype(object)}
    with pytest.raises(HepgenError, match=r"scores.npz: not a readable .npz file.* pickled objects"):
        read(config, events, objects, tmp_path / "scores.npz")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_damaged_files_are_one_error(config, events, rows, tmp_path, suffix):
    """Cut short, with flipped bits, of another format, with names in another encoding."""
    path = tmp_path / f"scores{suffix}"
    read(config, events, rows, path)
    good, rng = path.read_bytes(), np.random.default_rng(1)
    np.save(tmp_path / "plain.npy", rows["score"])
    latin = {**rows, "sample": np.char.encode(np.char.replace(rows["sample"], "a", "é"), "latin-1")}
    damaged = [b"", b"no zip", (tmp_path / "plain.npy").read_bytes()]
    damaged += [good[: rng.integers(len(good))] for _ in range(10)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(HepgenError, match=path.name):
            read_scores("mine", str(path), external.tested_samples(config), events)
    with pytest.raises(HepgenError, match="utf-8"):
        read(config, events, latin, path)
    for _ in range(40):
        content = bytearray(good)
        for place in rng.integers(len(good), size=8):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        # A flipped bit may change a number and nothing else.
        with suppress(HepgenError):
            assert read_scores("mine", str(path), external.tested_samples(config), events).shape == (1, len(events))


def test_the_split_is_that_of_the_taggers(config, paths, events, tmp_path):
    assert write_split(config, paths, tmp_path / "split.h5") == 1500
    write_split(config, paths, tmp_path / "split.npz")
    with open_h5(tmp_path / "split.h5", "split") as file, np.load(tmp_path / "split.npz") as plain:
        assert file.keys() == set(plain)
        for name in ("event", "label", "weight", "mjj", "tau21_heavy"):
            np.testing.assert_array_equal(file[name][:], plain[name])
        for name in ("sample", "part"):
            np.testing.assert_array_equal(file[name].asstr()[:], plain[name])
        tested = plain["part"] == "test"
        np.testing.assert_array_equal(plain["mjj"][tested], events.columns["mjj"])
        np.testing.assert_array_equal(plain["event"][tested], events.columns["event"])
        (train,) = load(config, paths, ["mjj"], ("train",))
        np.testing.assert_array_equal(plain["mjj"][plain["part"] == "train"], train.columns["mjj"])


def test_the_example_of_the_documentation(config, paths, events, tmp_path):
    write_split(config, paths, tmp_path / "split.npz")
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True)
    scores = read_scores("mine", str(tmp_path / "mine.npz"), external.tested_samples(config), events)
    label = events.columns["label"]
    assert scores.shape == (3, len(label))
    assert scores[:, label == 1].mean() > scores[:, label == 0].mean() + 0.5
