"""Slices as a web page shows them: PNG without loss, outlines as SVG paths. No jax."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from unet_jax.scoring.components import bounding_box

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Steps (x, y) right, down, left and up: each a right turn from the one before."""


@dataclass(frozen=True)
class Picture:
    """One slice with its masks, all at the network's size."""

    slice: int
    """Number of the slice."""
    image: UInt8[np.ndarray, "h w"]
    """Grey, as displayed."""
    mask: Bool[np.ndarray, "h w"]
    """True tumour."""
    pred: Bool[np.ndarray, "h w"]
    """Predicted tumour."""
    probs: Float32[np.ndarray, "h w"]
    """Probability of tumour, in [0, 1]."""


def picture_record(picture: Picture) -> dict[str, Any]:
    """Give the page what draws a slice, as plain values for JSON.

    Returns:
        slice, width, height; `image` and `probs`, PNG in base64; `mask` and `pred`, what `outline_path` gives; `box`,
        x, y, width and height of a square around both masks, or None where both are empty.
    """
    h, w = picture.image.shape
    square = square_around(picture.mask | picture.pred)
    return {
        "slice": picture.slice,
        "width": w,
        "height": h,
        "image": _base64(_png(Image.fromarray(picture.image))),
        "probs": _base64(probability_png(picture.probs)),
        "mask": outline_path(picture.mask),
        "pred": outline_path(picture.pred),
        "box": None if square is None else [*square, square[2]],
    }


def probability_png(probs: Float32[np.ndarray, "h w"]) -> bytes:
    """Encode probabilities in [0, 1] as a PNG of 256 colours, which a page shows in colour without computing.

    Returns:
        A palette PNG whose indices are round(255 * probability) and whose palette is matplotlib's inferno: from black
        over red to light yellow, evenly to the eye, also to one that tells no colours.
    """
    indices = np.rint(np.clip(probs, 0, 1) * 255).astype(np.uint8)
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    palette = matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    image.putpalette(palette.astype(np.uint8).tobytes())
    return _png(image)


def colour_bar() -> str:
    """Draw the colours of `probability_png` from 0 to 1, left to right, as a data URI."""
    return data_uri("image/png", probability_png(np.arange(256, dtype=np.float32)[None] / 255))


def data_uri(kind: str, content: bytes) -> str:
    """Embed a file of a media type, such as image/png, in the address that a page shows it by."""
    return f"data:{kind};base64,{_base64(content)}"


def outline_path(mask: Bool[np.ndarray, "h w"]) -> str:
    """Draw a mask's outline along the edges of its pixels, as the `d` of an SVG path.

    Filled by the even-odd rule it is the mask, exactly; stroked it is sharp at any size.

    Returns:
        Closed loops of horizontal and vertical lines, pixel (0, 0) being the square from 0 0 to 1 1. Empty for an empty
        mask.
    """
    padded = np.pad(mask, 1)
    # Edges by their step, each named by the corner (x, y) that it starts from, with the mask on its right.
    top = np.argwhere(mask & ~padded[:-2, 1:-1])[:, ::-1]
    right = np.argwhere(mask & ~padded[1:-1, 2:])[:, ::-1] + (1, 0)
    bottom = np.argwhere(mask & ~padded[2:, 1:-1])[:, ::-1] + (1, 1)
    left = np.argwhere(mask & ~padded[1:-1, :-2])[:, ::-1] + (0, 1)
    edges = [{(x, y) for x, y in each.tolist()} for each in (top, right, bottom, left)]
    path: list[str] = []
    for x, y in top.tolist():  # every loop, a hole's too, has an edge at the top of a pixel
        if (x, y) not in edges[0]:
            continue
        start, turn = (x, y), 0
        path.append(f"M{x} {y}")
        while True:
            (dx, dy), length = _STEPS[turn], 0
            while (x, y) in edges[turn]:
                edges[turn].remove((x, y))
                x, y, length = x + dx, y + dy, length + 1
            # Where two pixels touch at a corner only, the loop turns right and so keeps to its pixel.
            if (x, y) in edges[(turn + 1) % 4]:
                turn = (turn + 1) % 4
            elif (x, y) == start:
                path.append("z")  # which draws the last line
                break
            else:
                turn = (turn + 3) % 4
            path.append(f"{'h' if dx else 'v'}{length * (dx + dy)}")
    return "".join(path)


def square_around(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float] | None:
    """Choose the square that shows a tumour enlarged, twice as large as the tumour.

    The side is no less than a quarter of the picture's shorter side, and no more than its longer one. The square lies
    inside the picture if it can, else it is centred on the picture's shorter side.

    Returns:
        x and y of the upper left corner and the side, in pixels, pixel (0, 0) being the square from 0 0 to 1 1; None
        for an empty mask.
    """
    box = bounding_box(mask)
    if box is None:
        return None
    rows, columns = box
    tumor = max(rows.stop - rows.start, columns.stop - columns.start)
    side = float(min(max(2 * tumor, min(mask.shape) / 4), max(mask.shape)))

    def start(extent: slice, length: int) -> float:
        if side > length:
            return (length - side) / 2
        return min(max((extent.start + extent.stop - side) / 2, 0.0), length - side)

    return start(columns, mask.shape[1]), start(rows, mask.shape[0]), side


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
