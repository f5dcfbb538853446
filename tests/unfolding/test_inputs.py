"""Samples of every kind with both levels, from files to an unfolded spectrum."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.sources.produce import produce
from hepgen.table import read_tables
from hepgen.unfolding.results import combine, read_binned
from hepgen.unfolding.unfold import unfold

N = 1500
SIX = ["mass_j1", "multiplicity_j1", "width_j1", "ln_rho_j1", "tau21_j1", "zg_j1"]


def levels(seed, shift=0.0):
    """Masses and transverse momenta at both levels, and weights; a few of either level fail pT > 25 GeV."""
    rng = np.random.default_rng(seed)
    pt, mass = 20 + rng.exponential(30, N), rng.gamma(4, 5 + shift, N)
    smear = np.exp(rng.normal(0, 0.1, (2, N)))
    levels = {"gen_pt": pt, "gen_mass": mass, "reco_pt": pt * smear[0], "reco_mass": mass * smear[1]}
    return levels | {"w1": rng.uniform(0.5, 1, N), "w2": np.full(N, 2.0)}


def root(path, values):
    with uproot.recreate(path) as file:
        file.mktree("events", dict.fromkeys(values, "float64"))
        file["events"].extend(values)
    truth = {"observables": {"mass_j1": "gen_mass"}, "passed": "gen_pt > 25"}
    entry = {"source": "root", "observables": {"mass_j1": "reco_mass"}, "weight": "w1 * w2"}
    return entry | {"passed": "reco_pt > 25", "truth": truth}, entry | {"cut": "reco_pt > 25"}


def arrays(path, values):
    flags = {"seen": values["reco_pt"] > 25, "true": values["gen_pt"] > 25, "w": values["w1"] * values["w2"]}
    pq.write_table(pa.table(values | flags), path)
    columns = {"mass_j1": "reco_mass", "weight": "w", "pass_reco": "seen"}
    data = {"source": "arrays", "columns": columns}
    return data | {"columns": columns | {"pass_truth": "true"}, "truth": {"mass_j1": "gen_mass"}}, data


def energyflow(path, values):
    """The arrays of the published files, by their documentation; a missing jet has a pT of 0."""
    rng = np.random.default_rng(5)
    content = {}
    for level, name in (("gen", "gen"), ("sim", "reco")):
        pt, mass = np.where(values[f"{name}_pt"] > 25, values[f"{name}_pt"], 0), values[f"{name}_mass"]
        content[f"{level}_jets"] = np.column_stack([pt, rng.normal(0, 1, N), rng.uniform(0, 6.28, N), mass])
        content[f"{level}_mults"] = rng.poisson(20, N) + 1
        content[f"{level}_widths"] = rng.uniform(0.05, 0.3, N)
        content[f"{level}_tau2s"] = rng.uniform(0.01, 0.04, N)
        content[f"{level}_sdms"] = mass * 0.8
        content[f"{level}_zgs"] = rng.uniform(0.1, 0.5, N)
    np.savez(path, **content)
    entry = {"source": "energyflow", "data": "zjets_delphes"}
    return entry, entry


@pytest.mark.parametrize(("write", "suffix"), [(root, "root"), (arrays, "parquet"), (energyflow, "npz")])
def test_from_files_of_both_levels_to_the_unfolded_spectrum(tmp_path, write, suffix):
    samples, tables = {}, {}
    for place, (name, values) in enumerate({"mc": levels(1), "measured": levels(2, 1.0)}.items()):
        path = tmp_path / f"{name}.{suffix}"
        samples[name] = write(path, values)[place] | {"path": str(path), "chunks": 2}
    names = SIX if write is energyflow else ["mass_j1"]
    binning = {"mass_j1": {"edges": [0, 10, 20, 30, 60], "reco": [0, 5, 10, 15, 20, 25, 30, 60]}}
    block = {"simulation": "mc", "data": "measured", "observables": names, "binning": binning, "tests": False}
    config = parse({"samples": samples, "unfolding": block | {"methods": {"ibu": {"type": "ibu", "iterations": 4}}}})
    for name in samples:
        tables[name] = [tmp_path / f"{name}_{chunk}.h5" for chunk in range(2)]
        for chunk, path in enumerate(tables[name]):
            produce(config, name, chunk, path)
    simulation = read_tables(tables["mc"], unseen=True)
    assert (simulation.passed() & ~simulation.passed("truth")).any()
    assert (simulation.passed("truth") & ~simulation.passed()).any()
    unfold(config, "ibu", "nominal", 1, tables, tmp_path / "u.h5")
    combine(config, "ibu", tables, [tmp_path / "u.h5"], tmp_path / "m.h5")
    spectra = {binned.spectrum.name: binned for binned in read_binned(tmp_path / "m.h5")}
    assert list(spectra) == names
    true = levels(2, 1.0)
    weights = (true["gen_pt"] > 25) * (true["w1"] * true["w2"] if write is not energyflow else 1.0)
    truth = np.histogram(true["gen_mass"], binning["mass_j1"]["edges"], weights=weights)[0]
    mass = spectra["mass_j1"]
    # Some 300 events a bin: the total is good to 5 %, the shape to a third of what the prior is off.
    assert mass.nominal[0, -1].sum() == pytest.approx(truth.sum(), rel=0.08)
    assert np.abs(mass.nominal[0, -1] - truth).sum() < 0.5 * np.abs(mass.prior.values - truth).sum()


def test_a_branch_of_the_truth_that_is_not_there_is_named(tmp_path):
    entry, _ = root(tmp_path / "mc.root", levels(1))
    entry["truth"]["observables"]["mass_j1"] = "gen_mas"
    config = parse({"samples": {"mc": entry | {"path": str(tmp_path / "mc.root")}}})
    with pytest.raises(HepgenError, match=r"unknown branch 'gen_mas' of .*mc\.root: events; did you mean 'gen_mass'"):
        produce(config, "mc", 0, tmp_path / "mc.h5")
    assert not (tmp_path / "mc.h5").exists()
