"""The tables of shards put together into one, with a page that sums it up.

Belongs here: one pass over the rows for the table, one over a few columns for the page; never more
than a part of them is held.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from imitation_refinement.commands.ledger import SOME_FAILED
from imitation_refinement.commands.shard_work import finished_shards, table_of
from imitation_refinement.commands.shards import TABLE_OF_SHARD, batch_status
from imitation_refinement.commands.summary import COLUMNS, Summary
from imitation_refinement.commands.summary_page import write_page
from imitation_refinement.commands.tables import read_rows, read_table, write_table
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.runtime.shard import missing_of, ranges, told_missing

TABLE, PAGE, SAMPLE = "summary.parquet", "report.html", "sample.txt"


def merge_shards(output: Path) -> int:
    """Puts the tables of the shards in a folder together: `summary.parquet` and `report.html`.

    Also `sample.txt`, the inputs that the page shows, to look into with `--input=@sample.txt`.

    Args:
        output: the folder that the shards were given.

    Returns:
        Exit status: that of the batch; at least 3 if a shard is missing.

    Raises:
        UserError: there is no shard, or they are not of one batch.
    """
    receipts = finished_shards(output, "refine", TABLE_OF_SHARD)
    missing = missing_of(receipts)
    rows = write_table(output / TABLE, _tables(output, receipts))
    summary = Summary()
    if rows:
        for row in read_rows(output / TABLE, COLUMNS):
            summary.add(row)
    write_page(output / PAGE, summary, list(receipts.values()), ranges(missing), TABLE, SAMPLE)
    shown = [os.path.relpath(one, output) for one in summary.sample_inputs()]
    atomic_write_text(output / SAMPLE, "".join(f"{line}\n" for line in shown))
    logging.info("%s patterns of %d shards; look at %s", f"{rows:,}", len(receipts), output / PAGE)
    status = batch_status(summary.verdicts)
    if missing:
        logging.warning("%s", told_missing(missing, len(receipts) + len(missing)))
        return max(status, SOME_FAILED)
    return status


def _tables(output: Path, receipts: dict[int, dict[str, Any]]) -> Iterator[Any]:
    for receipt in receipts.values():
        if receipt["rows"]:
            yield from read_table(table_of(output, receipt, TABLE_OF_SHARD))
