"""Speed of the crystal generator and the diffraction simulator on one core.

    python benchmarks/simulator.py                  # against pymatgen, a few minutes
    python benchmarks/simulator.py --count 20000    # also a whole ideal set of that many patterns
    python benchmarks/simulator.py --scans 64       # whole scans instead: NumPy against JAX

`--scans` draws the random numbers of that many scans on the device, gives the same to NumPy, prints
by how much both differ, and times both: from the lines of a structure to the scan on the grid, its
noise and its truth; JAX draws the numbers as well. JAX on a GPU is timed in seconds, all else in
processor time.

Both simulators get the same primitive cells, in turns, so that a busy machine slows both; the
medians of the rounds are reported. Needs pymatgen (the test extra).
"""
# ruff: noqa: E402  # the environment must be set before NumPy is imported

import os

# One thread each, or the products of matrices would use every core.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import resource
import sys
import tempfile
import time

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from imitation_refinement.xrd.crystals import prototype_member, random_prototype
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.ideal import ideal_lines

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds.", lower_bound=1)
_CRYSTALS = flags.DEFINE_integer("crystals", 60, "Crystals per round.", lower_bound=1)
_COUNT = flags.DEFINE_integer("count", 0, "Patterns of a whole set to generate; 0 for none.")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes for --count.")
_SCANS = flags.DEFINE_integer("scans", 0, "Scans to simulate with NumPy and with JAX; 0 for none.")

_MEMBERS = 12
_WAVELENGTH, _TWO_THETA = 1.54184, (15.0, 93.0)
_Q_MIN, _Q_MAX = 4 * np.pi / _WAVELENGTH * np.sin(np.radians(_TWO_THETA) / 2)


def simulate(crystal):
    found = reflections(
        crystal.lattice,
        crystal.positions,
        crystal.numbers,
        q_min=_Q_MIN,
        q_max=_Q_MAX,
        wavelength=_WAVELENGTH,
        b_iso=0.5,
    )
    return merge_lines(found.q, found.intensity)


def rate(function, items):
    """Calls per CPU second."""
    start = time.process_time()
    for item in items:
        function(item)
    return len(items) / (time.process_time() - start)


