import subprocess
import sys

from hepgen.unfolding.figures import figure_names


def test_names_follow_from_the_configuration(make_config):
    names = ["unfolded_alpha", "unfolded_mass_j1", "triangular", "iterations"]
    assert figure_names(make_config()) == [*names, "weights"]
    assert figure_names(make_config(methods={"dagostini": {"type": "ibu"}})) == names


def test_naming_figures_needs_no_torch():
    code = "import sys, hepgen.unfolding.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
