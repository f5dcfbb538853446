"""Products are whole or absent, the same bytes for the same content, and damage is noticed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.storage import Columns, Jagged, create_h5, describe_h5, open_h5, read_json, write_json


def lists(n=30, seed=1):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, n)
    return ak.unflatten(ak.zip({"pt": rng.random(counts.sum()), "eta": rng.random(counts.sum())}), counts)


def write(path, n=30):
    with create_h5(path, "demo") as file:
        Jagged(file.require_group("lists")).append(lists(n))
        Columns(file.require_group("columns")).append({"x": np.arange(n, dtype=np.float32)})


def read(path):
    with open_h5(path, "demo") as file:
        return Jagged(file["lists"]).read(), file["columns/x"][:], file.attrs["provenance"]


def names(folder):
    return [path.name for path in folder.iterdir()]


def fail_after_a_part(path):
    with create_h5(path, "demo") as file:
        file["x"] = [1.0]
        raise ZeroDivisionError


def test_failing_writer_leaves_the_old_product(tmp_path):
    path = tmp_path / "product.h5"
    write(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        fail_after_a_part(path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["product.h5"]


def test_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_after_a_part(tmp_path / "new" / "product.h5")
    assert names(tmp_path / "new") == []


def in_small_disk(code, folder):
    """Run code in a process of its own, in which no file may exceed 20 kB."""
    limit = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
    limit += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    program = limit + textwrap.dedent(code)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


WRITERS = {
    "h5": """
        import numpy as np
        from hepgen.errors import HepgenError
        from hepgen.storage import Columns, create_h5
        try:
            with create_h5("product", "demo") as file:
                for _ in range(50):
                    Columns(file.require_group("columns")).append({"x": np.random.default_rng(1).random(10_000)})
        except HepgenError as error:
            print(error)
    """,
    "json": """
        from hepgen.errors import HepgenError
        from hepgen.storage import write_json
        try:
            write_json("product", list(range(50_000)))
        except HepgenError as error:
            print(error)
    """,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_full_disk(tmp_path, kind):
    (tmp_path / "product").write_text("old")
    result = in_small_disk(WRITERS[kind], tmp_path)
    assert "cannot write product" in result.stdout, result.stderr
    assert "File too large" in result.stdout
    assert result.returncode == 0
    assert names(tmp_path) == ["product"]
    assert (tmp_path / "product").read_text() == "old"


def test_folder_that_cannot_be_written(tmp_path):
    """A file where a folder is needed fails for every user; permissions do not stop an administrator."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(HepgenError, match="cannot write"):
        write_json(tmp_path / "results" / "metrics.json", 1)


def test_read_only_device():
    with pytest.raises(HepgenError, match="cannot write"):
        write(Path("/proc/product.h5"))


def test_same_content_same_bytes(tmp_path):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_jagged_slices(tmp_path):
    path, content = tmp_path / "lists.h5", lists()
    with create_h5(path, "demo") as file:
        for part in (content[:11], content[11:11], content[11:]):
            Jagged(file.require_group("lists")).append(part)
    with open_h5(path, "demo") as file:
        stored = Jagged(file["lists"])
        assert ak.array_equal(stored.read(), content)
        for start, stop in [(0, 5), (5, 12), (29, 30), (7, 7), (25, 99), (40, 50), (3, None)]:
            assert stored.read(start, stop).tolist() == content[start:stop].tolist()


def test_columns_must_stay_the_same(tmp_path):
    with create_h5(tmp_path / "x.h5", "demo") as file:
        columns = Columns(file.require_group("columns"))
        columns.append({"x": np.zeros(3), "y": np.zeros(3)})
        with pytest.raises(HepgenError, match="expected equally long columns x, y"):
            columns.append({"x": np.zeros(3)})
        with pytest.raises(HepgenError, match=r"got \{'x': 3, 'y': 2\}"):
            columns.append({"x": np.zeros(3), "y": np.zeros(2)})


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "product.h5"
    write(path)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(HepgenError, match=r"product\.h5"):
            read(path)


