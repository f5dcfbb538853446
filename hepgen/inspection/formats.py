"""The formats of trees that are known by their branches, and how the objects of each are read."""

from dataclasses import dataclass, field

from hepgen.inspection.findings import Kind

__all__ = ["FORMATS", "Format", "Objects"]


@dataclass(frozen=True)
class Objects:
    """Particles or jets of a format.

    Attributes:
        kind: Which of the two.
        collections: Collections that are put together; ``*`` takes the place of any text.
        truth: The collections of the particle level, in the order of preference.
        where: Which of the particle level's objects are stable and visible; ``{}`` is their collection.
        index: Branch that holds the position of each jet's true jet.
        radius: Radius of these jets, or the usual one to cluster these particles with.
        massive: Whether masses are read too.
        quality: Conditions on the detector level's objects, each taken if its branches are there.
        share: Branch of the fraction of each particle that is not of pile-up; ``{}`` is the collection.
        observables: Further numbers of each jet, by name; ``{}`` is the collection.
    """

    kind: Kind
    collections: tuple[str, ...]
    truth: tuple[str, ...] = ()
    where: str | None = None
    index: str | None = None
    radius: float = 0.4
    massive: bool = True
    observables: dict[str, str] = field(default_factory=dict)
    quality: tuple[str, ...] = ()
    share: str | None = None


@dataclass(frozen=True)
class Format:
    """A format, known by branches that nothing else has.

    Attributes:
        name: What it is called.
        marks: Patterns; every one must fit a branch.
        unit: Of its momenta.
        weights: Expressions of the event weight, in the order of preference.
        objects: What can be read, the best first.
        remarks: What a physicist should know of such files.
    """

    name: str
    marks: tuple[str, ...]
    unit: str
    weights: tuple[str, ...]
    objects: tuple[Objects, ...]
    remarks: tuple[str, ...] = ()


VISIBLE = "(abs({id}) != 12) & (abs({id}) != 14) & (abs({id}) != 16)"
DELPHES_STABLE = f"({{}}.Status == 1) & (abs({{}}.Eta) < 5) & {VISIBLE.format(id='{}.PID')}"
EDM4HEP_STABLE = f"({{}}.generatorStatus == 1) & {VISIBLE.format(id='{}.PDG')}"
SUBSTRUCTURE = {"tau1": "{}_tau1", "tau2": "{}_tau2", "tau3": "{}_tau3", "msd": "{}_msoftdrop"}
DELPHES_JET = {
    "multiplicity": "{}.NCharged + {}.NNeutrals",
    **{f"tau{number}": f"{{}}.Tau[:, {number - 1}]" for number in (1, 2, 3)},
}
GOOD_JET = "{}_jetId >= 2"
FAT_JETS = Objects(
    "jets", ("FatJet",), ("GenJetAK8",), None, "FatJet_genJetAK8Idx", 0.8, True, SUBSTRUCTURE, (GOOD_JET,)
)
JETS = Objects(
    "jets", ("Jet",), ("GenJet",), None, "Jet_genJetIdx", 0.4, True, {"multiplicity": "{}_nConstituents"},
    (GOOD_JET, "({}_puId > 0) | ({}_pt > 50)"),
)  # fmt: skip
CMS_REMARKS = (
    "jets of both levels hold prompt leptons: leave events or jets with them out at both levels, by cut and where",
    "tau1, tau2, tau3 are CMS's, on other axes and in other units of R than those that hepgen computes",
)

# The first whose marks are all there is the format of a file.
FORMATS = (
    Format(
        "Delphes",
        ("Event.Number", "*.PT", "*.Eta", "*.Phi"),
        "GeV",
        ("Event.Weight[0]",),
        (
            Objects(
                "particles",
                ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron"),
                ("Particle",),
                DELPHES_STABLE,
                massive=False,
            ),
            Objects("particles", ("Track", "Tower"), ("Particle",), DELPHES_STABLE, massive=False),
            Objects("particles", ("Tower",), ("Particle",), DELPHES_STABLE, massive=False),
            Objects("jets", ("Jet",), ("GenJet",), observables=DELPHES_JET),
            Objects("jets", ("FatJet",), ("GenFatJet",), radius=0.8, observables=DELPHES_JET),
        ),
    ),
    Format(
        "PFNano",
        ("PFCands_pt", "luminosityBlock"),
        "GeV",
        ("genWeight",),
        (
            Objects(
                "particles",
                ("PFCands",),
                ("GenCands",),
                VISIBLE.format(id="{}_pdgId"),
                None,
                0.8,
                share="{}_puppiWeight",
            ),
            FAT_JETS,
            JETS,
        ),
        CMS_REMARKS,
    ),
    Format("NanoAOD", ("luminosityBlock", "run", "Jet_pt"), "GeV", ("genWeight",), (FAT_JETS, JETS), CMS_REMARKS),
    Format(
        "PHYSLITE",
        ("AnalysisJetsAuxDyn.pt", "EventInfoAuxDyn.eventNumber"),
        "MeV",
        ("EventInfoAuxDyn.mcEventWeights[0]",),
        (
            Objects(
                "jets",
                ("AnalysisJetsAuxDyn",),
                ("AntiKt4TruthDressedWZJetsAux*",),
                quality=("abs({}.eta) < 2.5", "{}.NNJvtPass == 1"),
            ),
            Objects("jets", ("AnalysisLargeRJetsAuxDyn",), ("AntiKt10Truth*JetsAux*",), radius=1.0),
        ),
        ("electrons are jets too at detector level, and not in the truth: overlap removal is not done",),
    ),
    Format(
        "EDM4hep",
        ("*.momentum.x", "*.momentum.y", "*.generatorStatus"),
        "GeV",
        ("EventHeader.weight[0]",),
        (
            Objects("particles", ("PandoraPFOs",), ("MCParticle*",), EDM4HEP_STABLE),
            Objects("particles", ("ReconstructedParticle*",), ("MCParticle*",), EDM4HEP_STABLE),
            Objects("particles", ("*PFO*",), ("MCParticle*",), EDM4HEP_STABLE),
            Objects("particles", ("*Particle*",), ("MCParticle*",), EDM4HEP_STABLE),
            Objects("particles", ("MCParticle*",)),
            Objects("jets", ("*Jet*",), ("GenJet*", "MCJet*"), None),
        ),
    ),
)
