"""Tables and figures of a sweep: records of finished jobs in, files out.

Belongs here: means and spreads over seeds, the paper's Figs. 6 and 7, Markdown and CSV. A record
is a `sweep.Job` as a dict with what was measured of it.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.digits import figures
from imitation_refinement.digits.synz import DIGITS
from imitation_refinement.evaluation.paired import SeedSummary, over_seeds
from imitation_refinement.report.plots import new_figure, png
from imitation_refinement.runtime.files import atomic_file, atomic_write_text, read_npz

Record = Mapping[str, Any]
# Field of a record, its name in tables, factor.
COLUMNS = (
    ("accuracy.classifier.refined", "refined (%)", 100.0),
    ("accuracy.classifier.raw", "raw (%)", 100.0),
    ("accuracy.prototype.refined", "refined, nearest prototype (%)", 100.0),
    ("accuracy.prototype.raw", "raw, nearest prototype (%)", 100.0),
    ("accuracy.other_seed.refined", "refined, unseen: other seed (%)", 100.0),
    ("accuracy.other_seed.raw", "raw, unseen: other seed (%)", 100.0),
    ("accuracy.other_network.refined", "refined, unseen: other network (%)", 100.0),
    ("accuracy.other_network.raw", "raw, unseen: other network (%)", 100.0),
    ("accuracy.standard.refined", "refined, standard classifier (%)", 100.0),
    ("accuracy.standard.raw", "raw, standard classifier (%)", 100.0),
    ("accuracy.reader.refined", "refined, reader (%)", 100.0),
    ("accuracy.reader.raw", "raw, reader (%)", 100.0),
    ("fixed", "fixed", 1.0),
    ("broken", "broken", 1.0),
    ("change", "mean change", 1.0),
    ("off_stroke", "off-stroke change (%)", 100.0),
)
# Method, field, legend, colour, marker of the lines of Fig. 7.
LINES = (
    ("targeted", "accuracy.classifier.refined", "refined (ours, targeted)", "#0072B2", "o"),
    ("targeted", "accuracy.other_seed.refined", "refined, unseen classifier", "#56B4E9", "s"),
    ("targeted", "accuracy.classifier.raw", "raw, prototypical classifier", "#000000", ""),
    ("targeted", "accuracy.standard.raw", "raw, standard classifier", "#999999", ""),
    ("fine_tuned", "accuracy.classifier.raw", "whole classifier fine-tuned", "#D55E00", "^"),
    ("scratch", "accuracy.classifier.raw", "from scratch, tuned", "#009E73", "v"),
    ("scratch_as_paper", "accuracy.classifier.raw", "from scratch, as the paper", "#CC79A7", "x"),
    ("adda", "accuracy.classifier.raw", "ADDA", "#882255", "<"),
    ("adda_labels", "accuracy.classifier.raw", "ADDA with labels", "#AA4499", ">"),
    ("gta", "accuracy.classifier.raw", "GTA", "#999933", "p"),
    ("gta_labels", "accuracy.classifier.raw", "GTA with labels", "#117733", "h"),
    ("non_targeted", "accuracy.classifier.refined", "refined (ours, non-targeted)", "#E69F00", "D"),
)

OWN, OWN_RAW = ("targeted", "accuracy.classifier.refined"), ("targeted", "accuracy.classifier.raw")
OWN_BLIND = ("non_targeted", "accuracy.classifier.refined")  # without labels
# Name of a difference, then (method, field) from which and which is subtracted, seed by seed.
DIFFERENCES = (
    ("zero-shot: prototypical − standard", OWN_RAW, ("targeted", "accuracy.standard.raw")),
    ("refined − raw", OWN, OWN_RAW),
    ("refined − refined, other seed", OWN, ("targeted", "accuracy.other_seed.refined")),
    ("refined − refined, other network", OWN, ("targeted", "accuracy.other_network.refined")),
    (
        "reader: refined − raw",
        ("targeted", "accuracy.reader.refined"),
        ("targeted", "accuracy.reader.raw"),
    ),
    ("refined − fine-tuned", OWN, ("fine_tuned", "accuracy.classifier.raw")),
    ("refined − from scratch, tuned", OWN, ("scratch", "accuracy.classifier.raw")),
    ("refined − ADDA with labels", OWN, ("adda_labels", "accuracy.classifier.raw")),
    ("refined − GTA with labels", OWN, ("gta_labels", "accuracy.classifier.raw")),
    ("refined without labels − ADDA", OWN_BLIND, ("adda", "accuracy.classifier.raw")),
    ("refined without labels − GTA", OWN_BLIND, ("gta", "accuracy.classifier.raw")),
)
BANDS = ("targeted", "alpha_0", "one_font")  # methods that Fig. 6 shows, from top to bottom


def write_page(folder: Path, records: Sequence[Record]) -> None:
    """Writes table.md, table.csv, results.csv, figure7.png and figure6_*.png into `folder`."""
    rows = summary(records)
    atomic_write_text(folder / "table.md", markdown(rows) + differences(records))
    atomic_write_text(folder / "table.csv", _csv(rows))
    atomic_write_text(folder / "results.csv", _csv([_flat(record) for record in records]))
    pictures = {"figure7": figure7(records)}
    pictures |= {f"figure6_{name}": data for name, data in figure6(records).items()}
    for name, data in pictures.items():
        with atomic_file(folder / f"{name}.png") as file:
            file.write(data)


def value(record: Record, field: str) -> float | None:
    """Returns a field of a record by its dotted name, None where it has none."""
    found: Any = record
    for part in field.split("."):
        if part not in found:
            return None
        found = found[part]
    return float(found)


def spread(records: Iterable[Record], method: str, number: int, field: str) -> tuple | None:
    """Returns mean, sample standard deviation (NaN for one) and count over seeds, or None."""
    found = list(_by_seed(records, method, number, field).values())
    if not found:
        return None
    deviation = float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")
    return float(np.mean(found)), deviation, len(found)


def _by_seed(records: Iterable[Record], method: str, number: int, field: str) -> dict[int, float]:
    """Returns a field of a method's records with N images per class, where they have it."""
    chosen = [r for r in records if r["method"] == method and r["number"] == number]
    return {r["seed"]: v for r in chosen if (v := value(r, field)) is not None}


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Returns one row of means and deviations over seeds for each method and N."""
    rows = []
    for method, number in dict.fromkeys((r["method"], r["number"]) for r in records):
        if method == "one_font":  # not repetitions of each other
            continue
        row: dict[str, Any] = {"method": method, "N": number}
        for field, name, factor in COLUMNS:
            found = spread(records, method, number, field)
            if found is not None:
                row["seeds"] = found[2]
                row[name], row[f"± {name}"] = factor * found[0], factor * found[1]
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as two Markdown tables: refiners, and classifiers of the few images."""
    names = [name for _, name, _ in COLUMNS]
    parts = []
    for title, own, columns in (
        ("Refiners through the frozen classifier", True, names),
        ("Classifiers trained on the few images or adapted to them", False, ["raw (%)"]),
    ):
        chosen = [row for row in rows if ("refined (%)" in row) == own]
        columns = [name for name in columns if any(name in row for row in chosen)]
        if not chosen:
            continue
        header = ["method", "N", "seeds", *columns]
        cells = [
            [row["method"], str(row["N"]), str(row["seeds"])]
            + [_cell(row.get(name), row.get(f"± {name}")) for name in columns]
            for row in chosen
        ]
        parts.append(_table(f"{title}; mean ± standard deviation over seeds.", header, cells))
    return "\n\n".join(parts) + "\n"


