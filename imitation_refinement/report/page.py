"""One self-contained HTML page that says whether refinement helped.

Belongs here: wording and layout for readers: number formats, captions, alternative texts. Numbers
come from `evaluation`, the answer from `answer`, pictures from `pictures`. The page loads
nothing from elsewhere: it opens from disk, can be mailed and printed.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from imitation_refinement.evaluation.answer import MINUS, percent, points, words
from imitation_refinement.evaluation.metrics import METRICS
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.tasks import Picture

PEAKS = {
    "invented": ("invented: refined peaks found neither in truth nor in raw", "refined"),
    "spurious_raw": ("spurious in raw: raw peaks not in truth", "raw"),
    "spurious_refined": ("spurious in refined: refined peaks not in truth", "refined"),
    "missed_raw": ("missing in raw: true peaks that raw does not show", "truth"),
    "missed_refined": ("missing in refined: true peaks that refined does not show", "truth"),
    "lost": ("lost: true peaks that raw shows and refined does not", "truth"),
    "recovered": ("recovered: true peaks that refined shows and raw does not", "truth"),
}


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    pictures: Iterable[Picture],
    context: Mapping[str, Any],
) -> None:
    """Writes the report of evaluate()'s results as one HTML file, atomically.

    Args:
        path: the file.
        results: what evaluation.evaluate returned (or the same read back from JSON). Under
            accuracy.classifier.held_out and accuracy.judges.<name>.held_out it may also hold
            accuracies on held-out training data by split, and `measures` of the task.
        pictures: in the order of the page.
        context: 'config' and 'environment' (nested dicts), 'command' (str), 'timings' (seconds by
            name); each may be missing. An optional 'title', and 'notes': paragraphs of plain text.

    Raises:
        UserError: the file cannot be written.
    """
    atomic_write_text(Path(path), render_report(results, pictures, context))


def environment() -> jinja2.Environment:
    """Where templates are found, with the number formats; everything put into them is escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("imitation_refinement.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent, "points": points, "number": number, "shift": shift, "words": words,
        "interval_percent": interval_percent, "interval_points": interval_points,
        "interval_number": interval_number,
    }  # fmt: skip
    return found


def render_report(
    results: Mapping[str, Any], pictures: Iterable[Picture], context: Mapping[str, Any]
) -> str:
    """The page that write_report writes, as text. All text from the arguments is escaped."""
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            title=context.get("title", "Imitation refinement"),
            notes=context.get("notes", ()),
            r=results,
            heads=_heads(results["accuracy"]),
            metrics=METRICS,
            quality_rows=_quality_rows(results),
            peaks=PEAKS,
            pictures=pictures,
            command=context.get("command", ""),
            timings=context.get("timings", {}),
            tables={
                name.capitalize(): flatten(context[name])
                for name in ("config", "environment")
                if context.get(name)
            },
        )
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _heads(accuracy: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracies of the frozen classifier, its prototypes and each judge, by what they are."""
    heads = {"frozen classifier": accuracy["classifier"]}
    if accuracy["prototype"]:
        heads["its nearest prototype"] = accuracy["prototype"]
    for name, head in accuracy["judges"].items():
        heads[f"{'reader' if head['reader'] else 'unseen judge'}: {words(name)}"] = head
    return {label: {"reader": False, "held_out": {}} | head for label, head in heads.items()}


def _quality_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of distances; the embedding has no entry in METRICS."""
    rows = []
    for name, values in results["quality"].items():
        metric = METRICS.get(name)
        rows.append(
            {
                "label": metric.label if metric else "embedding distance",
                "formula": metric.formula if metric else "RMS difference to the truth's embedding",
                "better": metric.better if metric else "lower",
                "values": values,
            }
        )
    return rows


def render_page(template: str, **context: Any) -> str:
    """Returns a page of a command; every value of the context is escaped."""
    return environment().get_template(template).render(context)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mapping as ('a.b', text) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value))))
        else:
            rows.append((name, str(value)))
    return rows


# ---- Number formats; None is a dash ----


def number(value: float | None) -> str:
    """Three significant digits: 38.99 is '39.0', 0.01234 is '0.0123', 4321 is '4321'."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("-", MINUS)
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{digits}f}".replace("-", MINUS)


def shift(value: float | None) -> str:
    """A relative change as '+12 %' or '−8.1 %'."""
    if value is None:
        return "–"
    text = f"{100 * value:+.1f}" if abs(value) < 0.1 else f"{100 * value:+.0f}"
    return f"{text} %".replace("-", MINUS)


def interval_points(estimate: Mapping[str, float | None]) -> str:
    """The interval in percentage points, '+3.1 to +5.4'."""
    return _interval(estimate, points)


def interval_percent(estimate: Mapping[str, float | None]) -> str:
    """The interval in per cent, '3.1 % to 5.4 %'."""
    return _interval(estimate, percent)


def interval_number(estimate: Mapping[str, float | None]) -> str:
    """The interval as plain numbers."""
    return _interval(estimate, number)


def _interval(estimate: Mapping[str, float | None], form: Any) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return "no interval"
    return f"{form(estimate['low'])} to {form(estimate['high'])}"
