"""Measures what refining does for scans that were counted too short.

    python benchmarks/quick_scans.py --manifest=manifest.csv --output=quick

Takes labelled scans of raw counts as measured and thinned binomially, which is exactly a shorter
measurement, to a strongest point of 300, 100, 30 and 10 counts. Names the phase of each from the
raw pattern, from the refined one, and from both by the mean of their probabilities (`match.pooled`,
chosen beforehand and not by these figures). Writes `quick-scans-table.md` and `quick-scans.png`
into `--output`. Scans that are no whole numbers are left out and counted. For looking only.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import (
    l1,
    max_normalized,
    percentile_interval,
    resample_groups,
    resampled_mean,
)
from imitation_refinement.evaluation.paired import paired_difference
from imitation_refinement.evaluation.peaks import PeakCounts, invented_and_lost
from imitation_refinement.evaluation.saved_time import shortening
from imitation_refinement.phases.candidates import answers
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.match import Match, match_looks
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner
from imitation_refinement.report.plots import new_figure, png, styled
from imitation_refinement.runtime.files import atomic_file, atomic_write_text, user_cache
from imitation_refinement.xrd.counts import dispersion, thinned
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.scans import Scan, on_grid

_MANIFEST = flags.DEFINE_string("manifest", None, "Labelled scans of raw counts.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of table and plot.", required=True)
_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_REFINER = flags.DEFINE_string("refiner", None, "Refiner of phases; the shipped one without.")
_ADAPT = flags.DEFINE_boolean("adapt", False, "Adapt it to the thinned scans of each draw.")
_COUNTS = flags.DEFINE_multi_float("counts", [300, 100, 30, 10], "Counts of the strongest point.")
_DRAWS = flags.DEFINE_integer("draws", 2, "How often each scan is thinned.", lower_bound=1)
_LIMIT = flags.DEFINE_integer("limit", None, "Only so many scans.", lower_bound=5)
_SEED = flags.DEFINE_integer("seed", 0, "Of thinning and bootstrap.", lower_bound=0)

_BATCH = 16
LOOKS = ("raw", "refined", "both")
ASKED = ("crystal system", "space group", "phase")
_COLORS = {"raw": "#5b6675", "refined": "#c2571a", "both": "#1f6fb2"}


class Labelled(NamedTuple):
    """Scans of raw counts with their labels."""

    entries: list[Entry]
    scans: list[Scan]
    groups: np.ndarray  # [n]: what is drawn together


class Level(NamedTuple):
    """What was found with one number of counts, D draws of n scans.

    Attributes:
        name: in the table.
        counts: of the strongest point, for the axis.
        hits: by look and by what is asked, bool `[D, n]` each.
        seen: whether a scan has peaks at all, bool `[D, n]`.
        distance: l1 to the pattern as measured of raw and refined, `[D, n]` each.
        peaks: against the pattern as measured, over all draws.
    """

    name: str
    counts: float
    hits: dict[str, dict[str, np.ndarray]]
    seen: np.ndarray
    distance: dict[str, np.ndarray]
    peaks: PeakCounts


def labelled(manifest: Path) -> Labelled:
    """Reads the labelled scans of a manifest, but for those that are no raw counts."""
    entries, scans = [], []
    for entry in read_manifest(manifest):
        if entry.kind != "labelled" or len(entries) == _LIMIT.value:
            continue
        scan = read_entry(entry)
        try:
            thinned(scan.counts, 1.0, np.random.default_rng(0), source=scan.name)
        except UserError as error:
            logging.warning("left out: %s", error)
            continue
        entries.append(entry)
        scans.append(scan)
    if not entries:
        raise UserError(f"{manifest}: names no labelled scan of raw counts")
    return Labelled(entries, scans, np.array([entry.group for entry in entries]))


def measure(have: Labelled, phases: Phases, refiner: PhaseRefiner) -> list[Level]:
    """Returns what was found with each number of counts, fewest first, as measured last."""
    truth = max_normalized(np.stack([on_grid(scan, GRID).pattern for scan in have.scans]))
    tops = [scan.counts.max() for scan in have.scans]
    plan: list[tuple[str, float, bool]] = [(f"{c:g}", c, True) for c in sorted(_COUNTS.value)]
    plan.append((f"as measured (median {np.median(tops):g})", float(np.median(tops)), False))
    return [_level(*one, have, phases, refiner, truth) for one in plan]


def _level(
    name: str,
    counts: float,
    shorter: bool,
    have: Labelled,
    phases: Phases,
    refiner: PhaseRefiner,
    truth: np.ndarray,
) -> Level:
    """One number of counts; a scan that is as short already stays as it is."""
    draws = []
    for draw in range(_DRAWS.value if shorter else 1):
        scans = have.scans
        if shorter:
            scans = [
                scan._replace(counts=thinned(scan.counts, counts, rng, source=scan.name))
                for scan, rng in zip(scans, _generators(draw, counts, len(scans)), strict=True)
            ]
        draws.append(_draw(scans, have.entries, phases, refiner, truth))
        logging.info("%s counts, draw %d of %d", name, draw + 1, _DRAWS.value if shorter else 1)
    hits, seen, distance, peaks = zip(*draws, strict=True)
    return Level(
        name,
        counts,
        {
            look: {asked: np.stack([one[look][asked] for one in hits]) for asked in ASKED}
            for look in LOOKS
        },
        np.stack(seen),
        {look: np.stack([one[look] for one in distance]) for look in LOOKS[:2]},
        PeakCounts(*(np.concatenate(column) for column in zip(*peaks, strict=True))),
    )


def _generators(draw: int, counts: float, scans: int) -> list[np.random.Generator]:
    seeds = [[_SEED.value, draw, round(1000 * counts), row] for row in range(scans)]
    return [np.random.default_rng(seed) for seed in seeds]


def _draw(
    scans: Sequence[Scan],
    entries: Sequence[Entry],
    phases: Phases,
    refiner: PhaseRefiner,
    truth: np.ndarray,
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray, dict[str, np.ndarray], PeakCounts]:
    placed = [on_grid(scan, GRID) for scan in scans]
    seen = np.array([not one.signal for one in placed])
    if _ADAPT.value:
        refiner = refiner.adapted(scans, seed=_SEED.value)
    mask = np.stack([one.mask for one in placed])
    raw = np.stack([one.pattern for one in placed]) * seen[:, None]
    refined = refiner(placed) * seen[:, None]
    by_raw, by_refined = _matched([raw, refined], mask, phases)
    looks = {
        "raw": by_raw,
        "refined": by_refined,
        "both": phases.by_both(placed, by_raw, by_refined)[0],
    }
    hits = {look: _hits(found, entries, phases, seen) for look, found in looks.items()}
    before, after = max_normalized(raw), max_normalized(refined)
    distance = {"raw": l1(before, truth), "refined": l1(after, truth)}
    return hits, seen, distance, invented_and_lost(before, after, truth)


def _matched(looks: Sequence[np.ndarray], mask: np.ndarray, phases: Phases) -> list[Match]:
    posterior, parts = phases.calibration.posterior, []
    for first in range(0, len(mask), _BATCH):
        own = slice(first, first + _BATCH)
        some = [patterns[own] for patterns in looks]
        parts.append(match_looks(some, mask[own], phases.prototypes, posterior))
    return [
        Match(*(np.concatenate(column) for column in zip(*of_look, strict=True)))
        for of_look in zip(*parts, strict=True)
    ]


def _hits(
    found: Match, entries: Sequence[Entry], phases: Phases, seen: np.ndarray
) -> dict[str, np.ndarray]:
    """Whether each scan's first answer is right, bool `[n]`; one without peaks gets none."""
    library = phases.library
    of_each = answers(
        found, phases.prototypes, library.space_group, library.crystal_system, library.formula,
        phases.calibration, seen,
    )  # fmt: skip
    rows = []
    for answer, entry, peaks in zip(of_each, entries, seen, strict=True):
        members = answer.candidates[0].members if answer.candidates else ()
        rows.append(
            (
                peaks and int(np.argmax(answer.systems)) == entry.system,
                peaks and answer.space_groups[0][0] == entry.space_group,
                peaks and any(_is_phase(phases, member, entry) for member in members),
            )
        )
    return dict(zip(ASKED, np.array(rows, bool).T, strict=True))


