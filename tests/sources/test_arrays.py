"""Tables of observables: every format gives the same columns, and bad ones a clear error."""

import re

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from hepgen.errors import HepgenError
from hepgen.samples import ArraysSample
from hepgen.sources import arrays

NAMES = ("mass", "tau", "label")


def sample(path, columns, **settings):
    return ArraysSample(source="arrays", path=str(path), columns=columns, **settings)


def read(path, columns, chunk=0, **settings):
    tables = list(arrays.stream(sample(path, columns, **settings), chunk, seed=1))
    return {name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns}


@pytest.fixture
def values():
    rng = np.random.default_rng(1)
    return np.column_stack([rng.exponential(size=90), rng.random(90), rng.integers(0, 2, 90)])


def npy(path, values):
    np.save(path, values)


def npz(path, values):
    np.savez(path, **dict(zip(NAMES, values.T, strict=True)))


def npz_table(path, values):
    np.savez(path, table=values)


def hdf5(path, values):
    with h5py.File(path, "w") as file:
        for name, column in zip(NAMES, values.T, strict=True):
            file[name] = column


def structured_hdf5(path, values):
    with h5py.File(path, "w") as file:
        file["table"] = np.rec.fromarrays(values.T, names=list(NAMES))


def pandas_hdf5(path, values):
    """The "fixed" layout of pandas: numbers of one type in one block, in an order of their own."""
    with h5py.File(path, "w") as file:
        frame = file.create_group("df")
        frame.attrs.update({"pandas_type": b"frame", "nblocks": 2})
        frame["axis0"], frame["axis1"] = [b"mass", b"tau", b"label"], np.arange(len(values))
        frame["block0_items"], frame["block0_values"] = [b"tau", b"mass"], values[:, [1, 0]]
        frame["block1_items"], frame["block1_values"] = [b"label"], values[:, 2:].astype(np.int64)


def csv(path, values):
    np.savetxt(path, values, delimiter=",", header=",".join(NAMES), comments="", fmt="%.17g")


def commented_csv(path, values):
    np.savetxt(path, values, delimiter=",", header=",".join(NAMES), fmt="%.17g")


def bare_csv(path, values):
    np.savetxt(path, values, delimiter=",", fmt="%.17g")


def parquet(path, values):
    pq.write_table(pa.table(dict(zip(NAMES, values.T, strict=True))), path, row_group_size=13)


FORMATS = [
    ("x.parquet", parquet, NAMES),
    ("x.npy", npy, (0, 1, 2)),
    ("x.npz", npz, NAMES),
    ("x.npz", npz_table, (0, 1, 2)),
    ("x.h5", hdf5, NAMES),
    ("x.h5", structured_hdf5, NAMES),
    ("x.hdf5", pandas_hdf5, NAMES),
    ("x.csv", csv, NAMES),
    ("x.csv", commented_csv, NAMES),
    ("x.csv", bare_csv, (0, 1, 2)),
]


@pytest.mark.parametrize(("name", "write", "keys"), FORMATS)
def test_every_format_gives_the_same_columns(tmp_path, monkeypatch, values, name, write, keys):
    monkeypatch.setattr(arrays, "STEP", 7)
    path = tmp_path / name
    write(path, values)
    columns = {"mass_j1": {"column": keys[0], "scale": 1000}, "tau21_j1": keys[1], "label": keys[2]}
    chunks = [read(path, columns, chunk, chunks=4) for chunk in range(4)]
    found = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in columns}
    np.testing.assert_array_equal(found["mass_j1"], (1000 * values[:, 0]).astype(np.float32))
    np.testing.assert_array_equal(found["tau21_j1"], values[:, 1].astype(np.float32))
    np.testing.assert_array_equal(found["label"], values[:, 2])
    assert found["label"].dtype == np.int8


def test_reads_the_cathode_arrays(reference):
    columns = {"mjj": {"column": 0, "scale": 1000}, "mass_light": {"column": 1, "scale": 1000}, "label": 5}
    found = read(reference / "lhco" / "cathode" / "innerdata_train.npy", columns)
    assert len(found["mjj"]) == 60_000
    assert found["label"].sum() == 395
    assert found["mjj"].min() > 3300
    assert found["mjj"].max() < 3700


def test_label_of_all_rows(tmp_path, values):
    npy(tmp_path / "x.npy", values)
    assert read(tmp_path / "x.npy", {"mass_j1": 0}, label=1)["label"].sum() == len(values)


