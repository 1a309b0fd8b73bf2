"""Structures held on a device, and the random numbers of `samples` drawn there by a key.

Belongs here: from a structure and a key to the lines of a strained, textured sample and all other
random numbers of its scan. Distributions are those of `samples`, `simulated.strained` and
`fitting.draw_shift`; the numbers are JAX's. Structure factors are computed once, for the structure
as it is: a strain of less than 0.03 moves q, and with it damping and Lorentz-polarisation factor,
but not the form factors. Functions are of one scan.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imitation_refinement.phases.device_scans import Lines, Tubes, tubes
from imitation_refinement.phases.fitting import Atoms
from imitation_refinement.phases.prototypes import MEASURED, OLDER_COMPUTED
from imitation_refinement.phases.samples import (
    FAINT,
    REACH,
    SMOOTHING,
    TUBES,
    Laboratory,
    Sample,
    Treatment,
)
from imitation_refinement.phases.simulated import AXES
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.imperfections import march_dollase

Array = Any  # np.ndarray or jax.Array
_WAVELENGTH = 1.5418  # angstrom, of the Lorentz-polarisation factor
_WEAK = 1e-4  # of the strongest line: see `diffraction.merge_lines`


class Structures(NamedTuple):
    """Reflections of s structures, R of each and M lines; what is not there has squared 0.

    Attributes:
        hkl: float32 `[s, R, 3]`.
        squared: |F|^2 without damping and Lorentz-polarisation factor, float32 `[s, R]`.
        line: which line a reflection belongs to, int32 `[s, R]`.
        lattice: vectors as rows, float32 `[s, 3, 3]`.
        free: which components of the strain the crystal system allows, see `free_strain`, float32
            `[s, 6, 9]`.
        kind: of the source, int32 `[s]`.
    """

    hkl: Array
    squared: Array
    line: Array
    lattice: Array
    free: Array
    kind: Array


def free_strain(system: int) -> np.ndarray:
    """Returns how six normal deviates make the strain of a crystal system, `[6, 9]`.

    The rows are x, y, z, yz, xz, xy; a row that is zero is not used: see `simulated.strained`.
    """
    name = CRYSTAL_SYSTEMS[system]
    free = np.zeros((6, 3, 3), np.float32)
    if name in ("tetragonal", "trigonal", "hexagonal"):
        free[0, 0, 0] = free[0, 1, 1] = free[2, 2, 2] = 1.0
    elif name != "cubic":
        free[0, 0, 0] = free[1, 1, 1] = free[2, 2, 2] = 1.0
    if name in ("monoclinic", "triclinic"):
        free[4, 0, 2] = free[4, 2, 0] = 1.0
    if name == "triclinic":
        free[5, 0, 1] = free[5, 1, 0] = 1.0
        free[3, 1, 2] = free[3, 2, 1] = 1.0
    return free.reshape(6, 9)


def structures_of(
    atoms: Sequence[Atoms], system: Sequence[int], kind: Sequence[int], bound: int
) -> Structures:
    """Returns the reflections of some structures; of more than `bound` the strongest.

    Args:
        atoms: s of them.
        system: crystal system of each.
        kind: of the source of each.
        bound: R, and of lines as well.
    """
    rows = []
    for one in atoms:
        found = reflections(
            one.lattice, one.positions, one.numbers, q_min=REACH[0], q_max=REACH[1],
            wavelength=_WAVELENGTH, b_iso=0.0,
        )  # fmt: skip
        strongest = np.argsort(-found.intensity, kind="stable")[:bound]
        faint = found.intensity[strongest] <= FAINT * found.intensity.max(initial=0.0)
        order = strongest[~faint][np.argsort(found.q[strongest[~faint]])]
        q, intensity = found.q[order], found.intensity[order]
        positions, _ = merge_lines(q, np.ones(len(q)))
        line = np.searchsorted(positions, q, side="right") - 1
        squared = intensity / np.asarray(_lorentz_polarization(q))
        pad = (0, bound - len(q))
        rows.append((
            np.pad(found.hkl[order], (pad, (0, 0)), constant_values=1).astype(np.float32),
            np.pad(squared / squared.max(initial=1e-9), pad).astype(np.float32),
            np.pad(line, pad, constant_values=bound - 1).astype(np.int32),
        ))  # fmt: skip
    hkl, squared, line = (np.stack(column) for column in zip(*rows, strict=True))
    lattice = np.stack([one.lattice for one in atoms]).astype(np.float32)
    free = np.stack([free_strain(number) for number in system])
    return Structures(hkl, squared, line, lattice, free, np.asarray(kind, np.int32))


def strained_lines(
    structure: Structures, strain: Array, b_iso: Array, march: Array, axis: Array
) -> Lines:
    """Returns the lines of a strained and textured sample, sorted as in the structure, `[M]`.

    Args:
        structure: one, without the leading axis.
        strain: factor of the lattice, `[3, 3]`.
        b_iso: displacement parameter.
        march: March coefficient, 1 for no texture.
        axis: along the reflection of which place in the order of q.
    """
    there = structure.squared > 0.0
    # A GPU multiplies with 10 bits where nothing is said: lines would lie 0.05 % beside themselves.
    lattice = jnp.matmul(structure.lattice, strain, precision="highest")
    direction: Array = jnp.matmul(structure.hkl, jnp.linalg.inv(lattice).T, precision="highest")
    length = jnp.sqrt(jnp.sum(jnp.square(direction), axis=1))
    q = 2.0 * np.pi * length
    # Beyond the limiting sphere of the wavelength nothing is left.
    reached = there & (q < 0.999 * 4.0 * np.pi / _WAVELENGTH)
    safe = jnp.where(reached, q, 1.0)
    damping = jnp.exp(-0.5 * b_iso * jnp.square(safe / (2.0 * np.pi)))
    intensity = structure.squared * damping * _lorentz_polarization(safe)
    direction = direction / length[:, None]
    order = jnp.argsort(jnp.where(there, q, jnp.inf))
    chosen = direction[order[jnp.minimum(axis, jnp.sum(there, dtype=jnp.int32) - 1)]]
    intensity = jnp.where(reached, intensity * march_dollase(march, direction @ chosen), 0.0)
    total = jnp.zeros_like(intensity).at[structure.line].add(intensity)
    first = jnp.full_like(q, jnp.inf).at[structure.line].min(jnp.where(there, q, jnp.inf))
    kept = total >= _WEAK * jnp.max(total)
    return Lines(jnp.where(jnp.isfinite(first), first, 1.0), jnp.where(kept, total, 0.0))


class Draw(NamedTuple):
    """All that a scan is made of but the counting.

    Attributes:
        lines: of the sample.
        impurity: of the second phase.
        tube: of the diffractometer.
        sample: see `samples.Sample`.
        treatment: see `samples.Treatment`.
    """

    lines: Lines
    impurity: Lines
    tube: Tubes
    sample: Sample
    treatment: Treatment


def draw(
    key: jax.Array, structure: Structures, other: Structures, laboratory: Laboratory, points: int
) -> Draw:
    """Draws what becomes of a structure in a laboratory.

    Args:
        key: of all draws.
        structure: one, without the leading axis.
        other: of which a little may be in the sample.
        laboratory: what is drawn from.
        points: most of a scan.
    """
    keys = jax.random.split(key, 4)
    lines = draw_lines(keys[0], structure, laboratory)
    b_iso, march, axis = jnp.float32(0.5), jnp.float32(1.0), jnp.int32(0)
    impurity = strained_lines(other, jnp.eye(3), b_iso, march, axis)
    sample = draw_sample(keys[1], laboratory, len(lines.q), len(impurity.q), points)
    treatment = draw_treatment(keys[2], laboratory, sample.stripped)
    return Draw(lines, impurity, draw_tube(keys[3]), sample, treatment)


def draw_lines(key: jax.Array, structure: Structures, laboratory: Laboratory) -> Lines:
    """Draws a sample of a structure and returns its lines; see `fitting.simulated_measurement`."""
    keys = iter(jax.random.split(key, 8))
    measured = structure.kind == MEASURED
    near, far = (jax.random.t(next(keys), float(degrees)) for degrees in (4, 6))
    older = structure.kind == OLDER_COMPUTED
    larger = jnp.where(older, 0.011, 0.0075) + jnp.where(older, 0.0072, 0.0064) * far
    hotter = jnp.where(jax.random.bernoulli(next(keys)), 0.001, 0.0)
    shift = jnp.where(measured, 0.001 * near + hotter, larger)
    spread = jnp.where(measured, 0.0008, 0.003)
    apart = spread * jax.random.normal(next(keys), (6,)) @ structure.free
    strain = jnp.exp(-shift) * (jnp.eye(3) + apart.reshape(3, 3))
    b_iso = jax.random.uniform(next(keys), (), minval=0.3, maxval=1.5)
    textured = jax.random.bernoulli(next(keys), laboratory.textured)
    march = jnp.where(textured, _log_uniform(next(keys), laboratory.march), 1.0)
    axis = jax.random.randint(next(keys), (), 0, AXES)
    return strained_lines(structure, strain, b_iso, march, axis)


def draw_tube(key: jax.Array) -> Tubes:
    """Draws the tube of a laboratory, scalars."""
    shares = np.array([tube.share for tube in TUBES], np.float32)
    number = jax.random.choice(key, len(TUBES), p=jnp.asarray(shares))
    return Tubes(*(jnp.asarray(column, jnp.float32)[number] for column in tubes()))


def draw_sample(
    key: jax.Array, laboratory: Laboratory, lines: int, impurity: int, points: int
) -> Sample:
    """Draws what `samples.draw_sample` does.

    Args:
        key: source of the draws.
        laboratory: what is drawn from.
        lines: of the phase.
        impurity: lines of the second phase.
        points: most of a scan; a finer step is made as wide as they allow.
    """
    keys = iter(jax.random.split(key, 32))

    def uniform(low: Array | float, high: Array | float) -> Array:
        return jax.random.uniform(next(keys), (), minval=low, maxval=high)

    def normal(deviation: Array | float, *shape: int) -> Array:
        return deviation * jax.random.normal(next(keys), shape)

    def spread(limits: tuple[Array, Array]) -> Array:
        return _log_uniform(next(keys), limits)

    def happens(share: Array | float) -> Array:
        return jax.random.bernoulli(next(keys), share)

    first, last = uniform(*laboratory.first), uniform(*laboratory.last)
    # Another tube stretches the range more than the step, by less than a quarter.
    finest = 1.25 * (last - first) / points
    return Sample(
        grains=normal(uniform(0.0, laboratory.grains) * uniform(0.0, 1.0), lines),
        impurity=jnp.where(happens(laboratory.impure), spread(laboratory.impurity), 0.0),
        first=first, last=last, step=jnp.maximum(spread(laboratory.step), finest),
        stripped=happens(laboratory.stripped),
        displacement=normal(laboratory.displacement), zero=normal(laboratory.zero),
        size_nm=spread(laboratory.size_nm),
        strain=laboratory.strain * jnp.square(uniform(0.0, 1.0)),
        instrument=spread(laboratory.instrument),
        widths=normal(0.15 * uniform(0.0, 1.0), 2, lines + impurity),
        axial=uniform(0.0, 0.3), eta=uniform(0.0, 1.0),
        air=spread(laboratory.background), constant=spread(laboratory.background),
        hump=jnp.where(happens(0.4), spread(laboratory.background), 0.0),
        center=uniform(18.0, 32.0), width=uniform(3.0, 9.0), decay=uniform(4.0, 20.0),
        strongest=spread(laboratory.counts),
    )  # fmt: skip


def draw_treatment(key: jax.Array, laboratory: Laboratory, stripped: Array) -> Treatment:
    """Draws what `samples.draw_treatment` does."""
    keys = jax.random.split(key, 5)
    smooth = jax.random.bernoulli(keys[0], laboratory.smoothed)
    return Treatment(
        jnp.where(smooth, _log_uniform(keys[1], SMOOTHING), 0.0),
        jax.random.bernoulli(keys[2], laboratory.subtracted),
        jax.random.uniform(keys[3]),
        stripped & jax.random.bernoulli(keys[4], 0.7),
    )


def _log_uniform(key: jax.Array, limits: tuple[Array, Array]) -> Array:
    low, high = (jnp.log(jnp.asarray(limit, jnp.float32)) for limit in limits)
    return jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))


def _lorentz_polarization(q: Array) -> Array:
    """`xrd.diffraction.lorentz_polarization` of copper, by q in 1/angstrom."""
    squared = (q * (_WAVELENGTH / (4.0 * np.pi))) ** 2
    return (1.0 + (1.0 - 2.0 * squared) ** 2) / (squared * (1.0 - squared) ** 0.5)
