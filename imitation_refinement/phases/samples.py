"""Samples and laboratories: the random numbers of simulated scans.

Belongs here: what scans are drawn from, and the draws. What is made of them is in `simulated`, and
in `device_scans` for many at once, so that both can be given the same. Angles are 2 theta in
degrees, lengths in angstrom.
"""

from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.xrd.imperfections import K_ALPHA, log_uniform

Number = Any  # a number or array of NumPy; within `jit` of JAX
COPPER = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
REACH = (0.3, 6.6)  # of the reflections that are simulated, 1/angstrom
FAINT = 1e-5  # of the strongest reflection
SMOOTHING = (0.02, 0.08)  # standard deviations, degrees, where a laboratory smooths


class Tube(NamedTuple):
    """Share of the laboratories that have it, and wavelengths of K-alpha 1 and 2, angstrom."""

    share: float
    first: float
    second: float

    @property
    def mean(self) -> float:
        """Of both lines by their intensities, angstrom."""
        return (2.0 * self.first + self.second) / 3.0

    def reached(self, q: np.ndarray) -> np.ndarray:
        """Returns which lines are diffracted well below backscattering, bool `[m]`."""
        return q * max(self.first, self.second) < 0.98 * 4.0 * np.pi


# Bearden 1967.
TUBES = (
    Tube(0.9, *K_ALPHA), Tube(0.06, 1.78897, 1.79285), Tube(0.04, 0.70930, 0.71359)
)  # fmt: skip


class Laboratory(NamedTuple):
    """What simulated scans are drawn from; pairs are limits, log-uniform where positive.

    Attributes:
        first, last: of the scan, 2 theta of copper radiation, degrees, uniform.
        step: degrees.
        counts: expected at the strongest point, without background.
        background: of the strongest point, each of decay, constant, and hump.
        instrument: full width at half maximum at low angles, degrees.
        size_nm: of crystallites.
        strain: largest epsilon, quadratic towards 0.
        textured: share of the samples with a preferred orientation.
        march: March coefficient of these.
        grains: deviation of ln(intensity) of a line, uniform from 0: few grains, inexact atoms.
        displacement: h / R, standard deviation.
        zero: error of 2 theta, degrees, standard deviation.
        impure: share of the samples with a second phase.
        impurity: its strongest line.
        stripped: share of the scans without K-alpha 2.
        subtracted: share of the scans whose background the laboratory took off.
        smoothed: share of the scans that the laboratory smoothed.
        anisotropic: deviation of ln of a cell's axes against each other.
    """

    first: tuple[float, float] = (3.0, 20.0)
    last: tuple[float, float] = (55.0, 110.0)
    step: tuple[float, float] = (0.008, 0.06)
    counts: tuple[float, float] = (20.0, 30000.0)
    background: tuple[float, float] = (0.003, 0.25)
    instrument: tuple[float, float] = (0.04, 0.22)
    size_nm: tuple[float, float] = (12.0, 300.0)
    strain: float = 0.004
    textured: float = 0.6
    march: tuple[float, float] = (0.4, 1.3)
    grains: float = 0.5
    displacement: float = 3e-4
    zero: float = 0.015
    impure: float = 0.35
    impurity: tuple[float, float] = (0.01, 0.25)
    stripped: float = 0.3
    subtracted: float = 0.35
    smoothed: float = 0.25
    anisotropic: float = 0.0015


