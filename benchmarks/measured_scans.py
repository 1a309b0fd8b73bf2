"""Accuracy of a trained run on measured, labelled powder patterns, raw and refined, as it is.

    python benchmarks/measured_scans.py --workdir=runs/xrd --manifest=FOLDER/manifest.csv

The manifest has the columns `file` (relative to it), `row` (of the array `intensity` of an .npz
table with `two_theta_start` and `two_theta_step`; empty for text files), `source`, `kind`
(`labelled` rows count), `crystal_system` and `wavelength_A`. Prints a Markdown table by source with
95 % intervals (Wilson), and the names of what could not be read.
"""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict
from scipy import stats

from imitation_refinement.errors import UserError
from imitation_refinement.run import Run
from imitation_refinement.training import trained_model
from imitation_refinement.workdir import WorkDir
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.formats import read_scan
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import clean_scan, on_grid

_WORKDIR = flags.DEFINE_string("workdir", "runs/xrd", "A finished run.")
_MANIFEST = flags.DEFINE_string("manifest", None, "CSV file, see above.", required=True)


def read_row(folder: Path, row: dict[str, str]):
    """Returns the scan that a line of the manifest names."""
    wavelength = float(row["wavelength_A"])
    if not row["row"]:
        return read_scan(folder / row["file"], wavelength)
    with np.load(folder / row["file"], allow_pickle=False) as table:
        counts = table["intensity"][int(row["row"])].astype(np.float64)
        start, step = float(table["two_theta_start"]), float(table["two_theta_step"])
    name = f"{row['file']}[{row['row']}]"
    return clean_scan(start + step * np.arange(len(counts)), counts, wavelength, name)


def main(argv: list[str]) -> None:
    """Reads, refines, classifies and counts."""
    manifest = Path(_MANIFEST.value)
    workdir = WorkDir(_WORKDIR.value)
    run = Run(ConfigDict(json.loads((workdir.path / "config.json").read_text())), workdir)
    grid = Grid(**run.config.data.grid, wavelength=run.config.data.wavelength)
    patterns, labels, sources = [], [], []
    refused: Counter[str] = Counter()
    with open(manifest, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] != "labelled":
                continue
            try:
                placed = on_grid(read_row(manifest.parent, row), grid)
            except UserError as error:
                refused[row["source"]] += 1
                logging.warning("left out: %s", error)
                continue
            patterns.append(placed.pattern)
            labels.append(CRYSTAL_SYSTEMS.index(row["crystal_system"]))
            sources.append(row["source"])
    model = trained_model(run)
    raw = np.stack(patterns)[..., None]
    scores = {"raw": model.probabilities(raw), "refined": model.probabilities(model.refine(raw))}
    rows = defaultdict(list)
    for i, source in enumerate(sources):
        rows[source].append(i)
        rows["all"].append(i)
    print("| source | n | left out | raw top-1 | refined top-1 | raw top-2 | refined top-2 |")
    print("|---|---|---|---|---|---|---|")
    truth = np.array(labels)
    for source, members in rows.items():
        cells = []
        for top in (1, 2):
            for score in scores.values():
                best = np.argsort(-score[members], axis=1)[:, :top]
                hits = int((best == truth[members][:, None]).any(axis=1).sum())
                low, high = stats.binomtest(hits, len(members)).proportion_ci(method="wilson")
                cells.append(f"{hits / len(members):.3f} ({low:.3f} to {high:.3f})")
        left_out = refused[source] if source != "all" else refused.total()
        print(f"| {source} | {len(members)} | {left_out} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    app.run(main)
