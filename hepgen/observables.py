"""Observables by name: how each is computed from jets, and how it is labelled, binned and bounded."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hepgen.errors import HepgenError

if TYPE_CHECKING:
    from hepgen.jets import Jets

__all__ = [
    "OBSERVABLES",
    "Observable",
    "column_names",
    "compute",
    "describe",
    "event_observable",
    "jet_observable",
    "jet_values",
]

Function = Callable[["Jets"], np.ndarray]
Interval = tuple[float, float]

LN_RHO_FLOOR = -14.0
RANKS = {1: "leading jet", 2: "subleading jet"}
CONSTITUENTS = ("constituents",)
REAL = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


@dataclass(frozen=True)
class Observable:
    """A quantity of jets or events.

    Attributes:
        name: Name of its column, without the jet's rank.
        label: Label in matplotlib's mathtext, without the unit.
        unit: ``GeV``, or empty.
        ranges: Intervals to plot it in, the widest last; see `range_for`.
        support: Physical bounds, ±inf where there is none.
        period: Length of the circle that an angle's support is cut from; None where values do not wrap.
        jets: Number of jets that an event-level observable needs; 0 for one that every jet has.
        needs: What must be known of the jets beyond their directions and pT: names of jet observables, or
            ``constituents``, which jets that were clustered have.
        function: Computes it from `Jets`: shape (n, number) if every jet has it, else (n,).
    """

    name: str
    label: str
    unit: str = ""
    ranges: tuple[Interval, ...] = ()
    support: Interval = REAL
    period: float | None = None
    jets: int = 0
    needs: tuple[str, ...] = CONSTITUENTS
    function: Function | None = None

    @property
    def axis_label(self) -> str:
        """The label with the unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def range(self) -> Interval | None:
        """The widest plot range, or None for a column that hepgen does not know."""
        return self.ranges[-1] if self.ranges else None

    def range_for(self, values: np.ndarray) -> Interval:
        """The plot range that suits values: the narrowest that holds 98 % of them.

        Narrow and wide jets differ in their scale (a mass of 20 or of 200 GeV). Where not even half of the
        values lie in the widest range, e.g. for a sample at another energy, it is their own 0.5 to 99.5 % range.
        """
        inside = [np.mean((values >= low) & (values <= high)) for low, high in self.ranges]
        for interval, fraction in zip(self.ranges, inside, strict=True):
            if fraction >= 0.98:
                return interval
        if inside and inside[-1] >= 0.5:
            return self.ranges[-1]
        low, high = np.quantile(values, [0.005, 0.995])
        return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


OBSERVABLES: dict[str, Observable] = {}


def jet_observable(
    name: str,
    label: str,
    unit: str = "",
    *,
    ranges: tuple[Interval, ...],
    support: Interval = REAL,
    period: float | None = None,
    needs: tuple[str, ...] = CONSTITUENTS,
) -> Callable[[Function], Function]:
    """Register a function that maps `Jets` to a number for each jet, (n, number); columns ``<name>_j1``, ..."""
    return _register(Observable(name, label, unit, ranges, support, period, needs=needs))


def event_observable(
    name: str,
    label: str,
    unit: str = "",
    *,
    ranges: tuple[Interval, ...],
    support: Interval = REAL,
    period: float | None = None,
    jets: int = 2,
    needs: tuple[str, ...] = CONSTITUENTS,
) -> Callable[[Function], Function]:
    """Register a function that maps `Jets` to a number for each event, (n,); it needs at least `jets` jets."""
    return _register(Observable(name, label, unit, ranges, support, period, jets, needs))


def _register(observable: Observable) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        if observable.name in OBSERVABLES:
            msg = f"observable {observable.name!r} is registered already; choose another name"
            raise HepgenError(msg)
        OBSERVABLES[observable.name] = replace(observable, function=function)
        return function

    return register


def describe(column: str) -> Observable:
    """The observable of a column such as ``mjj`` or ``tau21_j1``; an unknown column is labelled by its name."""
    if column in OBSERVABLES:
        return OBSERVABLES[column]
    match = re.fullmatch(r"(\w+)_j([1-9]\d*)", column)
    known = OBSERVABLES.get(match[1]) if match else None
    if known is None or known.jets:
        return Observable(column, column.replace("_", " "))
    rank = RANKS.get(int(match[2]), f"jet {match[2]}")
    return replace(known, name=column, label=f"{rank} {known.label}")


