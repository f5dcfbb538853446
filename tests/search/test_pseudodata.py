import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.search.pseudodata import Events, inject, select


@pytest.fixture
def config():
    arrays = {"source": "arrays", "path": "unused.npy", "columns": {"mjj": 0}, "label": 0}
    cuts = {"cut": {"observable": "mjj", "signal": "high"}}
    tagging = {"samples": ["mine"], "models": {}, "cuts": cuts}
    return parse({"samples": {"mine": arrays}, "tagging": tagging, "search": {"taggers": ["cut"]}})


def events(number, start, trainings=1, seed=1):
    """Events that can be told apart by their mass, with random scores."""
    rng = np.random.default_rng(seed)
    return Events(start + np.arange(number, dtype=float), {"cut": rng.random((trainings, number))})


def test_injections_are_nested_draw_nothing_twice_and_leave_the_background_alone(config):
    background, signal = events(100, 0), events(200, 1000)
    drawn = {n: inject(config, background, signal, n) for n in (0, 20, 50)}
    assert drawn[0][0].mass.tolist() == background.mass.tolist()
    for number, (data, rest) in drawn.items():
        injected = data.mass[100:]
        assert len(injected) == number
        assert sorted([*injected, *rest.mass]) == signal.mass.tolist()
        assert data.mass[:100].tolist() == background.mass.tolist()
        assert data.scores["cut"][0, 100:].tolist() == [signal.scores["cut"][0, int(m - 1000)] for m in injected]
    assert drawn[50][0].mass[:120].tolist() == drawn[20][0].mass.tolist()


def test_more_signal_than_can_be_spared_is_refused(config):
    with pytest.raises(HepgenError, match=r"search\.injected: 160 of 200 held-out signal events leave 40"):
        inject(config, events(100, 0), events(200, 1000), 160)


def test_a_cut_keeps_its_share_whatever_the_scale_of_the_scores():
    data, signal = events(1000, 0, trainings=3), events(300, 5000, trainings=3, seed=2)
    kept = select(data, signal, "cut", 0.1)
    assert len(kept.data) == 100
    scale = np.array([[1.0], [-3.0], [2.0]])
    stretched = [Events(e.mass, {"cut": np.exp(np.abs(scale) * e.scores["cut"]) + scale}) for e in (data, signal)]
    again = select(*stretched, "cut", 0.1)
    assert again.data.tolist() == kept.data.tolist()
    assert again.signal.tolist() == kept.signal.tolist()


def test_without_a_tagger_everything_is_kept():
    data, signal = events(10, 0), events(5, 100)
    kept = select(data, signal, None, 1.0)
    assert kept.data.tolist() == data.mass.tolist()
    assert kept.signal.tolist() == signal.mass.tolist()