def differences(records: Sequence[Record]) -> str:
    """Returns `DIFFERENCES` in points as a Markdown table: mean and 95 % interval over seeds.

    The interval is Student's t over the seeds for which both are known; empty without any.
    """
    numbers = sorted({record["number"] for record in records})
    rows = []
    for name, *sides in DIFFERENCES:
        cells = []
        for number in numbers:
            first, second = (_by_seed(records, method, number, field) for method, field in sides)
            both = sorted(first.keys() & second.keys())
            points = [100 * (first[seed] - second[seed]) for seed in both]
            cells.append(_interval(over_seeds(points)) if points else "")
        if any(cells):
            rows.append([name, *cells])
    title = "Differences in points; mean and 95 % interval over seeds (Student's t)."
    header = ["difference \\ N", *map(str, numbers)]
    return f"\n{_table(title, header, rows)}\n" if rows else ""


def figure7(records: Sequence[Record]) -> bytes:
    """Draws accuracy against images per class, mean and standard deviation over seeds."""
    figure = new_figure(8, 5.5)
    axes = figure.subplots()
    numbers = sorted({record["number"] for record in records})
    for method, field, label, color, marker in LINES:
        points = {n: spread(records, method, n, field) for n in numbers}
        found = {n: point for n, point in points.items() if point is not None}
        if not found:
            continue
        mean, deviation = (100 * np.array([point[i] for point in found.values()]) for i in (0, 1))
        axes.errorbar(
            list(found), mean, np.nan_to_num(deviation),
            label=label, color=color, marker=marker or None, ls="-" if marker else "--",
            capsize=2, lw=1.5, ms=5,
        )  # fmt: skip
    seeds = len({record["seed"] for record in records})
    axes.set(
        xlabel="labelled handwritten images per class",
        ylabel="accuracy (%)",
        title=f"mean and standard deviation over {seeds} seed{'s' if seeds > 1 else ''}",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return png(figure)


def figure6(records: Sequence[Record]) -> dict[str, bytes]:
    """Draws raw, refined and difference images: per class; without regularisation, for each font.

    Taken from the images that the first seed's refiners with the most images per class kept.
    """
    refined = [r for r in records if r["method"] in BANDS]
    if not refined:
        return {}
    most = max(record["number"] for record in refined)
    first = min(record["seed"] for record in refined)
    chosen = [r for r in refined if r["number"] == most and r["seed"] == first]
    pictures, bands = {}, {}
    for record in sorted(chosen, key=lambda record: BANDS.index(record["method"])):
        kept = read_npz(Path(record["folder"]) / "images.npz")
        if record["method"] == "targeted":
            names = [str(digit) for digit in range(DIGITS)]
            pictures["classes"] = figures.refinement_sheet(
                kept["raw"], kept["refined"], kept["label"], kept["before"], kept["after"], names
            )
        rows = np.concatenate([np.flatnonzero(kept["label"] == k)[:2] for k in range(DIGITS)])
        pair = kept["raw"][rows], kept["refined"][rows]
        shown = [figures.grey(pair[0]), figures.grey(pair[1]), figures.difference_colors(*pair)]
        kinds = figures.outcome(kept["before"][rows], kept["after"][rows])
        name = "alpha = 0" if record["method"] == "alpha_0" else record["font"] or "all fonts"
        bands[name] = shown, list(kinds)
    return pictures | {"fonts": figures.band_sheet(bands)}


def _flat(record: Record, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in record.items():
        if isinstance(entry, Mapping):
            flat |= _flat(entry, f"{prefix}{name}.")
        else:
            flat[prefix + name] = entry
    return flat


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join([title, "", *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(found: SeedSummary) -> str:
    text = f"{found.mean:+.2f}"
    return text if found.low is None else f"{text} ({found.low:+.2f} to {found.high:+.2f})"


def _cell(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return ""
    digits = 4 if 0 < abs(mean) < 1 else 2
    text = f"{mean:.{digits}f}"
    return text if deviation is None or np.isnan(deviation) else f"{text} ± {deviation:.{digits}f}"
