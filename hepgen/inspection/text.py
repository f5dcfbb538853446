"""Text files of generators: HepMC and Les Houches events."""

from pathlib import Path

from hepgen.inspection.findings import SAMPLED, Finding, Reading
from hepgen.sources.generators import open_text

__all__ = ["inspect_hepmc", "inspect_lhe"]

# Bytes of a line that are looked at; longer ones are read in pieces.
LONGEST = 1 << 20
HEADER = 10_000


def inspect_hepmc(path: str) -> Finding:
    """What a HepMC file holds.

    Raises:
        HepgenError: if it is damaged.
    """
    finding, lines = _scan(path, "HepMC", b"E ")
    version = "3" if any(line.startswith(b"HepMC::Asciiv3") for line in lines) else "2"
    finding.kind = f"HepMC{version}"
    unit = next((line.split()[1].decode() for line in lines if line.startswith(b"U ") and len(line.split()) > 1), "GEV")
    finding.contents = [("records", f"stable particles and decayed ones, momenta in {unit}")]
    names = [line[2:].strip().decode(errors="replace") for line in lines if line.startswith((b"N ", b"W "))]
    if names:
        finding.contents.append(("weights", names[0][:200]))
    finding.readings = [Reading("particles", "stable particles without neutrinos", {"source": "hepmc"}, 0.4)]
    return finding


def inspect_lhe(path: str) -> Finding:
    """What a Les Houches file holds.

    Raises:
        HepgenError: if it is damaged.
    """
    finding, lines = _scan(path, "LHE", b"<event")
    finding.contents = [("records", "partons of the matrix element")]
    weights = sum(line.lstrip().startswith(b"<weight ") for line in lines)
    if weights:
        finding.contents.append(("weights", f"{weights} reweighting weights beside the nominal one"))
    finding.readings = [Reading("particles", "outgoing partons", {"source": "lhe"}, 0.4)]
    return finding


def _scan(path: str, kind: str, mark: bytes) -> tuple[Finding, list[bytes]]:
    """How many events there are, and the lines up to the first; a long file is not read to its end."""
    header: list[bytes] = []
    count, start = 0, True
    with open_text(path, kind) as file:
        while line := file.readline(LONGEST):
            count += start and line.startswith(mark)
            start = line.endswith(b"\n")
            if count <= 1 and len(header) < HEADER:
                header.append(line)
            if count > SAMPLED:
                raw = getattr(getattr(file, "fileobj", None), "tell", file.tell)()
                total = Path(path).stat().st_size * SAMPLED // max(raw, 1)
                return Finding(path, kind, SAMPLED, at_least=f"about {total:,} by the file's size"), header
    return Finding(path, kind, count, problems=[] if count else ["the file holds no event"]), header
