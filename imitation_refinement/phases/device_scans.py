"""Simulated scans within `jit`: `simulated` on arrays of fixed sizes, for a device that makes many.

Belongs here: what becomes of lines and of the random numbers of `samples` until a scan is handed
on. Functions are of one scan; `jax.vmap` makes many. The twins in `simulated` are the reference:
`tests/phases/test_phases_device.py` gives both the same random numbers.

Angles are 2 theta in degrees, q = 2 pi / d in 1/angstrom.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from imitation_refinement.phases.device_grid import Axis, reflected, snip, weighted_window
from imitation_refinement.phases.samples import COPPER, SMOOTHING, TUBES, Sample, Treatment
from imitation_refinement.phases.simulated import FINEST, TAIL
from imitation_refinement.xrd.profiles import scherrer_fwhm

Array = Any  # jax.Array, or what becomes one
_FINEST_STEP = 0.008 * min(tube.mean for tube in TUBES) / COPPER  # degrees
_SMOOTH_REACH = int(4.0 * SMOOTHING[1] / _FINEST_STEP + 0.5)  # points
_LEVEL_WINDOW, _LEVEL_STRIDE = 0.4, 0.1  # degrees: see `simulated._subtracted`
_LEVEL_REACH = round(_LEVEL_WINDOW / _FINEST_STEP) // 2 + 1  # points
_STRIDES = 2048  # most points of a scan taken every 0.1 degrees


class Bounds(NamedTuple):
    """Sizes of the arrays of one scan.

    Attributes:
        points: of its axis.
        drawn: points at which its peaks are summed, over all peaks. Where there are more, all
            tails are cut shorter than `simulated.TAIL`.
    """

    points: int = 16384
    drawn: int = 262144


class Lines(NamedTuple):
    """Lines of one phase: q and intensity, `[m]` each; intensity 0 for what is no line."""

    q: Array
    intensity: Array


class Tubes(NamedTuple):
    """K-alpha 1 and 2 and their mean, angstrom."""

    first: Array
    second: Array
    mean: Array


class Expected(NamedTuple):
    """A scan before it is counted: its axis, peaks of height 1, and background, `[n]` each."""

    axis: Axis
    profile: Array
    background: Array


def tubes() -> Tubes:
    """Returns the wavelengths of all `samples.TUBES`, float64 `[t]` each."""
    rows = [(tube.first, tube.second, tube.mean) for tube in TUBES]
    return Tubes(*np.array(rows).T)


def expected_scan(
    lines: Lines, impurity: Lines, tube: Tubes, sample: Sample, bounds: Bounds
) -> Expected:
    """Returns what `simulated.expected_scan` does.

    Args:
        lines: of the phase, `[m]`.
        impurity: of the second phase, `[i]`.
        tube: of the diffractometer, scalars.
        sample: with `grains` `[m]` and `widths` `[2, m + i]`, whatever is stripped.
        bounds: of the axis and of the peaks.
    """
    own = lines.intensity * jnp.exp(sample.grains)
    own = own / jnp.maximum(jnp.max(own), _tiny(own))
    share = sample.impurity / jnp.maximum(jnp.max(impurity.intensity), _tiny(own))
    q = jnp.concatenate([lines.q, impurity.q])
    intensity = jnp.concatenate([own, share * impurity.intensity])
    longest = jnp.maximum(tube.first, tube.second)
    intensity = jnp.where(q * longest < 0.98 * 4.0 * np.pi, intensity, 0.0)
    axis = _axis(tube, sample, bounds)

    wavelength = jnp.stack([tube.first, tube.second])[:, None]
    shares = jnp.where(sample.stripped, jnp.array([1.0, 0.0]), jnp.array([2.0, 1.0]) / 3.0)
    sine = jnp.minimum(q[None] * wavelength / (4.0 * np.pi), 0.999)
    theta = jnp.arcsin(sine) - sample.displacement * jnp.cos(jnp.arcsin(sine))
    position = 2.0 * jnp.rad2deg(theta) + sample.zero
    area = shares.astype(q.dtype)[:, None] * intensity[None]

    theta = jnp.deg2rad(0.5 * position)
    size = (
        scherrer_fwhm(1.0)
        / sample.size_nm
        * jnp.rad2deg(tube.mean / (2.0 * np.pi))
        / jnp.cos(theta)
    )
    strain = jnp.rad2deg(4.0 * sample.strain) * jnp.tan(theta)
    instrument = sample.instrument * (1.0 + 0.6 * jnp.square(jnp.tan(theta)))
    fwhm = jnp.sqrt(jnp.square(instrument) + jnp.square(size) + jnp.square(strain))
    fwhm = jnp.maximum(fwhm * jnp.exp(sample.widths), jnp.maximum(FINEST, axis.step))
    axial = sample.axial * jnp.exp(-position / 20.0)
    profile = peaks(
        axis, position.ravel(), area.ravel(), fwhm.ravel(), axial.ravel(), sample.eta, bounds
    )
    profile = profile / jnp.maximum(jnp.max(profile), _tiny(profile))

    within = jnp.arange(bounds.points, dtype=jnp.int32) < axis.count
    two_theta = _two_theta(axis, bounds) * (COPPER / tube.mean)
    amorphous = jnp.exp(-0.5 * jnp.square((two_theta - sample.center) / sample.width))
    air = jnp.exp(-(two_theta - two_theta[0]) / sample.decay)
    background = sample.air * air + sample.constant + sample.hump * amorphous
    return Expected(axis, profile, jnp.where(within, background, 0.0))


def peaks(
    axis: Axis, position: Array, area: Array, fwhm: Array, asymmetry: Array, eta: Array,
    bounds: Bounds,
) -> Array:  # fmt: skip
    """Returns the sum of split pseudo-Voigt peaks: see `simulated.peaks`, `[n]`.

    Args:
        axis: of the scan.
        position: of the peaks, `[k]`, as the next three.
        area: 0 for what is no peak.
        fwhm: full widths.
        asymmetry: of each.
        eta: Lorentzian share, a scalar.
        bounds: of the axis, and of the points that are drawn.
    """
    count, last = len(position), axis.count.astype(position.dtype)

    def ends(reach: Array) -> tuple[Array, Array]:
        centers, half = (position - axis.begin) / axis.step, reach * fwhm / axis.step
        left, right = (
            jnp.clip(jnp.ceil(end), 0.0, last).astype(jnp.int32)
            for end in (centers - half, centers + half)
        )
        return left, jnp.where(area > 0.0, right - left, 0)

    needed = jnp.sum(ends(jnp.asarray(TAIL, position.dtype))[1])
    fits = (bounds.drawn - count) / jnp.maximum(needed, 1).astype(position.dtype)
    left, width = ends(TAIL * jnp.minimum(1.0, fits))
    line = jnp.repeat(jnp.arange(count, dtype=jnp.int32), width, total_repeat_length=bounds.drawn)
    number = jnp.arange(bounds.drawn, dtype=jnp.int32)
    within = number < jnp.sum(width, dtype=jnp.int32)
    point = number - (jnp.cumsum(width, dtype=jnp.int32) - width - left)[line]
    offset = axis.begin + axis.step * point.astype(position.dtype) - position[line]
    side = fwhm[line] * (1.0 - jnp.sign(offset) * asymmetry[line])
    u = jnp.square(offset / side)
    gaussian = jnp.exp(-4.0 * np.log(2.0) * u) * (2.0 * np.sqrt(np.log(2.0) / np.pi))
    lorentzian = (2.0 / np.pi) / (1.0 + 4.0 * u)
    values = (area / fwhm)[line] * ((1.0 - eta) * gaussian + eta * lorentzian)
    point = jnp.where(within, point, bounds.points)
    return jnp.zeros(bounds.points, position.dtype).at[point].add(values, mode="drop")


def treated(
    counts: Array, expected: Array, axis: Axis, treatment: Treatment
) -> tuple[Array, Array]:
    """Returns counts and expected peaks as a laboratory hands them on, `[n]` each.

    Args:
        counts: zero beyond the axis, `[n]`.
        expected: of the peaks alone, `[n]`.
        axis: of the scan.
        treatment: what is done.
    """
    within = jnp.arange(len(counts), dtype=jnp.int32) < axis.count
    smooth = within & (treatment.smoothing > 0.0)
    counts, expected = (
        jnp.where(smooth, _smoothed(each, axis, treatment.smoothing), each)
        for each in (counts, expected)
    )
    left = jnp.maximum(counts - _level(counts, axis, treatment.level), 0.0)
    return jnp.where(within & treatment.subtracted, left, counts), expected


def stated_wavelength(tube: Tubes, treatment: Treatment) -> Array:
    """Returns the wavelength that comes with a scan, angstrom."""
    return jnp.where(treatment.first_line, tube.first, tube.mean)


def _axis(tube: Tubes, sample: Sample, bounds: Bounds) -> Axis:
    """The range that covers the same q with another tube; cut where it has too many points."""
    factor = tube.mean / COPPER
    begin, end = (
        2.0 * jnp.rad2deg(jnp.arcsin(jnp.minimum(jnp.sin(jnp.deg2rad(limit / 2.0)) * factor, 0.95)))
        for limit in (sample.first, sample.last)
    )
    step = sample.step * factor
    count = jnp.ceil((end - begin) / step).astype(jnp.int32)
    return Axis(begin, step, jnp.minimum(count, bounds.points))


def _two_theta(axis: Axis, bounds: Bounds) -> Array:
    return axis.begin + axis.step * jnp.arange(bounds.points, dtype=jnp.int32).astype(
        axis.step.dtype
    )


def _smoothed(values: Array, axis: Axis, sigma: Array) -> Array:
    """`scipy.ndimage.gaussian_filter1d` of the first n points, sigma in degrees."""
    width = jnp.maximum(sigma / axis.step, _tiny(values))
    offset = jnp.arange(-_SMOOTH_REACH, _SMOOTH_REACH + 1, dtype=jnp.int32).astype(values.dtype)
    weights = jnp.exp(-0.5 * jnp.square(offset / width))
    weights = jnp.where(jnp.abs(offset) <= jnp.floor(4.0 * width + 0.5), weights, 0.0)
    index = jnp.arange(-_SMOOTH_REACH, len(values) + _SMOOTH_REACH, dtype=jnp.int32)
    return weighted_window(values, reflected(index, axis.count), weights / jnp.sum(weights))


def _level(counts: Array, axis: Axis, deviations: Array) -> Array:
    """What `simulated._subtracted` takes off, `[n]`."""
    window = jnp.maximum(3.0, jnp.round(_LEVEL_WINDOW / axis.step)).astype(jnp.int32)
    offset = jnp.arange(-_LEVEL_REACH, _LEVEL_REACH + 1, dtype=jnp.int32)
    first = -(window // 2)
    weights = jnp.where(
        (offset >= first) & (offset < first + window), 1.0 / window.astype(counts.dtype), 0.0
    )
    index = jnp.arange(-_LEVEL_REACH, len(counts) + _LEVEL_REACH, dtype=jnp.int32)
    index = jnp.clip(index, 0, axis.count - 1)
    smooth = weighted_window(counts, index, weights.astype(counts.dtype))
    stride = jnp.maximum(1.0, jnp.round(_LEVEL_STRIDE / axis.step)).astype(jnp.int32)
    some = (axis.count + stride - 1) // stride
    places = jnp.minimum(jnp.arange(_STRIDES, dtype=jnp.int32) * stride, axis.count - 1)
    coarse = snip(jnp.maximum(smooth[places], 0.0), jnp.zeros((), jnp.int32), some)
    number = jnp.arange(len(counts), dtype=jnp.int32)
    left = jnp.minimum(number // stride, some - 1)
    right = jnp.minimum(left + 1, some - 1)
    share = (number - left * stride).astype(counts.dtype) / stride.astype(counts.dtype)
    background = coarse[left] + share * (coarse[right] - coarse[left])
    return background + deviations * jnp.sqrt(jnp.maximum(background, 1.0))


def _tiny(values: Array) -> float:
    return float(jnp.finfo(values.dtype).tiny)
