import subprocess
import sys

from hepgen.unfolding.figures import figure_names

KINDS = ("response", "detector", "unfolded", "refolded")


def names_of(kinds):
    return [f"{kind}_{name}" for kind in kinds for name in ("alpha", "mass_j1")]


def test_names_follow_from_the_configuration(make_config):
    names = [*names_of(KINDS), "triangular", "iterations"]
    assert figure_names(make_config(methods={"dagostini": {"type": "ibu"}})) == names
    assert figure_names(make_config()) == [*names, "weights", "calibration"]
    plane = {"alpha": {"edges": [0, 1]}, "mass_j1": {"edges": [0, 1]}}
    found = figure_names(make_config(replicas=10, toys=2, planes={"both": plane}))
    assert set(found) == {
        *names,
        *names_of(("uncertainty", "correlation")),
        "plane_both",
        "toys",
        "weights",
        "calibration",
    }


def test_naming_figures_needs_neither_torch_nor_scipy():
    code = "import sys, hepgen.unfolding.figures; sys.exit(bool({'torch', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
