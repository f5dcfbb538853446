"""Two thousand damaged files: each ends in a clean read or one clear error."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import uproot

WORKER = Path(__file__).parent / "fuzz.py"
CASES, SHARDS = 2080, 8
# The worker with all libraries takes 0.3 GB; the largest file of the corpus has 4 MB.
LARGEST_MEMORY = 1.0e9
ADDRESS_SPACE = 12 * 2**30


def lists(rng, n=40):
    counts = rng.integers(0, 12, n)
    total = counts.sum()
    flat = {"pt": rng.exponential(30, total) + 1, "eta": rng.normal(0, 1, total), "phi": rng.uniform(-3, 3, total)}
    return {f"P_{name}": ak.unflatten(values.astype(np.float32), counts) for name, values in flat.items()}


def made_files(folder):
    """Small files of every format, with the entry that reads each."""
    rng = np.random.default_rng(1)
    particles = lists(rng)
    momenta = {name: f"P_{name}" for name in ("pt", "eta", "phi")}
    for form in ("tree", "rntuple"):
        with uproot.recreate(folder / f"{form}.root") as file:
            make = file.mktree if form == "tree" else file.mkrntuple
            if form == "tree":
                made = make("events", {name: values.type.content for name, values in particles.items()})
                made.extend(particles)
            else:
                make("events", particles)
        yield {"source": "root", "path": f"{form}.root", "jets": "any", "particles": momenta}
    table = np.column_stack([rng.exponential(size=200), rng.random(200)])
    np.save(folder / "table.npy", table)
    np.savez(folder / "table.npz", a=table[:, 0], b=table[:, 1])
    np.savetxt(folder / "table.csv", table, delimiter=",", header="a,b", comments="")
    pa.parquet.write_table(pa.table({"a": table[:, 0], "b": table[:, 1]}), folder / "table.parquet")
    with h5py.File(folder / "table.h5", "w") as file:
        file["a"], file["b"] = table.T
    for suffix in ("npy", "npz", "csv", "parquet", "h5"):
        columns = {"mass_j1": 0, "tau21_j1": 1} if suffix == "npy" else {"mass_j1": "a", "tau21_j1": "b"}
        yield {"source": "arrays", "path": f"table.{suffix}", "columns": columns}
    rows = np.zeros((5, 2101))
    rows[:, :30] = np.abs(rng.normal(size=(5, 30))) + 0.1
    with h5py.File(folder / "lhco.h5", "w") as file:
        file.create_dataset("df/block0_values", data=rows, chunks=(2, 2101), **hdf5plugin.Blosc())
    yield {"source": "lhco", "path": "lhco.h5", "jets": "any"}
    padded = np.abs(rng.normal(size=(20, 8, 3))) + 0.1
    np.save(folder / "padded.npy", padded)
    yield {"source": "padded", "path": "padded.npy", "fields": ["pt", "eta", "phi"], "jets": "any", "label": 0}
    jets = np.concatenate([padded, np.full((20, 8, 1), 211.0)], axis=2)
    np.savez_compressed(folder / "qg.npz", X=jets, y=rng.integers(0, 2, 20).astype(float))
    yield {"source": "energyflow", "data": "qg_jets", "path": "qg.npz", "jets": "any"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, reference):
    """The file that lists the corpus: files made here, and the smaller ones of the reference inputs."""
    folder = tmp_path_factory.mktemp("fuzz")
    entries = list(made_files(folder))
    for name in ("nanoaod_rntuple", "edm4hep", "nanoaod_dy"):
        shutil.copy(reference / "root" / f"{name}.root", folder)
    jets = {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi", "mass": "Jet_mass"}
    entries += [
        {"source": "root", "path": f"{name}.root", "jets": "any", "jet_collection": jets}
        for name in ("nanoaod_rntuple", "nanoaod_dy")
    ]
    member = "ReconstructedParticleCollection"
    momenta = {f"p{axis}": f"{member}.momentum.{axis}" for axis in "xyz"} | {"mass": f"{member}.mass"}
    entries.append({"source": "root", "path": "edm4hep.root", "jets": "any", "particles": momenta})
    shutil.copy(reference / "hepmc/pythia6_simple.hepmc3", folder)
    entries += [{"source": "hepmc", "path": "pythia6_simple.hepmc3", "jets": "any"}] * 2
    text = gzip.decompress((reference / "hepmc/pp_to_jj.lhe.gz").read_bytes()).split(b"<event>")
    short = b"<event>".join(text[:6]) + b"</LesHouchesEvents>\n"
    (folder / "short.lhe").write_bytes(short)
    (folder / "short.lhe.gz").write_bytes(gzip.compress(short, mtime=0))
    entries += [{"source": "lhe", "path": f"short.{suffix}", "jets": "any"} for suffix in ("lhe", "lhe.gz")]
    for entry in entries:
        entry["path"] = str(folder / entry["path"])
    (folder / "corpus.json").write_text(json.dumps(entries))
    return folder / "corpus.json"


def run(corpus, first, last):
    """The worker's lines, and its end."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))  # noqa: E731
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(WORKER), str(corpus), str(first), str(last)],
        capture_output=True, text=True, check=False, preexec_fn=limit, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return [json.loads(line) for line in result.stdout.splitlines()], result


@pytest.mark.parametrize("shard", range(SHARDS))
def test_damaged_files_end_in_a_clean_read_or_one_clear_error(corpus, shard):
    first, last = CASES * shard // SHARDS, CASES * (shard + 1) // SHARDS
    lines, result = run(corpus, first, last)
    assert result.returncode == 0, f"the process ended at {lines[-1:]}: {result.stderr[-3000:]}"
    outcomes = [line for line in lines if "outcome" in line]
    bad = [line for line in outcomes if line["outcome"] != "clean" and not line["outcome"].startswith("error: ")]
    assert bad == []
    kinds = Counter((line["step"], line["outcome"][:5]) for line in outcomes)
    assert sum(count for (step, _), count in kinds.items() if step == "read") == last - first
    assert kinds["read", "error"] > 0.3 * (last - first), "the damage is hardly ever noticed"
    assert kinds["read", "clean"] > 0.02 * (last - first), "hardly any file is read to the end"


def test_memory_stays_bounded(corpus):
    """The peak of a process that reads the first cases: its own, for `ru_maxrss` starts from that of the parent."""
    code = (
        f"import re, runpy, sys; sys.argv = ['fuzz', {str(corpus)!r}, '0', '200'];"
        f"runpy.run_path({str(WORKER)!r}, run_name='__main__');"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stderr.split()[-1]) * 1024 < LARGEST_MEMORY
