import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from hepgen import checkpoints
from hepgen.checkpoints import STOPPED, Checkpoint, current, fit, hold_sigterm, resumable
from hepgen.models.trees import BoostedClassifier

STATE = {"weights": torch.arange(1000.0), "epoch": 3}


@pytest.fixture
def path(tmp_path):
    """A checkpoint of two steps."""
    path = tmp_path / "product.checkpoint"
    checkpoint = Checkpoint(path, "card")
    for _ in range(2):
        assert checkpoint.begin() is None
        checkpoint.keep(STATE)
    checkpoint.write()
    return path


def test_the_next_attempt_gets_the_states_in_their_order(path):
    checkpoint = Checkpoint(path, "card")
    states = [checkpoint.begin() for _ in range(3)]
    assert states[2] is None
    for state in states[:2]:
        assert torch.equal(state["weights"], STATE["weights"])
        assert state["epoch"] == 3


def cut(content):
    return content[:-1]


def flip(content):
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.parametrize("damage", [cut, flip, lambda content: content[:10], lambda content: b""])
def test_a_damaged_file_is_reported_and_not_used(path, capsys, damage):
    path.write_bytes(damage(path.read_bytes()))
    assert Checkpoint(path, "card").begin() is None
    assert f"{path}: damaged, or of other settings, code or data" in capsys.readouterr().err


def test_that_of_another_card_is_reported_and_not_used(path, capsys):
    assert Checkpoint(path, "other").begin() is None
    assert f"{path}: damaged, or of other settings, code or data" in capsys.readouterr().err


def test_nothing_is_used_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert Checkpoint(tmp_path / "folder", "card").begin() is None
    assert "unreadable (Is a directory), so the training starts anew" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"seed": 2}, {"code": "b"}, {"data": b"2"}])
def test_other_settings_code_or_data_make_another_card(tmp_path, change):
    def begun(seed=1, code="a", data=b"1"):
        (tmp_path / "data").write_bytes(data)
        with resumable(tmp_path / "product", code, seed, inputs=[tmp_path / "data"]) as checkpoint:
            state = checkpoint.begin()
            checkpoint.keep(STATE)
            sys.exit(STOPPED if state is None else 0)

    with pytest.raises(SystemExit):
        begun()
    with pytest.raises(SystemExit, match="0"):
        begun()
    with pytest.raises(SystemExit, match=str(STOPPED)):
        begun(**change)


def test_a_state_is_kept_as_it_was(path):
    """What the model learns next does not change it."""
    weights = torch.zeros(3)
    checkpoint = Checkpoint(path, "card")
    checkpoint.begin()
    checkpoint.keep({"weights": weights})
    weights += 1
    checkpoint.write()
    assert torch.equal(Checkpoint(path, "card").begin()["weights"], torch.zeros(3))


def test_it_is_written_when_it_is_due_and_not_before(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.begin()
    for seconds, written in ((29, False), (30, True)):
        now[0] = seconds
        checkpoint.keep(STATE)
        assert checkpoint.path.exists() == written
    assert not checkpoint.due()


def test_where_there_is_no_room_the_job_goes_on_with_the_last_one(path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    checkpoint, before = Checkpoint(path, "card"), path.read_bytes()
    monkeypatch.setattr(type(path), "write_bytes", fail)
    checkpoint.write()
    assert "No space left on device" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert not checkpoint.due()


def test_it_goes_when_the_product_is_there_and_outlives_a_failure(path):
    with pytest.raises(KeyError), resumable(path.with_suffix("")):
        raise KeyError
    assert path.exists()
    with resumable(path.with_suffix("")):
        assert current().path == path
    assert not path.exists()
    assert current().path is None


def test_trees_are_grown_once(tmp_path):
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    y = (x.sum(1) > 0).float()
    held_out = {"validation": (x[:100], y[:100]), "seed": 1}
    grown = BoostedClassifier(2, min_events=5).fit(x, y, **held_out)

    def stopped():
        with resumable(tmp_path / "product"):
            fit(BoostedClassifier(2, min_events=5), x, y, **held_out)
            sys.exit(STOPPED)

    with pytest.raises(SystemExit):
        stopped()
    with resumable(tmp_path / "product"):
        fit(taken := BoostedClassifier(2, min_events=5), x[:0], y[:0])
    assert torch.equal(taken.predict(x), grown.predict(x))
    for name, text in grown.state_dict().items():
        np.testing.assert_array_equal(taken.state_dict()[name], text)


def test_sigterm_ends_the_process_after_the_block():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work():
        with hold_sigterm() as came:
            found.append(came())
            os.kill(os.getpid(), signal.SIGTERM)
            found.append(came())

    with pytest.raises(SystemExit) as ended:
        work()
    assert found == [False, True]
    assert ended.value.code == STOPPED == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_leave_signals_alone():
    found = []

    def work():
        with hold_sigterm() as came:
            found.append(came())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_random_numbers_go_on_where_they_were():
    state = checkpoints.random_state()
    expected = torch.rand(3)
    checkpoints.set_random_state(state)
    assert torch.equal(torch.rand(3), expected)
