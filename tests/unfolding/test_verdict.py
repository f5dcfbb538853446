import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.metrics.record import read_checks
from hepgen.unfolding import verdict as module
from hepgen.unfolding.results import Binned
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.variations import JUDGED

EVENTS = 20_000
EDGES = np.linspace(0, 10, 11)
TRUTH = EVENTS * np.diff(-np.exp(-EDGES / 4)) / (1 - np.exp(-2.5))
SLOPED = TRUTH * np.linspace(0.7, 1.3, 10)
SLOPED *= EVENTS / SLOPED.sum()


def made(**changes):
    """One spectrum of a perfect detector and a fair method, for as many events of data as of simulation."""
    rng = np.random.default_rng(5)
    spectrum = Spectrum("x", ("x",), (0,), (EDGES,), (EDGES,))

    def near(contents, variance=1.0):
        return (contents + np.sqrt(variance * contents) * rng.normal(size=10))[None, None]

    pseudo = {"closure": near(TRUTH, 2)[0, 0], "linear": SLOPED, "bump": TRUTH, "alternative-s": SLOPED}
    values = {"nominal": near(SLOPED), "leakage": near(SLOPED)}
    values |= {name: near(target, 4) for name, target in pseudo.items()}
    for kind in ("data", "simulation"):
        values |= {f"{kind}-{number}": near(SLOPED) for number in range(1, 13)}
    values |= {f"toy-{number}": near(SLOPED, 2) for number in range(1, 21)}
    targets = pseudo | {f"toy-{number}": SLOPED for number in range(1, 21)}
    known = {name: 2 * target for name, target in pseudo.items()}
    seen = {name: np.stack([target, 2 * target]) for name, target in pseudo.items()}
    measured, prior = Counts(values["nominal"][0, 0], SLOPED), Counts(TRUTH, TRUTH)
    made = Binned("m", spectrum, values, {}, targets, SLOPED[None, None], measured, prior, prior, known, seen)
    return replace(made, **changes)


def evidence(*spectra, results=None):
    return module.Evidence(spectra or (made(),), 0, results or {}, 1, simulated=True, random=1)


def without(binned, *kinds):
    return replace(binned, values={n: v for n, v in binned.values.items() if n.split("-")[0] not in kinds})


def changed(binned, name, values):
    return replace(binned, values=binned.values | {name: values[None, None]})


def judged(test, *spectra, **kwargs):
    return module._judge("m", "t", lambda given: test(given, **kwargs), evidence(*spectra))


def test_closure_compares_with_the_other_half():
    binned = made()
    found = judged(module.closure, binned)
    assert found.verdict == "pass"
    # A mean of ten squares; the halves' own fluctuations are counted as if the result did not share them.
    assert 0.2 < found.statistic < 2 < found.limit
    assert judged(module.closure, changed(binned, "closure", SLOPED)).verdict == "fail"
    # So are contents of another yield.
    assert judged(module.closure, changed(binned, "closure", 1.1 * binned.targets["closure"])).verdict == "fail"
    # One spectrum in three that fails is enough.
    one = judged(module.closure, binned, changed(binned, "closure", SLOPED), binned)
    assert (one.verdict, one.p_value < 1e-3) == ("fail", True)


def test_without_replicas_toys_say_what_chance_does_and_without_either_nothing_does():
    binned = without(made(), "data", "simulation")
    assert judged(module.closure, binned).verdict == "pass"
    assert judged(module.closure, changed(binned, "closure", SLOPED)).verdict == "fail"
    unknown = judged(module.closure, without(binned, "toy"))
    assert (unknown.verdict, unknown.p_value) == ("not applicable", None)
    assert "unfolding.replicas" in unknown.text
    assert "unfolding.tests" in judged(module.closure, without(binned, "closure")).text


