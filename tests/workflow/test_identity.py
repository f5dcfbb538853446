"""The same configuration gives the same bytes, whatever the number of cores; every product knows where it is from."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hepgen.lineage import History

# What tells of a job rather than of physics.
ASIDE = {"logs", "benchmarks", "provenance"}
# They hold how fast events were drawn.
TIMED = {
    "generation/events/rqs_flow/1.h5", "generation/figures/speed.json", "generation/figures/speed.pdf",
    "generation/figures/speed.png", "generation/metrics.json", "metrics.json", "summary.rst", "tables/generation.html",
}  # fmt: skip
# They say what a run cost, and where and when it was.
ACCOUNT = {"tables/cost.html", "tables/provenance.html"}


def products(results: Path) -> set[str]:
    """Paths of all that a run made but its records, its configuration and its report, and Snakemake's own marks."""
    found = {path.relative_to(results) for path in results.rglob("[!.]*") if path.is_file()}
    return {str(path) for path in found if path.parts[0] not in ASIDE} - {"config.yaml", "report.html"}


def assert_same(results: Path, original: Path) -> None:
    for name in sorted(products(results) - TIMED - ACCOUNT):
        assert (results / name).read_bytes() == (original / name).read_bytes(), name


def test_same_bytes_on_one_core(project, finished):
    targets = ["again/tagging/scores/supervised/1.h5", "again/integration/events/flow/1.h5"]
    project.snakemake(*targets, "--config", "output=again", cores=1)
    made = Counter(name.partition("/")[0] for name in products(project.root / "again"))
    assert made == {"events": 4, "observables": 4, "tagging": 2, "integration": 1}
    assert_same(project.root / "again", finished.root / "results")


@pytest.mark.slow
def test_same_bytes_of_a_whole_run_on_other_cores(project, finished):
    """All stages, more jobs side by side than there are cores; of the figures only two analyses' are drawn again."""
    project.snakemake("again/metrics.json", "integration", "unfolding", "--config", "output=again", cores=3)
    made = products(project.root / "again")
    assert {path.partition("/")[0] for path in made} >= {"tagging", "search", "generation", "unfolding", "integration"}
    assert_same(project.root / "again", finished.root / "results")


def test_every_product_has_a_record_and_is_as_it_was_made(finished):
    results = finished.root / "results"
    history = History(results)
    assert products(results) == history.makers.keys()
    kinds = {Path(name).suffix for name in history.makers}
    assert kinds == {".h5", ".safetensors", ".json", ".png", ".pdf", ".html", ".rst", ".root", ".gz"}
    for name, (_, file) in history.makers.items():
        assert not file.change(results / name, contents=True), name
        (step,) = history.trace([name], contents=False)
        assert not step.remarks, name
    (step,) = history.trace(["tagging/figures/roc_images.png"], contents=False)
    assert {job.partition("/")[0] for job in step.all_jobs()} == {
        "tagging_plot", "tagging_evaluate", "tagging_score", "tagging_train", "observe", "ingest",
    }  # fmt: skip


def test_nothing_but_the_account_names_the_host(finished):
    results = finished.root / "results"
    host = next(iter(History(results).records.values())).host.encode()
    texts = {name for name in products(results) if Path(name).suffix in (".json", ".html", ".rst")}
    whole = re.compile(rb"\b" + re.escape(host) + rb"\b")
    assert {name for name in texts if whole.search((results / name).read_bytes())} == {"tables/provenance.html"}


def test_the_account_covers_every_job_and_is_in_the_report(finished):
    results = finished.root / "results"
    rows = re.findall(r"<tr>(.*?)</tr>", (results / "tables/cost.html").read_text())[1:]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    jobs = [path for path in results.glob("provenance/**/*.json") if path.stem != "account"]
    assert cells[-1][:2] == ["all", str(len(jobs))]
    assert cells[-1][-1] == str(len(jobs))
    assert {int(row[-2]) for row in cells[:-1]} >= {1000, 4000}
    page = (results / "report.html").read_text()
    assert "tables/cost.html" in page
    assert "tables/provenance.html" in page


def test_an_absent_benchmark_reruns_nothing(project):
    for path in project.root.glob("results/benchmarks/tagging_*/**/*.tsv"):
        path.unlink()
    assert not project.planned()
