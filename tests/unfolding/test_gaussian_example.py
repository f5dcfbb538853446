from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gaussian_unfolding.py"


@pytest.fixture(scope="module")
def example():
    spec = spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_unfolding_finds_the_truth_that_is_known_exactly(example, monkeypatch):
    methods = ["ibu", "omnifold"]
    # As many as the toys choose in most pseudo-experiments.
    for method in methods:
        monkeypatch.setitem(example.METHODS, method, example.METHODS[method] | {"iterations": 2})
    scores = example.experiment(methods, 1, replicas=0, toys=0)
    assert scores["prior"].distance > 50 * example.FLOOR
    assert scores["no unfolding"].distance > 3 * example.FLOOR
    for method in methods:
        # 1.2 floors on average, as a χ² of 11 degrees of freedom that scatters by 43 %: three and a half times that.
        assert scores[method].distance < 3 * example.FLOOR, method
        # Of 12 intervals 8.2 ± 1.6 hold the truth.
        assert len(example.TRUTH) * scores[method].covered >= 4, method
