"""The page about very many patterns: what they are in sum, and a sample to look at.

Belongs here: looks. The counts come from `summary`. The page has no script and loads nothing, which
its content security policy enforces; all text is escaped. Its size does not grow with the batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imitation_refinement.commands.summary import BINS, Summary
from imitation_refinement.report.page import render_page
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.xrd.structures.cif import space_group_symbol

_PHASES, _REASONS, _SHARDS = 50, 15, 200  # rows of the tables


def write_page(
    path: Path,
    summary: Summary,
    receipts: Sequence[Mapping[str, Any]],
    missing: str,
    table: str,
    sample: str,
) -> None:
    """Writes the page, atomically.

    Args:
        path: of the page.
        summary: of all rows.
        receipts: what the shards did.
        missing: the shards that are not there, in words; empty if all are.
        table: name of the file with all rows, beside the page.
        sample: name of the file that lists the inputs shown.

    Raises:
        UserError: it cannot be written.
    """
    total, verdicts = summary.verdicts.total(), list(dict(summary.verdicts.most_common()))
    highest = max(map(sum, zip(*summary.histogram.values(), strict=True)), default=0) or 1
    phases = [
        {
            "formula": formula, "mineral": mineral, "group": group,
            "symbol": space_group_symbol(group) if group else "",
            "count": count, "confident": summary.confident[formula, mineral, group],
        }
        for (formula, mineral, group), count in summary.phases.most_common(_PHASES)
    ]  # fmt: skip
    page = render_page(
        "summary.html.j2",
        total=total,
        verdicts=summary.verdicts.most_common(),
        verdict_names=verdicts,
        systems=sorted(summary.systems.items(), key=lambda item: -item[1].total()),
        phases=phases,
        all_phases=len(summary.phases),
        bins=[
            {
                "from": place / BINS, "sure": sure, "unsure": unsure,
                "sure_height": 100.0 * sure / highest, "unsure_height": 100.0 * unsure / highest,
            }
            for place, (sure, unsure) in enumerate(
                zip(summary.histogram[True], summary.histogram[False], strict=True)
            )
        ],
        reasons=[(name, summary.reasons[name].commonest(_REASONS))
                 for name in verdicts if name in summary.reasons],
        notes=summary.notes.commonest(_REASONS),
        wanting=summary.wanting(),
        by_chance=summary.by_chance(),
        receipts=receipts[:_SHARDS],
        shards=len(receipts),
        of=receipts[0]["shard"][1],
        seconds=sum(one["seconds"] for one in receipts),
        missing=missing,
        table=table,
        sample=sample,
        command=receipts[0]["command"],
    )  # fmt: skip
    atomic_write_text(path, page)
