"""The functions for scripts and notebooks: from scans or arrays to answers, in one call.

Belongs here: what makes arrays of any honest shape and scale fit a `Model`. For example, with a
scan in two columns, 2 theta in degrees and counts:

>>> import imitation_refinement as ir
>>> model = ir.load_model()  # the one that is shipped; or a file, or a finished run's folder
>>> scans = ir.read_patterns("scan.xy", wavelength="CuKa")
>>> answer = ir.classify(scans, model)
>>> answer.verdict[0] in ("confident", "ambiguous", "not recognised")
True
>>> best = model.class_names[answer.probabilities[0].argmax()]
>>> answer.refined.shape == (1, model.grid.length, 1)
True

and with patterns that lie on the model's own axis, `model.q` in 1/angstrom:

>>> import numpy as np
>>> peaks = sum(np.exp(-0.5 * ((model.q - q) / 0.01) ** 2) for q in (2.1, 3.0, 3.6))
>>> ir.refine(1000.0 * peaks, model).shape == (1, model.grid.length)
True
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.commands.analysis import Analysis
from imitation_refinement.commands.assess_scans import refine_one
from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.scan_results import Names
from imitation_refinement.model.find import load_model
from imitation_refinement.model.model import Assessment, Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.phases import identify as identification
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.named import Identified
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.runtime.files import user_cache
from imitation_refinement.xrd.scans import Scan, on_grid

Patterns = Scan | Sequence[Scan] | np.ndarray


def refine(patterns: Patterns, model: Model | None = None) -> np.ndarray:
    """Refines patterns.

    Args:
        patterns: scans of `read_patterns`; or intensities on `model.q`, on any positive scale,
            `[L]`, `[n, L]` or `[n, L, 1]`.
        model: of `load_model`; None for the one that is shipped.

    Returns:
        Refined patterns, float32 `[n, L]`; those that went in have maximum 1.

    Raises:
        ValueError: another shape, or numbers that are not finite.
        TypeError: neither scans nor real numbers.
        UserError: a scan does not cover enough of the grid.
    """
    return classify(patterns, model).refined[..., 0]


def classify(patterns: Patterns, model: Model | None = None) -> Assessment:
    """Refines and classifies patterns and says how far to believe the answer; see `refine`."""
    model = model or _shipped()
    return model.assess(*place(patterns, model))


def analyze(
    scans: Scan | Sequence[Scan],
    model: Model | None = None,
    phases: Phases | None = None,
    elements: str = "",
) -> Analysis:
    """Refines scans and names their phases, as `--mode=refine` does; shown by Jupyter with figures.

    Args:
        scans: of `read_patterns`.
        model: of `load_model`; None for the one that is shipped.
        phases: of `load_phases`; None for the library that is shipped.
        elements: see `identify`.

    Raises:
        UserError: a word of `elements` is no element.
    """
    several = [scans] if isinstance(scans, Scan) else list(scans)
    model, phases = model or _shipped(), phases or _shipped_phases()
    known, names = parse_elements(elements) if elements else None, Names()
    records = [
        refine_one(model, Input(Path(scan.name), elements=known, data=b""), names(scan.name), scan,
                   phases)
        for scan in several
    ]  # fmt: skip
    return Analysis(records, model.grid, phases)


def identify(
    scans: Scan | Sequence[Scan], phases: Phases | None = None, elements: str = ""
) -> list[Identified]:
    """Names the phases of measured scans by a library of known crystal structures.

    Args:
        scans: of `read_patterns`.
        phases: of `load_phases`; None for the library that is shipped.
        elements: what is known of the composition, as `--elements` has it: `Ca C O`, `+Fe -Cl`.

    Raises:
        UserError: a scan does not cover enough of the grid, or a word of `elements` is no element.
    """
    several = [scans] if isinstance(scans, Scan) else list(scans)
    if not several:
        return []
    known = parse_elements(elements) if elements else None
    placed = [on_grid(scan, GRID) for scan in several]
    return (phases or _shipped_phases()).identify(placed, [known] * len(placed))


def load_phases(*names: str) -> Phases:
    """Loads libraries of phases, taken together; see `phases.identify.load_phases`.

    Args:
        names: library files, folders of CIF files, or `shipped`, which is the default.
    """
    return identification.load_phases(names or ("shipped",), user_cache("phases"))


def place(patterns: Patterns, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Returns patterns as `Model.assess` takes them: float32 `[n, L, 1]` with maximum 1, and masks.

    Scans lose their background; negative intensities become 0. Raises as `refine`.
    """
    scans = [patterns] if isinstance(patterns, Scan) else patterns
    if not isinstance(scans, np.ndarray) and all(isinstance(scan, Scan) for scan in scans):
        return as_arrays([on_grid(scan, model.grid) for scan in scans], model.grid.length)
    raw = _rows(scans, model.grid.length)
    top = np.maximum(raw.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return (raw / top).astype(np.float32)[..., None], np.ones(raw.shape, bool)


def _rows(values: Any, length: int) -> np.ndarray:
    """Intensities as float64 `[n, L]`, not negative."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"patterns: expected scans or real numbers, got {array.dtype}")
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim == 3 and rows.shape[2] == 1:
        rows = rows[..., 0]
    if rows.ndim != 2 or rows.shape[1] != length:
        raise ValueError(
            f"patterns: expected shape [{length}], [n, {length}] or [n, {length}, 1], the points "
            f"of model.q, got {list(array.shape)}"
        )
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ValueError(f"patterns: pattern {row} holds numbers that are not finite")
    return np.maximum(rows, 0.0)


@lru_cache(maxsize=1)
def _shipped_phases() -> Phases:
    return load_phases()


@lru_cache(maxsize=1)
def _shipped() -> Model:
    return load_model()
