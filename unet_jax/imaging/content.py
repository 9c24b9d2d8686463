"""Kinds of files that are told by their first bytes, whatever their names, without the packages that read them."""

import stat
import struct
from pathlib import Path

LOOKED_AT = 2048
"""Bytes of a file that are looked at."""

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations of DICOM whose length takes four bytes."""
_MEDIA_STORAGE_SOP_CLASS, _SOP_CLASS = (2, 2), (8, 0x16)
_STORAGE = b"1.2.840.10008.5.1.4.1.1."
_NO_PICTURES = (
    b"1.2.840.10008.1.3.10",  # a DICOMDIR of any name
    b"1.2.840.10008.5.1.4.38.",  # hanging protocols
    *(_STORAGE + kind for kind in (b"88.", b"11.", b"104.")),  # reports and key objects, presentations, documents
    *(_STORAGE + kind for kind in (b"9.", b"4.2", b"66", b"67")),  # waveforms, spectra, raw data, segmentations
    _STORAGE + b"481.",  # structures, plans and doses of radiotherapy
)
"""Beginnings of the UIDs of the kinds of DICOM objects that are no picture (PS3.4, annex B)."""
_COMMON_PICTURES = tuple(_STORAGE + kind for kind in (b"4", b"4.1", b"4.3", b"4.4", b"2", b"2.1", b"7", b"128"))
"""Those of MR, CT and PET, and of secondary captures."""
_PICTURES = tuple(_STORAGE + kind for kind in (b"481.1", b"481.23", b"481.24"))
"""Those of radiotherapy that are."""


def beginning(path: Path) -> bytes:
    """Read the first LOOKED_AT bytes; none of what cannot be read or is no regular file."""
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as f:
            return f.read(LOOKED_AT)
    except OSError:
        return b""


def is_gzip(start: bytes) -> bool:
    """Tell whether a file is packed by gzip."""
    return start[:3] == b"\x1f\x8b\x08"


def is_dicom(start: bytes) -> bool:
    """Tell whether a file is DICOM: by DICM at its byte 128, or by elements of group 0002 or 0008 at its start.

    Old programs, and pydicom's `save_as` by default, write no preamble; some write the elements of the object alone.
    """
    return has_preamble(start) or _is_data_set(start)


def has_preamble(start: bytes) -> bool:
    """Tell whether a DICOM file begins as it should."""
    return start[128:132] == b"DICM"


def is_picture(start: bytes) -> bool | None:
    """Tell whether a DICOM file is of a kind that is a picture of a patient; None of kinds that are not known.

    No pictures are reports, presentation states, ...; a maker's own kinds may be either.
    """
    found = dict(_elements(start))
    uid = (found.get(_MEDIA_STORAGE_SOP_CLASS) or found.get(_SOP_CLASS) or b"").rstrip(b"\0 ")
    if uid in _COMMON_PICTURES or uid in _PICTURES:
        return True
    return False if uid.startswith(_NO_PICTURES) else None


def _is_data_set(start: bytes) -> bool:
    """Tell whether two elements of DICOM follow each other at the start of a file, both of group 0002 or 0008."""
    tags = [tag for tag, _ in _elements(start)][:2]
    return len(tags) == 2 and tags[0] < tags[1] and tags[0][0] in (2, 8) and tags[1][0] in (2, 8)


def _elements(start: bytes) -> list[tuple[tuple[int, int], bytes]]:
    """Walk through the elements, little endian, of groups 0002 and 0008, as far as `start` has them whole."""
    at, found = 132 if has_preamble(start) else 0, []
    while at + 12 <= len(start):
        group, element, kind, short, long = struct.unpack_from("<HH2sHI", start, at)
        if group not in (2, 8):
            break
        if not kind.isalpha() or not kind.isupper():
            size, at = struct.unpack_from("<I", start, at + 4)[0], at + 8
        elif kind in _LONG:
            size, at = long, at + 12
        else:
            size, at = short, at + 8
        if at + size > len(start):
            break
        found.append(((group, element), start[at : at + size]))
        at += size
    return found
