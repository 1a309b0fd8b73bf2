import numpy as np
import pytest
import scipy.ndimage

from imitation_refinement.digits.augment import (
    Changes,
    change,
    sample,
    source_points,
    stroke_width,
)

ALL = Changes(15, 0.2, 0.3, 2, 1.0, 0.7, 0.3, 0.3, 0.1)


def blob(rng=None):
    """A smooth image that is black at the border."""
    image = np.zeros((28, 28), np.float32)
    image[8:20, 10:17] = 1.0
    return scipy.ndimage.gaussian_filter(image, 1.0).astype(np.float32)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_no_change_is_the_identity_bit_for_bit():
    np.testing.assert_array_equal(change(blob(), generator(), Changes()), blob())


def test_sampling_equals_scipys():
    image = generator(1).random((28, 28)).astype(np.float32)
    points = generator(2).uniform(-6, 34, (2, 20, 30)).astype(np.float32)
    expected = scipy.ndimage.map_coordinates(
        np.pad(image, 9), points.astype(float) + 9, order=1, mode="constant"
    )
    np.testing.assert_allclose(sample(image, points), expected, atol=1e-5)


def test_sampling_at_whole_pixels_is_exact():
    image = generator(1).random((5, 7)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(7), indexing="ij")).astype(np.float32)
    np.testing.assert_array_equal(sample(image, grid), image)


@pytest.mark.parametrize("pixels", [1.0, -1.0, 2.0])
def test_whole_pixels_of_stroke_width_are_dilations_and_erosions(pixels):
    image = blob()
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    filtered = scipy.ndimage.grey_dilation if pixels > 0 else scipy.ndimage.grey_erosion
    expected = image
    for _ in range(int(abs(pixels))):
        expected = filtered(expected, footprint=cross, mode="nearest")
    np.testing.assert_array_equal(stroke_width(image, pixels), expected)


def test_parts_of_a_pixel_of_stroke_width_mix_linearly():
    image = blob()
    expected = 0.7 * stroke_width(image, 1.0) + 0.3 * stroke_width(image, 2.0)
    np.testing.assert_allclose(stroke_width(image, 1.3), expected, atol=1e-6)


def test_a_rotation_by_hand():
    """A point right of the centre comes, after a turn by t, from an angle t away: same radius."""
    most = Changes(rotation=30)
    points = source_points((29, 29), generator(3), most)
    centre = points[:, 14, 14]
    np.testing.assert_allclose(centre, [14, 14], atol=1e-6)
    arm = points[:, 14, 24] - centre
    assert np.linalg.norm(arm) == pytest.approx(10, abs=1e-4)
    assert 0 < abs(np.rad2deg(np.arctan2(arm[0], arm[1]))) <= 30
    np.testing.assert_allclose(points[:, 24, 14] - centre, [arm[1], -arm[0]], atol=1e-4)


@pytest.mark.parametrize(
    "field, limit",
    [("scale", np.exp(0.3)), ("shift", 2.0), ("shear", 0.4)],
)
def test_affine_changes_stay_within_their_limits_and_reach_far(field, limit):
    value = {"scale": 0.3, "shift": 2.0, "shear": 0.4}[field]
    rng, found = generator(4), []
    for _ in range(400):
        points = source_points((3, 3), rng, Changes(**{field: value})).astype(float)
        down, right = points[:, 2, 1] - points[:, 1, 1], points[:, 1, 2] - points[:, 1, 1]
        found.append(
            {"scale": np.linalg.norm(down), "shift": points[0, 1, 1] - 1, "shear": down[1]}[field]
        )
        if field == "shear":
            assert right.tolist() == [0, 1]
    assert max(map(abs, found)) <= limit + 1e-6
    assert max(found) > 0.95 * limit


def test_elastic_displacements_have_the_deviation_asked_for_and_are_smooth():
    rng, grid = generator(5), np.stack(np.meshgrid(*[np.arange(28)] * 2, indexing="ij"))
    most = Changes(elastic=1.5)
    moved = np.stack([source_points((28, 28), rng, most) - grid for _ in range(1500)])
    # The deviation is drawn from 0 to 1.5: its mean square is 1.5 ** 2 / 3, at every pixel.
    np.testing.assert_allclose(np.mean(moved**2, axis=0), 0.75, rtol=0.25)
    steps = np.diff(moved, axis=-1)
    assert np.mean(steps**2) < 0.1 * np.mean(moved**2)


def test_blur_keeps_the_ink_and_noise_stays_between_black_and_white():
    image = blob()
    blurred = change(image, generator(6), Changes(blur=1.0))
    assert blurred.sum() == pytest.approx(image.sum(), rel=1e-4)
    assert blurred.max() < image.max()
    noisy = change(image, generator(6), Changes(noise=0.5))
    assert noisy.min() >= 0 and noisy.max() <= 1
    assert np.abs(noisy - image).mean() > 0.01


def test_changes_are_a_pure_function_of_the_generator():
    first, again = (change(blob(), generator(7), ALL) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert first.shape == (28, 28)
    assert np.abs(change(blob(), generator(8), ALL) - first).max() > 0.1


def test_the_image_given_is_left_alone():
    image = blob()
    image.flags.writeable = False
    change(image, generator(), ALL)
    np.testing.assert_array_equal(image, blob())
