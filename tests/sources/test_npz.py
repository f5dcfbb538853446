"""NumPy's files in slices: the same numbers as NumPy reads, and nothing believed that a damaged file claims."""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.sources import npz
from hepgen.sources.npz import open_arrays

CUBE = np.arange(120.0).reshape(10, 3, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", [CUBE, np.asfortranarray(CUBE), CUBE[:, 0].astype(">f4"), np.zeros((0, 3))])
def test_slices_are_those_of_numpy(tmp_path, save, array):
    save(tmp_path / "x.npz", a=array, b=np.arange(10))
    with open_arrays(tmp_path / "x.npz") as arrays:
        assert list(arrays) == ["a", "b"]
        member = arrays["a"]
        assert (member.shape, member.dtype) == (array.shape, array.dtype)
        for start, stop in [(0, 3), (3, 4), (7, 20), (1, 2)]:
            np.testing.assert_array_equal(member[start:stop], array[start:stop])


def test_a_slice_reads_no_more_than_itself(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((1000, 1000)))
    with open_arrays(tmp_path / "x.npz") as arrays:
        assert arrays["a"][:2].base.nbytes == 16_000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_in_fortran_order_is_in_memory_once(tmp_path, save):
    array = np.random.default_rng(1).random((3, 500_000)).T
    save(tmp_path / "x.npz", a=array)
    with open_arrays(tmp_path / "x.npz") as arrays:
        tracemalloc.start()
        rows = arrays["a"][10:13]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(rows, array[10:13])
    # Beside its 12 MB, one piece of 1 MiB in a few copies while it is unpacked.
    assert peak < array.nbytes + 6 * npz.PIECE


def test_a_large_array_in_fortran_order_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MOST_WHOLE", 5 << 20)
    np.savez(
        tmp_path / "x.npz", whole=np.ones((3, 300_000)).T, fits=np.ones((3, 200_000)).T, rows=np.ones((300_000, 3))
    )
    with open_arrays(tmp_path / "x.npz") as arrays:
        for name in ("fits", "rows"):
            assert arrays[name][:2].tolist() == [[1.0] * 3] * 2
        member = arrays["whole"]
        with pytest.raises(HepgenError) as error:
            member[:2]
    assert str(error.value) == (
        f"{tmp_path / 'x.npz'}: whole.npy holds 6 MiB by columns (in Fortran order), of which no row can be read "
        "without all of it in memory, 5 MiB at most; save it as np.ascontiguousarray(...)"
    )


def header(shape, dtype="<f8"):
    target = io.BytesIO()
    np.lib.format.write_array_header_1_0(target, {"shape": shape, "fortran_order": False, "descr": dtype})
    return target.getvalue()


def archive(content):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", content)
    return target.getvalue()


def bomb():
    """An archive that says of a small member that it holds 2 GB."""
    content = bytearray(archive(header((250_000_000,)) + bytes(1000)))
    place = content.index(b"PK\x01\x02") + 24  # the size in the archive's directory
    content[place : place + 4] = (2 * 10**9).to_bytes(4, "little")
    return bytes(content)


BAD = {
    "asks for 8000000000128 bytes, not 208": header((10**6, 10**6)) + bytes(80),
    "asks for 208 bytes, not 216": header((10,)) + bytes(88),
    "(shape (-5,), float64)": header((-5,)) + bytes(80),
    "it holds pickled objects, which are never read": header((1,), "|O") + pickle.dumps([print]),
    "has version (3, 0)": header((10,)).replace(b"\x01\x00", b"\x03\x00", 1) + bytes(80),
    "Cannot parse header": header((10,)).replace(b"descr", b"'''''") + bytes(80),
}


@pytest.mark.parametrize("message", BAD)
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_absurd_headers(tmp_path, message, name):
    path = tmp_path / name
    path.write_bytes(BAD[message] if name == "x.npy" else archive(BAD[message]))
    with pytest.raises(HepgenError) as error, open_arrays(path) as arrays:
        arrays["a" if name == "x.npz" else ""][:1]
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_pickle_with_another_name(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"X": print}))
    with pytest.raises(HepgenError, match="pickled objects, which are never read"), open_arrays(tmp_path / name):
        pytest.fail("it was opened")


def test_bomb(tmp_path):
    (tmp_path / "x.npz").write_bytes(bomb())
    message = r"a\.npy claims to hold 2000000000 bytes in"
    with pytest.raises(HepgenError, match=message), open_arrays(tmp_path / "x.npz") as arrays:
        arrays["a"]


def test_truncated_and_damaged_archives(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.random.default_rng(1).random(10_000))
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[2000:2100] = bytes(100)
    message = r"not a readable \.npz file, perhaps truncated or damaged"
    for bad in (content[:-1000], damaged):
        path.write_bytes(bad)
        with pytest.raises(HepgenError, match=message), open_arrays(path) as arrays:
            arrays["a"][:]
