"""Official data sets: the table, the folder, and files that are fetched once and checked from then on."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hepgen import datasets
from hepgen.cli import app
from hepgen.config import parse
from hepgen.datasets import DataSet, File, catalogue, fetch, files, official_name, overview, require, select
from hepgen.errors import HepgenError
from hepgen.inputs import parts, parts_of
from hepgen.samples import LhcoSample

CONTENT = b"events"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
PAGE = Path(__file__).parents[1] / "docs/datasets.md"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder of data sets in an empty current folder."""
    monkeypatch.delenv("HEPGEN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def requests(monkeypatch):
    """The paths that a local server in the place of Zenodo is asked for."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(datasets, "URL", f"http://127.0.0.1:{server.server_port}/{{record}}/{{name}}")
        yield paths
        server.shutdown()
        thread.join()


def official(**known):
    return File(dataset="mine", record=7, name="a.h5", **known)


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_table_is_sound():
    for name, dataset in catalogue().items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert dataset.title
        assert len(dataset.title) <= 70
        for file in select(name):
            assert file.url == f"https://zenodo.org/records/{dataset.record}/files/{file.name}?download=1"
            assert "{" not in file.name
            # Whoever states a checksum is named, and nobody is named for nothing.
            assert bool(file.source) == bool(file.checksum)
            assert file.size is None or file.about is None


def test_numbers_of_files():
    counts = {name: len(select(name)) for name in catalogue()}
    assert {name: count for name, count in counts.items() if name.startswith("zjets")} == dict.fromkeys(
        ("zjets_herwig", "zjets_pythia21", "zjets_pythia25", "zjets_pythia26"), 17
    )
    assert {count for name, count in counts.items() if name.startswith("qg_jets")} == {20}
    assert counts["top_tagging"] == 3
    assert counts["jetnet"] == counts["jetnet150"] == 5


def test_checksums_of_energyflow_are_those_of_the_package():
    """The file names are energyflow's own, in the order of its checksums."""
    from energyflow.datasets import qg_jets, zjets_delphes

    for name, kind in (("zjets_herwig", "herwig"), ("zjets_pythia26", "pythia26")):
        pattern = zjets_delphes.FILENAME_PATTERNS[kind]
        assert [file.name for file in select(name)] == [pattern.format(index) for index in range(17)]
    stated = {file.name: file.stated_checksum() for file in select("zjets_herwig")}
    first = "sha256:d63f08cb9c15a7ff1b34981c524f9c274015c91a9bbd683d68f43511dfccd37f"
    assert stated["Herwig_Zjet_pTZ-200GeV_0.npz"] == first
    for name, generator, quarks in (
        ("qg_jets", "pythia", "nobc"),
        ("qg_jets_bc", "pythia", "bc"),
        ("qg_jets_herwig", "herwig", "nobc"),
        ("qg_jets_herwig_bc", "herwig", "bc"),
    ):
        # Its Zenodo addresses name QG_jets_withbc_3.npz twice and 11 never; those of its mirror are in order.
        mirror = [url.rpartition("/")[2].partition("?")[0] for url in qg_jets.URLS[generator][quarks]["dropbox"]]
        assert [file.name for file in select(name)] == mirror
        hashes = qg_jets.HASHES[generator][quarks]["sha256"]
        assert [file.stated_checksum() for file in select(name)] == [f"sha256:{value}" for value in hashes]
        assert len(set(hashes)) == 20


def test_files_lie_in_a_folder_of_their_own(monkeypatch, tmp_path):
    assert files("top_tagging/t*.h5") == ["data/top_tagging/train.h5", "data/top_tagging/test.h5"]
    monkeypatch.setenv("HEPGEN_DATA", str(tmp_path / "elsewhere"))
    assert files("lhco_v1") == [str(tmp_path / "elsewhere/lhco_v1/events_anomalydetection.h5")]


def test_unknown_names():
    with pytest.raises(HepgenError, match=r"unknown data set 'lcho_v1' \(did you mean 'lhco_v1'\?\); known: jetnet"):
        files("lcho_v1")
    with pytest.raises(HepgenError, match=r"unknown file of data set 'top_tagging' 'trian.h5' \(did you mean 'train"):
        files("top_tagging/trian.h5")


def test_a_configuration_with_an_unknown_name():
    entry = {"source": "lhco", "path": ["a.h5", "dataset:lhco_v3"], "jets": "fat"}
    with pytest.raises(HepgenError, match=r"samples\.mine\.path: unknown data set 'lhco_v3' \(did you mean 'lhco_v"):
        parse({"jets": {"fat": {}}, "samples": {"mine": entry}})


def test_a_checksum_of_an_unknown_kind():
    with pytest.raises(ValueError, match="checksum"):
        DataSet(title="x", record=1, files={"a": {"checksum": "md5:123"}})


def test_planning_needs_no_file():
    sample = LhcoSample(source="lhco", path="dataset:lhco_black_boxes", chunks=3, jets="fat")
    assert [[part.path[-4:] for part in share] for share in parts(sample)] == [["1.h5"], ["2.h5"], ["3.h5"]]


def test_a_job_says_what_to_fetch(here):
    sample = LhcoSample(source="lhco", path="dataset:lhco_v1", jets="fat")
    message = r"data/lhco_v1/events_anomalydetection.h5: not here yet; run `hepgen fetch lhco_v1/events_anomaly.*h5`"
    with pytest.raises(HepgenError, match=message):
        parts_of(sample, 0)
    put(here / "lhco_v1/events_anomalydetection.h5")
    assert len(parts_of(sample, 0)) == 1


def test_official_names(here):
    assert official_name("data/top_tagging/../jetnet/g.hdf5") == "jetnet/g.hdf5"
    assert official_name(str(here / "jetnet/g.hdf5")) == "jetnet/g.hdf5"
    for path in ("data/jetnet/h.hdf5", "jetnet/g.hdf5", "data/jetnet", "root://host//store/a.root", "../a.h5"):
        assert official_name(path) == ""
        require(path)


def test_fetches_once_and_checks_from_then_on(here, requests):
    file = official(checksum=MD5, size=6)
    line = f"{here}/mine/a.h5: 6 bytes, {MD5.replace(':', ' ')} (as stated)"
    assert [fetch(file, here), fetch(file, here)] == [line, line]
    assert requests == ["/7/a.h5"]
    assert [path.name for path in (here / "mine").iterdir()] == ["a.h5"]


def test_without_a_stated_checksum_the_first_one_holds(here, requests):
    path, record = here / "mine/a.h5", here / "mine/a.h5.sha256"
    assert (
        fetch(official(), here) == f"{path}: 6 bytes, sha256 {SHA256} (recorded in a.h5.sha256; no source states one)"
    )
    assert record.read_text() == f"{SHA256}  a.h5\n"
    assert fetch(official(), here) == f"{path}: 6 bytes, sha256 {SHA256} (as recorded before)"
    path.write_bytes(b"evants")
    with pytest.raises(HepgenError) as error:
        fetch(official(), here)
    found = hashlib.sha256(b"evants").hexdigest()
    assert str(error.value) == (
        f"{path}: is not the official file: expected sha256 {SHA256}, found {found}, which was recorded in {record}; "
        "move it away and run `hepgen fetch` again"
    )
    assert path.read_bytes() == b"evants"
    assert len(requests) == 1


def test_the_record_holds_for_a_later_download_too(here, requests):
    record = put(here / "mine/a.h5.sha256", f"{'0' * 64}  a.h5\n".encode())
    with pytest.raises(HepgenError, match=f"gave a wrong file: expected sha256 {'0' * 64}, found {SHA256}"):
        fetch(official(), here)
    assert [path.name for path in (here / "mine").iterdir()] == [record.name]


@pytest.mark.parametrize(("size", "but"), [(None, ""), (6, " but its size")])
def test_a_file_put_there_by_hand_is_not_taken_for_a_download(here, requests, size, but):
    path = put(here / "mine/a.h5")
    line = f"{path}: 6 bytes, sha256 {SHA256} (nothing to check it against{but}: no source states a checksum)"
    assert [fetch(official(size=size), here) for _ in range(2)] == [line, line]
    assert [path.name for path in (here / "mine").iterdir()] == ["a.h5"]
    with pytest.raises(HepgenError) as error:
        fetch(official(size=7), here)
    assert str(error.value) == (
        f"{path}: is not the official file: expected 7 bytes, found 6; move it away and run `hepgen fetch` again"
    )
    assert requests == []


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("known", [{}, {"checksum": MD5}])
def test_what_is_no_file_stands_in_the_way(here, requests, make, known):
    path = here / "mine/a.h5"
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(HepgenError, match=r"a\.h5: is no file, but a folder, a broken link or a device; move it away"):
        fetch(official(**known), here)
    assert requests == []


def test_a_folder_is_not_counted_as_here(here):
    (here / "top_tagging/val.h5").mkdir(parents=True)
    assert next(row for row in overview() if row[0] == "top_tagging")[-1] == "0 of 3"


def test_inspecting_says_what_to_fetch(here):
    run = CliRunner().invoke(app, ["inspect", "dataset:lhco_v1"])
    assert run.exit_code == 1
    name = "lhco_v1/events_anomalydetection.h5"
    assert str(run.exception) == (
        f"data/{name}: not here yet; run `hepgen fetch {name}` where there is a connection to the internet"
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"abc  a.h5\n"])
def test_a_damaged_record(here, content):
    put(here / "mine/a.h5")
    put(here / "mine/a.h5.sha256", content)
    with pytest.raises(HepgenError, match=r"a\.h5\.sha256: holds no sha256 in the format of sha256sum; remove it"):
        fetch(official(), here)


