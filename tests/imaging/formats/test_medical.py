"""Upright slices, against nibabel's orientations and by hand."""

import numpy as np
import pytest
from nibabel.orientations import io_orientation
from scipy.spatial.transform import Rotation

from unet_jax.imaging.formats.medical import nearest_axes, upright
from unet_jax.imaging.scan import NO_TURN, Turn


def test_the_nearest_axes_are_nibabels():
    scales = np.random.default_rng(0).uniform(0.2, 6, (500, 3))
    for rotation, scale in zip(Rotation.random(500, random_state=0).as_matrix(), scales, strict=True):
        affine = np.eye(4)
        affine[:3, :3] = rotation * scale
        assert nearest_axes(affine[:3, :3]) == [(int(axis), int(way)) for axis, way in io_orientation(affine)]


R, A, S = np.eye(3)


@pytest.mark.parametrize(
    ("rows", "columns", "turn"),
    [
        (-A, -R, NO_TURN),  # axial, as scanners write it: rows run to posterior, columns to the left
        (-S, -R, NO_TURN),  # coronal
        (-S, -A, NO_TURN),  # sagittal
        (R, A, Turn(True, (-1, -1))),  # axial, in the usual NIfTI
        (A, -R, Turn(False, (-1, 1))),
        (-A, R, Turn(False, (1, -1))),
        (S, A, Turn(False, (-1, -1))),
        (-R, -A, Turn(True, (1, 1))),
    ],
)
def test_anterior_or_superior_is_up_and_right_or_anterior_on_the_left(rows, columns, turn):
    assert upright(np.stack([0.5 * rows, 2 * columns, 3 * np.cross(rows, columns)], axis=1)) == turn


@pytest.mark.parametrize(
    "directions", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([1, np.inf, 1]), np.stack([R, R, S], axis=1)]
)
def test_what_is_no_three_directions(directions):
    assert upright(directions) is None


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("steps", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_turn_is_undone(transposed, steps):
    image, turn = np.arange(6).reshape(2, 3), Turn(transposed, steps)
    np.testing.assert_array_equal(turn.undo(turn.apply(image)), image)
    # Its first pixel as looked at is the corner that the steps lead away from.
    corner = image[0 if steps[transposed] > 0 else 1, 0 if steps[1 - transposed] > 0 else 2]
    assert turn.apply(image)[0, 0] == corner