class Sample(NamedTuple):
    """The random numbers of one scan up to its expected counts; see `Laboratory`.

    Attributes:
        grains: what is added to ln(intensity) of each line of the phase, `[m]`.
        impurity: strongest line of the second phase, 0 where there is none.
        first, last, step: of the axis as for copper, degrees.
        stripped: whether K-alpha 2 is taken off.
        displacement: h / R.
        zero: degrees.
        size_nm: of crystallites.
        strain: epsilon.
        instrument: full width at half maximum at low angles, degrees.
        widths: what is added to ln(width) of each peak: those of K-alpha 1, then of K-alpha 2, of
            each the lines of the phase, then of the second one, `[k]`.
        axial: asymmetry at 0 degrees.
        eta: Lorentzian share.
        air, constant, hump: of the background, relative to the strongest peak.
        center, width: of the hump, degrees as for copper.
        decay: of the scattering by air, degrees as for copper.
        strongest: counts expected at the strongest point, without background.
    """

    grains: Number
    impurity: Number
    first: Number
    last: Number
    step: Number
    stripped: Number
    displacement: Number
    zero: Number
    size_nm: Number
    strain: Number
    instrument: Number
    widths: Number
    axial: Number
    eta: Number
    air: Number
    constant: Number
    hump: Number
    center: Number
    width: Number
    decay: Number
    strongest: Number


class Treatment(NamedTuple):
    """What a laboratory does with the counts, and which wavelength it states.

    Attributes:
        smoothing: standard deviation in degrees, 0 for none.
        subtracted: whether the background is taken off.
        level: of what is taken off, in standard deviations above the estimate.
        first_line: whether K-alpha 1 is stated in the place of the mean.
    """

    smoothing: Number
    subtracted: Number
    level: Number
    first_line: Number


def draw_sample(
    rng: np.random.Generator,
    laboratory: Laboratory,
    tube: Tube,
    q: np.ndarray,
    impurity_q: np.ndarray | None,
) -> Sample:
    """Draws a sample and its measurement, up to the expected counts.

    Args:
        rng: source of the draws; their order is that of the statements.
        laboratory: what is drawn from.
        tube: of the diffractometer.
        q: lines of the phase, `[m]`.
        impurity_q: lines of a second phase that may be in it; None if there is none.
    """
    spread = rng.uniform(0.0, laboratory.grains) * rng.random()
    grains, impurity = rng.normal(0.0, spread, len(q)), 0.0
    if impurity_q is not None and rng.random() < laboratory.impure:
        impurity = log_uniform(rng, laboratory.impurity)
        q = np.concatenate([q, impurity_q])
    first, last = rng.uniform(*laboratory.first), rng.uniform(*laboratory.last)
    step = log_uniform(rng, laboratory.step)
    stripped = rng.random() < laboratory.stripped
    displacement = rng.normal(0.0, laboratory.displacement)
    zero = rng.normal(0.0, laboratory.zero)
    size_nm = log_uniform(rng, laboratory.size_nm)
    strain = laboratory.strain * rng.random() ** 2
    instrument = log_uniform(rng, laboratory.instrument)
    # Broadening that differs from line to line: shapes of crystallites, stacking faults.
    peak_count = np.count_nonzero(tube.reached(q)) * (1 if stripped else 2)
    widths = rng.normal(0.0, 0.15 * rng.random(), peak_count)
    axial, eta = rng.uniform(0.0, 0.3), rng.uniform(0.0, 1.0)
    air, constant, hump = (log_uniform(rng, laboratory.background) for _ in range(3))
    center, width = rng.uniform(18.0, 32.0), rng.uniform(3.0, 9.0)
    decay = rng.uniform(4.0, 20.0)
    hump = hump if rng.random() < 0.4 else 0.0
    strongest = log_uniform(rng, laboratory.counts)
    return Sample(
        grains, impurity, first, last, step, stripped, displacement, zero, size_nm, strain,
        instrument, widths, axial, eta, air, constant, hump, center, width, decay, strongest,
    )  # fmt: skip


def draw_treatment(rng: np.random.Generator, laboratory: Laboratory, stripped: bool) -> Treatment:
    """Draws what is done with the counts of a scan, whose K-alpha 2 is stripped or not."""
    smooth = rng.random() < laboratory.smoothed
    smoothing = log_uniform(rng, SMOOTHING) if smooth else 0.0
    subtracted = rng.random() < laboratory.subtracted
    level = rng.uniform(0.0, 1.0) if subtracted else 0.0
    return Treatment(smoothing, subtracted, level, bool(stripped and rng.random() < 0.7))
