"""The same configuration gives the same bytes, whatever the number of cores; every product knows where it is from."""

import re
from pathlib import Path

import pytest

from hepgen.lineage import Archive

from ..products import products

# What tells of a job rather than of physics.
ASIDE = {"logs", "benchmarks", "provenance"}


def made(results: Path) -> set[str]:
    """Paths of all that a run made but its records, its configuration and its report, and Snakemake's own marks."""
    found = {path.relative_to(results) for path in results.rglob("[!.]*") if path.is_file()}
    return {str(path) for path in found if path.parts[0] not in ASIDE} - {"config.yaml", "report.html"}


def test_same_bytes_on_one_core(project, finished):
    """A chain of each kind of job from events to scores, and an integral."""
    names = [
        "events/qcd/0.h5", "observables/qcd/0.h5", "tagging/models/supervised/1.safetensors",
        "tagging/scores/supervised/1.h5", "integration/events/flow/1.h5",
    ]  # fmt: skip
    results = project.root / "results"
    for name in names:
        (results / name).unlink()
    project.snakemake(*(f"results/{name}" for name in names), cores=1)
    for name in names:
        assert (results / name).read_bytes() == (finished.root / "results" / name).read_bytes(), name


@pytest.mark.slow
def test_same_bytes_of_a_whole_run_on_other_cores(project, finished):
    """All stages, more jobs side by side than there are cores; of the figures only two analyses' are drawn again."""
    project.snakemake("again/metrics.json", "integration", "unfolding", "--config", "output=again", cores=3)
    names = made(project.root / "again")
    assert {name.partition("/")[0] for name in names} >= {"tagging", "search", "generation", "unfolding", "integration"}
    found, expected = products(project.root / "again"), products(finished.root / "results")
    assert not [name for name in names & found.keys() if found[name] != expected[name]]


def test_every_product_has_a_record_and_is_as_it_was_made(finished):
    results = finished.root / "results"
    history = Archive(results)
    assert made(results) == history.makers.keys()
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
    host = next(iter(Archive(results).records.values())).host.encode()
    texts = {name for name in made(results) if Path(name).suffix in (".json", ".html", ".rst")}
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
