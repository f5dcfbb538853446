"""Entries of the samples block: what may stand together, and which observables follow."""

import re

import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError

PARTICLES = {"pt": "P_pt", "eta": "P_eta", "phi": "P_phi"}
JETS = {**PARTICLES, "mass": "P_mass"}


def config(**entry):
    return parse({"jets": {"two": {"number": 2}}, "samples": {"mine": {"source": "root", "path": "x.root", **entry}}})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "give one of particles, jet_collection or observables"),
        ({"jets": "two", "particles": PARTICLES, "jet_collection": JETS}, "give one of particles"),
        ({"particles": PARTICLES}, "`jets` names a jet definition"),
        ({"jets": "two", "observables": {"m": "m"}}, "`jets` names a jet definition"),
        ({"jets": "tow", "particles": PARTICLES}, r"unknown jet definition 'tow' \(did you mean 'two'"),
        ({"jets": "two", "particles": {"pt": "a", "eta": "b"}}, "particles: momenta are given by pt, eta, phi"),
        ({"jets": "two", "particles": {**JETS, "energy": "e"}}, "particles: give mass or energy, not both"),
        ({"jets": "two", "particles": []}, "particles: list should have at least 1 item"),
        ({"jets": "two", "particles": {**PARTICLES, "charge": "q"}}, "particles.charge: unknown key 'charge'"),
        ({"jets": "two", "particles": [{**PARTICLES, "wehre": "q"}]}, r"particles\.0\.wehre: .*did you mean 'where'"),
        ({"jets": "two", "particles": {**PARTICLES, "where": "a and b"}}, r"particles\.where: .*write & and |"),
        ({"observables": {"m": "import os"}}, r"observables\.m: expression 'import os' is not an expression"),
        ({"observables": {"weight": "w"}}, r"observables: \['weight'\] has a key of its own"),
        ({"jets": "two", "jet_collection": {**JETS, "observables": {"mass": "m"}}}, r"\['mass'\] has a key of its own"),
        ({"jets": "two", "particles": JETS, "observables": {"mjj": "m"}}, r"\['mjj'\] has a key of its own"),
        ({"jets": "two", "particles": JETS, "observables": {"pt_j1": "m"}}, r"\['pt_j1'\] has a key of its own"),
        ({"jets": "two", "particles": JETS, "truth": {"jet_collection": JETS}}, "truth holds the same kind"),
        ({"observables": {"m": "a"}, "truth": {"observables": {"n": "a"}}}, "truth holds the same kind"),
        ({"jets": "two", "particles": JETS, "truth": {"particles": JETS, "observables": {"m": "a"}}}, "truth: obs"),
        ({"jets": "two", "jet_collection": JETS, "match": {"radius": 0.4}}, "match pairs the jets of"),
        ({"jets": "two", "particles": JETS, "match": {"radius": 0.4}}, "match pairs the jets of"),
        ({"jets": "two", "jet_collection": JETS, "match": {}}, "give either index or radius"),
        ({"observables": {"m": "a"}, "passed": "a > 0"}, "passed says which events exist"),
        ({"observables": {"m": "a"}, "label": 2}, r"mine\.label: input should be 0 or 1"),
        ({"observables": {"m": "a"}, "unit": "TeV"}, "unit: input should be 'GeV' or 'MeV'"),
        ({"observables": {"m": "a"}, "path": []}, "path: list should have at least 1 item"),
    ],
)
def test_what_does_not_go_together(entry, message):
    with pytest.raises(HepgenError, match=r"samples\.mine") as error:
        config(**entry)
    assert re.search(message, str(error.value)), error.value
    assert "Value error" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        *(
            ({"source": "padded", "jets": "two", "fields": fields}, "are no momenta; they hold pt, eta, phi or px")
            for fields in (
                ["pt", "eta"], ["pt", "eta", "phi", "px"], ["pt", "pt", "eta", "phi"], ["other"],
                ["pt", "eta", "phi", "mass", "energy"],
            )
        ),
        ({"source": "padded", "jets": "two", "fields": ["pT"]}, r"fields\.0: input should be 'pt'"),
        ({"source": "arrays", "columns": {}}, "columns: dictionary should have at least 1 item"),
        ({"source": "arrays", "columns": {"label": 2}, "label": 0}, "given both as a column and for all events"),
        ({"source": "arrays", "columns": {"x": {"column": 1, "scal": 2}}}, "x.scal: unknown key 'scal' .*'scale'"),
        ({"source": "arrays", "columns": {"x": 0}, "path": ""}, "path: a path is not empty"),
        ({"source": "arrays", "columns": {"x": 0}, "path": "a\0b"}, "path: a path is not empty and holds no null"),
        ({"source": "root", "observables": {"x": "x"}, "path": "root://h//a*.root"}, "path: patterns work in folders"),
        ({"source": ["root"], "path": "x"}, "unknown source"),
        ({"source": {}}, "unknown source"),
        ({"rows": "jets", "observables": {"x": "x"}}, "rows: jets goes with a jet_collection"),
        (
            {"rows": "jets", "jets": "two", "jet_collection": JETS, "truth": {"jet_collection": JETS}},
            "and with match where it has a truth",
        ),
    ],
)  # fmt: skip
def test_mistakes_of_other_sources(entry, message):
    with pytest.raises(HepgenError, match=r"samples\.mine") as error:
        config(**entry)
    assert re.search(message, str(error.value)), error.value


