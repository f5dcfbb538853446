"""Jets of a file: the same table as from clustered jets where both exist, and pairs of both levels."""

from itertools import product

import awkward as ak
import numpy as np
import pytest

from hepgen import jets, ready_jets
from hepgen.config import JetDefinition
from hepgen.events import Events, read_events, write_events
from hepgen.samples import LhcoSample, Match, RootSample
from hepgen.sources import root
from hepgen.table import read_tables, write_table

EVENTS = 200
MOMENTUM = ("pt", "eta", "phi", "mass")


def make(seed=1, most=6, **extra):
    """Events with 0 to 5 jets; extra fields are functions of the generator and the number of jets."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, EVENTS)
    n = counts.sum()
    fields = {
        "pt": rng.exponential(50, n) + 5,
        "eta": rng.normal(0, 1, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
        "mass": rng.exponential(8, n),
        **{name: function(rng, n) for name, function in extra.items()},
    }
    return ak.unflatten(ak.zip({name: values.astype(np.float32) for name, values in fields.items()}), counts)


def leading(event, pt_min):
    return sorted((jet for jet in event.to_list() if jet["pt"] >= pt_min), key=lambda jet: -jet["pt"])


def test_leading_jets_by_hand():
    definition = JetDefinition(number=2, pt_min=30)
    events = Events(make(tau1=lambda rng, n: rng.random(n)), {"weight": np.arange(EVENTS) - 5.0})
    table = ready_jets.observe(events, definition)
    hard = [leading(event, 30) for event in events.particles]
    kept = [number for number, event in enumerate(hard) if len(event) >= 2]
    assert 20 < len(kept) < EVENTS
    np.testing.assert_array_equal(table.columns["weight"], np.array(kept) - 5.0)
    assert table.truth == {}
    assert table.constituents == ()
    assert "pass_reco" not in table.columns
    for rank, name in product((0, 1), ("pt", "eta", "phi", "mass", "tau1")):
        expected = [hard[number][rank][name] for number in kept]
        np.testing.assert_array_equal(table.columns[f"{name}_j{rank + 1}"], np.array(expected, np.float32))
    for number, found in zip(kept, table.columns["mjj"], strict=True):
        pt, eta, phi, mass = (np.array([jet[name] for jet in hard[number][:2]]) for name in MOMENTUM)
        energy = np.hypot(pt * np.cosh(eta), mass).sum()
        momentum = np.sum([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
        # float32 columns
        assert found == pytest.approx(np.sqrt(energy**2 - momentum @ momentum), rel=1e-6)


def test_a_row_for_each_jet():
    """Of one level, so that data have the rows that matched pairs have."""
    momenta = {name: name for name in MOMENTUM}
    keys = {"source": "root", "path": "x.root", "jets": "fat", "jet_collection": momenta}
    sample = RootSample(**keys, rows="jets", observables={"weight_of": "w"})
    events = Events(make(), {"weight_of": np.arange(EVENTS) - 5.0})
    table = ready_jets.observer(sample)(events, JetDefinition(number=2, pt_min=30))
    hard = [(number, jet["pt"]) for number, event in enumerate(events.particles) for jet in leading(event, 30)]
    assert len(table) == len(hard) > EVENTS
    assert sorted(zip(table.columns["weight_of"] + 5, table.columns["pt_j1"], strict=True)) == sorted(hard)
    assert set(table.columns) == set(sample.columns_for(2))
    pairs = RootSample(**keys, truth={"jet_collection": momenta}, match={"radius": 0.4})
    simulated = ready_jets.observer(pairs)(Events(events.particles, {}, make(2)), JetDefinition(pt_min=30))
    seen = simulated.columns["pt_j1"][simulated.columns["pass_reco"]]
    np.testing.assert_array_equal(np.sort(seen), np.sort(table.columns["pt_j1"]))


def test_clustered_jets_that_are_read_again_give_the_same_table():
    """The momenta of jets, and all that follows from them, do not depend on who clustered."""
    rng = np.random.default_rng(1)
    counts = rng.integers(20, 60, 50)
    n = counts.sum()
    flat = {"pt": rng.exponential(20, n) + 1, "eta": rng.normal(0, 1, n), "phi": rng.uniform(-3, 3, n)}
    particles = ak.unflatten(ak.zip(flat), counts)
    definition = JetDefinition(number=2, pt_min=40)
    clustered = jets.observe(Events(particles), definition)
    # at least as many jets as the definition needs, so that the leading ones are all that matter
    found, passed = jets.cluster(particles, definition)
    ready = ak.from_regular(ak.zip({name: ak.Array(getattr(found, name)) for name in MOMENTUM}), axis=1)
    table = ready_jets.observe(Events(ready), definition)
    assert passed.sum() == len(table) == len(clustered)
    assert set(table.columns) < set(clustered.columns)
    for name, values in table.columns.items():
        # clustering sums float64 momenta, whose mass loses digits where it is small beside the energy
        np.testing.assert_allclose(values, clustered.columns[name], rtol=1e-5, atol=1e-4)


def test_levels_without_match():
    definition = JetDefinition(number=1, pt_min=60)
    events = Events(make(1), {"label": np.zeros(EVENTS, np.int8)}, make(2))
    table = ready_jets.observe(events, definition)
    seen, true = ([len(leading(event, 60)) >= 1 for event in level] for level in (events.particles, events.truth))
    kept = np.flatnonzero(np.array(seen) | np.array(true))
    np.testing.assert_array_equal(table.columns["pass_reco"], np.array(seen)[kept])
    np.testing.assert_array_equal(table.columns["pass_truth"], np.array(true)[kept])
    np.testing.assert_array_equal(np.isnan(table.columns["pt_j1"]), ~np.array(seen)[kept])
    np.testing.assert_array_equal(np.isnan(table.truth["pt_j1"]), ~np.array(true)[kept])
    assert len(table.columns["label"]) == len(kept)


def greedy(reco, truth, radius):
    """Closest pair first, one to one: the definition, pair by pair."""
    found = []
    for i, j in product(range(len(reco)), range(len(truth))):
        dphi = (reco[i]["phi"] - truth[j]["phi"] + np.pi) % (2 * np.pi) - np.pi
        found.append((np.hypot(reco[i]["eta"] - truth[j]["eta"], dphi), i, j))
    pairs, used_reco, used_truth = {}, set(), set()
    for distance, i, j in sorted(found):
        if distance <= radius and i not in used_reco and j not in used_truth:
            pairs[i] = j
            used_reco.add(i)
            used_truth.add(j)
    return pairs


def expected_rows(reco, truth, pairs, pt_min):
    """All (event, pt of the jet, pt of its true jet) of one event, NaN where there is none."""
    rows = [(jet["pt"], truth[pairs[i]]["pt"] if i in pairs else 0) for i, jet in enumerate(reco)]
    rows += [(0, jet["pt"]) for j, jet in enumerate(truth) if j not in pairs.values()]
    rows = [tuple(pt if pt >= pt_min else np.nan for pt in row) for row in rows]
    return [row for row in rows if not np.isnan(row).all()]


def check_pairs(events, match, pairing, pt_min=20):
    table = ready_jets.observe(events, JetDefinition(number=2, pt_min=pt_min), match)
    found = sorted(zip(table.columns["number"], table.columns["pt_j1"], table.truth["pt_j1"], strict=True), key=repr)
    expected = []
    for number, (reco, truth) in enumerate(zip(events.particles.to_list(), events.truth.to_list(), strict=True)):
        rows = expected_rows(reco, truth, pairing(reco, truth), pt_min)
        expected += [(np.float64(number), np.float32(reco_pt), np.float32(true_pt)) for reco_pt, true_pt in rows]
    assert list(map(repr, found)) == sorted(map(repr, expected))
    np.testing.assert_array_equal(table.columns["pass_reco"], ~np.isnan(table.columns["pt_j1"]))
    np.testing.assert_array_equal(table.columns["pass_truth"], ~np.isnan(table.truth["pt_j1"]))
    assert (np.diff(table.columns["number"]) >= 0).all()
    both = table.columns["pass_reco"] & table.columns["pass_truth"]
    assert both.any()
    assert (table.columns["pass_reco"] & ~both).any()
    assert (table.columns["pass_truth"] & ~both).any()
    return table


@pytest.mark.parametrize("radius", [0.4, 1.5, 10])
def test_pairs_by_distance(radius):
    events = Events(make(1), {"number": np.arange(EVENTS, dtype=float)}, make(2))
    table = check_pairs(events, Match(radius=radius), lambda reco, truth: greedy(reco, truth, radius))
    assert {name for name in table.columns if name.endswith("_j2")} == set()


def test_pairs_by_index():
    """Some jets share a true jet: the hardest has it."""
    truth = make(2)
    events = Events(make(1), {"number": np.arange(EVENTS, dtype=float)}, truth)
    rng = np.random.default_rng(5)
    counts = ak.num(events.particles)
    most = np.repeat(ak.to_numpy(ak.num(truth)), counts)
    index = ak.unflatten(np.floor(rng.random(len(most)) * (most + 1)) - 1, counts)
    reco = ak.with_field(events.particles, ak.values_astype(index, np.float32), "truth_index")

    def pairing(jets, _):
        pairs = {}
        for i in sorted(range(len(jets)), key=lambda i: -jets[i]["pt"]):
            if jets[i]["truth_index"] >= 0 and jets[i]["truth_index"] not in pairs.values():
                pairs[i] = int(jets[i]["truth_index"])
        return pairs

    table = check_pairs(Events(reco, events.columns, truth), Match(index="i"), pairing)
    assert "truth_index_j1" not in table.columns


def test_equal_distances_are_paired_once():
    """Four jets in one place: who gets whom is a matter of order, but everyone gets one."""
    level = ak.zip({name: ak.Array([[1.0] * 4]) * (50 if name == "pt" else 1) for name in ("pt", "eta", "phi")})
    table = ready_jets.observe(Events(level, {}, level), JetDefinition(), Match(radius=0.4))
    assert len(table) == 4
    assert table.columns["pass_reco"].all()
    assert table.columns["pass_truth"].all()


@pytest.mark.parametrize("match", [None, Match(radius=0.4), Match(index="i")])
def test_events_without_jets(match):
    empty = make()[["pt", "eta", "phi"]][:, :0]
    reco = ak.with_field(empty, empty.pt, "truth_index")
    assert len(ready_jets.observe(Events(reco, {}, empty), JetDefinition(), match)) == 0


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("massive", [True, False])
@pytest.mark.parametrize("extra", [(), ("tau1", "tau2"), ("mine", "msd", "another")])
@pytest.mark.parametrize("matched", [True, False])
def test_columns_are_those_that_the_configuration_promises(number, massive, extra, matched):
    momenta = {name: name for name in (MOMENTUM if massive else MOMENTUM[:3])}
    sample = RootSample(
        source="root",
        path="x.root",
        jets="fat",
        jet_collection={**momenta, "observables": {name: name for name in extra}},
        truth={"jet_collection": momenta},
        match={"radius": 0.4} if matched else None,
        observables={"met": "met"},
    )
    particles = make(**{name: lambda rng, n: rng.random(n) for name in extra})
    particles = particles[[*momenta, *extra]]
    events = Events(particles, {"met": np.ones(EVENTS)}, particles[list(momenta)])
    table = ready_jets.observe(events, JetDefinition(number=number), sample.match)
    assert set(table.columns) == {*sample.columns_for(number), "pass_reco", "pass_truth"}
    for name in extra:
        assert np.isfinite(table.columns[f"{name}_j1"]).all()


def test_observer_of_a_sample():
    """Jets of a file are matched as the sample says; particles are clustered."""
    momenta = {name: name for name in MOMENTUM}
    keys = {"source": "root", "path": "x.root", "jets": "fat", "jet_collection": momenta}
    matched = RootSample(**keys, truth={"jet_collection": momenta}, match={"radius": 0.4})
    definition, events = JetDefinition(number=2), Events(make(1), truth=make(2))
    for sample, match in ((matched, Match(radius=0.4)), (RootSample(**keys), None)):
        found = ready_jets.observer(sample)(events, definition)
        expected = ready_jets.observe(events, definition, match)
        for name, values in expected.columns.items():
            np.testing.assert_array_equal(found.columns[name], values)
    assert ready_jets.observer(LhcoSample(source="lhco", path="x.h5", jets="fat")) is jets.observe


def test_through_the_store(tmp_path):
    events = Events(make(tau1=lambda rng, n: rng.random(n)), {"label": np.ones(EVENTS, np.int8)}, make(2))
    write_events(tmp_path / "events.h5", [events])
    assert set(ak.fields(read_events(tmp_path / "events.h5").particles)) == {*MOMENTUM, "tau1"}
    definition = JetDefinition(number=1)
    write_table(tmp_path / "table.h5", [ready_jets.observe(events, definition, Match(radius=0.4))])
    direct = read_tables([tmp_path / "table.h5"], unseen=True)
    kept = jets.observe_file(
        tmp_path / "events.h5",
        tmp_path / "stored.h5",
        definition,
        observe=lambda batch, definition: ready_jets.observe(batch, definition, Match(radius=0.4)),
        step=7,
    )
    stored = read_tables([tmp_path / "stored.h5"], unseen=True)
    assert kept == len(stored) == len(direct)
    for name, values in direct.columns.items():
        np.testing.assert_array_equal(stored.columns[name], values)


def test_delphes_jets_matched_by_distance(reference):
    keys = {"pt": "PT", "eta": "Eta", "phi": "Phi", "mass": "Mass"}
    sample = RootSample(
        source="root",
        path=str(reference / "root" / "delphes.root"),
        jets="fat",
        jet_collection={
            **{name: f"Jet.{key}" for name, key in keys.items()},
            "observables": {"tau1": "Jet.Tau[:, 0]"},
        },
        truth={"jet_collection": {name: f"GenJet.{key}" for name, key in keys.items()}},
        match={"radius": 0.3},
        observables={"number": "Event.Number[0]"},
    )
    (events,) = root.stream(sample)
    numbers = np.arange(len(events), dtype=float)
    events = Events(events.particles, {"number": numbers}, events.truth)
    check_pairs(events, sample.match, lambda reco, truth: greedy(reco, truth, 0.3))
