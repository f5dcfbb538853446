"""NumPy archives: flat arrays, lists as the numbers of their entries and their fields."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy

from hepgen.export.products import Product

__all__ = ["write"]


def write(product: Product, path: Path) -> None:
    """Write one array after the other, piece by piece, and the string ``provenance``; nothing in it is pickled."""
    with ZipFile(path, "w") as archive:
        for name, (dtype, length) in product.arrays.items():
            header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
            # An array may turn out longer than the 2 GB that archives assume.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, header)
                for piece in product.pieces(name):
                    member.write(piece.tobytes())
        with archive.open("provenance.npy", "w") as member:
            npy.write_array(member, np.array(product.provenance), allow_pickle=False)