def test_floors_grow_as_pseudo_data_shrink():
    binned = made()
    few = {name: counts * [[1], [10]] for name, counts in binned.seen.items()}
    found, smaller = (judged(module.closure, each).statistic for each in (binned, replace(binned, seen=few)))
    # Variances in units of the data's: their own share, from 2 to 20, beside 2 of the learnt half and 2 of the target.
    assert smaller / found == pytest.approx(6 / 24, rel=0.3)


def test_stress_asks_for_the_target_and_for_a_prior_that_is_not_there_yet():
    binned = made()
    found = judged(module.stress, binned, variation="linear")
    assert found.verdict == "pass"
    prior = float(found.text.split("prior ")[1].split(",")[0])
    assert prior > 3 * found.limit
    # The detector is perfect: what is measured is the target.
    assert "no unfolding 0" in found.text
    assert judged(module.stress, changed(binned, "linear", TRUTH), variation="linear").verdict == "fail"
    assert judged(module.stress, binned, variation="alternative-s").verdict == "pass"
    nothing = judged(module.stress, binned, variation="bump")
    assert nothing.verdict == "not applicable"
    assert "too small" in nothing.text
    assert "unfolding.systematics" in judged(module.stress, binned, variation="alternative-z").text


def test_null_compares_with_the_half_that_was_learnt():
    binned = made()
    learnt = 2 * TRUTH - binned.targets["closure"]
    found = judged(module.null, changed(binned, "closure", learnt))
    assert (found.verdict, found.statistic) == ("pass", pytest.approx(0, abs=1e-12))
    assert judged(module.null, changed(binned, "closure", SLOPED)).verdict == "fail"
    # All that fluctuates are the data and what was learnt at detector level, each of half as many events as the data.
    rng = np.random.default_rng(6)
    noisy = [learnt + np.sqrt(4 * learnt) * rng.normal(size=10) for _ in range(40)]
    statistics = [judged(module.null, changed(binned, "closure", each)).statistic for each in noisy]
    # 40 of ten cells over 12 replicas of them, good to √(2/400) and √(2/110): four standard errors.
    assert np.mean(statistics) == pytest.approx(1, abs=0.6)


def with_toys(binned, change):
    toys = {name: change(toy) for name, toy in binned.values.items() if name.startswith("toy")}
    return replace(binned, values=binned.values | toys)


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        (lambda toy: toy, set()),
        (lambda toy: toy + 2 * np.sqrt(SLOPED) * np.resize([1, -1], 10), {"bias"}),
        (lambda toy: SLOPED + 2 * (toy - SLOPED), {"spread"}),
        (lambda toy: SLOPED + (toy - SLOPED) / 2, {"spread"}),
    ],
)
def test_toys_have_pulls_and_coverage(fault, failing):
    binned = with_toys(made(), fault)
    found = {figure: judged(module.statistical_closure, binned, figure=figure) for figure in module.TOYS}
    assert {f for f in ("bias", "spread") if found[f].verdict == "fail"} == failing
    assert found["coverage"].verdict == ("fail" if failing else "pass")
    assert "lowest: x" in found["coverage"].text
    assert all(check.error > 0 for check in found.values())


def test_few_toys_say_nothing():
    binned = made()
    few = replace(binned, values={n: v for n, v in binned.values.items() if not n.startswith("toy") or n == "toy-1"})
    found = judged(module.statistical_closure, few, figure="coverage")
    assert found.verdict == "not applicable"
    assert "1 pseudo-experiments" in found.text


def test_bottom_line_needs_replicas_as_wide_as_the_data():
    binned = made()
    assert judged(module.bottom_line, binned).verdict == "pass"
    centre = binned.nominal
    narrow = {n: centre + (v - centre) / 10 for n, v in binned.values.items() if n.startswith("data")}
    assert judged(module.bottom_line, replace(binned, values=binned.values | narrow)).verdict == "fail"
    few = replace(
        binned, values={n: v for n, v in binned.values.items() if n not in {f"data-{i}" for i in range(4, 13)}}
    )
    assert "3 replicas" in judged(module.bottom_line, few).text


