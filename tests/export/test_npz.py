"""NumPy archives hold every bit of a product, and nothing that is pickled."""

import zipfile

import numpy as np
import pytest

from hepgen.export import export
from hepgen.samples import ArraysSample
from hepgen.sources import arrays


def test_every_product_comes_back_by_numpy(stored, tmp_path, same_bits):
    assert export(stored.paths, tmp_path / "x.npz") == 48
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        found = dict(archive)
    assert str(found.pop("provenance")) == stored.provenance
    same_bits(found, stored.arrays)


def test_equal_products_give_equal_bytes(store, tmp_path):
    paths = store("jets").paths
    for name in ("a.npz", "b.npz"):
        export(paths, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_arrays_may_be_longer_than_the_archive_assumes(store, tmp_path):
    export(store("scores").paths, tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        # The version of the format that 64-bit lengths need.
        assert archive.getinfo("score.npy").extract_version == 45
        assert archive.testzip() is None


@pytest.mark.parametrize("kind", ["generated", "scores", "unfolded"])
def test_tables_are_a_sample_again(store, tmp_path, kind):
    stored = store(kind)
    export(stored.paths, tmp_path / "x.npz")
    columns = {name: name for name in stored.arrays}
    tables = list(arrays.stream(ArraysSample(source="arrays", path=str(tmp_path / "x.npz"), columns=columns), 0, 1))
    for name, values in stored.arrays.items():
        found = np.concatenate([table.columns[name] for table in tables])
        np.testing.assert_array_equal(found, values.astype(np.float32))
