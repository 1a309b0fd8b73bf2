"""Simulated mixtures: scans of samples of one to three phases of a library.

Belongs here: what `fitting` draws for one phase, for several in one sample. By these scans is
chosen how further phases are proposed; no measured mixture has a part in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.fitting import LABORATORIES, Atoms, drawn_reflections
from imitation_refinement.phases.prototypes import Prototypes
from imitation_refinement.phases.samples import (
    TUBES,
    Laboratory,
    draw_sample,
    draw_treatment,
)
from imitation_refinement.phases.simulated import (
    AXES,
    expected_scan,
    textured,
    treated,
)
from imitation_refinement.xrd.diffraction import merge_lines
from imitation_refinement.xrd.imperfections import log_uniform
from imitation_refinement.xrd.scans import PlacedScan, on_grid

SHARES = (0.1, 0.5)  # log-uniform, of each phase's mass before they are made to sum to 1
WIDER = 0.2  # deviation of ln of a phase's peak widths against the others'


class Lines(NamedTuple):
    """Lines of one phase of a sample: q in 1/angstrom `[m]`, intensity for equal masses `[m]`."""

    q: np.ndarray
    intensity: np.ndarray


def simulated_mixture(
    atoms: Sequence[Atoms],
    system: Sequence[int],
    kind: Sequence[int],
    prototypes: Prototypes,
    number: int,
    seed: int,
) -> tuple[PlacedScan, np.ndarray]:
    """Returns a simulated scan of a sample of some phases, as `on_grid` places it.

    Intensities for equal masses are |F|^2 LP / (V M), V the volume and M the mass of the cell, for
    which its electrons stand; absorption is that of the mixture for all.

    Args:
        atoms: of each phase.
        system: crystal system of each.
        kind: of the source of each: how far its cell is from a sample's.
        prototypes: whose grid is taken.
        number: of the scan; with `seed` it decides all draws.
        seed: not negative.

    Returns:
        (the scan, the strongest line of each phase over the strongest of all, float64 `[k]`).

    Raises:
        UserError: see `on_grid`.
        ValueError: see `reflections`.
    """
    laboratory = LABORATORIES[number % len(LABORATORIES)]
    rng = np.random.default_rng([seed, number, 3])
    share = np.array([log_uniform(rng, SHARES) for _ in atoms])
    phases = [_lines(*one, laboratory, rng) for one in zip(atoms, system, kind, strict=True)]
    phases = [
        Lines(one.q, weight * one.intensity)
        for one, weight in zip(phases, share / share.sum(), strict=True)
    ]
    strongest = np.array([one.intensity.max(initial=0.0) for one in phases])
    q, intensity = (np.concatenate(column) for column in zip(*phases, strict=True))
    tube = TUBES[rng.choice(len(TUBES), p=[tube.share for tube in TUBES])]
    sample = draw_sample(rng, laboratory, tube, q, None)
    own = np.repeat(rng.normal(0.0, WIDER, len(phases)), [len(one.q) for one in phases])
    own = own[tube.reached(q)]
    wider = own if sample.stripped else np.concatenate([own, own])
    sample = sample._replace(widths=sample.widths + wider * (len(phases) > 1))
    two_theta, profile, background = expected_scan(q, intensity, tube, sample)
    counts = rng.poisson((profile + background) * sample.strongest).astype(np.float64)
    treatment = draw_treatment(rng, laboratory, sample.stripped)
    expected = profile * sample.strongest
    measured = treated(two_theta, counts, expected, tube, sample.step, treatment)
    return on_grid(measured.scan, prototypes.grid), strongest / strongest.max()


def _lines(
    atoms: Atoms, system: int, kind: int, laboratory: Laboratory, rng: np.random.Generator
) -> Lines:
    """The lines of one phase of a sample, with texture."""
    lattice, hkl, q, intensity = drawn_reflections(atoms, system, kind, rng)
    if rng.random() < laboratory.textured:
        march, axis = log_uniform(rng, laboratory.march), int(rng.choice(min(AXES, len(q))))
        intensity = textured(lattice, hkl, q, intensity, march, axis)
    mass = atoms.numbers.sum() * abs(np.linalg.det(lattice))
    return Lines(*merge_lines(q, intensity / mass))
