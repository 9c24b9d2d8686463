import numpy as np
import pytest

from unet_jax.imaging.formats.grey import BAND, as_float, to_grey

HEIGHT = 2 * BAND + 3


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_equal_channels_are_the_channel_itself(dtype):
    channel = (np.arange(HEIGHT * 4) % 251).reshape(HEIGHT, 4).astype(dtype)
    colours = np.stack([channel, channel, channel, channel[::-1]], -1)
    grey = to_grey(HEIGHT, lambda rows: colours[rows])
    assert grey.dtype == channel.dtype
    np.testing.assert_array_equal(grey, channel)


def test_one_coloured_pixel_in_the_last_rows_makes_all_of_it_luma():
    colours = np.full((HEIGHT, 4, 3), 10, np.uint8)
    colours[-1, 2] = (30, 20, 10)
    grey = to_grey(HEIGHT, lambda rows: colours[rows])
    assert grey.dtype == np.float32 and grey.shape == (HEIGHT, 4)
    assert grey[-1, 2] == pytest.approx(0.299 * 30 + 0.587 * 20 + 0.114 * 10, abs=1e-5)
    grey[-1, 2] = 10
    assert (grey == 10).all()


@pytest.mark.parametrize(("dtype", "floating"), [("u1", "f4"), ("u2", "f4"), ("i4", "f8"), ("f2", "f4"), ("f8", "f8")])
def test_as_float_holds_every_value(dtype, floating):
    assert as_float(np.zeros(3, dtype)).dtype == floating
