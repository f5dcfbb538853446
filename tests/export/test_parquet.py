"""Parquet files hold every bit of a product, for pyarrow, pandas and hepgen's own source."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hepgen.export import export
from hepgen.samples import ArraysSample
from hepgen.sources import arrays


def flat(table, names):
    """Columns as flat arrays, under the names that a product has for them."""
    found = {}
    for name in names:
        of, is_count, _ = name.partition("_counts")
        column = table[f"{of}_pt" if is_count else name].combine_chunks()
        if is_count:
            found[name] = column.value_lengths().to_numpy()
        else:
            found[name] = (column.flatten() if str(column.type).startswith("list") else column).to_numpy(False)
    return found


def test_every_product_comes_back_by_pyarrow(stored, tmp_path, same_bits):
    assert export(stored.paths, tmp_path / "x.parquet") == 48
    table = pq.read_table(tmp_path / "x.parquet")
    assert set(table.column_names) == {name for name in stored.arrays if not name.endswith("_counts")}
    same_bits(flat(table, stored.arrays), stored.arrays)
    assert table.schema.metadata == {b"provenance": stored.provenance.encode()}


def test_a_group_of_rows_is_a_batch(store, tmp_path):
    for kind, sizes in {"scores": [11, 11, 9, 11, 6], "jets": [7, 7, 7, 7, 3, 7, 7, 3]}.items():
        export(store(kind).paths, tmp_path / "x.parquet")
        metadata = pq.ParquetFile(tmp_path / "x.parquet").metadata
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == sizes


def test_pandas_reads_lists(store, tmp_path):
    stored = store("events")
    export(stored.paths, tmp_path / "x.parquet")
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert frame["particles_pt"].map(len).tolist() == stored.arrays["particles_counts"].tolist()
    np.testing.assert_array_equal(np.concatenate(frame["particles_pt"].to_list()), stored.arrays["particles_pt"])


def test_observables_are_a_sample_again(store, tmp_path):
    stored = store("jets")
    export(stored.paths, tmp_path / "x.parquet")
    columns = {name: name for name in ("mass_j1", "label")}
    entry = ArraysSample(source="arrays", path=str(tmp_path / "x.parquet"), columns=columns)
    tables = list(arrays.stream(entry, 0, 1))
    for name in columns:
        found = np.concatenate([table.columns[name] for table in tables])
        np.testing.assert_array_equal(found, stored.arrays[name])
