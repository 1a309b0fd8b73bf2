"""Measured scans through a trained run: files in; refined patterns, classes and pictures out."""

import csv
import glob
from pathlib import Path

import numpy as np
from absl import logging

from imitation_refinement import devices, figures
from imitation_refinement.errors import UserError
from imitation_refinement.files import writing
from imitation_refinement.run import Run
from imitation_refinement.training import trained_model
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.scans import on_grid, parse_wavelength, read_scan, write_refined


def find_files(patterns: list[str]) -> list[Path]:
    """Returns the files that paths and glob patterns name, each once, in order.

    Raises:
        UserError: a pattern names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) or ([pattern] if Path(pattern).exists() else [])
        if not paths:
            raise UserError(f"--input={pattern}: no such file")
        found |= dict.fromkeys(Path(path) for path in paths)
    return list(found)


def refine_scans(run: Run, inputs: list[str], output: Path, wavelength: str | None) -> None:
    """Refines two-column scans with a run's refiners and classifies them.

    The refined pattern is the mean of what the refiners of all folds give. For each scan writes
    `<name>.refined.xy` and `<name>.png`, and for all `summary.csv` with class probabilities of the
    raw and the refined pattern. A scan that cannot be used is named in the log and left out.

    Args:
        run: of an XRD config; stages that are not done are done first.
        inputs: paths and glob patterns.
        output: folder for the results.
        wavelength: see `scans.parse_wavelength`.

    Raises:
        UserError: no file found, none usable, or the output cannot be written.
    """
    angstrom = parse_wavelength(wavelength)
    data = run.config.data
    grid = Grid(**data.grid, wavelength=data.wavelength)
    scans, placed = [], []
    for path in find_files(inputs):
        try:
            scan = read_scan(path, angstrom)
            on_model_grid = on_grid(scan, grid)
        except UserError as error:
            logging.warning("left out: %s", error)
            continue
        for note in scan.notes:
            logging.warning("%s: %s", scan.name, note)
        scans.append(scan)
        placed.append(on_model_grid)
    if not scans:
        raise UserError("--input: none of the files could be used; the lines above say why")

    model = trained_model(run)
    raw = np.stack([scan.pattern for scan in placed])[..., None]
    refined = model.refine(raw)
    probability = {"raw": model.probabilities(raw), "refined": model.probabilities(refined)}
    if not devices.is_main_process():
        return
    systems = run.task.class_names
    stems = unique_stems([scan.name for scan in scans])
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        with open(output / "summary.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            columns = [f"{kind}_{name}" for kind in probability for name in systems]
            table.writerow(["name", "wavelength", "raw_system", "refined_system", *columns])
            for i, scan in enumerate(scans):
                found = [systems[int(np.argmax(part[i]))] for part in probability.values()]
                numbers = [f"{p:.4f}" for part in probability.values() for p in part[i]]
                table.writerow([stems[i], f"{scan.wavelength:g}", *found, *numbers])
        for i, scan in enumerate(scans):
            pattern = refined[i, :, 0]
            write_refined(
                output / f"{stems[i]}.refined.xy",
                pattern, placed[i].mask, grid, scan.wavelength, scan.name,
            )  # fmt: skip
            best = int(np.argmax(probability["refined"][i]))
            title = f"{stems[i]}: {systems[best]} ({probability['refined'][i][best]:.0%})"
            picture = figures.overlay(
                grid_q(grid), figures.Q_LABEL, {"raw": raw[i, :, 0], "refined": pattern}, title
            )
            (output / f"{stems[i]}.png").write_bytes(picture)
    logging.info("refined %d scans into %s", len(scans), output)


def unique_stems(names: list[str]) -> list[str]:
    """Returns the names, those that occurred before with -2, -3, ... appended."""
    seen: dict[str, int] = {}
    stems = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        stems.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return stems
