"""NumPy's own files, .npy and .npz, read in slices: nothing is unpickled, and no stated size is trusted."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np

from hepgen.errors import HepgenError
from hepgen.inputs import check_file
from hepgen.sources.files import readable

__all__ = ["Member", "open_arrays"]

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Deflate cannot shrink anything further than about 1030 times; what claims to is there to fill the memory or disk.
BOMB_RATIO, BOMB_SIZE = 1000, 10**9
# What is read as a whole is no larger, and arrives in pieces.
MOST_WHOLE, PIECE = 1 << 29, 1 << 20
PICKLED = "it holds pickled objects, which are never read"


class Member:
    """An array inside an archive, of which slices of rows are read, forward only.

    One in Fortran order is read as a whole, for its rows do not lie together; it may have at most 512 MiB.
    """

    def __init__(self, stream: BinaryIO, info: ZipInfo, archive: str | None) -> None:
        if info.file_size > max(BOMB_SIZE, BOMB_RATIO * info.compress_size):
            msg = f"{info.filename} claims to hold {info.file_size} bytes in {info.compress_size}"
            raise ValueError(msg)
        self._stream, self._where = stream, f"{archive}: {info.filename}"
        self.shape, self._fortran, self.dtype = _header(stream, info.file_size, info.filename)
        self._start = self._stream.tell()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        if self._fortran and self.ndim > 1:
            return self._whole[start:stop]
        width = math.prod(self.shape[1:])
        return self._read(start * width, stop * width).reshape(stop - start, *self.shape[1:])

    @cached_property
    def _whole(self) -> np.ndarray:
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MOST_WHOLE:
            msg = (
                f"{self._where} holds {size >> 20} MiB by columns (in Fortran order), of which no row can be read "
                f"without all of it in memory, {MOST_WHOLE >> 20} MiB at most; save it as np.ascontiguousarray(...)"
            )
            raise HepgenError(msg)
        return self._read(0, math.prod(self.shape)).reshape(self.shape, order="F")

    def _read(self, start: int, stop: int) -> np.ndarray:
        content = np.empty((stop - start) * self.dtype.itemsize, np.uint8)
        self._stream.seek(self._start + start * self.dtype.itemsize)
        # At once, the archive would have it in memory twice.
        for first in range(0, len(content), PIECE):
            piece = content[first : first + PIECE]
            if self._stream.readinto(piece) != len(piece):
                msg = "it ends early"
                raise EOFError(msg)
        return content.view(self.dtype) if len(content) else np.zeros(stop - start, self.dtype)


class Archive(Mapping[str, Member]):
    """The arrays of an .npz file by name, each opened when it is asked for."""

    def __init__(self, archive: ZipFile, opened: ExitStack) -> None:
        self._archive, self._opened = archive, opened
        self._infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def __getitem__(self, name: str) -> Member:
        info = self._infos[name]
        return Member(self._opened.enter_context(self._archive.open(info)), info, self._archive.filename)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


@contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, Member | np.ndarray]]:
    """Open the arrays of an .npz file by name, or the only one of an .npy file, whose name is empty.

    Raises:
        HepgenError: if the file is missing or damaged, holds pickled objects, or an array of it claims another size
            than the file has room for; inside the block too, while slices are read.
    """
    check_file(str(path))
    with readable(path, path.suffix):
        with path.open("rb") as stream:
            # A pickle begins with its protocol number; NumPy's files begin with \x93, zip archives with PK.
            if stream.read(1) == b"\x80":
                raise ValueError(PICKLED)
            if path.suffix == ".npy":
                stream.seek(0)
                _header(stream, path.stat().st_size, path.name)
        if path.suffix == ".npy":
            yield {"": np.load(path, mmap_mode="r", allow_pickle=False)}
            return
        with ZipFile(path) as archive, ExitStack() as opened:
            yield Archive(archive, opened)


def _header(stream: BinaryIO, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and type of an array that should fill the `size` bytes of a stream."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        msg = f"{name} has version {version} of NumPy's format; known: {', '.join(map(str, HEADERS))}"
        raise ValueError(msg)
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(PICKLED)
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != size:
        msg = f"the header of {name} (shape {shape}, {dtype}) asks for {expected} bytes, not {size}"
        raise ValueError(msg)
    return shape, fortran, dtype
