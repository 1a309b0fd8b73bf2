"""Table 2 at the grain of structures: prototypical by structure, standard, match alone.

    python benchmarks/structure_grain.py --manifest=manifest.csv --parts=parts --workdir=runs/grain

Simulates `--pairs` scans of the library's structures, kept in `--parts`, and trains one network
with each seed twice on the same batches: with Eq. 2 over structures, and with cross-entropy over
crystal systems alone (`phases/embedding.py`). Each, and the match of root patterns, which learns
nothing, answers raw and refined patterns: of `--held` simulated scans of other formulas, to which
its temperature is fitted, and of the labelled scans of the manifest, which are only looked at.
Tables in WORKDIR/tables.md; killed and run again it goes on where it was.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from imitation_refinement.comparison.jobs import results
from imitation_refinement.comparison.methods import Job
from imitation_refinement.comparison.page import as_csv, markdown
from imitation_refinement.comparison.study import Result, Study
from imitation_refinement.phases.embedding_training import Known, recipe
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.pairs import PART, held_out, load_pairs
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.phases.structure_tables import (
    Bench,
    held_out_scans,
    jobs,
    measured_scans,
    tables,
)
from imitation_refinement.runtime.files import atomic_write_text, user_cache
from imitation_refinement.runtime.workdir import command
from imitation_refinement.stages.jobs import run_jobs

_MANIFEST = flags.DEFINE_string("manifest", None, "Labelled measured scans.", required=True)
_PARTS = flags.DEFINE_string("parts", None, "Folder of the simulated scans.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the jobs.", required=True)
_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_PAIRS = flags.DEFINE_integer("pairs", 8000, "Simulated scans to train on.", lower_bound=PART)
_HELD = flags.DEFINE_integer("held", 400, "Scans to fit temperatures to.", lower_bound=PART)
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many, from 0 on.", lower_bound=1)
_MODE = flags.DEFINE_enum("mode", "all", ["all", "report"], "Jobs and tables, or tables alone.")


def bench() -> Bench:
    """Returns where jobs are done, with all data read."""
    phases, refiner = load_phases(_LIBRARY.value, user_cache("phases")), load_refiner()
    library, prototypes = phases.library, phases.prototypes
    names = [
        f"{reduced(str(formula))} {group}"
        for formula, group in zip(library.formula, library.space_group, strict=True)
    ]
    known = Known(
        prototypes,
        np.unique(np.array(names), return_inverse=True)[1],
        np.asarray(library.crystal_system, np.int64),
        held_out(library),
    )
    parts = Path(_PARTS.value)
    pairs = load_pairs(parts, library, prototypes, _PAIRS.value, seed=0, held=False)
    held = load_pairs(parts, library, prototypes, _HELD.value, seed=0, held=True)
    return Bench(
        Path(_WORKDIR.value),
        known,
        pairs,
        held_out_scans(held, known, refiner),
        measured_scans(Path(_MANIFEST.value), prototypes.grid, refiner),
        recipe(),
        ConfigDict({"threads": 0, "log_every": 50, "checkpoint_every": 200}),
    )


def facts(done: Mapping[Job, Result], asked: int) -> dict[str, str]:
    """Returns what every table says of how it was made, by name."""
    section, found = recipe(), {"jobs": f"{len(done)} of {asked} done", "command": command()}
    for result in list(done.values())[:1]:
        arrays = result.arrays
        found["scans"] = (
            f"{_PAIRS.value} simulated to train on, less those without peaks,"
            f" {len(arrays['held_hit'])} held out, {len(arrays['label'])} measured of"
            f" {len(np.unique(arrays['group']))} samples"
        )
    ideal = section.batch_size * (1 + section.rivals)
    found["training"] = (
        f"{section.steps} steps of {section.batch_size} scans and {ideal} ideal patterns"
    )
    summaries = [result.summary for result in done.values()]
    found["devices"] = "; ".join(sorted({one["device"] for one in summaries})) or "none"
    found["hours"] = f"{sum(one['seconds'] for one in summaries) / 3600:.2f}"
    found["figures"] = (
        "mean ± standard deviation over seeds; in brackets 95 % intervals: bootstrap over groups"
        " within seeds, or Student's t over seeds where the column says so"
    )
    return found


def main(_: list[str]) -> None:
    folder, every = Path(_WORKDIR.value), jobs(range(_SEEDS.value))
    made = cache(bench)

    def write(last: bool) -> None:
        done = dict(results(folder, every))
        study = Study(done, same_examples=True, resamples=2000 if last else 100)
        found = tables(study)
        atomic_write_text(folder / "tables.md", markdown(found, facts(done, len(every))))
        atomic_write_text(folder / "tables.csv", as_csv(found))

    run_jobs(every, folder, lambda job: made().do(job), write, _MODE.value)
    print((folder / "tables.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    app.run(main)