@pytest.mark.parametrize(
    ("known", "message"), [({"size": 7}, "expected 7 bytes, found 6"), ({"checksum": MD5[:-1] + "0"}, "expected md5 ")]
)
def test_a_wrong_file_that_is_there_is_not_replaced(here, requests, known, message):
    path = put(here / "mine/a.h5")
    with pytest.raises(HepgenError, match=f"is not the official file: {message}"):
        fetch(official(**known), here)
    assert path.read_bytes() == CONTENT
    assert requests == []


def test_fetch_from_the_command_line(tmp_path, here, requests):
    run = CliRunner().invoke(app, ["fetch", "jetnet150/[gq]150.hdf5", "lhco_v1", "-o", str(tmp_path / "other")])
    assert run.exit_code == 0, run.output
    lines = [line for line in run.stdout.splitlines() if line.startswith(str(tmp_path))]
    names = ["jetnet150/g150.hdf5", "jetnet150/q150.hdf5", "lhco_v1/events_anomalydetection.h5"]
    assert [line.partition(": ")[0] for line in lines] == [str(tmp_path / "other" / name) for name in names]
    assert requests == ["/6975117/g150.hdf5", "/6975117/q150.hdf5", "/2629073/events_anomalydetection.h5"]
    assert not here.exists()


def test_the_list_says_what_is_here(here):
    put(here / "top_tagging/val.h5")
    run = CliRunner().invoke(app, ["datasets"])
    (row,) = [line.split("  ") for line in run.stdout.splitlines() if line.startswith("top_tagging ")]
    cells = [cell.strip() for cell in row if cell.strip()]
    assert cells == [
        "top_tagging", "Top quark tagging reference data set", "3", "1.7 GB", "10.5281/zenodo.2603256", "1 of 3",
    ]  # fmt: skip
    assert len(run.stdout.splitlines()) == len(catalogue()) + 1 == len(overview())


def checksums(name):
    """What the page says of a data set's checksums."""
    file = select(name)[0]
    if file.energyflow:
        return "sha256, by energyflow"
    return f"{file.checksum.partition(':')[0]}, by Zenodo" if file.checksum else "from the first download on"


def test_the_pages_table_is_that_of_the_code():
    header, *rows = [row[:-1] for row in overview()]
    lines = [(*header, "checksum"), ("---",) * 6]
    lines += [(f"`{name}`", *row, checksums(name)) for name, *row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    assert table in PAGE.read_text(), f"docs/datasets.md should hold\n{table}"


def test_the_pages_samples_are_valid():
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    configs = [parse(yaml.safe_load(block)) for block in blocks]
    used = {path for config in configs for sample in config.samples.values() for path in [sample.path]}
    assert all(path.startswith(datasets.PREFIX) for path in used)
    assert {config.samples[name].source for config in configs for name in config.samples} == {
        "lhco", "arrays", "padded", "energyflow",
    }  # fmt: skip