def _is_phase(phases: Phases, member: int, entry: Entry) -> bool:
    """Whether a structure has the formula, with occupancies or without, and space group."""
    library = phases.library
    if library.space_group[member] != entry.space_group or not entry.formula:
        return False
    own = {reduced(str(t)) for t in (library.formula[member], library.composition[member]) if t}
    return reduced(entry.formula) in own


# ---- Tables ----


def recognition(levels: Sequence[Level], groups: np.ndarray) -> list[str]:
    """Returns the rows of the table of first answers; differences are paired by scan."""
    lines = ["| strongest point | seen | pattern | " + " | ".join(f"{a} | − raw" for a in ASKED)]
    lines[0] += " |"
    lines.append("|" + " --- |" * (3 + 2 * len(ASKED)))
    for level in reversed(levels):
        for look in LOOKS:
            head = [level.name, f"{100 * level.seen.mean():.1f}"] if look == "raw" else ["", ""]
            cells = [*head, look]
            for asked in ASKED:
                own, raw = level.hits[look][asked], level.hits["raw"][asked]
                cells.append(f"{100 * own.mean():.1f}")
                cells.append("" if look == "raw" else _difference(own, raw, groups, 100.0))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def peak_table(levels: Sequence[Level], groups: np.ndarray) -> list[str]:
    """Returns the rows of the table of patterns and peaks against those as measured."""
    lines = [
        "| strongest point | ℓ1 raw | ℓ1 refined | refined − raw | missed, raw | missed, refined"
        " | spurious, raw | spurious, refined | invented |",
        "|" + " --- |" * 9,
    ]
    for level in reversed(levels):
        raw, refined, peaks = level.distance["raw"], level.distance["refined"], level.peaks
        shares = [
            _share(peaks.missed_raw, peaks.truth), _share(peaks.missed_refined, peaks.truth),
            _share(peaks.spurious_raw, peaks.raw), _share(peaks.spurious_refined, peaks.refined),
            _share(peaks.invented, peaks.refined),
        ]  # fmt: skip
        cells = [level.name, f"{raw.mean():.1f}", f"{refined.mean():.1f}",
                 _difference(refined, raw, groups, 1.0), *shares]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def time_table(levels: Sequence[Level], groups: np.ndarray) -> list[str]:
    """Returns the rows of the table of counting time at equal recognition."""
    counts = np.array([level.counts for level in levels])
    lines = [
        "| strongest point | " + " | ".join(f"{a}, {k}" for a in ASKED for k in LOOKS[1:]) + " |",
        "|" + " --- |" * (1 + 2 * len(ASKED)),
    ]
    cells = [_factors(counts, levels, asked, look, groups) for asked in ASKED for look in LOOKS[1:]]
    # As measured there is nothing longer to compare with.
    for place in reversed(range(len(levels) - 1)):
        row = [levels[place].name, *(column[place] for column in cells)]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _factors(
    counts: np.ndarray, levels: Sequence[Level], asked: str, look: str, groups: np.ndarray
) -> list[str]:
    """How many times longer raw must count at each level, with the interval over groups."""
    hits = {k: [level.hits[k][asked].mean(axis=0) for level in levels] for k in ("raw", look)}
    value = shortening(counts, *(np.mean(hits[k], axis=1) for k in ("raw", look)))
    draws = resample_groups(groups, seed=_SEED.value)
    curves = [np.stack([resampled_mean(draws, own) for own in hits[k]], 1) for k in ("raw", look)]
    samples = np.array([shortening(counts, *pair) for pair in zip(*curves, strict=True)])
    most = counts[-1] / counts  # beyond it nothing was measured
    texts = []
    for place, factor in enumerate(value):
        own = np.minimum(samples[:, place], most[place])
        low, high = percentile_interval(own, draws.times.shape[1])
        sign = "> " if factor > most[place] else ""
        middle = f"{sign}{min(factor, most[place]):.2f}" if factor >= 1.005 else "it does not"
        texts.append(f"{middle} ({low:.2f} to {high:.2f})")
    return texts


