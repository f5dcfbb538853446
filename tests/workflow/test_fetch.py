"""Files of official data sets: fetched where they are absent, plain inputs where they are here."""

import pytest


@pytest.fixture(autouse=True)
def no_other_folder(monkeypatch):
    monkeypatch.delenv("HEPGEN_DATA", raising=False)


def test_only_absent_files_are_fetched(empty):
    def change(content):
        for block in ("tagging", "search", "generation", "unfolding", "integration"):
            del content[block]
        entry = {"source": "lhco", "path": "dataset:lhco_black_boxes", "chunks": 3, "jets": "dijet"}
        content["samples"] = {"boxes": entry}

    empty.configure(change)
    here = empty.root / "data/lhco_black_boxes/events_LHCO2020_BlackBox2.h5"
    here.parent.mkdir(parents=True)
    here.touch()
    assert empty.planned("samples") == {"fetch": 2, "ingest": 3, "observe": 3}
    # A file that is here cannot be made, and so not be deleted before it is made anew.
    plan = empty.snakemake("samples", "--dry-run", "--forceall").stdout
    assert "data/lhco_black_boxes/events_LHCO2020_BlackBox1.h5" in plan
    assert f"output: {here.relative_to(empty.root)}" not in plan
    for number in (1, 3):
        here.with_name(f"events_LHCO2020_BlackBox{number}.h5").touch()
    assert empty.planned("samples") == {"ingest": 3, "observe": 3}