def peak_mib(who):
    """Largest resident set so far in MiB; macOS counts in bytes, Linux in KiB."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(who).ru_maxrss / scale


def compare():
    # After the whole-set run, so that its memory is not counted there.
    from pymatgen.analysis.diffraction.xrd import XRDCalculator
    from pymatgen.core import Lattice, Structure

    calculator = XRDCalculator(_WAVELENGTH)
    rates = {name: [] for name in ("prototypes", "members", "ours", "pymatgen")}
    for round_index in range(_ROUNDS.value):
        ids = range(round_index * _CRYSTALS.value, (round_index + 1) * _CRYSTALS.value)
        prototypes = [random_prototype(0, i) for i in ids]
        crystals = [prototype.crystal for prototype in prototypes]
        structures = [Structure(Lattice(c.lattice), c.numbers, c.positions) for c in crystals]
        rates["prototypes"].append(rate(lambda i: random_prototype(0, i), ids))
        rates["members"].append(rate(lambda p: prototype_member(p, 0, 1), prototypes))
        rates["ours"].append(rate(simulate, crystals))
        rates["pymatgen"].append(
            rate(lambda s: calculator.get_pattern(s, two_theta_range=_TWO_THETA), structures)
        )
    print(f"per CPU second, one core, median of {_ROUNDS.value} rounds of {_CRYSTALS.value}:")
    for name, values in rates.items():
        print(f"  {name:<12}{np.median(values):9.1f}   ({min(values):.1f} to {max(values):.1f})")
    ratios = np.array(rates["ours"]) / np.array(rates["pymatgen"])
    print(f"  ours / pymatgen, median of the rounds: {np.median(ratios):.0f}")


def whole_set(count, workers):
    config = ConfigDict(
        {
            "ideal": {
                "prototypes": -(-count // _MEMBERS),
                "members": _MEMBERS,
                "unseen_fraction": 0.1,
                "seen_fraction": 0.1,
            },
            "grid": {"q_min": 1.1, "q_max": 5.9},
            "wavelength": _WAVELENGTH,
            "b_iso": 0.5,
        }
    )
    with tempfile.TemporaryDirectory() as cache_dir:
        start = time.perf_counter()
        ideal = ideal_lines(config, 0, cache_dir, workers)
        seconds = time.perf_counter() - start
        size = ideal.q.nbytes + ideal.root_intensity.nbytes
        start = time.perf_counter()
        ideal_lines(config, 0, cache_dir, workers)
        reopening = time.perf_counter() - start
    print(
        f"whole set: {len(ideal)} patterns in {seconds:.1f} s with {workers} workers "
        f"({len(ideal) / seconds:.0f}/s), {size / 2**20:.0f} MiB on disk, "
        f"opened again in {reopening:.2f} s"
    )
    print(
        f"  peak memory: parent {peak_mib(resource.RUSAGE_SELF):.0f} MiB, "
        f"largest worker {peak_mib(resource.RUSAGE_CHILDREN):.0f} MiB"
    )


def compare_scans(count):
    """Prints differences and scans per second of `phases.simulated` and `phases.device_pairs`."""
    import jax

    from imitation_refinement.phases.device_draws import draw, structures_of
    from imitation_refinement.phases.device_pairs import placed_scan, simulated_scan
    from imitation_refinement.phases.device_scans import Bounds, expected_scan
    from imitation_refinement.phases.fitting import Atoms
    from imitation_refinement.phases.pairs import QUICK
    from imitation_refinement.phases.prototypes import GRID

    bounds, laboratory = Bounds(), QUICK[0]
    crystals = [random_prototype(0, i).crystal for i in range(2 * count)]
    atoms = [Atoms(c.lattice, c.numbers, c.positions) for c in crystals]
    every = jax.device_put(
        structures_of(atoms, [c.system for c in crystals], [0] * len(atoms), 1024)
    )
    own, other = (jax.tree.map(lambda a, s=s: a[s::2], every) for s in (0, 1))
    keys = jax.random.split(jax.random.key(0), count)

    def drawn(key, one, second):
        found = draw(key, one, second, laboratory, bounds.points)
        return found, expected_scan(found.lines, found.impurity, found.tube, found.sample, bounds)

    draws, expected = jax.jit(jax.vmap(drawn))(keys, own, other)
    mean = (expected.profile + expected.background) * draws.sample.strongest[:, None]
    counts = np.random.default_rng(0).poisson(np.asarray(mean, np.float64)).astype(np.float32)
    finish = jax.jit(jax.vmap(lambda *of: placed_scan(*of, GRID)))
    found = jax.tree.map(np.asarray, finish(expected, counts, draws))
    rows = [jax.tree.map(lambda a, i=i: np.asarray(a[i], np.float64), draws) for i in range(count)]
    references = [by_numpy(row, one, GRID) for row, one in zip(rows, counts, strict=True)]
    for name in ("profile", "excess", "noise", "pattern", "truth"):
        if name == "profile":
            apart = [np.abs(expected.profile[i][: len(r[name])] - r[name]).max()
                     for i, r in enumerate(references)]  # fmt: skip
        else:
            mine = found.truth if name == "truth" else getattr(found.placed, name)
            apart = [np.abs(mine[i] - r[name])[r["mask"]].max() for i, r in enumerate(references)]
        print(f"  {name:<8} apart at most: median {np.median(apart):.1e}, most {max(apart):.1e}")

    whole = jax.jit(jax.vmap(lambda *of: simulated_scan(*of, laboratory, bounds=bounds, grid=GRID)))
    jax.block_until_ready(whole(keys, own, other))
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    rates = {"NumPy": [], "JAX": []}
    for _ in range(_ROUNDS.value):
        start = time.process_time()
        for row, one in zip(rows, counts, strict=True):
            by_numpy(row, one, GRID)
        rates["NumPy"].append(count / (time.process_time() - start))
        start = clock()
        jax.block_until_ready(whole(keys, own, other))
        rates["JAX"].append(count / (clock() - start))
    kind = jax.devices()[0].device_kind
    print(f"scans per second, JAX on {kind}, median of {_ROUNDS.value} rounds of {count}:")
    for name, values in rates.items():
        print(f"  {name:<8}{np.median(values):9.1f}   ({min(values):.1f} to {max(values):.1f})")


def by_numpy(drawn, counted, grid):
    """Returns what NumPy makes of the random numbers that were drawn on the device for one scan."""
    from imitation_refinement.phases import simulated
    from imitation_refinement.phases.pairs import true_pattern
    from imitation_refinement.phases.samples import TUBES
    from imitation_refinement.xrd.scans import on_grid

    tube = min(TUBES, key=lambda tube: abs(tube.first - drawn.tube.first))
    there = drawn.lines.intensity > 0.0
    second = drawn.impurity.intensity > 0.0
    q, intensity = drawn.lines.q[there], drawn.lines.intensity[there]
    impurity = drawn.impurity.q[second], drawn.impurity.intensity[second]
    impure = drawn.sample.impurity > 0.0
    drawn_peaks = np.concatenate([there, second & impure])
    drawn_peaks &= tube.reached(np.concatenate([drawn.lines.q, drawn.impurity.q]))
    kinds = 1 if drawn.sample.stripped else 2
    sample = drawn.sample._replace(
        grains=drawn.sample.grains[there], stripped=bool(drawn.sample.stripped),
        widths=drawn.sample.widths[:kinds, drawn_peaks].ravel(),
    )  # fmt: skip
    two_theta, profile, background = simulated.expected_scan(q, intensity, tube, sample, impurity)
    # A random draw of the same cost; what is placed is what the device was given.
    np.random.default_rng(0).poisson((profile + background) * sample.strongest)
    counts = counted[: len(two_theta)].astype(np.float64)
    measured = simulated.treated(
        two_theta[: len(counts)], counts, profile[: len(counts)] * sample.strongest, tube,
        sample.step, drawn.treatment,
    )  # fmt: skip
    placed = on_grid(measured.scan, grid)
    names = ("excess", "noise", "pattern", "mask")
    return {name: getattr(placed, name) for name in names} | {
        "profile": profile[: len(counts)], "truth": true_pattern(measured, placed, grid),
    }  # fmt: skip


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.INFO)
    if _SCANS.value:
        compare_scans(_SCANS.value)
        return
    if _COUNT.value:
        whole_set(_COUNT.value, _WORKERS.value)
    before = peak_mib(resource.RUSAGE_SELF)
    for crystal in [random_prototype(0, i).crystal for i in range(_CRYSTALS.value)]:
        simulate(crystal)
    print(f"peak memory with our simulator {peak_mib(resource.RUSAGE_SELF):.0f} MiB ", end="")
    print(f"({before:.0f} MiB before)")
    compare()
    print(f"peak memory with pymatgen {peak_mib(resource.RUSAGE_SELF):.0f} MiB")


if __name__ == "__main__":
    app.run(main)
