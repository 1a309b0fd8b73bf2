"""Speed of the crystal generator and the diffraction simulator on one core.

    python benchmarks/simulator.py                  # against pymatgen, a few minutes
    python benchmarks/simulator.py --count 20000    # also a whole ideal set of that many patterns

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


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.INFO)
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
