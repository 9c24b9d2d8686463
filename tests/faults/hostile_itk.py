"""NRRD and MetaImage files that somebody made to do harm; see hostile.py."""

import gzip
import re
import zlib
from pathlib import Path

import specimens
from specimens import endless


def nrrd(outside: Path) -> dict[str, tuple[str, bytes, str]]:
    plain, packed = (specimen.content for specimen in specimens.nrrd())

    def told(*lines: str, of: bytes = plain) -> bytes:
        """Replace the fields that these lines give, or add them at the end of the header."""
        header, _, voxels = of.partition(b"\n\n")
        for line in lines:
            field = re.escape(line.partition(":")[0]).encode()
            header, n = re.subn(rb"(?m)^%s:.*$" % field, line.encode(), header)
            header += b"" if n else b"\n" + line.encode()
        return header + b"\n\n" + voxels

    huge, voxels = "sizes: 8192 8192 4096", plain.partition(b"\n\n")[2]
    secret = f"{outside}/secret.bin"
    start = packed.partition(b"\n\n")[0] + b"\n\n"
    files = {
        "voxels in another file": (told(f"data file: {secret}"), "refused"),
        "voxels in another file, spelled otherwise": (told(f"DATAFILE: {secret}"), "refused"),
        "voxels in other files": (told(f"data file: {secret[:-4]}%d.bin 0 9 1"), "refused"),
        "voxels in a list of files": (told("data file: LIST\n" + f"{secret}\n" * 3), "refused"),
        "more voxels than there are": (told(huge), "refused"),
        "more voxels than memory": (told("sizes: 2000000000 2000000000 2000000000"), "refused"),
        "more voxels than numbers": (told("sizes: 99999999999999999999999 1 1"), "refused"),
        "sides below zero": (told("sizes: -40 -36 -3"), "refused"),
        "no sides": (told("sizes: 0 0 0"), "refused"),
        "axes without end": (told("dimension: 999"), "refused"),
        "more axes than room": (told("dimension: 12", "sizes: 36 40 3" + " 1" * 9), "refused"),
        "a long line of nonsense": (told("nonsense" * 999), "refused"),
        "a long field of nonsense": (told("nonsense: " + "nonsense" * 999), "refused"),
        "a long type": (told("type: " + "int" * 9999), "refused"),
        "a long space": (told("space: " + "left" * 9999), "refused"),
        "vectors": (told("kinds: vector domain domain"), "refused"),
        "a type that nobody knows": (told("type: quaternion"), "refused"),
        "blocks": (told("type: block", "block size: 1000000"), "refused"),
        "an encoding that nobody knows": (told("encoding: rot13"), "refused"),
        "text": (told("encoding: ascii"), "refused"),
        "something before the voxels": (told("byte skip: -2"), "refused"),
        "lines before the voxels": (told("line skip: 2000000000"), "refused"),
        "voxels of no size": (told("space directions: (0,0,0) (0,0,0) (0,0,0)"), "valid"),
        "voxels of a size that is not a number": (told("space directions: (nan,nan,nan) (1,0,0) (0,1,0)"), "valid"),
        "voxels beyond all": (told("space directions: (1e308,0,0) (0,1e308,0) (0,0,1e308)"), "valid"),
        "a header without an end": (b"NRRD0004\n" + b"# more\n" * 3_000_000, "refused"),
        "a line without an end": (b"NRRD0004\n" + b"#" * 20_000_000, "refused"),
        "keys without end": (told(*["key:=" + "value" * 20_000] * 20), "valid"),
        "a bomb": (start + endless(31, 256, voxels), "valid"),
        "a bomb that says so": (told(huge, of=start) + endless(31, 16, voxels), "refused"),
        "an archive in an archive": (start + gzip.compress(gzip.compress(voxels)), "refused"),
    }
    return {name: ("a.nrrd", content, rule) for name, (content, rule) in files.items()}


def mha(outside: Path) -> dict[str, tuple[str, bytes, str]]:
    plain, packed = (specimen.content for specimen in specimens.mha())
    end = b"ElementDataFile = LOCAL\n"

    def told(*lines: str, of: bytes = plain, last: bytes = end) -> bytes:
        """Replace the fields that these lines give, or add them before the last one of the header."""
        header, _, voxels = of.partition(end)
        for line in lines:
            header, n = re.subn(rb"(?m)^%s =.*$" % line.partition(" =")[0].encode(), line.encode(), header)
            header += b"" if n else line.encode() + b"\n"
        return header + last + voxels

    huge, voxels = "DimSize = 8192 8192 4096", plain.partition(end)[2]
    secret = f"{outside}/secret.bin"
    unsaid = told(of=packed).replace(b"CompressedDataSize", b"CompressedDataSighs").partition(end)[0] + end
    files = {
        "voxels in another file": (told(last=f"ElementDataFile = {secret}\n".encode()), "refused"),
        "voxels in another file, spelled otherwise": (told(last=f"ElementDataFile: {secret}\n".encode()), "refused"),
        "voxels in other files": (told(last=f"ElementDataFile = {secret} %d 1 3 1\n".encode()), "refused"),
        "voxels in a list of files": (told(last=b"ElementDataFile = LIST\n" + f"{secret}\n".encode() * 3), "refused"),
        "another file before its own voxels": (told(f"ElementDataFile = {secret}"), "refused"),
        "another file behind a long line": (told(f"Comment = {'a' * 490}ElementDataFile = {secret}"), "valid"),
        "another file behind a lone return": (told(f"Comment = a\rElementDataFile = {secret}"), "valid"),
        "more voxels than there are": (told(huge), "refused"),
        "more voxels than memory": (told("DimSize = 2000000000 2000000000 2000000000"), "refused"),
        "more voxels than numbers": (told("DimSize = 99999999999999999999999 1 1"), "refused"),
        "sides below zero": (told("DimSize = -40 -36 -3"), "refused"),
        "no sides": (told("DimSize = 0 0 0"), "refused"),
        "fewer sides than axes": (told("DimSize = 36 40"), "refused"),
        "axes without end": (told("NDims = 999"), "refused"),
        "axes below zero": (told("NDims = -1"), "refused"),
        "vectors": (told("ElementNumberOfChannels = 3"), "refused"),
        "no channels": (told("ElementNumberOfChannels = 0"), "valid"),
        "a type that nobody knows": (told("ElementType = MET_QUATERNION"), "refused"),
        "text": (told("BinaryData = False"), "refused"),
        "something before the voxels": (told("HeaderSize = -2"), "refused"),
        "voxels of no size": (told("ElementSpacing = 0 0 0"), "valid"),
        "voxels of a size that is not a number": (told("ElementSpacing = nan nan nan"), "valid"),
        "voxels beyond all": (told("ElementSpacing = 1e308 1e308 1e308"), "valid"),
        "axes that are one": (told("TransformMatrix = 1 0 0 1 0 0 1 0 0"), "valid"),
        "a header without an end": (b"Comment = more\n" * 2_000_000, "refused"),
        "a line without an end": (b"ObjectType = Image\nComment = " + b"a" * 20_000_000, "refused"),
        "a bomb": (unsaid + endless(15, 256, voxels), "valid"),
        "a bomb that says so": (told(huge, of=unsaid) + endless(15, 16, voxels), "refused"),
        "an archive in an archive": (unsaid + zlib.compress(zlib.compress(voxels)), "refused"),
    }
    return {name: ("a.mha", content, rule) for name, (content, rule) in files.items()}
