"""Good files of every format that is read, small, and with what is known about where their pixels are."""

import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from tests.helpers.figshare import zipped
from tests.helpers.images import dicom_file
from unet_jax.data.converted.build import build
from unet_jax.data.phantom.files import slice_bytes

IMAGE = (np.add.outer(np.arange(40) ** 2, np.arange(36) * 37) % 3001).astype(np.uint16)
"""Not square, no symmetry, over 255."""
MASK = np.zeros(IMAGE.shape, bool)
MASK[5:12, 4:15] = True
BORDER = np.array([[5.0, 6.0], [15.0, 6.0], [15.0, 12.0], [5.0, 12.0]])


@dataclass(frozen=True)
class Specimen:
    """One good file."""

    name: str
    file: str
    content: bytes
    payload: tuple[int, int]
    """From where to where the pixels are, packed or not."""
    sealed_payload: bool = False
    """A checksum covers the pixels, so that a changed bit of them is told."""
    sealed_header: bool = False
    """A checksum covers the rest, likewise."""
    verified: bool = False
    """A digest of the whole file is verified before it is opened: a damaged one may be read as anything."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Other files in the same folder."""


def _with_payload(name: str, file: str, content: bytes, pixels: bytes, **seals: bool) -> Specimen:
    assert content.count(pixels) == 1, name
    start = content.index(pixels)
    return Specimen(name, file, content, (start, start + len(pixels)), **seals)


