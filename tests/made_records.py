"""Records of refined scans for the tests of the page, with one line each."""

from pathlib import Path

import numpy as np
from fake_model import SYSTEMS

from imitation_refinement.commands.peak_table import peak_table
from imitation_refinement.commands.scan_results import Refined
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.scans import PlacedScan, Scan, q_per_radian

GRID = Grid(length=800)
Q = grid_q(GRID)
HEADER = {"model": "model <1>", "command": "python main.py --input='<b>'"}
EVIL = '</script><script>document.title = "broken"</script><img src=x onerror=alert(1)>'


def record(name="scan", verdict="confident", confidence=0.9, best=6, wavelength=1.54184, **fields):
    """One line at q = 3 over a background of 20 %, 1000 counts per radian and unit of q high."""
    angle = np.arange(16.0, min(90.0, two_theta_from_q(Q[-1:], wavelength)[0]), 0.05)
    first, last = q_from_two_theta(angle[[0, -1]], wavelength)
    mask = (first < Q) & (last > Q)
    pattern = np.where(mask, np.exp(-0.5 * ((Q - 3.0) / 0.02) ** 2), 0).astype(np.float32)
    peak = np.exp(-0.5 * ((q_from_two_theta(angle, wavelength) - 3.0) / 0.02) ** 2)
    counts = 1000.0 * q_per_radian(angle, wavelength) * (peak + 0.2)
    probabilities = np.full(len(SYSTEMS), (1 - confidence) / (len(SYSTEMS) - 1))
    probabilities[best] = confidence
    values = {
        "name": name,
        "path": Path("scans") / f"{name}.xy",
        "scan": Scan(angle, counts, wavelength, name, (), "file", "present"),
        "placed": PlacedScan(pattern, mask, 0.2 * mask.astype(np.float32), 1000.0),
        "class_names": SYSTEMS,
        "refined": pattern,
        "raw_probabilities": probabilities[::-1],
        "probabilities": probabilities,
        "distances": 1 - probabilities,
        "confidence": confidence,
        "verdict": verdict,
        "reason": "",
        "change": 0.01,
        "peaks": peak_table(pattern, pattern, mask, GRID, wavelength),
        "matches": (),
        "notes": (),
        "refiner": "model",
    }
    return Refined(**{**values, **fields})
