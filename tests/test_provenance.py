import json
import subprocess
import sys

import pytest

from hepgen.provenance import digest, digests, fingerprint, seed_for, stamp
from hepgen.registry import module_source


@pytest.fixture(autouse=True)
def _fresh_look_at_modules():
    module_source.cache_clear()
    sys.modules.pop("made_up", None)


def package(folder, body="VALUE = 1\n"):
    """A package whose module `a` imports `b`, while `c` stands alone."""
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("from made_up import b\n")
    (folder / "b.py").write_text(body)
    (folder / "c.py").write_text("VALUE = 3\n")


def test_fingerprint_follows_imports_and_ignores_comments(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    root = tmp_path / "made_up"
    package(root)
    a, c = fingerprint("made_up.a"), fingerprint("made_up.c")
    package(root, '"""A docstring."""\nVALUE = 1  # and a comment\n')
    assert fingerprint("made_up.a") == a
    package(root, "VALUE = 2\n")
    assert fingerprint("made_up.a") != a
    assert fingerprint("made_up.c") == c
    assert "made_up.b" not in sys.modules


def test_relative_imports_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    root = tmp_path / "made_up"
    package(root)
    (root / "a.py").write_text("from .b import VALUE\n")
    before = fingerprint("made_up.a")
    (root / "b.py").write_text("VALUE = 20\n")
    assert fingerprint("made_up.a") != before


def test_digest_and_seed_are_the_same_in_another_process():
    command = "from hepgen.provenance import digest, seed_for; print(digest({'b': 1, 'a': [2]}), seed_for('qcd', 3))"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert other == [digest({"a": [2], "b": 1}), str(seed_for("qcd", 3))]


def test_seeds_differ_and_stay_in_pythias_range():
    seeds = {seed_for(sample, chunk) for sample in ("qcd", "wprime") for chunk in range(500)}
    assert len(seeds) == 1000
    assert min(seeds) >= 1
    assert max(seeds) <= 900_000_000


def test_stamp_holds_neither_time_nor_host():
    record = json.loads(stamp({"x": 1}, ["hepgen.events"]))
    assert record.keys() == {"card", "code", "versions"}
    assert {"scipy", "vector", "vegas"} <= record["versions"].keys()
    assert stamp({"x": 1}, ["hepgen.events"]) == stamp({"x": 1}, ["hepgen.events"])


def test_the_code_of_a_source_is_what_reads_and_not_what_fetches():
    """A changed download remakes no sample; the sharing of files among chunks does."""
    collected = digests("hepgen.sources.lhco").keys()
    assert "hepgen.inputs" in collected
    assert not {"hepgen.download", "hepgen.datasets", "hepgen.config"} & collected
