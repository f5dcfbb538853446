"""Files of a sample: patterns, lists, and how chunks share them."""

import os

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.inputs import check_file, expand, parts
from hepgen.samples import LhcoSample


def sample(path, chunks=1):
    return LhcoSample(source="lhco", path=path, chunks=chunks, jets="any")


@pytest.fixture
def files(tmp_path):
    """Seven files of very different lengths, one of them empty, and how many events each is said to hold."""
    rng = np.random.default_rng(1)
    events = {}
    for index, size in enumerate([10, 5000, 1, 0, 300, 2000, 40]):
        path = tmp_path / f"{index}.h5"
        path.write_bytes(bytes(size))
        events[str(path)] = int(rng.integers(0, 100))
    return events


@pytest.mark.parametrize("chunks", [1, 2, 7, 50])
def test_every_event_is_read_once_in_order(files, tmp_path, chunks):
    shares = parts(sample(f"{tmp_path}/*.h5", chunks))
    read = [(part.path, row) for share in shares for part in share for row in part.rows(files[part.path])]
    assert read == [(path, row) for path, events in files.items() for row in range(events)]
    assert len(shares) == chunks


def test_chunks_of_one_file_are_equal_blocks(files):
    shares = parts(sample(next(iter(files)), 3))
    assert [part.rows(100) for (part,) in shares] == [range(0, 33), range(33, 66), range(66, 100)]


def test_chunks_are_balanced_by_size(tmp_path):
    """A hundred files of 1 to 100 bytes: no chunk of ten is off by more than one byte's worth of rounding."""
    for size in range(1, 101):
        (tmp_path / f"{size:03}.h5").write_bytes(bytes(size))
    shares = parts(sample(f"{tmp_path}/*.h5", 10))
    lengths = [sum((part.stop - part.start) * int(part.path[-6:-3]) for part in share) for share in shares]
    assert lengths == [505] * 10


def test_batches_cover_a_part():
    (part,) = parts(sample("root://host/a.root"))[0]
    assert list(part.batches(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(part.batches(0, 4)) == []


def test_files_of_other_hosts_count_alike():
    shares = parts(sample([f"root://host//store/{i}.root" for i in range(4)], 2))
    assert [[part.path[-6:] for part in share] for share in shares] == [["0.root", "1.root"], ["2.root", "3.root"]]


def test_a_name_with_brackets_is_a_file_where_it_exists(tmp_path):
    path = tmp_path / "run[1].h5"
    path.touch()
    assert expand(str(path)) == [str(path)]


def test_a_list_keeps_its_order_and_patterns_are_sorted(files, tmp_path):
    paths = list(files)
    assert expand([paths[5], f"{tmp_path}/[0-2].h5"]) == [paths[5], *paths[:3]]


def test_a_file_named_twice(files, tmp_path):
    path = next(iter(files))
    (tmp_path / "link.h5").symlink_to(path)
    for other in (path, f"{tmp_path}/../{tmp_path.name}/0.h5", f"{tmp_path}/link.h5"):
        with pytest.raises(HepgenError, match="is named twice"):
            expand([path, other])


def test_braces_are_wildcards_to_snakemake(tmp_path):
    (tmp_path / "a{b}.h5").touch()
    with pytest.raises(HepgenError, match=r"a\{b\}\.h5: its name holds braces"):
        expand(f"{tmp_path}/*.h5")


def test_a_pattern_without_files(tmp_path):
    with pytest.raises(HepgenError, match=r"no file matches '.*\*\.root'; patterns are relative to"):
        expand(f"{tmp_path}/*.root")


def test_what_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in (
        (tmp_path / "absent", "no such file"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "pipe", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        (tmp_path / "loop", "no such file|levels of symbolic links"),
    ):
        with pytest.raises(HepgenError, match=message):
            check_file(str(path))
    with pytest.raises(HepgenError, match="no such file"):
        parts(sample(str(tmp_path / "absent")))
