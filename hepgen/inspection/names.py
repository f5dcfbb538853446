"""What names of branches and columns tell: momenta that belong together, levels, weights and labels."""

import re
from collections.abc import Iterable

__all__ = ["Family", "as_name", "families", "is_label", "is_weight", "level", "numbered"]

# The members of one collection: what each is for hepgen, and the name of its branch.
Family = dict[str, str]

MEMBERS = {
    "pt": "pt", "et": "et", "eta": "eta", "phi": "phi", "mass": "mass", "m": "mass", "energy": "energy", "e": "energy",
    "px": "px", "py": "py", "pz": "pz", "momentum.x": "px", "momentum.y": "py", "momentum.z": "pz",
}  # fmt: skip
LAST = re.compile(
    r"(?P<stem>.*?)(?P<sep>[_.]|(?<=[a-z0-9])(?=[A-Z])|^)(?P<member>momentum\.[xyz]|p[txyz]|et|eta|phi|mass|m|energy|e)"
    r"(?P<tail>_NOSYS)?",
    re.IGNORECASE,
)
FIRST = re.compile(r"(?P<member>p[txyz]|eta|phi|mass|m|energy|e)_(?P<stem>\w+)", re.IGNORECASE)
TRUTH = {"gen", "truth", "true", "mc", "hadron", "generated"}
RECO = {"reco", "rec", "sim", "det", "detector", "measured", "meas", "smeared"}
WEIGHT = re.compile(
    r"(f|evt|event|gen|mc|sample|nominal|total)?_?(event)?_?w(eigh)?t?s?(_mc|_nosys|_nominal)*", re.IGNORECASE
)
LABEL = re.compile(r"(is_?)?(label|signal|sig|target|y)(_new)?s?", re.IGNORECASE)


def families(names: Iterable[str]) -> dict[str, Family]:
    """Branches that are momenta of the same objects, by what their names share.

    >>> families(["jet_pt", "jet_eta", "jet_phi", "jet_m", "met"])
    {'jet': {'pt': 'jet_pt', 'eta': 'jet_eta', 'phi': 'jet_phi', 'mass': 'jet_m'}}
    """
    found: dict[str, Family] = {}
    for name in names:
        match = LAST.fullmatch(name) or FIRST.fullmatch(name)
        if match:
            member = MEMBERS[match["member"].lower()]
            found.setdefault(match["stem"], {}).setdefault(member, name)
    return {stem: family for stem, members in found.items() if (family := _complete(members))}


def _complete(members: Family) -> Family | None:
    """The members that make a momentum, in their order, or None if there are not enough."""
    if "pt" not in members and "et" in members:
        members = members | {"pt": members["et"]}
    for axes in (("pt", "eta", "phi"), ("px", "py", "pz")):
        if all(axis in members for axis in axes):
            massive = next((name for name in ("mass", "energy") if name in members), None)
            return {name: members[name] for name in (*axes, *([massive] if massive else []))}
    return None


def numbered(found: dict[str, Family]) -> dict[str, list[Family]]:
    """Families that are numbered from 1 or 0 (``jet1``, ``jet2``), together, in order."""
    groups: dict[str, dict[int, Family]] = {}
    for stem, family in found.items():
        match = re.fullmatch(r"(.*?)_?(\d+)", stem)
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = family
    return {stem: [members[number] for number in sorted(members)] for stem, members in groups.items()}


def level(name: str) -> tuple[bool | None, str]:
    """Whether a name says that it is of the truth (True) or of the detector (False), and the name without it.

    >>> level("truth_jet"), level("GenJet"), level("jet_reco"), level("jet")
    ((True, 'jet'), (True, 'jet'), (False, 'jet'), (None, 'jet'))
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", name)]
    rest = "_".join(word for word in words if word not in TRUTH | RECO)
    of = True if TRUTH & {*words} else False if RECO & {*words} else None
    return of, rest


def is_weight(name: str) -> bool:
    """Whether a branch is called like an event weight."""
    return WEIGHT.fullmatch(name) is not None


def is_label(name: str) -> bool:
    """Whether a branch is called like a label of signal and background."""
    return LABEL.fullmatch(name) is not None


def as_name(text: str) -> str:
    """A text as a name that a configuration takes.

    >>> as_name("tau21 (lead.)"), as_name("4l_mass")
    ('tau21_lead', 'x_4l_mass')
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name[:1].isalpha() else f"x_{name}"
