"""Many composition spreads in one command, each unmixed by itself: in shards, or one by one.

Belongs here: which files are one spread, what unmixing does with the spreads of a shard, which
`shard_work` hands out, and the table of all of them. A spread is never cut: its patterns are taken
apart together. Each has a folder of its own in the output, named after its folder or file:

    unmixed/wafer-7/unmix.html, ...    as `unmix_library` writes them for one spread
    unmixed/spreads.csv, spreads.html  of all, after merging
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from imitation_refinement.commands.cluster import each
from imitation_refinement.commands.inputs import (
    COMPOSITIONS,
    Input,
    but_for,
    folders_of,
    list_inputs,
)
from imitation_refinement.commands.ledger import (
    INTERRUPTED,
    SOME_FAILED,
    LeftOut,
    exit_status,
    in_a_line,
)
from imitation_refinement.commands.scan_results import Names
from imitation_refinement.commands.setup import Setup, content_key, load_tools
from imitation_refinement.commands.shard_work import (
    FOLDER,
    Work,
    do_shard,
    finished_shards,
    shard_status,
    table_of,
)
from imitation_refinement.commands.spread import read_listed
from imitation_refinement.commands.unmix_library import tell, unmixed, write_files
from imitation_refinement.errors import UserError
from imitation_refinement.report.page import render_page
from imitation_refinement.runtime.files import atomic_file, atomic_write_text
from imitation_refinement.runtime.shard import WHOLE, Shard, missing_of, told_missing
from imitation_refinement.xrd.formats.readers import base_name
from imitation_refinement.xrd.formats.stacks import HDF5, PARQUET, ZARR, count_rows
from imitation_refinement.xrd.wavelengths import parse_wavelength

_ENDING = ".jsonl"
_COLUMNS = (
    "spread", "input", "patterns", "failed", "component", "crystal_system", "confidence", "verdict",
    "mean_share", "most_in", "error",
)  # fmt: skip


class Listed(NamedTuple):
    """The files of one spread.

    Attributes:
        number: among all, from 0.
        name: of its folder in the output.
        source: its folder or file.
        files: see `inputs.list_inputs`.
        left: likewise.
    """

    number: int
    name: str
    source: Path
    files: tuple[Input, ...]
    left: tuple[LeftOut, ...]


def list_spreads(
    inputs: Sequence[str], wavelength: str | float | None, output: Path
) -> tuple[list[Listed], list[LeftOut]]:
    """Returns the spreads that are named, in order, and what is of none.

    The files of a folder are one spread, but for those that hold a whole one each: `.npz`, Parquet
    and Zarr, and HDF5 of several patterns.

    Args:
        inputs: see `inputs.list_inputs`; a glob pattern may name folders too.
        wavelength: see there.
        output: folder of the results, which is no spread.

    Raises:
        UserError: see there.
    """
    results = os.path.abspath(output)
    folders = [folder for folder in folders_of(inputs) if os.path.abspath(folder) != results]
    files, left = list_inputs([*inputs, *folders], wavelength)
    left = but_for(output, left)
    found: dict[Path, list[Input]] = {}
    for one in files:
        found.setdefault(_spread_of(one.path), []).append(one)
    alone = list[LeftOut]()
    for source, own in list(found.items()):
        if all(one.path.name == COMPOSITIONS for one in own):
            alone.append(LeftOut(own[0].path, "no pattern of its folder was named"))
            del found[source]
    names = Names()
    names(FOLDER)  # is taken
    spreads = [
        Listed(
            number, names(_name_of(source)), source, tuple(own),
            tuple(other for other in left if other.path.parent == source),
        )
        for number, (source, own) in enumerate(found.items())
    ]  # fmt: skip
    others = [
        other for other in left
        if other.path.parent not in found and other.path.name != COMPOSITIONS
    ]  # fmt: skip
    return spreads, others + alone


def _name_of(source: Path) -> str:
    name = source.absolute().name
    return name if source.is_dir() and source.suffix.lower() != ZARR else base_name(name)


def _spread_of(path: Path) -> Path:
    return path if path.is_dir() or _holds_several(path) else path.parent


def _holds_several(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in HDF5:
        return suffix in (".npz", PARQUET, ZARR)
    try:
        return count_rows(path) > 1
    except UserError:  # reading it will say why
        return False


def run_shard(
    setup: Setup,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None,
    components: int | None = None,
    *,
    shard: Shard = WHOLE,
    cluster: str | None = None,
) -> int:
    """Unmixes the spreads of one shard; what it has done before is not done again.

    Args:
        setup: the model.
        inputs: of all spreads, the same for all shards; see `list_spreads`.
        output: folder of all of them; created.
        wavelength: see `unmix_library.run_unmix`.
        components: see there; of each spread.
        shard: which part of them.
        cluster: see `cluster.each`.

    Returns:
        Exit status: 0 if all patterns of all spreads could be used, 3 if some could, 1 if none
        could; 130 if it was interrupted.

    Raises:
        UserError: as `list_spreads`; what is there is of other inputs or another model. Trouble
            with a spread is a row.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    every, left = list_spreads(inputs, wavelength, output)
    left_out = [f"{path}: {why}" for path, why in left]
    keys = [
        content_key(setup, (*one.files, *one.left), one.name, components, _stats(one))
        for one in every
    ]
    unmix = partial(_unmixed, setup=setup, wavelength=wavelength, components=components)

    def do(missing: Iterator[Listed]) -> Iterator[tuple[Listed, bytes]]:
        for one, (row, files) in each(unmix, missing, cluster):
            write_files(output / one.name, files)  # and then says that it is done
            if row["error"]:
                logging.warning("failed: %s", row["error"])
            else:
                logging.info("%s: %d components", one.name, len(row["components"]))
            yield one, f"{json.dumps(row)}\n".encode()

    keep = partial(_keep, {} if shard.number else {"left_out": left_out})
    receipt = do_shard(Work("unmix", keys, lambda: every, do, _ENDING, keep), output, shard)
    if receipt is None:
        return INTERRUPTED
    logging.info("shard %s: %d spreads", shard.name, receipt["rows"])
    return shard_status(receipt, receipt["worked"], receipt["failed"])


