"""What a sample may be: one entry of the configuration's samples block, by source."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
)
from pydantic import model_validator as validator

from hepgen.errors import HepgenError
from hepgen.observables import column_names, describe
from hepgen.registry import unknown_name
from hepgen.sources import SOURCES

__all__ = [
    "EVENT_COLUMNS",
    "SAMPLES",
    "TAGS",
    "ArraysSample",
    "Column",
    "EnergyflowSample",
    "FilePath",
    "FileSample",
    "HepmcSample",
    "JetCollection",
    "LevelOfTruth",
    "LhcoSample",
    "LheSample",
    "Match",
    "Momenta",
    "Name",
    "PaddedSample",
    "PluginSample",
    "PythiaSample",
    "RootSample",
    "Sample",
    "Strict",
]


class Strict(BaseModel):
    """A block of the configuration: read-only, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _expression(value: Any) -> Any:
    """Refuse an expression that cannot be one, so that `hepgen check` finds it."""
    # Here, as what evaluates expressions takes long to import, and every job of a batch system plans its run.
    from hepgen.expressions import Expression

    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    if isinstance(value, str):
        try:
            Expression(value)
        except HepgenError as error:
            raise ValueError(str(error)) from error
    return value


def _number(value: Any) -> str:
    return "several" if isinstance(value, list) else "one"


# Names that fields of jets and columns of events have already.
JET_FIELDS = ("pt", "eta", "phi", "mass", "truth_index")
EVENT_COLUMNS = ("label", "weight", "pass_reco", "pass_truth")

