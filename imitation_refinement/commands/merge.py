"""The tables of shards put together into one, with a page that sums it up.

Belongs here: which shards there are, which are missing, and whether they are of one batch. One pass
over the rows for the table, one over a few columns for the page; never more than a part of them is
held.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from imitation_refinement.commands.ledger import SOME_FAILED
from imitation_refinement.commands.shards import FOLDER, batch_status, read_receipt
from imitation_refinement.commands.summary import COLUMNS, Summary
from imitation_refinement.commands.summary_page import write_page
from imitation_refinement.commands.tables import read_rows, read_table, write_table
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.runtime.shard import Shard, ranges

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
    receipts = _receipts(output)
    count = next(iter(receipts.values()))["shard"][1]
    missing = [number for number in range(count) if number not in receipts]
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
        logging.warning("%d of %d shards are missing: %s", len(missing), count, ranges(missing))
        return max(status, SOME_FAILED)
    return status


def _receipts(output: Path) -> dict[int, dict[str, Any]]:
    """The receipts of the finished shards by number, in order.

    Raises:
        UserError: there is none, or they are of several batches.
    """
    found: dict[int, dict[str, Any]] = {}
    first = None
    for path in sorted((output / FOLDER).glob("*-of-*.json")):
        if not re.fullmatch(r"\d+-of-\d+", path.stem):
            continue
        receipt = read_receipt(path.with_suffix(""))
        if receipt is None:
            continue
        first = first or (path, receipt)
        if receipt["shard"][1] != first[1]["shard"][1] or receipt["job"] != first[1]["job"]:
            raise UserError(
                f"{path}: is not of the same batch as {first[0].name} (other inputs, options, model"
                " or number of shards); delete the older ones, or name another --output"
            )
        found[receipt["shard"][0]] = receipt
    if not found:
        raise UserError(
            f"{output / FOLDER}: no finished shard in it; run --mode=refine --shard=0/1 with the"
            " same --output first"
        )
    return found


def _tables(output: Path, receipts: dict[int, dict[str, Any]]) -> Iterator[Any]:
    for receipt in receipts.values():
        if receipt["rows"]:
            name = Shard(*receipt["shard"]).name
            yield from read_table(output / FOLDER / f"{name}.parquet")