def column_names(number: int, given: Iterable[str] | None = None) -> list[str]:
    """The columns that `compute` makes for events of `number` jets.

    Args:
        number: How many leading jets an event has.
        given: What is known of jets that were not clustered, beyond their momenta; None for clustered ones.
    """
    ranks = [f"_j{rank + 1}" for rank in range(number)]
    return [
        f"{name}{rank}"
        for name in _known(given)
        if _jets_for(name) <= number
        for rank in ([""] if _jets_for(name) else ranks)
    ]


def compute(jets: "Jets") -> dict[str, np.ndarray]:
    """All observables that these jets have: column name → float32, shape (n,)."""
    columns: dict[str, np.ndarray] = {}
    for name in _known(jets.given):
        if _jets_for(name) == 0:
            values = jet_values(jets, name).astype(np.float32)
            columns |= {f"{name}_j{rank + 1}": values[:, rank] for rank in range(jets.number)}
        elif _jets_for(name) <= jets.number:
            columns[name] = OBSERVABLES[name].function(jets).astype(np.float32)
    return columns


def jet_values(jets: "Jets", name: str) -> np.ndarray:
    """A jet observable, shape (n, number): as it was given with the jets, or computed."""
    return jets.given[name] if jets.given and name in jets.given else OBSERVABLES[name].function(jets)


def plugin_modules() -> list[str]:
    """The modules outside hepgen that registered observables."""
    modules = {observable.function.__module__ for observable in OBSERVABLES.values()}
    return sorted(module for module in modules if module.partition(".")[0] != "hepgen")


def _known(given: Iterable[str] | None) -> list[str]:
    """The observables that follow from what is given, and those given that hepgen has no definition of."""
    if given is None:
        return list(OBSERVABLES)
    known = {"pt", "eta", "phi", *given}
    for name, observable in OBSERVABLES.items():
        if known.issuperset(observable.needs):
            known.add(name)
    return [*(name for name in OBSERVABLES if name in known), *(name for name in given if name not in OBSERVABLES)]


def _jets_for(name: str) -> int:
    return OBSERVABLES[name].jets if name in OBSERVABLES else 0


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is 0 where the denominator is: a jet with too few particles to have that substructure."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


@jet_observable("pt", r"$p_\mathrm{T}$", "GeV", ranges=((0, 600), (0, 2500)), support=POSITIVE, needs=())
def _pt(jets: "Jets") -> np.ndarray:
    return jets.pt


@jet_observable("eta", r"$\eta$", ranges=((-3, 3),), needs=())
def _eta(jets: "Jets") -> np.ndarray:
    return jets.eta


@jet_observable(
    "phi", r"$\phi$", ranges=((-math.pi, math.pi),), support=(-math.pi, math.pi), period=2 * math.pi, needs=()
)
def _phi(jets: "Jets") -> np.ndarray:
    return jets.phi


@jet_observable("mass", "mass", "GeV", ranges=((0, 75), (0, 800)), support=POSITIVE, needs=("mass",))
def _mass(jets: "Jets") -> np.ndarray:
    return jets.mass


@jet_observable("multiplicity", "multiplicity", ranges=((0, 80), (0, 250)), support=POSITIVE)
def _multiplicity(jets: "Jets") -> np.ndarray:
    return jets.multiplicity


@jet_observable("width", r"width $\lambda_1^1$", ranges=((0, 0.6),), support=POSITIVE)
def _width(jets: "Jets") -> np.ndarray:
    """λ¹₁ = Σ z ΔR to the jet axis, z = pT / Σ pT (Larkoski, Thaler, Waalewijn 2014, arXiv:1408.3122)."""
    return jets.width


@jet_observable("tau1", r"$\tau_1$", ranges=((0, 0.6),), support=POSITIVE)
def _tau1(jets: "Jets") -> np.ndarray:
    return jets.tau[..., 0]


@jet_observable("tau2", r"$\tau_2$", ranges=((0, 0.4),), support=POSITIVE)
def _tau2(jets: "Jets") -> np.ndarray:
    return jets.tau[..., 1]


@jet_observable("tau3", r"$\tau_3$", ranges=((0, 0.3),), support=POSITIVE)
def _tau3(jets: "Jets") -> np.ndarray:
    return jets.tau[..., 2]


@jet_observable("tau21", r"$\tau_{21}$", ranges=((0, 1.2),), support=(0, 1), needs=("tau1", "tau2"))
def _tau21(jets: "Jets") -> np.ndarray:
    return _ratio(jet_values(jets, "tau2"), jet_values(jets, "tau1"))


