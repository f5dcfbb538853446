"""The cost of a run, and the tables of it, from records and benchmarks made by hand."""

import os
import re

import pytest

from hepgen.account import costs, write_tables
from hepgen.errors import HepgenError
from hepgen.lineage import Archive
from hepgen.record import File

from .records import BEGIN, write_record


def write_job(results, job, *, wall=None, **further):
    """The record of a job, and its benchmark where there is one."""
    if wall is not None:
        benchmark = results / f"benchmarks/{job}.tsv"
        benchmark.parent.mkdir(parents=True, exist_ok=True)
        benchmark.write_text(f"s\tmax_rss\tcpu_time\n{wall}\tNA\t1\n")
    return write_record(results, job, **further)


def rows(path):
    """The cells of a table's rows, as text."""
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", path.read_text())[1:]]


def test_wall_time_is_the_benchmarks_where_it_is_of_this_run(tmp_path):
    write_job(tmp_path, "ingest/mine/0", wall=110)
    write_job(tmp_path, "ingest/mine/1")
    write_job(tmp_path, "ingest/mine/2", wall=500)
    # Written before the job began, so of an earlier time that it was done.
    os.utime(tmp_path / "benchmarks/ingest/mine/2.tsv", (BEGIN.timestamp() - 10,) * 2)
    # The head was killed while it wrote them.
    for chunk, content in ((3, ""), (4, "s\th:m:s\n")):
        write_job(tmp_path, f"ingest/mine/{chunk}", wall=1)
        (tmp_path / f"benchmarks/ingest/mine/{chunk}.tsv").write_text(content)
    found = costs(Archive(tmp_path))["ingest"]
    assert [(cost.seconds, cost.benchmarked) for cost in found] == [(110, True), *[(100, False)] * 4]
    assert {(cost.threads, cost.cpu_seconds, cost.memory_mb) for cost in found} == {(2, 150, 300)}


def test_the_table_adds_up_over_rules_hosts_and_sessions(tmp_path):
    records = [
        write_job(tmp_path, "ingest/mine/0", wall=110, memory_mb=700.4),
        write_job(tmp_path, "ingest/mine/1", host="node2", started=BEGIN.replace(day=9)),
        write_job(tmp_path, "train/net/1", wall=1800, cpu_seconds=1800.0, threads=1, device="A GPU"),
    ]
    write_tables(records, tmp_path, ["ingest=2000", "train=4000"])
    assert rows(tmp_path / "tables/cost.html") == [
        ["train", "1", "0.500", "81.1%", "1,800.0", "1,800.0", "100%", "300", "4000", "1"],
        ["ingest", "2", "0.117", "18.9%", "105.0", "110.0", "71%", "700", "2000", "1"],
        ["all", "3", "0.617", "100.0%", "110.0", "1,800.0", "95%", "700", "", "2"],
    ]
    assert rows(tmp_path / "tables/provenance.html") == [
        [
            "ingest",
            "mine",
            "chunks 0-1",
            "0",
            "2026-01-02 03:04 – 2026-01-09 03:04",
            "node1, node2",
            "",
            "c0de",
            "",
            "",
        ],
        ["train", "net", "seed 1", "0", "2026-01-02 03:04", "node1", "A GPU", "c0de", "", ""],
    ]
    assert not (tmp_path / "tables/inputs.html").exists()


def test_inputs_stand_with_their_checksums_and_readers(tmp_path):
    whole = File(path="/data/a.root", bytes=1000, sha256="aa")
    remote = File(path="root://host//b.root", bytes=None, sha256=None)
    half = File(path="/data/c.root", bytes=2000, part=(1000, 2000), sha256="cc")
    records = [
        write_job(tmp_path, "ingest/mine/0", inputs=[whole, remote]),
        write_job(tmp_path, "ingest/mine/1", inputs=[whole, half]),
    ]
    write_tables(records, tmp_path, [])
    assert rows(tmp_path / "tables/inputs.html") == [
        ["/data/a.root", "1,000", "all", "aa", "ingest/mine/0, ingest/mine/1"],
        ["/data/c.root", "2,000", "1,000 – 2,000", "cc", "ingest/mine/1"],
        ["root://host//b.root", "of another host", "all", "not looked at", "ingest/mine/0"],
    ]


def test_what_names_hold_is_text(tmp_path):
    name = "<script>alert(1)"
    write_tables([write_job(tmp_path, f"train/{name}/1", host=name, device=name)], tmp_path, [f"train={name}"])
    for table in ("cost", "provenance"):
        page = (tmp_path / f"tables/{table}.html").read_text()
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_a_record_of_another_folder_is_refused(tmp_path):
    with pytest.raises(HepgenError, match="records are read from one folder of results"):
        write_tables([write_job(tmp_path / "there", "search")], tmp_path / "here", [])