def test_flipped_bits_are_noticed_or_harmless(tmp_path):
    """Checksums cover the data and the structure; the gaps between them are never read."""
    path = tmp_path / "product.h5"
    write(path)
    content, expected = path.read_bytes(), read(path)
    rng = np.random.default_rng(1)
    noticed = 0
    for position in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = read(path)
        except HepgenError:
            noticed += 1
            continue
        assert found[0].tolist() == expected[0].tolist(), position
        np.testing.assert_array_equal(found[1], expected[1])
    assert noticed > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
        (lambda path: path.write_text("text"), "not a readable HDF5 file"),
        (lambda path: h5py.File(path, "w").close(), "expected demo, found an HDF5 file that hepgen did not write"),
    ],
)
def test_other_files_are_refused(tmp_path, make, message):
    path = tmp_path / "product.h5"
    make(path)
    with pytest.raises(HepgenError, match=message):
        read(path)


def test_another_kind_of_product_is_refused(tmp_path):
    with create_h5(tmp_path / "x.h5", "events"):
        pass
    with pytest.raises(HepgenError, match="expected demo, found events"), open_h5(tmp_path / "x.h5", "demo"):
        pass


def test_missing_dataset_is_damage(tmp_path):
    with create_h5(tmp_path / "x.h5", "demo"):
        pass
    with pytest.raises(HepgenError, match=r"x\.h5: damaged"):
        read(tmp_path / "x.h5")


def test_json_errors(tmp_path):
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "missing.json"):
        with pytest.raises(HepgenError, match="not a readable JSON file"):
            read_json(tmp_path / name)
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "nan.json", float("nan"))
    assert not (tmp_path / "nan.json").exists()


def external_link(file):
    file["group/link"] = h5py.ExternalLink("other.h5", "x")


def external_storage(file):
    file.create_dataset("raw", (3,), "f8", external=[("other.bin", 0, 24)])


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("group/virtual", layout)


def circle(file):
    """Two datasets that are each other's source: reading one would crash the HDF5 library."""
    for name, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(".", other, (3,))
        file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external_link, "'group/link' leads to another file, which is never followed"),
        (external_storage, "'raw' leads to another file, which is never followed"),
        (virtual, "'group/virtual' is a virtual dataset, which leads to other datasets or files"),
        (circle, "'a' is a virtual dataset"),
    ],
)
def test_files_that_lead_to_others_are_refused(tmp_path, make, message):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0, 2.0, 3.0]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file)
    with pytest.raises(HepgenError, match=message), open_h5(tmp_path / "x.h5"):
        pytest.fail("it was opened")


def test_links_inside_a_file_are_followed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b/x"] = [1.0]
        file["a/b/loop"] = file["a"]
        file["soft"] = h5py.SoftLink("/a/b/x")
        file["dangling"] = h5py.SoftLink("/nowhere")
    with open_h5(tmp_path / "x.h5") as file:
        assert file["soft"][0] == 1.0


def test_a_product_says_what_it_was_made_for(tmp_path):
    with create_h5(tmp_path / "x.h5", "demo", '{"card": {"name": "qcd"}}'):
        pass
    with create_h5(tmp_path / "y.h5", "demo"):
        pass
    assert describe_h5(tmp_path / "x.h5") == ("demo", "qcd")
    assert describe_h5(tmp_path / "y.h5") == ("demo", "")


BAD_PROVENANCE = ["made by me", "[1, 2]", '{"card": ["qcd"]}', 3.5, "[" * 100_000]


@pytest.mark.parametrize("provenance", BAD_PROVENANCE)
def test_the_provenance_of_others_is_theirs(tmp_path, provenance):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["provenance"] = provenance
    assert describe_h5(tmp_path / "x.h5") == ("", "")


@pytest.mark.parametrize("provenance", BAD_PROVENANCE)
def test_a_damaged_provenance(tmp_path, provenance):
    with create_h5(tmp_path / "x.h5", "demo") as file:
        file.attrs["provenance"] = provenance
    with pytest.raises(HepgenError, match=r"x\.h5: damaged"):
        describe_h5(tmp_path / "x.h5")
