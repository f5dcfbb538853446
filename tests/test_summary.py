import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.metrics.record import Check, Metric, read_metrics, write_checks, write_metrics
from hepgen.provenance import stamp
from hepgen.summary import summarize
from hepgen.table import Table, write_table

CONFIG = parse({"title": "A <run>", "samples": {"mine": {"source": "arrays", "path": "t.npy", "columns": {"mjj": 0}}}})
AUC = Metric(
    analysis="tagging", sample="mine", model="pca", metric="auc", value=0.75, low=0.7, high=0.8, null=0.5, n=9, seeds=3
)


@pytest.fixture
def files(tmp_path):
    """Metrics of one analysis and the observables of one sample in two chunks."""
    write_metrics(tmp_path / "tagging.json", [AUC])
    for chunk in range(2):
        table = Table({"mjj": np.arange(50.0) + 50 * chunk})
        write_table(tmp_path / f"{chunk}.h5", [table], stamp({"name": "mine"}, []))
    return [tmp_path / "tagging.json", tmp_path / "0.h5", tmp_path / "1.h5"]


def test_metrics_of_samples_and_analyses_are_gathered(files, tmp_path):
    summarize(CONFIG, files, tmp_path / "out")
    events, median, auc = read_metrics(tmp_path / "out/metrics.json")
    assert (events.metric, events.value, events.sample) == ("events", 100, "mine")
    assert (median.metric, median.value) == ("median mjj", 49.5)
    # 68 % of a binomial of 100 trials is 50 ± 5.
    assert (median.low, median.high) == (45, 55)
    assert auc == AUC


def test_front_page_and_tables_show_value_interval_and_null(files, tmp_path):
    summarize(CONFIG, files, tmp_path / "out")
    page = (tmp_path / "out/summary.rst").read_text()
    assert "A <run>\n=======" in page
    assert "0.75 [0.7, 0.8] (null 0.5)" in page
    assert "torch" in page
    table = (tmp_path / "out/tables/tagging.html").read_text()
    assert "<td>0.7 – 0.8</td><td>0.5</td>" in table


def test_tests_stand_side_by_side_on_the_front_page_and_in_a_table(files, tmp_path):
    numbers = {"statistic": 0.5, "error": 0.02, "limit": 0.65, "p_value": 0.004}
    checks = [
        Check(method="ibu", test="coverage", verdict="fail", text="of <20> toys", **numbers),
        Check(method="ibu", test="leakage", verdict="pass", text="again", statistic=0.0, limit=0.0),
        Check(method="net", test="coverage", verdict="not applicable", text="no toys"),
    ]
    write_checks(tmp_path / "verdict.json", checks)
    summarize(CONFIG, [*files, tmp_path / "verdict.json"], tmp_path / "out")
    page = (tmp_path / "out/summary.rst").read_text().split("Tests of the unfolding")[1]
    assert [line[7:] for line in page.splitlines() if line[5:7] == "- "][:9] == [
        "test", "ibu", "net", "coverage", "**fail**", "–", "leakage", "pass", "–",
    ]  # fmt: skip
    table = (tmp_path / "out/tables/tests.html").read_text()
    assert "<td>of &lt;20&gt; toys</td><td>fail</td><td>0.5 ± 0.02</td><td>0.65</td><td>0.004</td>" in table
    assert "<td>no toys</td><td>not applicable</td><td></td><td></td><td></td>" in table


def test_a_run_without_samples_has_no_table_of_them(files, tmp_path):
    summarize(parse({"samples": {}}), files[:1], tmp_path / "out")
    assert "sample\n" not in (tmp_path / "out/summary.rst").read_text()
    assert [path.name for path in (tmp_path / "out/tables").iterdir()] == ["tagging.html"]


def test_the_front_page_shows_models_and_cuts_by_auc_without_scans_and_transfer(tmp_path):
    sample = {"source": "arrays", "path": "t.npy", "columns": {"mjj": 0}}
    model = {"type": "pca", "inputs": ["mjj"]}
    scans = {"less": {"models": ["pca"], "vary": "events", "values": [10, 20]}}
    tagging = {"samples": ["mine"], "models": {"pca": model}, "scans": scans}
    tagging["cuts"] = {"cut": {"observable": "mjj", "signal": "high"}}
    tagging["models"]["other_way"] = {**model, "normal": "signal"}
    config = parse({"samples": {"mine": sample}, "tagging": tagging})
    jsd = {"metric": "mjj_jsd/0.9_rejected", "value": 0.0123}
    changes = [{}, {"model": "cut", "value": 0.9}, {"model": "pca__less_10"}, {"sample": "other", "value": 0.66}, jsd]
    changes.append({"model": "other_way", "value": 0.99})
    write_metrics(tmp_path / "tagging.json", [AUC.model_copy(update=change) for change in changes])
    summarize(config, [tmp_path / "tagging.json"], tmp_path / "out")
    page = (tmp_path / "out/summary.rst").read_text()
    assert page.index("* - cut") < page.index("* - pca") < page.index(r"* - other\_way, inverse")
    assert "0.0123" in page
    assert "0.66" not in page
    assert "less" not in page


def test_a_damaged_metrics_file_is_an_error_and_leaves_nothing(files, tmp_path):
    files[0].write_text("{")
    with pytest.raises(HepgenError, match=r"tagging\.json"):
        summarize(CONFIG, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_medians_leave_out_the_level_that_an_event_lacks(tmp_path):
    reco, truth = np.arange(10.0), np.arange(10.0) + 100
    reco[:4] = truth[7:] = np.nan
    passed = {"pass_reco": np.isfinite(reco), "pass_truth": np.isfinite(truth)}
    write_table(tmp_path / "z.h5", [Table({"mjj": reco, **passed}, {"mjj": truth})], stamp({"name": "mine"}, []))
    summarize(CONFIG, [tmp_path / "z.h5"], tmp_path / "out")
    found = {m.metric: (m.value, m.n) for m in read_metrics(tmp_path / "out/metrics.json")}
    assert found == {"events": (10, 10), "median mjj": (6.5, 6), "truth median mjj": (103, 7)}
