"""One split for all, and derived observables that agree with the jets'."""

import math

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.dataset import derive, derived_names, read_split
from hepgen.table import Table, read_tables, write_table

FEATURES = ["pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2"]


def rows(x):
    return {tuple(row) for row in x}


def test_split_uses_every_event_once(config, paths):
    split = read_split(config.generation, 1, paths)
    assert [len(part) for part in split] == [1800, 200, 2000]
    assert set().union(*map(rows, split)) == rows(read_tables(paths).matrix(FEATURES))
    assert not rows(split.train) & rows(split.test)


def test_split_depends_on_seed_and_sample_only(config, settings, paths):
    split = read_split(config.generation, 1, paths)
    settings["generation"] |= {"seeds": [7], "events": 10, "models": {}}
    other = parse(settings).generation
    for part, again in zip(split, read_split(other, 1, paths), strict=True):
        np.testing.assert_array_equal(part, again)
    assert rows(split.test) != rows(read_split(other, 2, paths).test)


def bad_file(folder, **changes):
    x = np.random.default_rng(1).uniform(1, 2, (200, 7))
    columns = dict(zip(FEATURES, x.T, strict=True)) | changes
    write_table(folder / "bad.h5", [Table(columns)])
    return [folder / "bad.h5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta_j2": np.full(200, 0.5)}, "eta_j2 is 0.5 in every event"),
        ({"mass_j1": np.r_[np.nan, np.inf, np.linspace(1, 2, 198)]}, "2 of 200 values of mass_j1 are not finite"),
        ({"weight": np.ones(200)}, "weighted events"),
    ],
)
def test_unfit_events_are_named(config, tmp_path, changes, message):
    with pytest.raises(HepgenError, match=message):
        read_split(config.generation, 1, bad_file(tmp_path, **changes))


def test_too_few_events(config, tmp_path):
    write_table(tmp_path / "few.h5", [read_tables(bad_file(tmp_path))[:6]])
    with pytest.raises(HepgenError, match="6 events are too few to learn 7 features; at least 70 are needed"):
        read_split(config.generation, 1, [tmp_path / "few.h5"])


def test_unknown_feature(settings, paths):
    settings["generation"]["features"][0] = "pt_j0"
    with pytest.raises(HepgenError, match="unknown observable of sample 'qcd' 'pt_j0'"):
        parse(settings)


def test_derived_observables_need_all_kinematics():
    assert derived_names(FEATURES) == ["mjj", "deta_jj"]
    assert derived_names(FEATURES[:-1]) == []
    assert derived_names([*FEATURES, "mjj"]) == ["deta_jj"]
    assert derive(np.ones((5, 2)), FEATURES[:2]).shape == (5, 0)


def test_mass_of_two_massless_jets():
    """m² = 2 pT1 pT2 (cosh Δη − cos Δφ); the order of the features does not matter."""
    x = np.array([[1500.0, 0.7, 0.0, 1300.0, -0.4, math.pi - 0.2, 0.0]])
    expected = math.sqrt(2 * 1500 * 1300 * (math.cosh(1.1) - math.cos(math.pi - 0.2)))
    order = [3, 1, 6, 0, 5, 2, 4]
    for values, names in ((x, FEATURES), (x[:, order], [FEATURES[k] for k in order])):
        np.testing.assert_allclose(derive(values, names), [[expected, 1.1]], rtol=1e-12)


def test_mass_of_massive_jets_at_rest_in_the_transverse_plane():
    """Back to back with equal pT and mass: mjj = 2 √(pT² + m²) at η = 0."""
    x = np.array([[400.0, 0.0, 300.0, 400.0, 0.0, math.pi, 300.0]])
    np.testing.assert_allclose(derive(x, FEATURES), [[1000.0, 0.0]], rtol=1e-12)