@pytest.mark.parametrize("output", ["", "a{b}", "a\nb"])
def test_an_output_that_can_be_no_folder_of_a_workflow(output):
    with pytest.raises(HepgenError, match="output: a folder's name holds no braces"):
        parse({"output": output, "samples": {}})


def test_simulation_and_data_have_the_same_kind_of_rows():
    jets = {"source": "root", "path": "x.root", "jets": "two", "jet_collection": JETS}
    pairs = {**jets, "truth": {"jet_collection": JETS}, "match": {"radius": 0.2}}
    block = {"simulation": "pairs", "data": "data", "observables": ["mass_j1"], "methods": {"ibu": {"type": "ibu"}}}

    def check(data):
        return parse({"jets": {"two": {"number": 2}}, "samples": {"pairs": pairs, "data": data}, "unfolding": block})

    with pytest.raises(HepgenError, match="a row for each jet, another one for each event; give all `rows: jets`"):
        check(jets)
    assert check({**jets, "rows": "jets"}).samples["data"].per_jet


def test_the_truth_needs_the_observables_that_are_unfolded():
    reco = {**JETS, "observables": {"tau1": "t"}}
    entry = {"source": "root", "path": "x.root", "jets": "two", "jet_collection": reco, "rows": "jets"}
    pairs = {**entry, "truth": {"jet_collection": JETS}, "match": {"radius": 0.2}}
    block = {"simulation": "pairs", "data": "data", "observables": ["tau1_j1"], "methods": {"ibu": {"type": "ibu"}}}
    with pytest.raises(HepgenError, match="unknown observable of the truth of sample 'pairs' 'tau1_j1'"):
        parse({"jets": {"two": {"number": 2}}, "samples": {"pairs": pairs, "data": entry}, "unfolding": block})


@pytest.mark.parametrize(
    ("entry", "present", "absent"),
    [
        ({"jets": "two", "particles": PARTICLES}, {"mjj", "tau21_j2", "width_j1"}, {"pt_j3"}),
        ({"jets": "two", "jet_collection": JETS}, {"mjj", "mass_j2", "mass_light"}, {"tau21_j1", "width_j1"}),
        ({"jets": "two", "jet_collection": PARTICLES}, {"pt_j2", "dphi_jj"}, {"mjj", "mass_j1", "delta_mass"}),
        (
            {"jets": "two", "jet_collection": {**JETS, "observables": {"tau1": "a", "tau2": "b", "btag": "c"}}},
            {"tau21_j1", "tau21_light", "tau1_j2", "btag_j1", "btag_j2"},
            {"tau32_j1", "multiplicity_j1"},
        ),
        ({"jets": "two", "jet_collection": JETS, "truth": {"jet_collection": JETS}, "match": {"radius": 1}},
         {"pt_j1", "mass_j1"}, {"pt_j2", "mjj"}),
        ({"observables": {"m": "a / 1000", "n": "b"}}, {"m", "n"}, {"mjj", "pt_j1"}),
        ({"jets": "two", "particles": PARTICLES, "observables": {"met": "MET_pt"}}, {"met", "mjj"}, set()),
    ],
)  # fmt: skip
def test_which_observables_a_sample_has(entry, present, absent):
    columns = config(**entry).columns_of("mine")
    assert present <= set(columns)
    assert not absent & set(columns)
    assert len(set(columns)) == len(columns)


def test_an_analysis_may_only_use_observables_that_the_sample_has():
    jets = {"two": {"number": 2}}
    entry = {"source": "root", "path": "x.root", "jets": "two", "jet_collection": JETS}
    tagging = {"samples": ["mine"], "models": {"pca": {"type": "pca", "inputs": ["tau21_light"]}}}
    with pytest.raises(HepgenError, match=r"pca\.inputs: unknown observable of sample 'mine' 'tau21_light'"):
        parse({"jets": jets, "samples": {"mine": entry}, "tagging": tagging})
