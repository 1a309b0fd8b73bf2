import numpy as np

from imitation_refinement.model.placed import as_arrays
from imitation_refinement.xrd.scans import PlacedScan


def placed(value, signal=""):
    pattern = np.full(5, value, np.float32)
    return PlacedScan(pattern, np.arange(5) < 3, np.zeros(5, np.float32), 1.0, signal)


def test_a_scan_without_a_signal_is_shown_as_zeros():
    scans = [placed(0.5), placed(0.25, "no peaks"), placed(1.0)]
    raw, mask = as_arrays(scans, 5)
    assert raw.dtype == np.float32 and raw.shape == (3, 5, 1)
    np.testing.assert_array_equal(raw[:, 0, 0], [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(mask, [[True, True, True, False, False]] * 3)
    assert scans[1].pattern[0] == 0.25  # the scan itself stays as it is


def test_no_scans_are_arrays_of_no_rows():
    raw, mask = as_arrays([], 7)
    assert raw.shape == (0, 7, 1) and mask.shape == (0, 7) and mask.dtype == bool
