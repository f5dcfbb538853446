"""Parquet files: a column for each column, and one of lists for each field of a list."""

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepgen.export.products import Batch, Product

__all__ = ["write"]


def write(product: Product, path: Path) -> None:
    """Write a row group for each batch, and what the product was made from as the file's metadata ``provenance``."""
    fields = {name: pa.from_numpy_dtype(product.dtype(name)) for name in product.columns}
    for name, inner in product.lists.items():
        fields |= {f"{name}_{f}": pa.list_(pa.from_numpy_dtype(product.dtype(f"{name}_{f}"))) for f in inner}
    schema = pa.schema(fields, metadata={"provenance": product.provenance})
    # Real numbers seldom repeat: a dictionary of them takes four times as long and more room.
    with path.open("wb") as handle, pq.ParquetWriter(handle, schema, use_dictionary=False) as writer:
        for batch in product.batches():
            writer.write_table(pa.Table.from_arrays(_arrays(product, batch), schema=schema))


def _arrays(product: Product, batch: Batch) -> list[pa.Array]:
    arrays = [pa.array(batch[name]) for name in product.columns]
    for name, fields in product.lists.items():
        offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(batch[name])))]).astype(np.int32)
        flat = ak.flatten(batch[name])
        arrays += [pa.ListArray.from_arrays(pa.array(offsets), pa.array(ak.to_numpy(flat[f]))) for f in fields]
    return arrays
