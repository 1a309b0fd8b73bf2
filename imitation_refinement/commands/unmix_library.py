"""A composition-spread library: patterns in; its phases, refined and recognised, and a page out.

Belongs here: the way from patterns to components and to files. What is read is in `spread`, the
factorisations in `convolutive`, `unmix_count` and `unmix`, pictures and the page in `unmix_page`;
many libraries are `unmix_shards`'.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from threadpoolctl import threadpool_limits

from imitation_refinement.commands.ledger import exit_status
from imitation_refinement.commands.spread import Spread, read_spread
from imitation_refinement.commands.unmix_count import EXTRA, chosen_count, search
from imitation_refinement.commands.unmix_page import page_of
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Assessment, Model
from imitation_refinement.runtime.files import atomic_file, json_text
from imitation_refinement.xrd.convolutive import (
    Phases,
    kl_divergence,
    phases,
    reconstruction,
    unmix_convolutive,
)
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.unmix import unmix

MAX_STRAIN = 0.035  # largest relative change of d-spacings over the library, either way
STRIDE = 2  # grid points between the shifts that are tried; peaks are four times as wide
MOST = 10  # components that are tried when their number is not given
FEWEST = 1
FEWEST_PATTERNS = 3  # of a library


class Found(NamedTuple):
    """The components of a library.

    Attributes:
        phases: components on the grid, shares and shifts.
        held_out: mean divergence over points that no fit saw, by number of components; empty if
            the number was given.
        divergence: of the factorisation, over what was measured.
        divergence_plain: of one without shifts, of as many components.
    """

    phases: Phases
    held_out: dict[int, float]
    divergence: float
    divergence_plain: float


def run_unmix(
    model: Model,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None,
    components: int | None = None,
) -> int:
    """Unmixes a library, refines and classifies its components, and writes what was found.

    Writes `unmix.json`, `activations.csv`, `component-<k>.raw.xy`, `component-<k>.refined.xy` and
    `unmix.html`.

    Args:
        model: what refines and classifies.
        inputs: a matrix of patterns (.npz, .csv), or files, folders and glob patterns.
        output: folder for the results.
        wavelength: see `formats.read_patterns`.
        components: their number; None to estimate it (`unmix_count.chosen_count`).

    Returns:
        The exit status: 0 if every pattern was used, 3 if some.

    Raises:
        UserError: fewer than three patterns could be used, `components` does not fit, or the output
            cannot be written.
    """
    spread = read_spread(inputs, model.grid, wavelength)
    tell(spread)
    results, files = unmixed(model, spread, ", ".join(inputs), components)
    write_files(output, files)
    logging.info(
        "%d components of %d patterns written to %s",
        len(results["components"]), len(spread.names), output,
    )  # fmt: skip
    return exit_status(len(spread.names), len(spread.failures))


def tell(spread: Spread) -> None:
    """Says in the log what could not be used, what was left out, and notes."""
    for failure in spread.failures:
        logging.warning("failed: %s", failure)
    for path, reason in spread.left_out:
        logging.info("left out: %s: %s", path, reason)
    for note in spread.notes:
        logging.warning("note: %s", note)


def unmixed(
    model: Model, spread: Spread, source: str, components: int | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Unmixes a library, refines and classifies its components; nothing is written.

    Args:
        model: what refines and classifies.
        spread: the library.
        source: what to name in errors.
        components: see `run_unmix`.

    Returns:
        What was found, as plain numbers and text, and the content of each file by its name.

    Raises:
        UserError: there are fewer than three patterns, or `components` does not fit.
    """
    count = len(spread.names)
    if count < FEWEST_PATTERNS:
        raise UserError(
            f"{source}: {count} patterns could be used; unmixing needs {FEWEST_PATTERNS}"
        )
    if components is not None and not 1 <= components <= count:
        raise UserError(f"--components={components}: must be 1 to {count}, the number of patterns")
    logging.info("unmixing %d patterns; this takes minutes for some hundred", count)
    with threadpool_limits(1, "blas"):  # the last bits of products depend on their number
        found = unmix_spread(spread, model.grid, components)
    measured = np.asarray(spread.mask.any(axis=0))
    raw = found.phases.components * measured
    mask = np.broadcast_to(measured, raw.shape)
    assessment = model.assess(raw[..., None].astype(np.float32), mask)
    results = summary(model, spread, found, assessment)
    page = page_of(results, spread, found.phases, assessment.refined, model.grid)
    files = {
        "unmix.json": _bytes(json_text(results)),
        "activations.csv": _bytes(activations_csv(spread, found.phases, model.grid)),
        "unmix.html": _bytes(page),
    }
    for index in range(len(raw)):
        for kind, pattern in (("raw", raw[index]), ("refined", assessment.refined[index, :, 0])):
            files[f"component-{index + 1}.{kind}.xy"] = _columns(
                pattern, measured, model.grid, spread.wavelength, kind
            )
    return results, files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files, each of them atomically.

    Raises:
        UserError: one cannot be written.
    """
    for name, content in files.items():
        with atomic_file(folder / name) as file:
            file.write(content)


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # names of files may hold bytes that are no text


def unmix_spread(
    spread: Spread, grid: Grid, components: int | None, *, max_strain: float = MAX_STRAIN
) -> Found:
    """Finds the components of a library; patterns are told apart by shape, not by strength.

    A coarse search (`unmix_count.search`) finds the number of components, if it is not given, and
    where to start; then follows a factorisation on the grid itself.
    """
    measured = spread.mask.any(axis=0)  # beyond it there is nothing to fit
    pattern, mask = spread.pattern[:, measured], spread.mask[:, measured]
    # Only there is a change of the cell a shift.
    max_lag = round(max_strain / log_step(grid)) if grid.axis == "geometric_q" else 0
    limit = len(pattern)
    most = min(MOST if components is None else components + EXTRA, limit)
    fewest = min(FEWEST, limit) if components is None else components
    tried = search(pattern, mask, most, fewest, max_lag, hold_out=components is None)
    count = chosen_count(tried.held_out) if components is None else components
    found = unmix_convolutive(
        pattern, count, max_lag, stride=STRIDE, mask=mask, start=tried.components[count]
    )
    plain = unmix(pattern, count, iterations=300)
    told = phases(found)
    whole = np.zeros((count, grid.length), np.float32)
    whole[:, measured] = told.components
    return Found(
        told._replace(components=whole),
        {number: float(values.mean()) for number, values in tried.held_out.items()},
        kl_divergence(pattern * mask, reconstruction(found) * mask),
        kl_divergence(pattern * mask, (plain.weights @ plain.components) * mask),
    )


def summary(model: Model, spread: Spread, found: Found, assessment: Assessment) -> dict[str, Any]:
    """Returns what was found, as plain numbers and text."""
    names = model.class_names
    strain = strains(found.phases, model.grid)
    components = []
    for index, probabilities in enumerate(assessment.probabilities):
        shares = found.phases.shares[:, index]
        placed = strain[np.isfinite(strain[:, index]), index]
        components.append(
            {
                "component": index + 1,
                "crystal_system": names[int(probabilities.argmax())],
                "confidence": float(assessment.confidence[index]),
                "verdict": str(assessment.verdict[index]),
                "reason": str(assessment.reason[index]),
                "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
                "mean_share": float(shares.mean()),
                "patterns": int(np.count_nonzero(shares >= 0.1)),
                "most_in": spread.names[int(shares.argmax())],
                "d_spacing_change": [float(placed.min()), float(placed.max())]
                if placed.size
                else None,
                "change": float(assessment.change[index]),
            }
        )
    return {
        "model": model.describe(),
        "patterns": len(spread.names),
        "left_out": [*spread.failures, *(f"{path}: {why}" for path, why in spread.left_out)],
        "notes": spread.notes,
        "elements": spread.elements,
        "wavelength": spread.wavelength,
        "held_out_divergence": found.held_out,
        "divergence": found.divergence,
        "divergence_without_shifts": found.divergence_plain,
        "components": components,
    }


def strains(told: Phases, grid: Grid) -> np.ndarray:
    """Relative change of d-spacings of each component in each pattern, float64 `[n, K]`, or NaN.

    On the geometric grid a shift by s points to larger q is a division of all d by exp(s step).
    """
    return np.expm1(-told.shifts * log_step(grid))


def log_step(grid: Grid) -> float:
    """Returns the mean step of ln q from point to point."""
    return float(np.log(grid.q_max / grid.q_min) / (grid.length - 1))


def activations_csv(spread: Spread, told: Phases, grid: Grid) -> str:
    """Returns a row of CSV for each pattern: composition, shares and changes of d-spacings."""
    text = io.StringIO()
    writer = csv.writer(text)
    numbers = range(1, told.shares.shape[1] + 1)
    writer.writerow(
        ["name", *spread.elements, *(f"share_{k}" for k in numbers),
         *(f"d_change_{k}" for k in numbers)]
    )  # fmt: skip
    change = strains(told, grid)
    for row, name in enumerate(spread.names):
        composition = [] if spread.composition is None else spread.composition[row]
        writer.writerow(
            [name, *(f"{x:.5g}" for x in composition), *(f"{x:.4f}" for x in told.shares[row]),
             *("" if np.isnan(x) else f"{x:.5f}" for x in change[row])]
        )  # fmt: skip
    return text.getvalue()


def _columns(
    pattern: np.ndarray, mask: np.ndarray, grid: Grid, wavelength: float, kind: str
) -> bytes:
    """A component as two columns, 2 theta in degrees and intensity per unit of q."""
    columns = np.column_stack([two_theta_from_q(grid_q(grid)[mask], wavelength), pattern[mask]])
    header = (
        f"component of a library, {kind}; wavelength {wavelength:g} angstrom\ntwo_theta intensity"
    )
    file = io.BytesIO()
    np.savetxt(file, columns, fmt="%.5f", header=header)
    return file.getvalue()
