"""What is known about one refined scan, and how that reads as a row of a table.

Belongs here: the record of one pattern or of one failure, its curves in the unit of the input, its
row of `summary.csv` and its entry of `results.json`. No files are touched.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.commands.cif_match import Match
from imitation_refinement.commands.peak_table import PeakTable
from imitation_refinement.phases.named import Identified, Named
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.scans import PlacedScan, Scan, q_per_radian

NOT_RECOGNISED = "not recognised"  # the verdict that comes without an answer
FAILED = "failed"  # instead of a verdict
_LONGEST_NAME = 60  # characters; with an ending below the 255 bytes that file systems allow


class Refined(NamedTuple):
    """One pattern of an input file with all that was found out about it.

    Attributes:
        name: unique in the batch and fit for a file name.
        path: the input file.
        scan: as it was read.
        placed: on the grid of the model.
        class_names: the K classes.
        refined: float32 `[L]`, by `refiner`; zero everywhere if there was nothing to refine.
        raw_probabilities: of the classes, calibrated, before refinement, `[K]`.
        probabilities: of the classes, calibrated, after refinement by the model, `[K]`.
        distances: of the embedding of the model's refined pattern to the prototype of each class,
            `[K]`.
        confidence: calibrated probability of the first class.
        verdict: confident, ambiguous or not recognised.
        reason: of the verdict, a sentence.
        change: mean absolute difference of refined and raw pattern.
        peaks: of the refined pattern.
        matches: crystals compared with it, best first.
        notes: what a user should know about this pattern, sentences.
        refiner: that made `refined`: `model`; `phases` for what that of phases denoised; '' for
            neither.
        identified: what a library of phases says of it; None without one.
    """

    name: str
    path: Path
    scan: Scan
    placed: PlacedScan
    class_names: tuple[str, ...]
    refined: np.ndarray
    raw_probabilities: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    confidence: float
    verdict: str
    reason: str
    change: float
    peaks: PeakTable
    matches: tuple[Match, ...]
    notes: tuple[str, ...]
    refiner: str
    identified: Identified | None = None

    @property
    def has_pattern(self) -> bool:
        """Whether there was anything to refine."""
        return bool(np.any(self.refined[self.placed.mask] > 0))

    @property
    def answer_names(self) -> tuple[str, ...]:
        """What the answer is one of: crystal systems with a library, else the model's classes."""
        return CRYSTAL_SYSTEMS if self.identified else self.class_names

    @property
    def answer(self) -> np.ndarray:
        """Probability of each of `answer_names`."""
        return self.identified.answer.systems if self.identified else self.probabilities

    @property
    def likely(self) -> list[int]:
        """The answers, most probable first."""
        return [int(k) for k in np.argsort(-self.answer, kind="stable")]

    @property
    def system(self) -> str:
        """The answer; empty where there is none."""
        return "" if self.verdict == NOT_RECOGNISED else self.answer_names[self.likely[0]]

    @property
    def space_group_number(self) -> int | None:
        """The likeliest space group; None without a library, or an answer."""
        if not self.identified or not self.system or not self.identified.answer.space_groups:
            return None
        return self.identified.answer.space_groups[0][0]

    @property
    def candidates(self) -> tuple[Named, ...]:
        """Phases that it may be, likeliest first."""
        return self.identified.candidates if self.identified and self.system else ()


def told_by(result: Refined, own: Identified) -> Refined:
    """Returns a record whose verdict is that of a library of phases."""
    told = own.answer
    return result._replace(
        confidence=float(told.systems.max()),
        verdict=told.verdict,
        reason=result.placed.signal or told.reason,
        identified=own,
    )


class Failed(NamedTuple):
    """An input that could not be used.

    Attributes:
        name: unique in the batch.
        path: the input file.
        error: why, one line.
    """

    name: str
    path: Path
    error: str


class Curves(NamedTuple):
    """A scan taken apart: counts = background + refined + residual, float64 `[m]` each.

    At the m points of the input that lie within the grid of the model.
    """

    two_theta: np.ndarray
    counts: np.ndarray
    background: np.ndarray
    refined: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """What is neither background nor refined pattern."""
        return self.counts - self.background - self.refined