@jet_observable("tau32", r"$\tau_{32}$", ranges=((0, 1.2),), support=(0, 1), needs=("tau2", "tau3"))
def _tau32(jets: "Jets") -> np.ndarray:
    return _ratio(jet_values(jets, "tau3"), jet_values(jets, "tau2"))


@jet_observable("msd", "soft-drop mass", "GeV", ranges=((0, 75), (0, 800)), support=POSITIVE)
def _msd(jets: "Jets") -> np.ndarray:
    return jets.msd


@jet_observable(
    "ln_rho", r"$\ln\rho$", ranges=((LN_RHO_FLOOR, -2), (LN_RHO_FLOOR, 0)), support=(LN_RHO_FLOOR, 0), needs=("msd",)
)
def _ln_rho(jets: "Jets") -> np.ndarray:
    """ln(m_SD²/pT²), at least −14: below that lie only rounding errors and jets groomed down to one particle."""
    return np.log(np.maximum((np.maximum(jet_values(jets, "msd"), 0) / jets.pt) ** 2, math.exp(LN_RHO_FLOOR)))


@jet_observable("zg", r"$z_g$", ranges=((0, 0.5),), support=(0, 0.5))
def _zg(jets: "Jets") -> np.ndarray:
    return jets.zg


@event_observable("mjj", r"$m_{jj}$", "GeV", ranges=((2000, 6000),), support=POSITIVE, needs=("mass",))
def _mjj(jets: "Jets") -> np.ndarray:
    total = jets.p4[:, :2].sum(1)
    return np.sqrt(np.maximum(total[:, 3] ** 2 - (total[:, :3] ** 2).sum(1), 0))


@event_observable("deta_jj", r"$|\Delta\eta_{jj}|$", ranges=((0, 4),), support=POSITIVE, needs=())
def _deta_jj(jets: "Jets") -> np.ndarray:
    return np.abs(jets.eta[:, 0] - jets.eta[:, 1])


@event_observable("dr_jj", r"$\Delta R_{jj}$", ranges=((0, 6),), support=POSITIVE, needs=())
def _dr_jj(jets: "Jets") -> np.ndarray:
    """√(Δη² + Δφ²), with Δφ in (−π, π]."""
    dphi = np.abs(jets.phi[:, 1] - jets.phi[:, 0])
    return np.hypot(jets.eta[:, 0] - jets.eta[:, 1], np.minimum(dphi, 2 * math.pi - dphi))


@event_observable(
    "dphi_jj",
    r"$\Delta\phi_{jj}$",
    ranges=((math.pi - 1, math.pi + 1),),
    support=(0, 2 * math.pi),
    period=2 * math.pi,
    needs=(),
)
def _dphi_jj(jets: "Jets") -> np.ndarray:
    """φ2 − φ1 in [0, 2π), so that back-to-back jets peak at π instead of being torn apart there."""
    return np.mod(jets.phi[:, 1] - jets.phi[:, 0], 2 * math.pi)


def _of(values: np.ndarray, jets: "Jets", *, heavy: bool) -> np.ndarray:
    """A number of the heavier or the lighter of the two leading jets."""
    leading = jets.mass[:, :2]
    which = leading.argmax(1) if heavy else 1 - leading.argmax(1)
    return values[np.arange(len(values)), which]


@event_observable("mass_light", "lighter jet mass", "GeV", ranges=((0, 600),), support=POSITIVE, needs=("mass",))
def _mass_light(jets: "Jets") -> np.ndarray:
    return _of(jets.mass, jets, heavy=False)


@event_observable("mass_heavy", "heavier jet mass", "GeV", ranges=((0, 800),), support=POSITIVE, needs=("mass",))
def _mass_heavy(jets: "Jets") -> np.ndarray:
    return _of(jets.mass, jets, heavy=True)


@event_observable("delta_mass", r"$\Delta m_{jj}$", "GeV", ranges=((0, 700),), support=POSITIVE, needs=("mass",))
def _delta_mass(jets: "Jets") -> np.ndarray:
    return np.abs(jets.mass[:, 0] - jets.mass[:, 1])


for _side, _words in (("light", "lighter jet"), ("heavy", "heavier jet")):
    for _name in ("tau21", "tau32"):
        _known_as = OBSERVABLES[_name]
        event_observable(
            f"{_name}_{_side}",
            f"{_words} {_known_as.label}",
            ranges=_known_as.ranges,
            support=(0, 1),
            needs=("mass", _name),
        )(lambda jets, name=_name, heavy=_side == "heavy": _of(jet_values(jets, name), jets, heavy=heavy))
