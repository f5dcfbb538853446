"""Reads damaged files one after the other and says how each ended; run by test_fuzz.py in a process of its own.

    python tests/sources/fuzz.py CORPUS FIRST LAST

Every line of the output is one case: its number, and `clean`, `error: ...`, or the traceback of anything else.
"""

import faulthandler
import json
import random
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.inspection import inspect
from hepgen.sources import SOURCES

LONGEST = 30  # seconds that a case may take on a busy machine; whole files take below one
BOUNDARIES = (
    b"TKey", b"TTree", b"TBasket", b"OHDR", b"FRHP", b"BTHD", b"TREE", b"HEAP", b"SNOD", b"PK\x01\x02", b"PK\x03\x04",
    b"PK\x05\x06", b"PAR1", b"ZL\x08", b"L4", b"XZ", b"ZS\x01", b"RBlob", b"\n", b"<event>", b"E ", b"V ", b"</",
)  # fmt: skip


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_in_head(data: bytearray, rng: random.Random) -> bytearray:
    """Headers tell lengths and places: that is where a flipped bit leads furthest."""
    for _ in range(rng.choice([1, 2, 4])):
        data[rng.randrange(min(len(data), 2000))] ^= 1 << rng.randrange(8)
    return data


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def truncate_at_boundary(data: bytearray, rng: random.Random) -> bytearray:
    """Cut before, inside or after one of the marks that formats put between their parts."""
    marks = [mark for mark in BOUNDARIES if mark in data]
    if not marks:
        return truncate(data, rng)
    mark = rng.choice(marks)
    places = []
    place = data.find(mark)
    while place >= 0 and len(places) < 500:
        places.append(place)
        place = data.find(mark, place + 1)
    return data[: rng.choice(places) + rng.choice([0, 1, len(mark)])]


def overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, length = rng.randrange(len(data)), rng.choice([1, 4, 8, 100, 5000])
    fill = rng.choice([b"\x00", b"\xff", b"\x7f", bytes([rng.randrange(256)])])
    data[start : start + length] = fill * len(data[start : start + length])
    return data


def remove(data: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 4, 100, 5000])]
    return data


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, length = rng.randrange(len(data)), rng.choice([1, 4, 100, 5000])
    return data[: start + length] + data[start : start + length] * rng.choice([1, 20]) + data[start + length :]


def large_number(data: bytearray, rng: random.Random) -> bytearray:
    """A number of the file, in text or binary, becomes absurdly large or negative."""
    start = rng.randrange(len(data))
    number = rng.choice(
        [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"99999999999", b"-1", b"1e308", b"nan"]
    )
    data[start : start + len(number)] = number
    return data


MUTATIONS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    flip_bits, flip_in_head, truncate, truncate_at_boundary, overwrite, remove, repeat, large_number,
)  # fmt: skip


def mutate(case: int, corpus: list[dict], target: Path) -> dict:
    """Write the damaged file of a case; the same for the same number and corpus."""
    rng = random.Random(case)
    entry = corpus[case % len(corpus)]
    data = bytearray(Path(entry["path"]).read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2])):
        data = rng.choice(MUTATIONS)(data or bytearray(1), rng)
    target.write_bytes(data)
    return {**entry, "path": str(target)}


def read(entry: dict) -> None:
    """All that hepgen would read of a sample, and what `hepgen inspect` would look at."""
    jets = {"any": {"number": 1}} if entry.get("jets") else {}
    sample = parse({"jets": jets, "samples": {"fuzz": entry}}).samples["fuzz"]
    for batch in SOURCES.load(sample.source)(sample, 0, 1):
        len(batch)


def outcome(function: Callable[[], object]) -> str:
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        function()
    except HepgenError as error:
        text = str(error)
        return f"error: {text}" if text.strip() and len(text) < 2000 else f"bad message: {text[:2000]!r}"
    except BaseException:  # whatever it is, it should have been one of ours
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "clean"


def main() -> None:
    corpus, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    entries = json.loads(corpus.read_text())
    for case in range(first, last):
        suffix = "".join(Path(entries[case % len(entries)]["path"]).suffixes)
        target = corpus.parent / f"case{case}{suffix}"
        entry = mutate(case, entries, target)
        print(json.dumps({"case": case, "file": entry["path"], "source": entry["source"]}), flush=True)
        steps = {"read": partial(read, entry), "inspect": partial(inspect, [str(target)])}
        for name, function in steps.items():
            # Looking at a file from all sides takes longest, and reads it by the same code.
            if name == "inspect" and case % 4:
                continue
            print(json.dumps({"case": case, "step": name, "outcome": outcome(function)}), flush=True)
        target.unlink()


if __name__ == "__main__":
    main()
