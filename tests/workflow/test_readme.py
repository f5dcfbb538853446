"""What the README shows: from a ROOT file to the report."""

import re
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
import yaml

from hepgen.metrics.record import read_metrics

README = (Path(__file__).parents[2] / "README.md").read_text()


def write_ntuple(path, events, signal, seed):
    """Jets by falling pT with substructure, and two numbers of each event."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 6, events)
    total = counts.sum()
    pt = ak.sort(ak.unflatten(rng.exponential(150, total) + 200, counts), ascending=False)
    tau1 = rng.uniform(0.1, 0.4, total)
    flat = {
        "eta": rng.normal(0, 1, total),
        "phi": rng.uniform(-np.pi, np.pi, total),
        "mass": np.abs(rng.normal(110, 15, total)) if signal else rng.exponential(60, total) + 5,
        "tau1": tau1,
        "tau2": tau1 * rng.beta(4, 7 if signal else 3, total),
    }
    jets = ak.zip({"pt": pt} | {name: ak.unflatten(values, counts) for name, values in flat.items()})
    branches = {
        "fatjet": ak.values_astype(jets, np.float32),
        "met": rng.exponential(50, events).astype(np.float32),
        "weight": rng.normal(1, 0.1, events),
    }
    with uproot.recreate(path) as file:
        file.mktree("events", {"fatjet": branches["fatjet"].type.content, "met": "float32", "weight": "float64"})
        file["events"].extend(branches)


def test_from_a_root_file_to_the_report(empty):
    write_ntuple(empty.root / "background.root", 20_000, signal=False, seed=1)
    write_ntuple(empty.root / "signal.root", 2_000, signal=True, seed=2)
    session = re.search(r"^\$ hepgen inspect background.root(.*?)^\$ make", README, re.MULTILINE | re.DOTALL)[1]
    command = [sys.executable, "-m", "hepgen.cli", "inspect", "background.root", "-o", "mine.yaml"]
    inspected = subprocess.run(command, cwd=empty.root, capture_output=True, text=True, check=True)
    assert session.partition("\n")[2].splitlines() == inspected.stdout.splitlines()
    proposed = yaml.safe_load((empty.root / "mine.yaml").read_text())["samples"]["background"]

    (entry,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    content = yaml.safe_load(entry)
    shown = content["samples"]["background"]
    assert {key: proposed[key] for key in ("source", "path", "jet_collection", "weight")}.items() <= shown.items()
    content["tagging"]["seeds"] = [1]
    content["tagging"]["models"]["dense_ae"]["training"] = {"epochs": 2}
    (empty.root / "config.yaml").write_text(yaml.safe_dump(content))
    empty.snakemake("--report-after-run", "--report", "results/mine/report.html")
    results = empty.root / "results/mine"
    auc = {record.model: record.value for record in read_metrics(results / "metrics.json") if record.metric == "auc"}
    assert auc["tau21_cut"] > 0.7
    assert (results / "report.html").stat().st_size > 100_000
    assert (results / "overview/figures/fat_mass_j1.png").exists()