def mat_bytes(**compression: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("cjdata")
        group.create_dataset("image", data=IMAGE.astype(np.int16).T, **compression)
        group.create_dataset("tumorMask", data=MASK.astype(np.uint8).T, **compression)
        group["label"] = np.array([[2.0]])
        group["PID"] = np.array([[ord(c)] for c in "MR42"], np.uint16)
        group["tumorBorder"] = BORDER.reshape(1, -1)
    return buffer.getvalue()


def mat() -> list[Specimen]:
    packed = slice_bytes(IMAGE.astype(np.int16), MASK, BORDER, 2, "MR42")
    chunked = mat_bytes(compression="gzip", chunks=(10, 9))
    chunks = []
    for content in (packed, chunked):
        with h5py.File(io.BytesIO(content)) as file:
            chunks.append(file["cjdata/image"].id.read_direct_chunk((0, 0))[1])
    return [
        _with_payload("shuffled and deflated", "7.mat", packed, chunks[0], sealed_payload=True),
        _with_payload("many chunks", "7.mat", chunked, chunks[1], sealed_payload=True),
        _with_payload("plain", "7.mat", mat_bytes(), IMAGE.astype(np.int16).T.tobytes()),
    ]


def npy() -> list[Specimen]:
    specimens = []
    for name, array in {
        "uint16": IMAGE,
        "column-major": np.asfortranarray(IMAGE.astype(">f4")),
        "colour": np.stack([IMAGE, IMAGE, IMAGE // 2], -1),
    }.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        specimens.append(_with_payload(name, "a.npy", buffer.getvalue(), array.tobytes("A")))
    return specimens


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pictures() -> dict[str, Image.Image]:
    eight = (IMAGE % 256).astype(np.uint8)
    grey = Image.fromarray(eight)
    return {
        "grey": grey,
        "16-bit": Image.fromarray(IMAGE),
        "colour": Image.fromarray(np.stack([eight, eight[::-1], eight // 2], -1)),
        "palette": grey.convert("P"),
    }


def png() -> list[Specimen]:
    specimens = []
    for name, picture in _pictures().items():
        content = _saved(picture, "PNG")
        start, end = content.index(b"IDAT") + 4, content.index(b"IEND") - 8
        specimens.append(Specimen(name, "a.png", content, (start, end), sealed_payload=True, sealed_header=True))
    return specimens


def jpeg() -> list[Specimen]:
    specimens = []
    for name, options in {"grey": {}, "colour": {"quality": 90}, "progressive": {"progressive": True}}.items():
        content = _saved(_pictures()["colour" if name == "colour" else "grey"], "JPEG", **options)
        specimens.append(Specimen(name, "a.jpg", content, (content.index(b"\xff\xda") + 14, len(content) - 2)))
    return specimens


def tiff() -> list[Specimen]:
    pictures = _pictures()
    specimens = [
        _with_payload("plain", "a.tif", _saved(pictures["16-bit"], "TIFF"), IMAGE.tobytes()),
        _with_payload("colour", "a.tif", _saved(pictures["colour"], "TIFF"), pictures["colour"].tobytes()),
    ]
    for compression in ("tiff_adobe_deflate", "tiff_lzw", "packbits"):
        content = _saved(pictures["16-bit"], "TIFF", compression=compression)
        # Pillow writes the strip after the tags or before; it is all but the last or first few hundred bytes.
        with Image.open(io.BytesIO(content)) as image:
            (start,), (count,) = image.tag_v2[273], image.tag_v2[279]
        specimens.append(Specimen(compression, "a.tif", content, (start, start + count)))
    return specimens


def bmp() -> list[Specimen]:
    specimens = []
    for name in ("grey", "colour", "palette"):
        content = _saved(_pictures()[name], "BMP")
        start = int.from_bytes(content[10:14], "little")
        specimens.append(Specimen(name, "a.bmp", content, (start, len(content))))
    return specimens


def dicom() -> list[Specimen]:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        specimens = []
        for name, syntax in (("implicit", ImplicitVRLittleEndian), ("explicit", ExplicitVRLittleEndian)):
            dicom_file(path, IMAGE, syntax, PixelSpacing=[0.5, 0.25], RescaleSlope=2, RescaleIntercept=-100)
            specimens.append(_with_payload(name, "a.dcm", path.read_bytes(), IMAGE.tobytes()))
        dataset = dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        packed = path.read_bytes()
    start = packed.rindex(b"\xfe\xff\x00\xe0") + 8
    return [*specimens, Specimen("run lengths", "a.dcm", packed, (start, len(packed) - 8))]


def nifti() -> list[Specimen]:
    import nibabel

    volume = np.stack([IMAGE, IMAGE[::-1], IMAGE // 2], -1).astype(np.int16)
    plain = nibabel.Nifti1Image(volume, np.diag([2.0, 3.0, 4.0, 1.0])).to_bytes()
    packed = gzip.compress(plain, mtime=0)
    second = nibabel.Nifti2Image(volume.astype(np.float32), np.eye(4)).to_bytes()
    return [
        _with_payload("plain", "a.nii", plain, volume.tobytes("F")),
        _with_payload("version 2", "a.nii", second, volume.astype(np.float32).tobytes("F")),
        Specimen("gzip", "a.nii.gz", packed, (10, len(packed) - 8), sealed_payload=True),
    ]


def mgh() -> list[Specimen]:
    import nibabel

    volume = np.stack([IMAGE, IMAGE[::-1], IMAGE // 2], -1).astype(np.int16)
    plain = nibabel.freesurfer.MGHImage(volume, np.diag([2.0, 3.0, 4.0, 1.0])).to_bytes()
    packed = gzip.compress(plain, mtime=0)
    return [
        _with_payload("plain", "a.mgh", plain, volume.astype(">i2").tobytes("F")),
        Specimen("gzip", "a.mgz", packed, (10, len(packed) - 8), sealed_payload=True),
    ]


def _by_itk(file: str) -> list[Specimen]:
    import SimpleITK as sitk

    volume = np.stack([IMAGE, IMAGE[::-1], IMAGE // 2]).astype(np.int16)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((2.0, 3.0, 4.0))
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        for packed in (False, True):
            sitk.WriteImage(image, str(path), packed)
            contents.append(path.read_bytes())
    plain, packed = contents
    end = b"\n\n" if file.endswith("nrrd") else b"LOCAL\n"
    start = packed.index(end) + len(end)
    return [
        _with_payload("plain", file, plain, volume.tobytes()),
        Specimen("packed", file, packed, (start, len(packed) - 8), sealed_payload=True),
    ]


def nrrd() -> list[Specimen]:
    return _by_itk("a.nrrd")


def mha() -> list[Specimen]:
    return _by_itk("a.mha")


def npz() -> list[Specimen]:
    """Archives of one array; the checksum that covers the array covers its header too."""
    specimens = []
    for name, save in {"stored": np.savez, "deflated": np.savez_compressed}.items():
        buffer = io.BytesIO()
        save(buffer, image=IMAGE)
        content = buffer.getvalue()
        specimens.append(Specimen(name, "a.npz", content, (60, content.rindex(b"PK\1\2")), sealed_payload=True))
    return specimens


def pictures() -> list[Specimen]:
    """WebP, GIF, PGM and JPEG 2000, whose pixels begin behind some bytes of header."""
    pictures = _pictures()
    kinds = [
        ("webp", "grey", {"lossless": True}, 20),
        ("gif", "palette", {}, 800),
        ("ppm", "grey", {}, 13),
        ("jpeg2000", "16-bit", {}, 200),
    ]
    suffixes = {"ppm": "pgm", "jpeg2000": "jp2"}
    specimens = []
    for kind, name, options, start in kinds:
        content = _saved(pictures[name], kind, **options)
        specimens.append(Specimen(kind, f"a.{suffixes.get(kind, kind)}", content, (start, len(content))))
    return specimens


def endless(wbits: int, blocks: int, start: bytes = b"") -> bytes:
    """A deflated stream of `start` and that many times 16 MiB of zeros, made at once; its checksum is wrong."""
    packer = zlib.compressobj(9, wbits=wbits)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + (packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)) * blocks + packer.flush()


MEMBERS = {"1.mat": bytes(range(256)) * 9, "2.mat": b"two" * 700, "cvind.mat": b"folds", "README.txt": b"read me\n"}
"""What the archives unpack to; a slice's content does not matter there."""


def zip_() -> list[Specimen]:
    slices = {name: content for name, content in MEMBERS.items() if name[0].isdigit()}
    others = {name: content for name, content in MEMBERS.items() if name not in slices}
    nested = zipped({"inner.zip": zipped(slices), **others}, zipfile.ZIP_STORED)
    return [
        Specimen(name, "a.zip", content, (30, len(content) // 2), verified=True)
        for name, content in (("flat", zipped(MEMBERS)), ("nested", nested))
    ]


def dataset() -> list[Specimen]:
    """Each file of a converted dataset of three slices, with the others beside it."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "out"
        raw.mkdir()
        for n in (1, 2, 30):
            slice_file = slice_bytes(np.roll(IMAGE, n).astype(np.int16), np.roll(MASK, n), BORDER, 1 + n % 3, f"p{n}")
            (raw / f"{n}.mat").write_bytes(slice_file)
        build(raw, out, size=16, mask_rule="area", workers=1)
        files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    payloads = {"images.npy": (128, len(files["images.npy"])), "masks.npy": (128, len(files["masks.npy"]))}
    return [
        Specimen(
            name,
            name,
            content,
            payloads.get(name, (len(content) // 2, len(content))),
            sealed_payload=name == "native_masks.npz",
            sealed_header=name == "native_masks.npz",
            beside=files,
        )
        for name, content in files.items()
    ]


SPECIMENS = {
    "dataset": dataset,
    "mat": mat,
    "npy": npy,
    "png": png,
    "jpeg": jpeg,
    "tiff": tiff,
    "bmp": bmp,
    "dicom": dicom,
    "nifti": nifti,
    "mgh": mgh,
    "nrrd": nrrd,
    "mha": mha,
    "npz": npz,
    "pictures": pictures,
    "zip": zip_,
}
