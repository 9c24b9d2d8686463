"""Damaged and hostile files, each remade from a seed and its name.

    python tests/faults/mutate.py FORMAT --seed SEED --case NAME --out FILE

writes one of them, as a failure of test_files.py names it.
"""

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from hostile import HOSTILE
from specimens import SPECIMENS, Specimen

Rule = Literal["exact", "shape", "valid", "refused"]
"""What may come of reading a file, besides an error that names it.

exact: what was in it before. shape: other values of the same shape and type, since no checksum covers them. valid: any
slice, since no checksum covers what describes it, or a digest is verified elsewhere. refused: nothing.
"""


@dataclass(frozen=True)
class Case:
    """A file to be read."""

    name: str
    file: str
    content: bytes
    rule: Rule
    specimen: Specimen | None = None
    """Of which it was made."""


def _cut(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    lengths = [0, 1, len(s.content) - 1, s.payload[0], s.payload[1] - 1, int(rng.integers(len(s.content)))]
    return s.content[: lengths[rng.integers(len(lengths))]], "exact"


def _lengthened(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    return s.content + rng.bytes(int(rng.integers(1, 2000))), "exact"


def _flipped(content: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _header_bits(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    outside = np.setdiff1d(np.arange(len(s.content)), np.arange(*s.payload))
    places = rng.choice(outside, int(rng.integers(1, 4)), replace=False)
    return _flipped(s.content, places, rng), "exact" if s.sealed_header else "valid"


def _payload_bits(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    places = rng.integers(*s.payload, int(rng.integers(1, 4)))
    return _flipped(s.content, places, rng), "exact" if s.sealed_payload else "shape"


def _field(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    """A lie: 1, 2, 4 or 8 bytes of the header replaced by what a size, a count or an offset should not be."""
    width = int(rng.choice((1, 2, 4, 8)))
    place = int(rng.integers(0, len(s.content) - width))
    if s.payload[0] - width < place < s.payload[1]:
        place = place % max(1, s.payload[0] - width)
    top = 1 << (8 * width)
    value = [0, 1, top - 1, top // 2, top // 2 - 1, top // 3, 65535 % top, 8192 % top][rng.integers(8)]
    lie = int(value).to_bytes(width, ("little", "big")[rng.integers(2)])
    content = s.content[:place] + lie + s.content[place + width :]
    return content, "exact" if s.sealed_header else "valid"


def _run(rng: np.random.Generator, s: Specimen) -> tuple[bytes, Rule]:
    """A block overwritten: by zeros, by ones, by noise, by another part of the file; or left out."""
    length = int(rng.integers(1, 200))
    place = int(rng.integers(0, max(1, len(s.content) - length)))
    other = int(rng.integers(0, max(1, len(s.content) - length)))
    block = [bytes(length), b"\xff" * length, rng.bytes(length), s.content[other : other + length], b""][
        rng.integers(5)
    ]
    content = s.content[:place] + block + s.content[place + length :]
    return content, "exact" if s.sealed_header and s.sealed_payload else "valid"


MUTATIONS = {
    "cut": _cut,
    "lengthened": _lengthened,
    "header bits": _header_bits,
    "payload bits": _payload_bits,
    "field": _field,
    "run": _run,
}
SHARES = {"cut": 2, "lengthened": 1, "header bits": 4, "payload bits": 3, "field": 4, "run": 2}
"""How many of each in a round over a specimen."""


def mutated(format: str, seed: int, rounds: int) -> Iterator[Case]:
    """So many rounds of SHARES over the specimens of a format."""
    for specimen in SPECIMENS[format]():
        for kind, share in SHARES.items():
            for index in range(rounds * share):
                name = f"{specimen.name}/{kind}/{index}"
                rng = np.random.default_rng([seed, zlib.crc32(f"{format}/{name}".encode())])
                content, rule = MUTATIONS[kind](rng, specimen)
                yield Case(name, specimen.file, content, "valid" if specimen.verified else rule, specimen)


def crafted(format: str, outside: Path, seed: int = 0, sample: int | None = None) -> Iterator[Case]:
    """What somebody would have to have made.

    Args:
        format: a key of HOSTILE.
        outside: a folder with `secret.mat` and `secret.bin`, which the files lead to.
        seed: of the sample.
        sample: so many of them; default all.
    """
    made = HOSTILE[format](outside)
    names = list(made)
    if sample is not None:
        rng = np.random.default_rng([seed, zlib.crc32(format.encode())])
        names = [names[i] for i in rng.permutation(len(names))[:sample]]
    for name in names:
        file, content, rule = made[name]
        yield Case(f"crafted/{name}", file, content if isinstance(content, bytes) else content(), rule)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a file that a fault test names.")
    parser.add_argument("format", choices=SPECIMENS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cases = [*mutated(options.format, options.seed, 100), *crafted(options.format, options.out.absolute().parent)]
    options.out.write_bytes(next(case.content for case in cases if case.name == options.case))


if __name__ == "__main__":
    main()