def _difference(own: np.ndarray, raw: np.ndarray, groups: np.ndarray, unit: float) -> str:
    found = paired_difference(list(own), list(raw), [groups], seed=_SEED.value)
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({unit * found.low:+.1f} to {unit * found.high:+.1f})"
    return f"{unit * found.value:+.1f}{interval}".replace("-", "−")


def _share(above: np.ndarray, below: np.ndarray) -> str:
    return f"{100 * above.sum() / max(below.sum(), 1):.1f}"


@styled
def plot(levels: Sequence[Level]) -> bytes:
    """Draws recognition against the counts of the strongest point, one panel for each question."""
    figure = new_figure(10, 3.6)
    counts = [level.counts for level in levels]
    panels = figure.subplots(1, len(ASKED), sharex=True)
    for panel, asked in zip(panels, ASKED, strict=True):
        for look in LOOKS:
            shares = [100 * level.hits[look][asked].mean() for level in levels]
            panel.plot(counts, shares, marker="o", ms=4, color=_COLORS[look], label=look)
        panel.set(xscale="log", title=asked, xlabel="counts of the strongest point")
        panel.minorticks_off()
        panel.set_xticks(counts, [f"{c:g}" for c in counts])
        panel.grid(color="#d9dee5", lw=0.6)
    panels[0].set_ylabel("first answer right (%)")
    panels[0].legend(frameon=False)
    return png(figure)


def main(_: list[str]) -> None:
    have = labelled(Path(_MANIFEST.value))
    phases = load_phases(_LIBRARY.value, user_cache("phases"))
    refiner = load_refiner(_REFINER.value)
    spread = [dispersion(scan.counts) for scan in have.scans]
    levels = measure(have, phases, refiner)
    tops = np.array([scan.counts.max() for scan in have.scans])
    short = ", ".join(f"{np.mean(tops <= c):.0%} at {c:g}" for c in sorted(_COUNTS.value)[::-1])
    low, middle, high = np.percentile(spread, [5, 50, 95])
    text = "\n".join(
        [
            f"{len(have.scans)} scans of {len(np.unique(have.groups))} substances, seed"
            f" {_SEED.value}, {_DRAWS.value} draws of each number of counts, {os.cpu_count()}"
            f" cores. Variance of the counts over their mean: median {middle:.2f}, 5 to 95 %"
            f" {low:.2f} to {high:.2f}. As short as asked already: {short}.",
            "", "First answer right (%):", "", *recognition(levels, have.groups),
            "", "Against the pattern as measured (ℓ1; shares of peaks in %):",
            "", *peak_table(levels, have.groups),
            "", "How many times longer the raw pattern must be counted to be named as well:",
            "", *time_table(levels, have.groups), "",
        ]
    )  # fmt: skip
    print(text)
    output = Path(_OUTPUT.value)
    atomic_write_text(output / "quick-scans-table.md", text)
    with atomic_file(output / "quick-scans.png") as file:
        file.write(plot(levels))


if __name__ == "__main__":
    app.run(main)