def merge_shards(output: Path) -> int:
    """Writes a table and a page of the spreads of all shards in a folder.

    Returns:
        Exit status, as `run_shard`; at least 3 if a shard is missing.

    Raises:
        UserError: there is no shard, or they are not of one batch.
    """
    receipts = finished_shards(output, "unmix", _ENDING)
    missing = missing_of(receipts)
    rows = [
        json.loads(line)
        for one in receipts.values()
        if one["rows"]
        for line in table_of(output, one, _ENDING).read_text(encoding="utf-8").splitlines()
    ]
    atomic_write_text(output / "spreads.csv", _table(rows))
    told = told_missing(missing, len(receipts) + len(missing)) if missing else ""
    left_out = receipts[0]["left_out"] if 0 in receipts else []
    page = render_page("spreads.html.j2", rows=rows, missing=told, left_out=left_out)
    atomic_write_text(output / "spreads.html", page)
    logging.info("%d spreads; look at %s", len(rows), output / "spreads.html")
    status = exit_status(*_worked_and_failed(rows))
    if missing:
        logging.warning("%s", told)
        return max(status, SOME_FAILED)
    return status


def _stats(one: Listed) -> list[list[int]]:
    """Size and time of change of the files of a spread and of its table of compositions."""
    beside = [one.files[0].path.parent / COMPOSITIONS]
    stats = list[list[int]]()
    for path in [*(file.path for file in one.files), *beside]:
        try:
            found = os.stat(path)
        except OSError:  # reading it will say why
            stats.append([])
            continue
        stats.append([found.st_size, found.st_mtime_ns])
    return stats


def _unmixed(
    one: Listed, setup: Setup, wavelength: str | float | None, components: int | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The row of a spread, and its files; whatever goes wrong with it is its trouble alone."""
    model = load_tools(setup).model
    row = {"spread": one.name, "input": str(one.source), "patterns": 0, "failed": 0}
    try:
        spread = read_listed(one.files, one.left, model.grid, wavelength)
        tell(spread)
        row |= {"patterns": len(spread.names), "failed": len(spread.failures)}
        found, files = unmixed(model, spread, str(one.source), components)
    except Exception as error:
        return row | {"components": [], "error": in_a_line(one.source, error)}, {}
    return row | {"components": found["components"], "error": ""}, files


def _keep(more: dict[str, Any], path: Path, parts: Iterator[bytes]) -> dict[str, Any]:
    """Writes the rows of a shard, one a line; its receipt counts them and says `more`."""
    lines = list(parts)
    if lines:
        with atomic_file(path) as file:
            file.write(b"".join(lines))
    worked, failed = _worked_and_failed([json.loads(line) for line in lines])
    return {"rows": len(lines), "worked": worked, "failed": failed} | more


def _worked_and_failed(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many spreads could be used; how many could not, or not all of their patterns."""
    worked = sum(not row["error"] for row in rows)
    return worked, sum(bool(row["error"] or row["failed"]) for row in rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row of CSV for each component of each spread, or for its error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        for component in row["components"] or [{}]:
            told = {name: f"{component[name]:.4f}" for name in ("confidence", "mean_share")
                    if name in component}  # fmt: skip
            writer.writerow(component | told | row)
    return text.getvalue()