Item = TypeVar("Item")
OneOrSeveral = Annotated[
    Annotated[Item, Tag("one")] | Annotated[list[Item], Field(min_length=1), Tag("several")], Discriminator(_number)
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
Formula = Annotated[str, BeforeValidator(_expression)]
Formulas = OneOrSeveral[Formula]
Label = Literal[0, 1]
Level = Literal["reco", "truth"]
LabelOrFormula = Annotated[
    Annotated[Label, Tag("one")] | Annotated[Formula, Tag("formula")],
    Discriminator(lambda value: "formula" if isinstance(value, str) else "one"),
]


def _file_path(value: str) -> str:
    """Refuse what can be no path, and patterns that nothing can expand."""
    if not value or "\0" in value:
        msg = "a path is not empty and holds no null byte"
        raise ValueError(msg)
    if "://" in value and any(sign in value for sign in "*["):
        msg = "patterns work in folders of this machine only; list the files of other hosts"
        raise ValueError(msg)
    return value


FilePath = Annotated[str, AfterValidator(_file_path)]


class Entry(Strict):
    """What every sample has."""

    chunks: PositiveInt = Field(1, description="jobs that the sample is made in")
    jets: Name | None = Field(None, description="an entry of the jets block, for events that are clustered")

    @property
    def is_table(self) -> bool:
        """Whether the source gives observables, rather than particles or jets."""
        return False

    @property
    def has_jets(self) -> bool:
        """Whether the source gives jets that are used as they are, rather than particles to be clustered."""
        return False

    @property
    def per_jet(self) -> bool:
        """Whether the table has a row for each jet, rather than for each event."""
        return False

    @property
    def has_truth(self) -> bool:
        """Whether the source gives a particle level too."""
        return False

    def columns_for(self, number: int, level: Level = "reco") -> list[str]:
        """The observables of the sample's table.

        Args:
            number: How many leading jets the sample's jet definition asks for; 0 without one.
            level: Detector level, or the particle level of a sample that has one.
        """
        return column_names(number)


class FileSample(Entry):
    """A sample that is read from files, which are shared evenly among the chunks."""

    path: OneOrSeveral[FilePath] = Field(
        description="a file, a pattern such as 'data/*.root', a root:// address, 'dataset:NAME', or a list of these"
    )


class PythiaSample(Entry):
    """Events simulated on the spot with Pythia 8 and the parametrised detector."""

    source: Literal["pythia"]
    process: Literal["qcd", "wprime", "zprime", "zjet"] = Field(description="a process of hepgen.simulation.processes")
    events: PositiveInt = Field(description="events that pass the process's selection")
    jets: Name = Field(description="an entry of the jets block")
    settings: list[str] = Field([], description="further Pythia settings, e.g. 'Tune:pp = 14'")

    @property
    def has_truth(self) -> bool:
        return self.process == "zjet"


class LhcoSample(FileSample):
    """Files in the raw layout of the LHC Olympics 2020."""

    source: Literal["lhco"]
    events: PositiveInt | None = Field(None, description="use only the first events of each file")
    jets: Name = Field(description="an entry of the jets block")
    label: Label | None = Field(None, description="label of all events, for a file without a label column")


class Column(Strict):
    """One column of a table: its index or name in the file, and the factor to GeV or radians."""

    column: int | str
    scale: float = 1.0


ColumnOrName = Annotated[
    Annotated[Column, Tag("one")] | Annotated[int, Tag("index")] | Annotated[str, Tag("formula")],
    Discriminator(
        lambda value: "one" if isinstance(value, dict | Column) else "index" if isinstance(value, int) else "formula"
    ),
]


class ArraysSample(FileSample):
    """A table of observables (.npy, .npz, .h5, .csv or .parquet), which needs no clustering."""

    source: Literal["arrays"]
    columns: dict[Name, ColumnOrName] = Field(
        min_length=1, description="observable name: column index, column name or both with a scale"
    )
    truth: dict[Name, ColumnOrName] = Field(
        {}, description="the same at particle level; `columns` may hold pass_reco and pass_truth, where a row exists"
    )
    label: Label | None = Field(None, description="label of all events, for a table without a label column")
    cut: Formula | None = Field(
        None, description="which events to use at all: a condition on `columns`, and on `row`, counted from 0 in a file"
    )

    @validator(mode="after")
    def _one_label(self) -> "ArraysSample":
        if "label" in self.columns and self.label is not None:
            msg = "`label` is given both as a column and for all events; remove one of the two"
            raise ValueError(msg)
        return self

    @validator(mode="after")
    def _known_cut(self) -> "ArraysSample":
        from hepgen.expressions import Expression

        known = {"row", *self.columns}
        for name in Expression(self.cut).names - known if self.cut else ():
            raise ValueError(f"cut: {unknown_name('column', name, known)}")
        return self

    @validator(mode="after")
    def _levels(self) -> "ArraysSample":
        if taken := [name for name in EVENT_COLUMNS if name in self.truth]:
            msg = f"truth: {taken[0]} is no observable; it belongs in `columns`"
            raise ValueError(msg)
        if "pass_truth" in self.columns and not self.truth:
            msg = "pass_truth says which rows exist at particle level, which is given by `truth`; add it"
            raise ValueError(msg)
        return self

    @property
    def is_table(self) -> bool:
        return True

    @property
    def has_truth(self) -> bool:
        return bool(self.truth)

    def columns_for(self, number: int, level: Level = "reco") -> list[str]:
        return list(self.columns if level == "reco" else self.truth)


class Momenta(Strict):
    """Branches of momenta, or expressions of branches: (pt, eta, phi) or (px, py, pz), with mass, energy or neither."""

    pt: Formulas | None = None
    eta: Formulas | None = None
    phi: Formulas | None = None
    px: Formulas | None = None
    py: Formulas | None = None
    pz: Formulas | None = None
    mass: Formulas | None = Field(None, description="without mass and energy, particles are massless")
    energy: Formulas | None = None
    where: Formula | None = Field(None, description="which of the objects to use, e.g. 'abs(Jet_eta) < 2.5'")

    @validator(mode="after")
    def _complete(self) -> "Momenta":
        given = {name for name in ("pt", "eta", "phi", "px", "py", "pz") if getattr(self, name) is not None}
        if given not in ({"pt", "eta", "phi"}, {"px", "py", "pz"}):
            msg = f"momenta are given by pt, eta, phi or by px, py, pz, not by {', '.join(sorted(given)) or 'nothing'}"
            raise ValueError(msg)
        if self.mass is not None and self.energy is not None:
            msg = "give mass or energy, not both"
            raise ValueError(msg)
        return self


class JetCollection(Momenta):
    """Jets that are in the file already."""

    observables: dict[Name, Formulas] = Field({}, description="further numbers of each jet, e.g. tau1: FatJet_tau1")


class LevelOfTruth(Strict):
    """The particle level of the same events, in the same form as the detector level."""

    particles: OneOrSeveral[Momenta] | None = None
    jet_collection: JetCollection | None = None
    observables: dict[Name, Formula] = {}
    passed: Formula | None = Field(None, description="which events exist at this level")


class Match(Strict):
    """How jets of both levels are paired: by an index that the file holds, or by their distance."""

    index: Formula | None = Field(None, description="of each jet: the position of its true jet, −1 for none")
    radius: PositiveFloat | None = Field(None, description="largest ΔR of a pair")

    @validator(mode="after")
    def _one(self) -> "Match":
        if (self.index is None) == (self.radius is None):
            msg = "give either index or radius"
            raise ValueError(msg)
        return self


def _kinds(level: "LevelOfTruth | RootSample") -> list[str]:
    """What of a level is read, beside observables."""
    return [name for name in ("particles", "jet_collection") if getattr(level, name) is not None]


class RootSample(FileSample):
    """ROOT files: particles to be clustered, jets as they are in the file, or observables.

    Exactly one of `particles`, `jet_collection` and `observables` alone says what is read.
    """

    source: Literal["root"]
    tree: str | None = Field(None, description="TTree or RNTuple; may be left out where the file has only one")
    unit: Literal["GeV", "MeV"] | None = Field(
        None, description="of momenta, masses and known observables; MeV for PHYSLITE, else GeV"
    )
    jets: Name | None = Field(None, description="an entry of the jets block; for a jet_collection, how many and pt_min")
    particles: OneOrSeveral[Momenta] | None = Field(None, description="what is clustered; a list is put together")
    jet_collection: JetCollection | None = Field(None, description="jets to be used as they are")
    observables: dict[Name, Formula] = Field({}, description="numbers of each event: a branch or an expression")
    passed: Formula | None = Field(None, description="which events exist at detector level; needs truth")
    truth: LevelOfTruth | None = Field(None, description="the particle level of the same events")
    rows: Literal["events", "jets"] = Field(
        "events", description="for a jet_collection: a row for each event with its leading jets, or for each jet"
    )
    match: Match | None = Field(None, description="pairs of jets of both levels as rows; others are fakes and misses")
    weight: Formula | None = Field(None, description="event weight, which may be negative")
    label: LabelOrFormula | None = Field(None, description="1 signal, 0 background, or an expression that says so")
    cut: Formula | None = Field(
        None, description="which events to use at all; with truth, a selection at one level belongs in its passed"
    )

    @property
    def is_table(self) -> bool:
        return self.particles is None and self.jet_collection is None

    @property
    def has_jets(self) -> bool:
        return self.jet_collection is not None

    @property
    def has_truth(self) -> bool:
        return self.truth is not None

    def columns_for(self, number: int, level: Level = "reco") -> list[str]:
        own = list(self.observables) if level == "reco" or self.is_table else []
        if self.jet_collection is None:
            return [*(column_names(number) if self.particles is not None else []), *own]
        jets = self.truth.jet_collection if level == "truth" and self.truth else self.jet_collection
        massive = jets.mass is not None or jets.energy is not None
        given = [*(["mass"] if massive else []), *jets.observables]
        return [*column_names(1 if self.per_jet else number, given), *own]

    @property
    def per_jet(self) -> bool:
        return self.rows == "jets" or self.match is not None

    @validator(mode="after")
    def _consistent(self) -> "RootSample":
        kind = _kinds(self)
        truth = self.truth or LevelOfTruth()
        levels = [level.jet_collection for level in (self, truth) if level.jet_collection]
        taken = [name for level in levels for name in level.observables if name in JET_FIELDS]
        taken += [name for name in self.observables if name in EVENT_COLUMNS or (kind and describe(name).function)]
        mistakes = {
            "give one of particles, jet_collection or observables: what is to be read": (
                len(kind) > 1 or (not kind and not self.observables)
            ),
            "`jets` names a jet definition where particles or a jet_collection are read, and only there": (
                bool(kind) != (self.jets is not None)
            ),
            "truth holds the same kind as the detector level: particles, a jet_collection or the same observables": (
                self.truth is not None
                and (_kinds(truth) != kind or (not kind and truth.observables.keys() != self.observables.keys()))
            ),
            "truth: observables go with a sample of observables; those of particles and jets belong to the sample": (
                bool(kind and truth.observables)
            ),
            "match pairs the jets of jet_collection and truth.jet_collection; both are needed": (
                self.match is not None and len(levels) < 2
            ),
            "rows: jets goes with a jet_collection, and with match where it has a truth": (
                self.rows == "jets" and (self.jet_collection is None or (self.truth is not None and self.match is None))
            ),
            "passed says which events exist at detector level where there is a truth; use cut otherwise": (
                self.passed is not None and self.truth is None
            ),
            f"observables: {taken[:1]} has a key of its own or is made by hepgen; choose another name": bool(taken),
        }
        for message, found in mistakes.items():
            if found:
                raise ValueError(message)
        return self


class HepmcSample(FileSample):
    """HepMC3 files of a generator: the stable and visible particles are clustered."""

    source: Literal["hepmc"]
    jets: Name = Field(description="an entry of the jets block")
    weight: str | None = Field(None, description="name of a weight; the nominal one if left out")
    label: Label | None = Field(None, description="label of all events")


class LheSample(FileSample):
    """Les Houches event files of a matrix-element generator: outgoing, visible partons and leptons are clustered."""

    source: Literal["lhe"]
    jets: Name = Field(description="an entry of the jets block")
    weight: str | None = Field(None, description="id of a reweighting weight; the nominal one if left out")
    label: Label | None = Field(None, description="label of all events")


class EnergyflowSample(FileSample):
    """EnergyFlow's data sets: quark and gluon jets, or Z + jets at particle and at detector level."""

    source: Literal["energyflow"]
    data: Literal["qg_jets", "zjets_delphes"]
    events: PositiveInt | None = Field(None, description="use only the first events of each file")
    jets: Name | None = Field(
        None, description="an entry of the jets block; for qg_jets, whose particles are clustered"
    )

    @property
    def is_table(self) -> bool:
        return self.data == "zjets_delphes"

    @property
    def has_truth(self) -> bool:
        return self.is_table

    def columns_for(self, number: int, level: Level = "reco") -> list[str]:
        jet = ("pt", "eta", "phi", "mass", "multiplicity", "width", "tau21", "msd", "ln_rho", "zg")
        return [f"{name}_j1" for name in jet] if self.is_table else column_names(number)

    @validator(mode="after")
    def _consistent(self) -> "EnergyflowSample":
        if self.is_table == (self.jets is not None):
            msg = "`jets` names a jet definition for qg_jets, and is left out for zjets_delphes"
            raise ValueError(msg)
        return self


LabelOrColumn = Annotated[
    Annotated[int, Tag("one")] | Annotated[str, Tag("formula")],
    Discriminator(lambda value: "formula" if isinstance(value, str) else "one"),
]


class PaddedSample(FileSample):
    """Arrays of particles, padded to the same number in each event (.npy, .npz, .h5), e.g. JetNet or top tagging."""

    source: Literal["padded"]
    array: str | None = Field(None, description="name of the array in the file, where it holds more than one")
    fields: list[Literal["pt", "eta", "phi", "mass", "px", "py", "pz", "energy", "other"]] = Field(
        description="what a particle's numbers are, in order; `other` is skipped"
    )
    first: int = Field(0, ge=0, description="index of the first particle's first column, in a flat table")
    particles: PositiveInt | None = Field(None, description="particles an event, in a flat table")
    scale: PositiveFloat = Field(1.0, description="factor of momenta and masses to GeV")
    label: LabelOrColumn | None = Field(None, description="label of all events; or the name or index (> 1) of a column")
    events: PositiveInt | None = Field(None, description="use only the first events of each file")
    jets: Name = Field(description="an entry of the jets block")

    @validator(mode="after")
    def _complete(self) -> "PaddedSample":
        given = sorted(field for field in self.fields if field != "other")
        momenta, masses = (("pt", "eta", "phi"), ("px", "py", "pz")), ((), ("mass",), ("energy",))
        if given not in [sorted([*p, *m]) for p in momenta for m in masses]:
            msg = (
                f"fields {', '.join(self.fields)} are no momenta; they hold pt, eta, phi or px, py, pz, each once, "
                "with mass, energy or neither, and any number of other"
            )
            raise ValueError(msg)
        return self


class PluginSample(Entry):
    """A sample whose source is a plug-in; see `plugins`."""

    source: Name
    settings: dict[str, Any] = Field({}, description="keyword arguments of the source")
    jets: Name | None = Field(None, description="an entry of the jets block, if the source yields events")
    observables: list[Name] = Field([], description="the columns of the tables, if it yields tables")
    truth: bool = Field(
        False, description="whether it yields a particle level too, so that unfolding can learn from it"
    )

    @validator(mode="before")
    @classmethod
    def _registered(cls, content: Any) -> Any:
        source = content.get("source") if isinstance(content, dict) else None
        if not isinstance(source, str) or source not in SOURCES:
            raise ValueError(str(unknown_name("source", str(source), SOURCES)))
        return content

    @property
    def is_table(self) -> bool:
        return self.jets is None

    @property
    def has_truth(self) -> bool:
        return self.truth

    def columns_for(self, number: int, level: Level = "reco") -> list[str]:
        return list(self.observables) if self.is_table else column_names(number)


# The sources that hepgen has itself, and what their entries may hold.
SAMPLES: dict[str, type[Entry]] = {
    "pythia": PythiaSample,
    "lhco": LhcoSample,
    "arrays": ArraysSample,
    "root": RootSample,
    "hepmc": HepmcSample,
    "lhe": LheSample,
    "energyflow": EnergyflowSample,
    "padded": PaddedSample,
    "plugin": PluginSample,
}
# Parts of the location of an error that are no keys of the configuration.
TAGS = {*SAMPLES, "one", "several", "formula", "index"}


def _kind(value: Any) -> str:
    source = value.get("source") if isinstance(value, dict) else getattr(value, "source", None)
    return source if isinstance(source, str) and source in SAMPLES else "plugin"


Sample = Annotated[
    Annotated[PythiaSample, Tag("pythia")]
    | Annotated[LhcoSample, Tag("lhco")]
    | Annotated[ArraysSample, Tag("arrays")]
    | Annotated[RootSample, Tag("root")]
    | Annotated[HepmcSample, Tag("hepmc")]
    | Annotated[LheSample, Tag("lhe")]
    | Annotated[EnergyflowSample, Tag("energyflow")]
    | Annotated[PaddedSample, Tag("padded")]
    | Annotated[PluginSample, Tag("plugin")],
    Discriminator(_kind),
]
