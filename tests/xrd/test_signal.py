"""Peaks or none: noise, glass, empty detectors and artefacts against weak patterns."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from no_peaks import KINDS, without_peaks

from imitation_refinement.xrd.formats import read_patterns
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import Scan, clean_scan, on_grid


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_seen_where_nothing_is(kind):
    for index in range(12):
        placed = on_grid(without_peaks(kind, index), Grid())
        assert placed.signal, f"{kind} {index}"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("zero", "every count is zero"),
        ("constant", "all counts are the same"),
        ("flat", "nothing rises above background and noise"),
    ],
)
def test_the_reason_is_said(kind, reason):
    assert on_grid(without_peaks(kind, 3), Grid()).signal == reason


def test_glass_is_called_amorphous():
    angle = np.arange(10.0, 90.0, 0.02)
    expected = 200 + 4000 * np.exp(-0.5 * ((angle - 22) / 4) ** 2)
    counts = np.random.default_rng(0).poisson(expected).astype(float)
    assert "amorphous" in on_grid(clean_scan(angle, counts, 1.54, "x"), Grid()).signal


def crystals(size_nm: float, top: float, background: float, seed: int, step=0.02) -> Scan:
    """Returns ten Lorentzian peaks of Scherrer's width, the strongest `top` counts high."""
    rng = np.random.default_rng(seed)
    angle = np.arange(15.0, 90.0, step)
    expected = np.full_like(angle, background)
    for center, height in zip(rng.uniform(18, 85, 10), rng.uniform(0.05, 1, 10), strict=True):
        width = np.rad2deg(0.9 * 1.54 / (10 * size_nm) / np.cos(np.deg2rad(center / 2)))
        expected += top * height / (1 + ((angle - center) / (0.5 * width)) ** 2)
    return clean_scan(angle, rng.poisson(expected).astype(float), 1.54, "crystals")


@pytest.mark.parametrize(
    ("size_nm", "top", "background"),
    [(50, 10000, 100), (50, 100, 20), (20, 100, 5), (10, 300, 30), (100, 60, 10), (7, 3000, 100)],
)
@pytest.mark.parametrize("seed", range(4))
def test_weak_and_broad_peaks_are_seen(size_nm, top, background, seed):
    assert on_grid(crystals(size_nm, top, background, seed), Grid()).signal == ""


def test_one_peak_on_a_glass_is_enough():
    angle = np.arange(10.0, 90.0, 0.02)
    expected = 200 + 2000 * np.exp(-0.5 * ((angle - 22) / 4) ** 2)
    expected += 1000 * np.exp(-0.5 * ((angle - 38) / 0.1) ** 2)
    counts = np.random.default_rng(0).poisson(expected).astype(float)
    assert on_grid(clean_scan(angle, counts, 1.54, "x"), Grid()).signal == ""


def test_peaks_outside_the_grid_do_not_count():
    angle = np.arange(5.0, 90.0, 0.02)  # the grid begins at 15.5 degrees
    expected = 100 + 1e5 * np.exp(-0.5 * ((angle - 10) / 0.1) ** 2)
    counts = np.random.default_rng(0).poisson(expected).astype(float)
    assert on_grid(clean_scan(angle, counts, 1.54184, "x"), Grid()).signal


@pytest.mark.slow
def test_all_labelled_measured_scans_have_peaks_and_measured_glasses_none():
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder:
        pytest.skip("IMITATION_REFINEMENT_DATA does not name a folder of measured patterns")
    manifest = Path(folder) / "xrd_experimental" / "manifest.csv"
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    with np.load(manifest.parent / "rruff" / "rruff_patterns.npz", allow_pickle=False) as table:
        counts = table["intensity"].astype(np.float64)
        angle = table["two_theta_start"] + table["two_theta_step"] * np.arange(counts.shape[1])
    silent = {"labelled": [], "mixture": [], "unlabelled": []}
    for row in rows:
        if row["row"]:
            scans = [clean_scan(angle, counts[int(row["row"])], 1.5418, row["sample"])]
        else:
            scans = read_patterns(manifest.parent / row["file"], row["wavelength_A"])
        for scan in scans:
            if on_grid(scan, Grid()).signal:
                silent[row["kind"]].append(row["sample"])
    assert silent["labelled"] == [] and silent["mixture"] == []
    assert {"saks_glass", "obsidian", "charcoal", "humic_acid"} - {"obsidian"} <= set(
        silent["unlabelled"]
    )