def test_a_cut_and_its_opposite_share_the_rows(tmp_path, monkeypatch, values):
    """By the number of the row and by columns, whatever the batches and chunks."""
    monkeypatch.setattr(arrays, "STEP", 7)
    npy(tmp_path / "x.npy", values)
    columns, cut = {"mass_j1": {"column": 0, "scale": 1000}, "label": 2}, "(row < 50) & (label == 0) & (mass_j1 > 300)"
    expected = (np.arange(90) < 50) & (values[:, 2] == 0) & (values[:, 0] > 0.3)
    assert 0 < expected.sum() < 50
    for chosen, rows in {cut: expected, f"~({cut})": ~expected}.items():
        parts = [read(tmp_path / "x.npy", columns, chunk, cut=chosen, chunks=3)["mass_j1"] for chunk in range(3)]
        np.testing.assert_array_equal(np.concatenate(parts), (1000 * values[rows, 0]).astype(np.float32))


@pytest.mark.parametrize("cut", ["mass_j1 + 1", "1 < 2"])
def test_a_cut_is_a_condition_on_each_row(tmp_path, values, cut):
    npy(tmp_path / "x.npy", values)
    with pytest.raises(HepgenError, match=f"x.npy: cut '{re.escape(cut)}' says neither yes nor no of each row"):
        read(tmp_path / "x.npy", {"mass_j1": 0}, cut=cut)


def test_a_cut_knows_the_columns(tmp_path):
    with pytest.raises(ValidationError, match=r"cut: unknown column .mas. \(did you mean"):
        sample(tmp_path / "x.npy", {"mass_j1": 0}, cut="mas > 1")


@pytest.mark.parametrize(
    ("write", "name", "columns", "message"),
    [
        (npy, "x.npy", {"mass_j1": 7}, "'7'; known: 0, 1, 2"),
        (npz, "x.npz", {"mass_j1": "mas"}, "did you mean 'mass'?"),
        (hdf5, "x.h5", {"mass_j1": "m"}, "known: label, mass, tau"),
        (csv, "x.csv", {"mass_j1": 0}, "known: label, mass, tau"),
        (
            lambda path, values: path.write_bytes(b"root"),
            "x.root",
            {"mass_j1": 0},
            "known: .npy, .npz, .h5, .hdf5, .csv, .parquet",
        ),
        (lambda path, values: None, "x.npy", {"mass_j1": 0}, "no such file"),
        (lambda path, values: None, "x.h5", {"mass_j1": 0}, "no such file"),
        (lambda path, values: path.write_bytes(b"garbage"), "x.npy", {"mass_j1": 0}, "not a readable .npy file"),
        (lambda path, values: path.write_bytes(b"garbage"), "x.npz", {"mass_j1": 0}, "not a readable .npz file"),
        (lambda path, values: path.write_bytes(b"garbage"), "x.h5", {"mass_j1": 0}, "not a readable HDF5 file"),
        (lambda path, values: path.write_bytes(b"\xff\xfe\x00"), "x.csv", {"mass_j1": 0}, "not a readable .csv file"),
        (
            lambda path, values: path.write_bytes(b"garbage"),
            "x.parquet",
            {"mass_j1": 0},
            "not a readable .parquet file",
        ),
        (parquet, "x.parquet", {"mass_j1": "mas"}, "did you mean 'mass'?"),
        (lambda path, values: parquet(path, values[:0]), "x.parquet", {"mass_j1": "mass"}, "holds no row"),
        (
            lambda path, values: pq.write_table(pa.table({"a": [1.5, None]}), path),
            "x.parquet",
            {"mass_j1": "a"},
            "column 'a' (mass_j1): 1 values are not finite, the first being nan in row 1",
        ),
        (
            lambda path, values: pq.write_table(pa.table({"a": ["x", "y"]}), path),
            "x.parquet",
            {"mass_j1": "a"},
            "not one number a row",
        ),
        (lambda path, values: path.write_text("a,b\n1,2\n3\n"), "x.csv", {"mass_j1": "a"}, "not a readable .csv file"),
        (lambda path, values: path.write_text("a,b\n1,x\n"), "x.csv", {"mass_j1": "a"}, "not a readable .csv file"),
        (lambda path, values: path.write_text("a,b\n"), "x.csv", {"mass_j1": "a"}, "holds no row"),
        (lambda path, values: path.write_text(""), "x.csv", {"mass_j1": "a"}, "unknown column"),
        (lambda path, values: npy(path, values[:0]), "x.npy", {"mass_j1": 0}, "holds no row"),
        (lambda path, values: npy(path, values[:, 0]), "x.npy", {"mass_j1": 0}, "has shape (90,)"),
        (lambda path, values: npy(path, values.astype("S5")), "x.npy", {"mass_j1": 0}, "not one number a row"),
        (
            lambda path, values: np.savez(path, a=values[:3, 0], b=values[:, 0]),
            "x.npz",
            {"mass_j1": "a"},
            "a: 3, b: 90",
        ),
        (lambda path, values: npy(path, np.where(values > 2, np.nan, values)), "x.npy", {"mass_j1": 0}, "not finite"),
        (lambda path, values: npy(path, 1e300 * values), "x.npy", {"mass_j1": 0}, "not finite"),
        (lambda path, values: npy(path, values + 0.5), "x.npy", {"label": 2}, "neither 0 nor 1"),
    ],
)
def test_bad_table_is_one_clear_error(tmp_path, values, write, name, columns, message):
    path = tmp_path / name
    write(path, values)
    with pytest.raises(HepgenError) as error:
        read(path, columns)
    assert message in str(error.value)
    assert str(path) in str(error.value)


