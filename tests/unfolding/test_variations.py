import pytest

from hepgen.errors import HepgenError
from hepgen.unfolding.variations import find, runs, variations


def names(block, method):
    return [variation.name for variation in variations(block, method)]


@pytest.fixture
def block(make_config):
    return make_config(replicas=2, toys=2, systematics=["other"], studied=["ibu"]).unfolding


def test_every_variation_has_a_name_of_its_own(block):
    expected = ["nominal", "data-1", "data-2", "simulation-1", "simulation-2"]
    expected += ["systematic-other", "systematic-other-1", "systematic-other-2"]
    expected += ["closure", "linear", "bump", "leakage", "alternative-other", "toy-1", "toy-2"]
    assert names(block, "ibu") == expected
    for name in expected:
        assert find(block, "ibu", name).name == name


def test_only_the_studied_methods_are_varied(block, make_config):
    assert names(block, "omnifold") == ["nominal"]
    assert names(make_config(tests=False).unfolding, "ibu") == ["nominal"]
    assert names(make_config(toys=2).unfolding, "omnifold")[-1] == "toy-2"


def test_seeds_multiply_what_is_measured_and_trained_only(make_config):
    block = make_config(replicas=2, toys=2).unfolding
    seeds = {}
    for method, variation, seed in runs(block):
        seeds.setdefault((method, variation.name), []).append(seed)
    assert seeds["omnifold", "nominal"] == seeds["omnifold", "data-1"] == [1, 2]
    assert seeds["omnifold", "toy-1"] == seeds["omnifold", "closure"] == [1]
    assert {tuple(found) for (method, _), found in seeds.items() if method == "ibu"} == {(1,)}
    assert [run.method for run in runs(block, "ibu")] == ["ibu"] * len(names(block, "ibu"))


@pytest.mark.parametrize("name", ["data", "total"])
def test_a_systematic_cannot_be_called_like_another_source_of_uncertainty(make_config, name):
    with pytest.raises(HepgenError, match=rf"unfolding\.systematics: '{name}' is what another source"):
        make_config(systematics=[name])


def test_a_variation_that_is_not_asked_for(block):
    with pytest.raises(HepgenError, match=r"methods\.ibu: unknown variation 'toy-3' \(did you mean 'toy-"):
        find(block, "ibu", "toy-3")
