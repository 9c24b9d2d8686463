import numpy as np

from tests.helpers.images import RAMP
from unet_jax.imaging.display import to_display


def test_percentiles_become_black_and_white():
    image = np.arange(10201).reshape(101, 101)  # 1st percentile 102, 99th 10098
    shown = to_display(image)
    assert shown.dtype == np.uint8
    for value, grey in ((0, 0), (102, 0), (5100, 128), (10098, 255), (10200, 255), (2601, 64)):
        assert shown.flat[value] == grey  # round((value - 102) / 9996 * 255)


def test_constant_is_black_and_few_bright_pixels_are_seen():
    assert not to_display(np.full((16, 16), 7.5)).any()
    image = np.zeros((32, 32), np.int16)
    image[3, 4] = 900
    assert to_display(image)[3, 4] == 255


def test_large_offsets_keep_their_contrast():
    image = (RAMP + 2**31).astype(np.uint32)
    np.testing.assert_array_equal(to_display(image), to_display(RAMP.astype(np.uint16)))


def test_what_is_masked_is_black_and_does_not_count():
    image = np.ma.MaskedArray(np.full((202, 101), 30_000, np.int16), np.ones((202, 101), bool))
    image[:101] = np.arange(10201).reshape(101, 101)
    assert to_display(image)[0, 0] == 0 and to_display(image)[100, 100] == 255 and not to_display(image)[101:].any()
    floating = image.astype(np.float32)
    floating.data[150] = np.nan
    np.testing.assert_array_equal(to_display(floating)[:101], to_display(np.arange(10201.0).reshape(101, 101)))
    assert not to_display(floating)[101:].any()
    assert not to_display(np.ma.MaskedArray(image.data, True)).any()
