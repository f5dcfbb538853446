"""Tables of observables: round trips, joins, matrices and their errors."""

import awkward as ak
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.table import Table, read_tables, write_table


def table(n=12, seed=1, ranks=2):
    rng = np.random.default_rng(seed)
    columns = {"mjj": rng.random(n).astype(np.float32), "label": rng.integers(0, 2, n).astype(np.int8)}
    truth = {"mjj": rng.random(n).astype(np.float32)}
    counts = rng.integers(1, 5, n)
    jets = ak.unflatten(ak.zip({"pt": rng.random(counts.sum()).astype(np.float32)}), counts)
    return Table(columns, truth, (jets,) * ranks)


def same(first, second):
    for level in ("columns", "truth"):
        one, other = getattr(first, level), getattr(second, level)
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
            assert values.dtype == other[name].dtype
    assert len(first.constituents) == len(second.constituents)
    assert all(ak.array_equal(one, other) for one, other in zip(first.constituents, second.constituents, strict=True))
    return True


def test_round_trip_and_join(tmp_path):
    content = table()
    assert write_table(tmp_path / "a.h5", [content[:5], content[5:8]]) == 8
    write_table(tmp_path / "b.h5", [content[8:]])
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert same(read_tables(iter(paths), constituents=True), content)
    assert read_tables(paths).constituents == ()


def test_ranks_keep_their_order(tmp_path):
    jets = tuple(table(seed=seed, ranks=1).constituents[0] for seed in range(11))
    write_table(tmp_path / "a.h5", [Table(table().columns, {}, jets)])
    assert same(read_tables([tmp_path / "a.h5"], constituents=True), Table(table().columns, {}, jets))


def test_selections_and_matrix():
    content = table()
    mask = content.columns["label"] == 1
    assert same(content[mask], content[np.flatnonzero(mask)])
    matrix = content.matrix(["label", "mjj"])
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix[:, 1], content.columns["mjj"])
    np.testing.assert_array_equal(content.matrix(["mjj"], "truth")[:, 0], content.truth["mjj"])
    with pytest.raises(HepgenError, match=r"unknown observable 'mj' \(did you mean 'mjj'\?\); known: label, mjj"):
        content.matrix(["mj"])


@pytest.mark.parametrize("batches", [[], [table()[:0]]])
def test_no_event_is_an_error_and_leaves_no_file(tmp_path, batches):
    with pytest.raises(HepgenError, match="no event was left to write"):
        write_table(tmp_path / "a.h5", batches)
    assert not list(tmp_path.iterdir())


def test_tables_that_do_not_fit_together(tmp_path):
    write_table(tmp_path / "a.h5", [table()])
    write_table(tmp_path / "b.h5", [Table({"mjj": np.ones(3)})])
    with pytest.raises(HepgenError, match=r"b\.h5: its columns differ from those of .*a\.h5"):
        read_tables([tmp_path / "a.h5", tmp_path / "b.h5"])
    with pytest.raises(HepgenError, match="no table to read"):
        read_tables([])


def test_missing_constituents(tmp_path):
    write_table(tmp_path / "a.h5", [Table({"mjj": np.ones(3)})])
    with pytest.raises(HepgenError, match="holds no constituents"):
        read_tables([tmp_path / "a.h5"], constituents=True)


def test_columns_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(HepgenError, match="equally long"):
        write_table(tmp_path / "a.h5", [Table({"mjj": np.ones(3), "label": np.ones(2)})])


def real_table(n=500, seed=1, **columns):
    rng = np.random.default_rng(seed)
    values = {f"x{i}": rng.normal(size=n).astype(np.float32) for i in range(4)}
    return Table({**values, "label": np.zeros(n, np.int8), **columns})


def test_an_event_in_two_files_is_an_error(tmp_path):
    write_table(tmp_path / "a.h5", [real_table()])
    write_table(tmp_path / "b.h5", [real_table(seed=2), real_table()[:3]])
    with pytest.raises(HepgenError, match=r"3 of 1003 events occur more than once, e\.g\. in .*a\.h5 and .*b\.h5"):
        read_tables([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert len(read_tables([tmp_path / "b.h5"])) == 503


def test_rounded_numbers_may_agree_by_chance(tmp_path):
    """1,000 values in each of four columns leave 10¹² rows: two of 2,000 agree once in 500,000 such tables."""
    rng = np.random.default_rng(3)
    fine, coarse = ({f"x{i}": rng.integers(0, n, 2000) / 16 for i in range(4)} for n in (1000, 5))
    write_table(tmp_path / "fine.h5", [Table(fine)])
    write_table(tmp_path / "coarse.h5", [Table(coarse)])
    assert len(read_tables([tmp_path / "fine.h5"])) == len(read_tables([tmp_path / "coarse.h5"])) == 2000
    write_table(tmp_path / "twice.h5", [Table(fine), Table(fine)])
    with pytest.raises(HepgenError, match="2000 of 4000 events occur more than once"):
        read_tables([tmp_path / "twice.h5"])


def test_sentinels_and_missing_levels_are_no_repeated_events(tmp_path):
    """Events without jets are alike in every number, and fakes have only two correlated numbers: neither tells."""
    rng = np.random.default_rng(4)
    empty = {f"x{i}": np.where(rng.random(3000) < 0.6, -999.0, rng.normal(size=3000)) for i in range(5)}
    none = np.where((empty["x0"] == -999.0)[:, None], -999.0, np.column_stack(list(empty.values())))
    write_table(tmp_path / "padded.h5", [Table(dict(zip(empty, none.T, strict=True)))])
    assert len(read_tables([tmp_path / "padded.h5"])) == 3000
    fake = {f"x{i}": np.where(np.arange(3000) < 2000, np.nan, rng.normal(size=3000)) for i in range(5)}
    coarse = np.round(rng.normal(size=3000), 2)
    write_table(tmp_path / "fakes.h5", [Table({**fake, "mass": coarse, "pt": 2 * coarse})])
    assert len(read_tables([tmp_path / "fakes.h5"])) == 3000
