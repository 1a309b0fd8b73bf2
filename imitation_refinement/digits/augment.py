"""Random changes of an image of a digit that leave it the same digit.

Belongs here: pure functions of an image and a random generator, in plain NumPy, for images
`[rows, columns]` from 0 (black) to 1 (ink). What is drawn is symmetric around "no change" as far as
it can be. No data sets.
"""

from typing import NamedTuple

import numpy as np

_CONTROL = 6  # points per axis that an elastic displacement is smooth over


class Changes(NamedTuple):
    """The largest change of each kind; each is drawn uniformly from minus to plus that.

    Attributes:
        rotation: degrees.
        scale: logarithm of the factor of either axis.
        shear: horizontal displacement per row, a slant.
        shift: pixels, on both axes.
        elastic: standard deviation in pixels of a smooth displacement, drawn from 0 to this.
        thicker: pixels that each edge of a stroke moves out, at most 2.
        thinner: pixels that it moves in, at most 1.
        blur: share of a pixel that goes to its eight neighbours (binomial), drawn from 0 to this.
        noise: standard deviation of white noise, drawn from 0 to this.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    thicker: float = 0.0
    thinner: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def change(image: np.ndarray, rng: np.random.Generator, most: Changes) -> np.ndarray:
    """Returns a randomly changed image, float32 `[rows, columns]` from 0 to 1.

    Stroke width, then shape (affine and elastic in one interpolation), then blur and noise.

    Args:
        image: float32 `[rows, columns]` from 0 to 1.
        rng: the only source of randomness; how often it is asked does not depend on what it says.
        most: the largest changes.
    """
    result = stroke_width(image, rng.uniform(-most.thinner, most.thicker))
    result = sample(result, source_points(result.shape, rng, most))
    share = np.float32(rng.uniform(0.0, most.blur))
    if share > 0:
        result = result + share * (_binomial(result) - result)
    spread = rng.uniform(0.0, most.noise)
    if most.noise > 0:
        grain = rng.standard_normal(result.shape, dtype=np.float32)
        result = np.clip(result + np.float32(spread) * grain, 0.0, 1.0)
    return result


def source_points(shape: tuple[int, ...], rng: np.random.Generator, most: Changes) -> np.ndarray:
    """Returns where each pixel comes from: float32 `[2, rows, columns]`, row and column."""
    angle = np.deg2rad(rng.uniform(-most.rotation, most.rotation))
    stretch = np.exp(rng.uniform(-most.scale, most.scale, 2))
    slant = np.array([[1.0, 0.0], [rng.uniform(-most.shear, most.shear), 1.0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = (turn @ slant) * stretch
    shift = rng.uniform(-most.shift, most.shift, 2)
    rough = rng.standard_normal((2, _CONTROL, _CONTROL)) * rng.uniform(0.0, most.elastic)

    centre = (np.array(shape) - 1) / 2
    rows, columns = (np.arange(length) - c for length, c in zip(shape, centre, strict=True))
    points = matrix[:, 0, None, None] * rows[:, None] + matrix[:, 1, None, None] * columns
    points = points + (centre + shift)[:, None, None]
    if most.elastic > 0:
        points = points + _smooth(shape[0]) @ rough @ _smooth(shape[1]).T
    return points.astype(np.float32)


def sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns an image interpolated bilinearly at points, 0 outside.

    Args:
        image: float32 `[rows, columns]`.
        points: float32 `[2, ...]`, row and column.
    """
    # Two black pixels around: points beyond them are moved into them, where all is 0.
    padded = np.zeros((image.shape[0] + 4, image.shape[1] + 4), np.float32)
    padded[2:-2, 2:-2] = image
    limit = np.array(image.shape, np.float32).reshape(2, *[1] * (points.ndim - 1))
    inside = np.clip(points + np.float32(2), np.float32(0), limit + np.float32(2))
    corner = inside.astype(np.intp)
    part = inside - corner.astype(np.float32)
    row, column = part
    width = padded.shape[1]
    start, flat = corner[0] * width + corner[1], padded.ravel()
    upper = flat[start] + column * (flat[start + 1] - flat[start])
    start += width
    lower = flat[start] + column * (flat[start + 1] - flat[start])
    return upper + row * (lower - upper)


def stroke_width(image: np.ndarray, pixels: float) -> np.ndarray:
    """Returns an image whose edges moved out (or in, if negative) by some pixels, at most 2.

    A whole pixel is the largest (smallest) of a pixel and its four neighbours, part of one the
    linear mixture with that.

    Args:
        image: float32 `[rows, columns]`.
        pixels: how far; 0 changes nothing.
    """
    extreme = np.maximum if pixels > 0 else np.minimum
    left = min(abs(pixels), 2.0)
    while left > 0:
        whole = image.copy()
        extreme(whole[1:], image[:-1], out=whole[1:])
        extreme(whole[:-1], image[1:], out=whole[:-1])
        extreme(whole[:, 1:], image[:, :-1], out=whole[:, 1:])
        extreme(whole[:, :-1], image[:, 1:], out=whole[:, :-1])
        image = whole if left >= 1 else image + np.float32(left) * (whole - image)
        left -= 1
    return image


def _smooth(length: int) -> np.ndarray:
    """Returns weights `[length, control points]` of a quadratic B-spline, rows of unit norm.

    With unit norm the sum of independent standard normal values is standard normal at every pixel.
    """
    place = np.linspace(0.0, _CONTROL - 1.0, length)[:, None]
    apart = np.abs(place - np.arange(_CONTROL))
    weights = np.where(apart < 0.5, 0.75 - apart**2, 0.5 * np.clip(1.5 - apart, 0.0, None) ** 2)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _binomial(image: np.ndarray) -> np.ndarray:
    """Returns the mean of 3 x 3 pixels weighted 1 2 1 on each axis; black outside."""
    padded = np.pad(image, 1)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / np.float32(16)
