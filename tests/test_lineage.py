"""The chain behind a file, from records made by hand of a small chain: read, train, compare."""

import json
import shutil
import time

import h5py
import pytest

from hepgen.errors import HepgenError
from hepgen.lineage.report import deliver
from hepgen.models.files import save_model
from hepgen.provenance import stamp, versions
from hepgen.record import File

from . import records

VERSIONS = versions()


def write_record(results, job, inputs=(), outputs=(), **further):
    """The record of a job; its products are written if they are not there."""
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(f"{path.relative_to(results)}\n")
    files = {"inputs": [File.at(path) for path in inputs], "outputs": [File.at(path) for path in outputs]}
    records.write_record(results, job, **files, **further)


@pytest.fixture
def results(tmp_path):
    """Three chunks of one file, two trainings on them, one comparison."""
    folder, data = tmp_path / "results", tmp_path / "data.csv"
    data.write_text("m\n1\n2\n3\n")
    tables = [folder / f"observables/mine/{chunk}.h5" for chunk in range(3)]
    models = [folder / f"tagging/models/net/{seed}.safetensors" for seed in (1, 2)]
    for chunk, path in enumerate(tables):
        write_record(folder, f"table/mine/{chunk}", [data], [path])
    for seed, path in enumerate(models, start=1):
        write_record(folder, f"tagging_train/net/{seed}", tables, [path], seed=seed)
    write_record(folder, "tagging_evaluate", [*tables, *models], [folder / "tagging/metrics.json"])
    return folder


def shown(capsys, *arguments, **options):
    deliver(*arguments, **options)
    return capsys.readouterr().out


def test_the_chain_leads_back_to_the_inputs(results, capsys):
    lines = shown(capsys, results / "tagging/metrics.json", None, contents=True).splitlines()
    checksum = File.at(results.parent / "data.csv").sha256
    assert lines[0].startswith(f"{results}/tagging/metrics.json: 21 bytes, as it was made, sha256 ")
    said = [line.lstrip("│├└─ \xa0") for line in lines[1:]]
    about = ["code c0de, 2026-01-02 03:04 UTC on node1, {} s", "depth=3"]
    assert said == [
        "tagging_evaluate: tagging/metrics.json, 21 bytes", about[0].format(100), about[1],
        "table mine chunks 0-2: 3 files, 66 bytes", about[0].format(300), about[1],
        f"input {results.parent}/data.csv: 8 bytes, sha256 {checksum}",
        "tagging_train net seeds 1-2: 2 files, 66 bytes", about[0].format(200), about[1],
        "table mine chunks 0-2: 3 files, 66 bytes, see above", "files before it were held against their checksums",
    ]  # fmt: skip


def test_a_file_that_was_changed_says_so(results, capsys):
    path = results / "tagging/models/net/2.safetensors"
    path.write_text("tagging/models/net/3.safetensors\n")
    assert "net/2.safetensors: 33 bytes, is not as it was made: another checksum" in shown(capsys, path, None)
    metrics = results / "tagging/metrics.json"
    quick, thorough = (shown(capsys, metrics, None, contents=contents) for contents in (False, True))
    assert "! tagging/models/net/2.safetensors changed after it was made" in thorough
    assert "tagging/metrics.json: 21 bytes, as it was made" in thorough
    # By its size it is the same, as is said.
    assert "changed after" not in quick
    assert "looked at by size only; --check compares their checksums" in quick


def test_what_was_replaced_removed_or_made_anew_is_named(results, capsys):
    (results.parent / "data.csv").write_text("m\n1\n")
    (results / "observables/mine/0.h5").unlink()
    write_record(results, "tagging_train/net/1", [], [results / "tagging/models/net/1.safetensors"])
    model = results / "tagging/models/net/1.safetensors"
    model.write_text("of another training")
    write_record(results, "tagging_train/net/1", [], [model], card={"depth": 4}, code="fedcba0987654321")
    text = shown(capsys, results / "tagging/metrics.json", None)
    assert f"! {results.parent}/data.csv changed after it was read" in text
    assert "! observables/mine/0.h5 is no longer there" in text
    assert "! tagging/models/net/1.safetensors was made anew after it was read" in text
    assert "! these jobs ran 2 different codes" in text
    assert "! these jobs had 2 different settings" in text


def test_a_product_without_a_record_ends_the_chain(results, capsys):
    (results / "provenance/tagging_train/net/2.json").unlink()
    text = shown(capsys, results / "tagging/metrics.json", None)
    assert "! tagging/models/net/2.safetensors has no record of how it was made" in text