def test_phase_space_without_simulation_is_found():
    binned = made()
    assert judged(module.phase_space, binned).verdict == "pass"
    hole = np.where(np.arange(10) == 9, 0, TRUTH)
    found = judged(module.phase_space, replace(binned, folded=Counts(hole, hole)))
    assert found.verdict == "fail"
    assert found.statistic == pytest.approx(binned.measured.values[9], rel=0.1)
    # Equal numbers of events: chance leaves a cell of ten in 2^-n, and one of ten such in less than a percent.
    assert found.limit == pytest.approx(np.log2(1000), rel=0.05)


@pytest.fixture(scope="module")
def results(chain):
    """Those that are looked into one by one."""
    return [path for path in chain.files if any(f"_{kind}_" in path.name for kind in JUDGED)]


def checks(chain, files, folder):
    module.verdict(chain.config, list(chain.measured.values()), files, folder)
    return {(check.method, check.test): check for check in read_checks(folder / "verdict.json")}


def test_all_methods_get_all_tests(chain, results, tmp_path):
    found = checks(chain, results, tmp_path)
    methods, tests = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    assert methods == ["omnifold", "ibu"]
    assert len(found) == 2 * len(tests)
    assert {"closure", "null", "stress: alternative-other", "toys: coverage", "bottom line"} < set(tests)
    for method in methods:
        assert found[method, "leakage"].verdict == found[method, "phase space"].verdict == "pass"
        assert found[method, "closure"].verdict == "not applicable"
    assert found["omnifold", "saturation"].verdict == found["omnifold", "null: weights"].verdict == "pass"
    assert found["ibu", "saturation"].verdict == found["ibu", "null: weights"].verdict == "not applicable"


def replaced(results, folder, variation, change):
    """The results with one of OmniFold's changed."""
    files = list(results)
    index = next(i for i, path in enumerate(files) if path.name == f"omnifold_{variation}_1.h5")
    files[index] = shutil.copy(files[index], folder / "changed.h5")
    with h5py.File(files[index], "r+") as file:
        change(file)
    return files


def test_one_changed_bit_is_leakage(chain, results, tmp_path):
    def flip(file):
        weights = file["weights"][:]
        weights.view(np.uint32)[-1, -1] ^= 1
        file["weights"][:] = weights

    found = checks(chain, replaced(results, tmp_path, "leakage", flip), tmp_path)
    assert (found["omnifold", "leakage"].verdict, found["omnifold", "leakage"].statistic) == ("fail", 1)
    assert found["ibu", "leakage"].verdict == "pass"


def test_wild_weights_and_saturation_are_found(chain, results, tmp_path):
    def scatter(file):
        file["weights"][:] *= np.random.default_rng(1).exponential(size=file["weights"].shape)

    def clamp(file):
        file["clamped"][:] = 10

    wild = checks(chain, replaced(results, tmp_path, "closure", scatter), tmp_path)["omnifold", "null: weights"]
    # Weights of an exponential distribution are worth half of their number.
    assert (wild.verdict, wild.statistic) == ("fail", pytest.approx(0.5, abs=0.1))
    clamped = checks(chain, replaced(results, tmp_path, "nominal", clamp), tmp_path)
    assert clamped["omnifold", "saturation"].verdict == "fail"


def test_data_without_truth_cannot_leak_and_a_missing_result_is_said_so(chain, results, tmp_path):
    given = replace(evidence(), simulated=False)
    assert module._judge("m", "t", module.leakage, given).verdict == "not applicable"
    with pytest.raises(HepgenError, match="no result of omnifold"):
        checks(chain, [path for path in results if "leakage" not in path.name], tmp_path)
    with pytest.raises(HepgenError, match="no measured spectra of omnifold"):
        module.verdict(chain.config, [chain.measured["ibu"]], results, tmp_path)