CSV = {
    "names in quotes": '"mass, GeV","tau ""21"""\n1,2\n3,4\n',
    "a byte-order mark": "\ufeffmass,tau\n1,2\n3,4\n",
    "a name that is a number": "21,tau\n1,2\n3,4\n",
    "a first name that begins like a number": "e-,tau\n1,2\n3,4\n",
    "empty lines first": "\n\nmass,tau\n1,2\n\n3,4\n",
    "no names, and a byte-order mark": "\ufeff1,2\n3,4\n",
    "a number as Python writes it": "Infinity,2\n3,4\n",
    "numbers as names": "#0,1\n1,2\n3,4\n",
}
KEYS = {
    "names in quotes": ["mass, GeV", 'tau "21"'],
    "a byte-order mark": ["mass", "tau"],
    "a name that is a number": ["21", "tau"],
    "a first name that begins like a number": ["e-", "tau"],
    "empty lines first": ["mass", "tau"],
}


@pytest.mark.parametrize("case", CSV)
def test_the_names_of_comma_separated_columns(tmp_path, case):
    path = tmp_path / "x.csv"
    path.write_text(CSV[case], encoding="utf-8")
    with path.open(encoding="utf-8-sig") as handle:
        keys, lines = arrays.csv_columns(handle, path)
        assert (list(keys), len(list(lines))) == (KEYS.get(case, [0, 1]), 2)
    assert read(path, {"tau21_j1": keys[1]})["tau21_j1"].tolist() == [2, 4]


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(HepgenError) as error:
        read(tmp_path / "x.csv", {"tau21_j1": "b"})
    assert str(error.value) == (
        f"{tmp_path / 'x.csv'}: 2 columns are called 'a', so that none of them can be meant; rename them"
    )


def test_a_frame_is_looked_for_in_groups_alone(tmp_path, monkeypatch, values):
    pandas_hdf5(tmp_path / "x.h5", values)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["a table"] = values
        file["frames/second/axis0"] = [b"a"]
        file["text"] = [b"axis0"]

    def asked(dataset):
        pytest.fail(f"the rows of {dataset.name} were gone through")

    monkeypatch.setattr(h5py.Dataset, "__iter__", asked)
    with h5py.File(tmp_path / "x.h5") as file:
        datasets, frame = arrays.hdf5_contents(file)
        assert frame.name == "/df"
        assert {"a table", "text", "df/axis0", "df/block1_values"} < datasets.keys()
        assert list(arrays.read_frame(frame).keys) == list(NAMES)
        del file
    np.testing.assert_array_equal(read(tmp_path / "x.h5", {"m": "mass"})["m"], values[:, 0].astype(np.float32))


def test_a_frame_with_a_column_of_text(tmp_path, values):
    pandas_hdf5(tmp_path / "x.h5", values)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        frame = file["df"]
        frame.attrs["nblocks"] = 3
        del frame["axis0"]
        frame["axis0"], frame["block2_items"] = [b"mass", b"who", b"tau", b"label"], [b"who"]
        text = frame.create_dataset("block2_values", (1,), h5py.vlen_dtype(np.uint8))
        text[0] = np.frombuffer(b"cos\nsystem\n", np.uint8)
    assert len(read(tmp_path / "x.h5", {"m": "mass"})["m"]) == len(values)
    with pytest.raises(HepgenError, match=r"unknown column of .*'who'; known: label, mass, tau"):
        read(tmp_path / "x.h5", {"m": "who"})


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_pickled_objects_are_not_opened(tmp_path, name):
    content = np.array([[print]], dtype=object)
    np.save(tmp_path / name, content) if name.endswith("npy") else np.savez(tmp_path / name, content)
    with pytest.raises(HepgenError, match="pickled objects, which are never read"):
        read(tmp_path / name, {"mass_j1": 0})


def test_truncated_array(tmp_path, values):
    path = tmp_path / "x.npy"
    npy(path, values)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HepgenError, match=r"not a readable \.npy file"):
        read(path, {"mass_j1": 0})


