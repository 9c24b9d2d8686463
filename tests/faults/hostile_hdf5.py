"""MATLAB 7.3 files that somebody made to do harm; see hostile.py."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from specimens import IMAGE, endless, mat_bytes

Crafted = dict[str, tuple[str, bytes | Callable[[], bytes], str]]

STORED = IMAGE.astype(np.int16).T


def changed(change: Callable[[h5py.File], object], **compression: object) -> bytes:
    buffer = io.BytesIO(mat_bytes(**compression))
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def linked(name: str, link: object) -> bytes:
    def change(file: h5py.File) -> None:
        file.move(name, "elsewhere")
        file[name] = link

    return changed(change)


def in_place_of_image(put: Callable[[h5py.Group], object]) -> bytes:
    def change(file: h5py.File) -> None:
        del file["cjdata/image"]
        put(file["cjdata"])

    return changed(change)


def image_of(shape: Any = STORED.shape, dtype: Any = None, first: int | None = None, **how: object) -> bytes:
    """An image that is created so, and whose first value is then set."""

    def put(group: h5py.Group) -> None:
        image = group.create_dataset("image", shape, dtype, **how)
        if first is not None:
            image[0, 0] = first

    return in_place_of_image(put)


def external(path: Path, size: int) -> Callable[[h5py.Group], object]:
    return lambda group: group.create_dataset("image", STORED.shape, "i2", external=[(str(path), 0, size)])


def virtual(path: Path) -> Callable[[h5py.Group], object]:
    layout = h5py.VirtualLayout(STORED.shape, "i2")
    layout[:] = h5py.VirtualSource(str(path), "cjdata/image", STORED.shape, "i2")
    return lambda group: group.create_virtual_dataset("image", layout)


def one_chunk(data: bytes, shape: tuple[int, int] = STORED.shape, dtype: str = "i2", **how: object) -> bytes:
    """An image in one chunk, whose stored bytes are these."""

    def put(group: h5py.Group) -> None:
        image = group.create_dataset("image", shape, dtype, chunks=shape, **{"compression": "gzip", **how})
        image.id.write_direct_chunk((0, 0), data)

    return in_place_of_image(put)


def nested_type(depth: int) -> bytes:
    kind = h5py.h5t.NATIVE_INT16
    for _ in range(depth):
        outer = h5py.h5t.create(h5py.h5t.COMPOUND, kind.get_size())
        outer.insert(b"a", 0, kind)
        kind = outer
    space = h5py.h5s.create_simple(STORED.shape)
    return in_place_of_image(lambda group: h5py.h5d.create(group.id, b"image", kind, space))


def loop(file: h5py.File) -> None:
    file["cjdata/image2"] = file["cjdata/image"]
    del file["cjdata/image"]
    file["cjdata/image"] = file["cjdata"]


def mat(outside: Path) -> Crafted:
    secret, secret_bytes = outside / "secret.mat", outside / "secret.bin"
    deflated = mat_bytes(compression="gzip", chunks=STORED.shape)
    at = deflated.index(b"deflate\0") - 8
    assert deflated[at : at + 2] == b"\1\0"
    empty_mark = {
        "an array": np.ones(9),
        "text": "yes",
        "a reference": h5py.Reference,
        "a compound": np.zeros(1, "i4,i4"),
    }

    def mark(value: object) -> bytes:
        def change(file: h5py.File) -> None:
            file["cjdata/image"].attrs["MATLAB_empty"] = file["cjdata"].ref if isinstance(value, type) else value

        return changed(change)

    big = (4096, 4096)
    files = {
        **{
            f"{name} is a {kind} link": linked(name, link)
            for name in ("cjdata", "cjdata/image", "cjdata/PID", "cjdata/label")
            for kind, link in {
                "soft": h5py.SoftLink("/elsewhere"),
                "dangling": h5py.SoftLink("/nowhere"),
                "looping": h5py.SoftLink(f"/{name}"),
                "external": h5py.ExternalLink(str(secret), f"/{name}"),
                "relative external": h5py.ExternalLink("../outside/secret.mat", f"/{name}"),
            }.items()
        },
        "a group within itself": changed(loop),
        "values in another file": in_place_of_image(external(secret_bytes, STORED.nbytes)),
        "values in a system's file": in_place_of_image(external(Path("/etc/passwd"), STORED.nbytes)),
        "values of another dataset": in_place_of_image(virtual(secret)),
        "values of this very dataset": in_place_of_image(virtual(Path("."))),
        "a filter that nobody has": deflated[:at] + struct.pack("<H", 32_000) + deflated[at + 2 :],
        "a filter seldom used": image_of(data=STORED, compression="lzf"),
        "scale and offset": image_of(data=STORED, scaleoffset=0, chunks=STORED.shape),
        "a chunk that unpacks to 4 GB": one_chunk(endless(15, 256)),
        "a chunk of its own size that unpacks to 4 GB": one_chunk(endless(15, 256), (2048, 1024)),
        "a chunk that unpacks to less": one_chunk(zlib.compress(bytes(10))),
        "a chunk of noise": one_chunk(np.random.default_rng(0).bytes(900)),
        "a chunk too long": one_chunk(bytes(10**6), compression=None),
        "most chunks missing": image_of(big, "i2", chunks=(16, 16), first=1),
        "chunks of a pixel": image_of(big, "i2", chunks=(1, 1)),
        "chunks larger than memory": image_of(dtype="i8", maxshape=(None, None), chunks=(2**15, 2**12)),
        "a million rows": image_of((10**6, 10**6), "i2", chunks=(64, 64), first=1),
        "nothing written": image_of(dtype="i2"),
        "text of any length": image_of(data=np.full(STORED.shape, "x", object), dtype=h5py.string_dtype()),
        "references": in_place_of_image(
            lambda group: group.create_dataset("image", STORED.shape, h5py.ref_dtype).__setitem__((0, 0), group.ref)
        ),
        "lists": image_of(dtype=h5py.vlen_dtype("i2")),
        "a type of arrays": image_of(None, data=np.zeros(STORED.shape, "(9,9)i2")),
        "a type within types": nested_type(500),
        "a committed type": in_place_of_image(lambda group: group.__setitem__("image", np.dtype("i2"))),
        "a long double": image_of(data=STORED.astype(np.longdouble)),
        "three dimensions": image_of((20, 24, 3), data=np.zeros((20, 24, 3), "i2")),
        "no dimension": image_of((), data=7),
        **{f"a mark of emptiness that is {name}": mark(value) for name, value in empty_mark.items()},
        "no hdf5 at all": b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + bytes(4096),
    }
    crafted: Crafted = {name: ("7.mat", content, "refused") for name, content in files.items()}

    def largest() -> bytes:
        return one_chunk(zlib.compress(bytes(big[0] * big[1] * 8), 1), big, "i8")

    crafted["the largest image"] = ("7.mat", largest, "refused")  # because its mask is smaller
    return crafted