def test_copies_and_moved_results_are_known(results, tmp_path, capsys):
    moved, copy = tmp_path / "elsewhere", tmp_path / "copy.bin"
    results.rename(moved)
    shutil.copy(moved / "tagging/models/net/2.safetensors", copy)
    assert "tagging_train net seed 2: tagging/models/net/2.safetensors" in shown(capsys, copy, moved)
    assert "changed" not in shown(capsys, moved / "tagging/metrics.json", None, contents=True)
    (moved / "tagging/models/net/2.safetensors").write_text("another")
    text = shown(capsys, copy, moved)
    assert "copy.bin: 33 bytes, as it was made" in text
    assert "! tagging/models/net/2.safetensors changed after it was made" in text


def test_other_versions_and_plugins_are_named(results, capsys):
    tables = [results / "observables/mine/0.h5"]
    modules = {"hepgen": "aaaa", "hepgen.jets": "aaaa", "my_source": "bbbb"}
    write_record(results, "table/mine/0", [], tables, versions={**VERSIONS, "torch": "1.0"}, modules=modules)
    text = shown(capsys, tables[0], None)
    assert f"by other versions than now: torch 1.0 (now {VERSIONS['torch']})" in text
    assert "100 s, plug-ins my_source bbbb" in text


def test_json_holds_the_records_whole(results, capsys):
    found = json.loads(shown(capsys, results / "tagging/metrics.json", None, as_json=True))
    assert (found["place"], found["changed"]) == ("tagging/metrics.json", False)
    assert found["jobs"].keys() == {
        "tagging_evaluate", "tagging_train/net/1", "tagging_train/net/2", *(f"table/mine/{i}" for i in range(3)),
    }  # fmt: skip
    assert found["jobs"]["tagging_train/net/2"]["seed"] == 2


def test_a_thousand_chunks_are_one_line(tmp_path, capsys):
    results = tmp_path / "results"
    tables = [results / f"observables/mine/{chunk}.h5" for chunk in range(1000)]
    data = [tmp_path / f"data/{chunk}.csv" for chunk in range(1000)]
    data[0].parent.mkdir()
    for chunk, path in enumerate(tables):
        data[chunk].write_text("m\n1\n")
        write_record(results, f"table/mine/{chunk}", [data[chunk]], [path])
    for seed in range(3):
        write_record(results, f"tagging_train/net/{seed}", tables, [results / f"{seed}.safetensors"])
    start = time.process_time()
    text = shown(capsys, results / "2.safetensors", None)
    assert time.process_time() - start < 5
    assert "table mine chunks 0-999: 1,000 files" in text
    assert f"input {tmp_path}/data: 1,000 files" in text
    assert len(text.splitlines()) == 9


def test_control_characters_do_not_reach_the_terminal(results, capsys):
    write_record(results, "plot", [], [results / "a.json"], card={"title": "\x1b[2J\u202e[red]x"}, host="\x07node")
    text = shown(capsys, results / "a.json", None)
    assert "\x1b" not in text
    assert r"title=\x1b[2J\u202e[red]x" in text
    assert r"on \x07node" in text


def test_a_file_without_a_record_shows_its_stamp(tmp_path, capsys):
    about = stamp({"stage": "tagging_train", "name": "net", "depth": 3}, ["hepgen.errors"])
    save_model(tmp_path / "model.safetensors", {}, {}, about)
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file.attrs["provenance"] = about
    for name in ("model.safetensors", "events.h5"):
        text = shown(capsys, tmp_path / name, None)
        assert "tagging_train net" in text
        assert "depth=3" in text
        assert f"code {json.loads(about)['code']}" in text
        assert "--results" in text


@pytest.mark.parametrize("name", ["data.csv", "data.h5", "figure.png"])
def test_a_file_that_hepgen_did_not_make_is_one_error(results, tmp_path, name):
    path = tmp_path / name
    if name.endswith(".h5"):
        h5py.File(path, "w").close()
    else:
        path.write_text("theirs")
    with pytest.raises(HepgenError, match=r"no job of hepgen made this file: it lies in no folder of results"):
        deliver(path, None)
    with pytest.raises(HepgenError, match=r"no job of hepgen made this file: no record in .*provenance tells of it"):
        deliver(path, results)


def test_a_record_of_another_version_says_what_to_do(results):
    path = results / "provenance/tagging_train/net/1.json"
    path.write_text(path.read_text().replace('"modules"', '"parts"'))
    with pytest.raises(HepgenError, match=r"net/1\.json: not a readable .* modules Field required .* delete it, and"):
        deliver(results / "tagging/metrics.json", None)


def test_a_folder_without_records_is_one_error(results, tmp_path):
    with pytest.raises(HepgenError, match="holds no records of jobs"):
        deliver(results / "tagging/metrics.json", tmp_path)
    with pytest.raises(HepgenError, match="no such file"):
        deliver(tmp_path / "absent.h5", results)