def test_several_files_are_one_sample(tmp_path, monkeypatch, values):
    """Files of two formats, shared among chunks: every row once, in the order of the files."""
    monkeypatch.setattr(arrays, "STEP", 7)
    parquet(tmp_path / "a.parquet", values[:40])
    npz(tmp_path / "b.npz", values[40:])
    entry = {
        "source": "arrays",
        "path": [str(tmp_path / "a.parquet"), str(tmp_path / "b.npz")],
        "columns": {"mass_j1": "mass"},
    }
    tables = [table for chunk in range(3) for table in arrays.stream(ArraysSample(**entry, chunks=3), chunk)]
    found = np.concatenate([table.columns["mass_j1"] for table in tables])
    np.testing.assert_array_equal(found, values[:, 0].astype(np.float32))


def test_one_group_of_rows_at_a_time(tmp_path, monkeypatch, values):
    parquet(tmp_path / "x.parquet", values)
    read_groups = []
    original = pq.ParquetFile.read_row_group

    def spy(file, group, **options):
        read_groups.append((group, options["columns"]))
        return original(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    monkeypatch.setattr(arrays, "STEP", 4)
    read(tmp_path / "x.parquet", {"mass_j1": "mass"}, 1, chunks=2)
    assert read_groups == [(group, ["mass"]) for group in (3, 4, 5, 6)]


def test_truncated_parquet(tmp_path, values):
    path = tmp_path / "x.parquet"
    parquet(path, values)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HepgenError, match=r"not a readable \.parquet file"):
        read(path, {"mass_j1": "mass"})


def test_hdf5_that_leads_to_another_file(tmp_path, values):
    hdf5(tmp_path / "secret.h5", values)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["mass"] = h5py.ExternalLink("secret.h5", "mass")
    with pytest.raises(HepgenError, match="'mass' leads to another file, which is never followed"):
        read(tmp_path / "x.h5", {"mass_j1": "mass"})


PAIRS = {
    "mass": [1.0, 2, 3, 4, 5],
    "true_mass": [10.0, 20, 30, 40, 50],
    "seen": [1, 1, 0, 0, 1],
    "true": [1, 0, 1, 0, 1],
}
LEVELS = {"mass_j1": "mass", "pass_reco": "seen", "pass_truth": "true"}


def pairs(path, columns=None, values=PAIRS, **settings):
    pq.write_table(pa.table(values), path)
    truth = {"mass_j1": {"column": "true_mass", "scale": 2}}
    (table,) = arrays.stream(sample(path, columns or LEVELS, truth=truth, **settings))
    return table


def test_rows_exist_at_either_level(tmp_path):
    """What a row has at a level where it does not exist is ignored, and those that exist at neither are left out."""
    odd = {"mass": [1.0, 2, np.nan, np.inf, 5], "true_mass": [10.0, -999, 30, np.nan, 50]}
    for values in (PAIRS, PAIRS | odd):
        table = pairs(tmp_path / "x.parquet", values=values)
        assert table.passed().tolist() == [True, True, False, True]
        assert table.passed("truth").tolist() == [True, False, True, True]
        np.testing.assert_array_equal(table.columns["mass_j1"], [1, 2, np.nan, 5])
        np.testing.assert_array_equal(table.truth["mass_j1"], [20, np.nan, 60, 100])


def test_pairs_without_flags_exist_at_both_levels(tmp_path):
    table = pairs(tmp_path / "x.parquet", {"mass_j1": "mass"}, cut="mass_j1 > 2")
    assert table.truth["mass_j1"].tolist() == [60, 80, 100]
    assert table.passed("truth").all()


def test_numbers_of_rows_that_exist_must_be_finite(tmp_path):
    for name, row in (("mass", 1), ("true_mass", 2)):
        broken = PAIRS | {name: np.where(np.arange(5) == row, np.nan, PAIRS[name])}
        with pytest.raises(HepgenError, match=rf"column '{name}' \(mass_j1\): 1 values .*not finite.* in row {row}"):
            pairs(tmp_path / "x.parquet", values=broken)
    with pytest.raises(HepgenError, match=r"column 'mass' \(pass_reco\): 4 values are neither 0 nor 1"):
        pairs(tmp_path / "x.parquet", LEVELS | {"pass_reco": "mass"})
    with pytest.raises(HepgenError, match=r"unknown column .*'gen_mass'"):
        list(arrays.stream(sample(tmp_path / "x.parquet", LEVELS, truth={"mass_j1": "gen_mass"})))


@pytest.mark.parametrize(
    ("columns", "truth", "message"),
    [
        (LEVELS, {}, "pass_truth says which rows exist at particle level, which is given by `truth`"),
        ({"mass_j1": 0}, {"mass_j1": 1, "weight": 2}, "truth: weight is no observable; it belongs in `columns`"),
    ],
)
def test_levels_that_do_not_fit(tmp_path, columns, truth, message):
    with pytest.raises(ValidationError, match=message):
        sample(tmp_path / "x.npy", columns, truth=truth)