class Names:
    """Gives each pattern a name that is fit for a file and was not given before."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """Returns the name, made safe, with -2, -3, ... where it (in any case) was taken."""
        # A name from inside a file may hold a path or a control character.
        safe = re.sub(r"[^\w.+()-]+", "_", name).strip("._")[:_LONGEST_NAME] or "scan"
        unique, number = safe, 1
        while unique.casefold() in self._taken:
            number += 1
            unique = f"{safe}-{number}"
        self._taken.add(unique.casefold())
        return unique


def in_counts(values: np.ndarray, result: Refined, two_theta: np.ndarray) -> np.ndarray:
    """Returns values of the pattern at these angles (degrees) in counts, same shape."""
    return values * result.placed.scale * q_per_radian(two_theta, result.scan.wavelength)


def on_input_points(result: Refined, grid: Grid) -> Curves:
    """Returns background and refined pattern at the points of the input, in its counts."""
    scan, placed = result.scan, result.placed
    cells, q = grid_q(grid), q_from_two_theta(scan.two_theta, scan.wavelength)
    within = np.interp(q, cells, placed.mask.astype(np.float64), left=0.0, right=0.0) > 1 - 1e-9
    q, two_theta = q[within], scan.two_theta[within]
    background, refined = (
        in_counts(np.interp(q, cells, values), result, two_theta)
        for values in (placed.background, result.refined)
    )
    return Curves(two_theta, scan.counts[within], background, refined)


def columns(class_names: Sequence[str]) -> list[str]:
    """Returns the columns of `summary.csv`."""
    per_class = [
        f"{kind}_{name}" for kind in ("raw", "refined", "distance") for name in class_names
    ]
    return [
        "name", "input", "verdict", "system", "confidence", "second_system", "second_probability",
        "space_group_number", "formula", "mineral", "phase_probability",
        "reason", "refiner", "change", "peaks", "wavelength", "wavelength_source", "k_alpha2",
        "two_theta_min", "two_theta_max", "covered", "cif", "cif_match", *per_class, "notes",
        "error",
    ]  # fmt: skip


def row(result: Refined | Failed) -> dict[str, Any]:
    """Returns the row of `summary.csv`, by column; what is not known is left out."""
    if isinstance(result, Failed):
        return {
            "name": result.name, "input": str(result.path), "verdict": FAILED,
            "error": result.error,
        }  # fmt: skip
    scan, second = result.scan, result.likely[1]
    values: dict[str, Any] = {
        "name": result.name,
        "input": str(result.path),
        "verdict": result.verdict,
        "system": result.system,
        "reason": result.reason,
        "refiner": result.refiner,
        "change": f"{result.change:.5f}",
        "peaks": len(result.peaks.two_theta),
        "wavelength": f"{scan.wavelength:g}",
        "wavelength_source": scan.wavelength_source,
        "k_alpha2": scan.k_alpha2,
        "two_theta_min": f"{scan.two_theta[0]:.4f}",
        "two_theta_max": f"{scan.two_theta[-1]:.4f}",
        "covered": f"{np.mean(result.placed.mask):.3f}",
        "notes": "; ".join(result.notes),
    }
    if result.system:
        values["confidence"] = f"{result.confidence:.4f}"
        values["second_system"] = result.answer_names[second]
        values["second_probability"] = f"{result.answer[second]:.4f}"
        values["space_group_number"] = result.space_group_number or ""
    if result.candidates:
        first = result.candidates[0]
        values["formula"], values["mineral"] = first.formula, first.mineral
        values["phase_probability"] = f"{first.candidate.probability:.4f}"
    if result.matches:
        values["cif"] = result.matches[0].name
        values["cif_match"] = f"{result.matches[0].score:.4f}"
    for kind, numbers in (
        ("raw", result.raw_probabilities),
        ("refined", result.probabilities),
        ("distance", result.distances),
    ):
        for name, number in zip(result.class_names, numbers, strict=True):
            values[f"{kind}_{name}"] = f"{number:.4f}"
    return values


def entry(result: Refined | Failed, files: Sequence[str]) -> dict[str, Any]:
    """Returns the entry of `results.json`: plain lists, strings and finite numbers or None.

    Args:
        result: the record.
        files: names of the files that were written about it.
    """
    if isinstance(result, Failed):
        return {
            "name": result.name, "input": str(result.path), "verdict": FAILED,
            "error": result.error,
        }  # fmt: skip
    scan, order = result.scan, np.argsort(result.distances, kind="stable")
    mask = result.placed.mask
    return {
        "name": result.name,
        "input": str(result.path),
        "verdict": result.verdict,
        "reason": result.reason,
        "system": result.system or None,
        "confidence": _finite(result.confidence) if result.system else None,
        **_phases(result),
        "probabilities": {
            kind: {n: _finite(p) for n, p in zip(result.class_names, values, strict=True)}
            for kind, values in (
                ("raw", result.raw_probabilities),
                ("refined", result.probabilities),
            )
        },
        "prototypes": [
            {"system": result.class_names[k], "distance": _finite(result.distances[k])}
            for k in order
        ],
        "refiner": result.refiner or None,
        "change": _finite(result.change),
        "wavelength": scan.wavelength,
        "wavelength_source": scan.wavelength_source,
        "k_alpha2": scan.k_alpha2,
        "two_theta_range": [float(scan.two_theta[0]), float(scan.two_theta[-1])],
        "covered": float(np.mean(mask)),
        "covered_points": runs(mask),
        "peaks": [
            {
                "two_theta": round(float(two_theta), 4),
                "d_spacing": round(float(d), 5),
                "relative_intensity": round(float(intensity), 2),
                "width_fwhm_two_theta": round(float(width), 4),
                "in_raw": bool(in_raw),
            }
            for two_theta, d, intensity, width, in_raw in zip(*result.peaks, strict=True)
        ],
        "cif_matches": [{"cif": m.name, "score": round(m.score, 4)} for m in result.matches],
        "notes": list(result.notes),
        "files": list(files),
    }


def _phases(result: Refined) -> dict[str, Any]:
    """What `results.json` says of the phases, where a library was asked."""
    if not result.identified:
        return {}
    answer = result.identified.answer
    return {
        "space_group_number": result.space_group_number,
        "answer_from": ["raw"] if result.identified.refined is None else ["raw", "refined"],
        "not_in_library": _finite(answer.not_in_library),
        "systems": {n: _finite(p) for n, p in zip(CRYSTAL_SYSTEMS, answer.systems, strict=True)},
        "candidates": [
            candidate_record(rank, one) for rank, one in enumerate(result.candidates, start=1)
        ],
        "further_phases": [
            [candidate_record(rank, one) for rank, one in enumerate(phase, start=1)]
            for phase in (result.identified.further if result.system else ())
        ],
        "intensity_shares": [_finite(share) for share in result.identified.shares],
        "left_over_peaks": left_over_peaks(result),
    }


def left_over_peaks(result: Refined) -> list[dict[str, float]] | None:
    """Returns where the peaks are that no named phase explains; None where one phase is named."""
    if result.identified is None or result.identified.left is None:
        return None
    q = result.identified.left
    angles = two_theta_from_q(q, result.scan.wavelength)
    return [
        {"two_theta": round(float(angle), 3), "d_spacing": round(float(2.0 * np.pi / one), 4)}
        for angle, one in zip(angles, q, strict=True)
    ]


def candidate_record(rank: int, one: Named) -> dict[str, Any]:
    """Returns a candidate as plain numbers and text, the columns of `candidates.csv`."""
    return {
        "rank": rank,
        "formula": one.formula,
        "space_group_number": one.space_group_number,
        "space_group": one.space_group,
        "system": one.system,
        "mineral": one.mineral,
        "source": one.source,
        "source_id": one.source_id,
        "probability": _finite(one.candidate.probability),
        "cosine": _finite(one.cosine),
        "explained": _finite(one.explained),
        "missing": _finite(one.missing),
        "left_over": _finite(one.left_over),
        "cell_change": _finite(one.shift),
        "displacement": _finite(one.displacement),
        "cell": "" if one.cell is None else " ".join(f"{x:.4f}" for x in one.cell.cell),
        "members": " ".join(one.members),
    }


def thinned(x: np.ndarray, y: np.ndarray, stretches: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest and the largest y of each of some stretches, or all if that is less.

    No peak is lost, whatever its width: what a screen could show stays the same.

    Args:
        x: positions, float `[n]`, increasing.
        y: values, float `[n]`.
        stretches: how many; at most twice as many points are returned, in order.
    """
    if len(x) <= 2 * stretches:
        return x, y
    parts = np.array_split(np.arange(len(x)), stretches)
    kept = [part[[extreme(y[part]) for extreme in (np.argmin, np.argmax)]] for part in parts]
    index = np.unique(np.concatenate(kept))
    return x[index], y[index]


def runs(mask: np.ndarray) -> list[list[int]]:
    """Returns the stretches of a mask `[L]` that are true, as [start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [[int(start), int(stop)] for start, stop in edges.reshape(-1, 2)]


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
