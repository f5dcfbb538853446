"""Which unfoldings an analysis needs: every method, on the measured data and on variations of the events."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from hepgen.config import Unfolding
from hepgen.errors import HepgenError
from hepgen.registry import unknown_name

__all__ = [
    "JUDGED",
    "MEASURED",
    "UNFOLDED",
    "Kind",
    "Run",
    "Variation",
    "find",
    "runs",
    "seeds_of",
    "studied",
    "variations",
]

# The kind of product that an unfolding leaves.
UNFOLDED = "unfolded"

Kind = Literal[
    "nominal", "data", "simulation", "systematic", "closure", "linear", "bump", "alternative", "leakage", "toy"
]

# Those that the result and its uncertainties are made of, on the data; the others are tests.
MEASURED: tuple[Kind, ...] = ("nominal", "data", "simulation", "systematic")
# Those whose results the tests look into one by one; of the others the spectra tell enough.
JUDGED: tuple[Kind, ...] = ("nominal", "closure", "leakage")


class Variation(NamedTuple):
    """What an unfolding is made of.

    ``nominal`` is the measurement. ``data`` and ``simulation`` draw the events of one or the other anew, by a Poisson
    bootstrap. ``systematic`` learns from another simulation. ``leakage`` is nominal with the data's truth poisoned.
    Of the others the truth is known, for their data are simulated: ``closure`` unfolds one half of the simulation
    with the other half, ``linear`` and ``bump`` do so after a reweighting of the truth, ``alternative`` unfolds
    another simulation, and every ``toy`` a pseudo-experiment that is like the data.

    Attributes:
        kind: One of these.
        number: Which replica or toy, from 1; of ``systematic`` the replica of the data, 0 for the data themselves.
        sample: The other simulation.
    """

    kind: Kind
    number: int = 0
    sample: str = ""

    @property
    def name(self) -> str:
        """What it is called in paths and products, e.g. ``data-3`` or ``systematic-vincia-3``."""
        parts = [self.kind, self.sample, str(self.number) if self.number else ""]
        return "-".join(part for part in parts if part)


class Run(NamedTuple):
    """One unfolding."""

    method: str
    variation: Variation
    seed: int


def variations(block: Unfolding, method: str) -> list[Variation]:
    """What a method unfolds."""
    if method not in studied(block):
        return [Variation("nominal")]
    replicas = range(1, block.replicas + 1)
    found = [Variation("nominal")]
    found += [Variation(kind, number) for kind in ("data", "simulation") for number in replicas]
    found += [Variation("systematic", number, sample) for sample in block.systematics for number in (0, *replicas)]
    if block.tests:
        found += [Variation(kind) for kind in ("closure", "linear", "bump", "leakage")]
        found += [Variation("alternative", sample=sample) for sample in block.systematics]
    return found + [Variation("toy", number) for number in range(1, block.toys + 1)]


def studied(block: Unfolding) -> list[str]:
    """The methods whose uncertainties and tests are made, in the order of the configuration."""
    return [name for name in block.methods if name in block.studied or not block.studied]


def seeds_of(block: Unfolding, method: str, variation: Variation) -> list[int]:
    """Seeds that a method unfolds a variation with.

    Binned unfolding has no random numbers; the tests and toys are those of a single training.
    """
    return block.seeds if variation.kind in MEASURED and block.methods[method].type != "ibu" else block.seeds[:1]


def runs(block: Unfolding, *methods: str) -> Iterator[Run]:
    """All unfoldings of the named methods, or of all."""
    for method in methods or block.methods:
        for variation in variations(block, method):
            for seed in seeds_of(block, method, variation):
                yield Run(method, variation, seed)


def find(block: Unfolding, method: str, name: str) -> Variation:
    """A method's variation by its name.

    Raises:
        HepgenError: if the configuration does not ask for it.
    """
    known = {variation.name: variation for variation in variations(block, method)}
    if name not in known:
        msg = f"unfolding.methods.{method}: {unknown_name('variation', name, known)}"
        raise HepgenError(msg)
    return known[name]
