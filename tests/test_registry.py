import sys
from fractions import Fraction

import pytest

from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.registry import Registry, module_source


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(HepgenError, match=r"unknown tagger 'pac' \(did you mean 'pca'\?\); known: .*conv_autoencoder"):
        TAGGERS.load("pac")


def test_plug_ins_register_by_name():
    registry = Registry("model", {"taken": "json:dumps"})
    assert registry.register("half")(Fraction) is Fraction
    registry.register("half")(Fraction)
    assert registry.load("half") is Fraction
    with pytest.raises(HepgenError, match=r"model 'taken' is registered already \(by json:dumps\); choose another"):
        registry.register("taken")(Fraction)


def test_a_target_that_is_gone_is_an_error():
    registry = Registry("model", {"lost": "no_such_package:Model", "renamed": "fractions:Model"})
    with pytest.raises(HepgenError, match="no Python module 'no_such_package'"):
        registry.load("lost")
    with pytest.raises(HepgenError, match="'fractions' has no 'Model'"):
        registry.load("renamed")


def test_settings_are_read_without_importing(tmp_path, monkeypatch):
    (tmp_path / "plugin.py").write_text(
        "raise RuntimeError('imported')\n"
        "class Base:\n    def __init__(self, shape, *, depth=1): ...\n"
        "class Model(Base):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("model", {"mine": "plugin:Model"})
    assert registry.settings("mine") == {"depth"}
    with pytest.raises(HepgenError, match=r"unknown setting of model 'mine' 'dept' \(did you mean 'depth'\?\)"):
        registry.check_settings("mine", ["dept"])
    assert "plugin" not in sys.modules


def test_source_of_a_compiled_module_is_an_error():
    with pytest.raises(HepgenError, match="no Python module 'math'"):
        module_source("math")
