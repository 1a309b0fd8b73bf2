"""Files of a comparison: tables as Markdown, CSV and on a page, and pictures.

Belongs here: looks and provenance. What stands in tables is in `tables`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.comparison.methods import Job, jobs
from imitation_refinement.comparison.pictures import all_pictures
from imitation_refinement.comparison.study import Cell, Result, Study
from imitation_refinement.comparison.tables import Table, all_tables
from imitation_refinement.report.page import environment, flatten
from imitation_refinement.runtime.files import atomic_file, atomic_write_text

PARTIAL_RESAMPLES = 100  # of bootstraps in tables that are written after each job


def write_page(
    folder: Path,
    config: ConfigDict,
    done: Mapping[Job, Result],
    command: str,
    *,
    pictures: bool,
) -> None:
    """Writes tables.md, tables.csv, report.html and, if asked for, figures/*.png into `folder`.

    Args:
        folder: work directory.
        config: of task `xrd_tables`.
        done: results by job.
        command: that made this.
        pictures: whether to draw; without, bootstraps are short too.

    Raises:
        UserError: a file cannot be written.
    """
    resamples = config.evaluate.bootstrap
    if not pictures:
        resamples = min(resamples, PARTIAL_RESAMPLES)
    study = Study(
        done,
        same_examples=bool(config.data.imperfect.measured),
        seed=config.seed,
        resamples=resamples,
    )
    tables = all_tables(config, study)
    facts = provenance(config, done, command, resamples)
    drawn = all_pictures(config, done) if pictures else {}
    for name, picture in drawn.items():
        path = folder / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as file:
            file.write(picture.png)
    atomic_write_text(folder / "tables.md", markdown(tables, facts))
    atomic_write_text(folder / "tables.csv", as_csv(tables))
    page = environment().get_template("tables.html.j2")
    atomic_write_text(
        folder / "report.html",
        page.render(
            title=next(iter(facts.values())),
            tables=[(table, columns_of_words(table), [[*map(text, row)] for row in table.rows])
                    for table in tables],
            facts=facts,
            pictures=list(drawn.values()),
            chosen=chosen_settings(done),
            config=flatten(config.to_dict()),
        ),
    )  # fmt: skip


def provenance(
    config: ConfigDict, done: Mapping[Job, Result], command: str, resamples: int
) -> dict[str, str]:
    """Returns what every table says of how it was made, by name."""
    every = jobs(config)
    seeds = sorted({job.seed for job in done})
    summaries = [result.summary for result in done.values()]
    raw = [result for job, result in done.items() if job.method == "raw"]
    data, steps = config.data, config.refiner
    facts = {
        "jobs": f"{len(done)} of {len(every)} done",
        "command": command,
        "seeds": ", ".join(map(str, seeds)) or "none",
    }
    if raw:
        first = raw[0]
        groups = len(np.unique(first.arrays["group"]))
        facts["sizes"] = (
            f"{first.summary['ideal']} ideal training {first.summary['noun']} of "
            f"{len(first.summary['class_names'])} classes; {len(first.arrays['label'])} imperfect "
            f"ones ({'measured' if data.imperfect.measured else 'simulated'}) of {groups} "
            f"{first.summary['group_noun']} in {config.evaluate.folds} folds, per seed"
        )
    facts["networks"] = (
        f"{config.classifier.network} ({config.classifier.steps} steps of "
        f"{config.classifier.batch_size}), {config.tables.other_classifier.network} "
        f"({config.tables.other_classifier.steps} of {config.tables.other_classifier.batch_size}); "
        f"{steps.network} ({steps.pretrain_steps} steps on pairs, {steps.steps} per fold), the "
        f"paper's {config.tables.paper_refiner.steps} per fold"
    )
    facts["devices"] = "; ".join(sorted({s["device"] for s in summaries})) or "none"
    facts["hours"] = f"{sum(s['seconds'] for s in summaries) / 3600:.2f}"
    facts["figures"] = (
        "mean ± standard deviation over seeds; in brackets 95 % intervals: bootstrap over groups "
        f"within seeds ({resamples} resamples), or Student's t over seeds where the column says so"
    )
    return facts


def chosen_settings(done: Mapping[Job, Result]) -> list[tuple[str, str]]:
    """Returns what methods chose on training folds: job and settings of each fold, as text."""
    return [
        (
            job.folder,
            "; ".join(", ".join(f"{k} {_short(v)}" for k, v in one.items()) for one in all_),
        )
        for job, result in done.items()
        if (all_ := result.summary["settings"])
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def text(entry: Cell | str) -> str:
    """Returns an entry of a table as text."""
    return entry if isinstance(entry, str) else entry.text


def columns_of_words(table: Table) -> list[bool]:
    """Returns of each column whether words stand in it; figures begin with no letter."""
    return [
        any(text(row[i])[:1].isalpha() for row in table.rows) for i in range(len(table.columns))
    ]


def markdown(tables: Sequence[Table], facts: Mapping[str, str]) -> str:
    """Returns tables with the facts of how they were made below each."""
    made = "; ".join(f"{name}: {_cell(value)}" for name, value in facts.items())
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", table.caption, "", _line(table.columns)]
        lines.append(_line(["---"] * len(table.columns)))
        lines += [_line([text(entry) for entry in row]) for row in table.rows]
        parts.append("\n".join([*lines, "", f"*{made}.*"]))
    return "\n\n".join(parts) + "\n"


def as_csv(tables: Sequence[Table]) -> str:
    """Returns one line for each entry: table, row (what it says in words), column, numbers."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "row", "column", "text", "value", "sd", "low", "high"])
    for table in tables:
        for row in table.rows:
            name = " | ".join(entry for entry in row if isinstance(entry, str) and entry)
            for column, entry in zip(table.columns, row, strict=True):
                if isinstance(entry, Cell):
                    numbers = ["" if x is None else repr(float(x)) for x in entry[:4]]
                    writer.writerow([table.key, name, column, entry.text, *numbers])
    return buffer.getvalue()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
