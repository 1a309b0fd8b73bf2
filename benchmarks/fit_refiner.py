"""Trains the refiner of phases and chooses which pattern the answer is taken from.

    python benchmarks/fit_refiner.py --parts=parts --workdir=runs/refiner --output=refiner.npz

Simulates `--pairs` scans of the library's structures, kept in `--parts`, or, on a GPU, looks as
many structures up and draws scans of them anew in every step (`phases/device_pairs.py`); trains
with the recipe of `phases/refiner_training.py`, whose fields can be given (`--recipe.steps=2000`;
losses in WORKDIR/metrics.jsonl), and names the phase of `--held` scans of formulas that training
has not seen: from the raw pattern, the refined one, and both, with the very structure left out
where the library has another determination. `--compare` measures other refiners on the same scans.
After every `--every` steps it writes `--output` and measures what it has on `--curve` other
held-out scans (rows `held` of WORKDIR/metrics.jsonl). Where either number is 0 that is left out.
`--recipe.steps=0` trains nothing and measures what `--start` names.
Killed and run again it goes on where it was. No measured scan is read.
"""

from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import l1, max_normalized
from imitation_refinement.evaluation.paired import paired_difference
from imitation_refinement.evaluation.peaks import invented_and_lost
from imitation_refinement.model.model_file import read_model_file
from imitation_refinement.phases.candidates import answers
from imitation_refinement.phases.device_held import held, load_chosen
from imitation_refinement.phases.device_scans import Bounds
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.match import Match, match, pooled
from imitation_refinement.phases.pairs import PART, Pairs, load_pairs
from imitation_refinement.phases.prototypes import GRID, Prototypes
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner, save_refiner
from imitation_refinement.phases.refiner_training import (
    batches_of_draws,
    batches_of_pairs,
    recipe,
    train_phase_refiner,
)
from imitation_refinement.phases.refining import both_refined, counted_longer, shown
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_text, user_cache
from imitation_refinement.runtime.workdir import WorkDir

_PARTS = flags.DEFINE_string("parts", None, "Folder of the pairs.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Refiner to write; table beside it.", required=True)
_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_PAIRS = flags.DEFINE_integer("pairs", 11000, "Simulated scans to train on.", lower_bound=PART)
_HELD = flags.DEFINE_integer("held", 400, "Scans to choose on.", lower_bound=0)
_CURVE = flags.DEFINE_integer(
    "curve", 600, "Further held scans, to measure while training.", lower_bound=0
)
_EVERY = flags.DEFINE_integer("every", 1000, "Steps between two measurements.", lower_bound=1)
_RECIPE = config_flags.DEFINE_config_dict("recipe", recipe(), "How it is trained.")
_START = flags.DEFINE_string("start", None, "Refiner to go on from, in the place of none.")
_COMPARE = flags.DEFINE_multi_string("compare", [], "Files of refiners to measure as well.")
_ON_DEVICE = flags.DEFINE_boolean(
    "on_device", None, "Draw scans on the device in every step; unless said, where it is no CPU."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of all draws.", lower_bound=0)

_BATCH = 16
_LEVELS = (0, 16, 50, 170, 550, 3000, np.inf)  # counts of the strongest point
ASKED = ("crystal system", "space group", "phase")


def phases_of(library: Library) -> np.ndarray:
    """Returns the number of each entry's phase, its reduced formula and space group, int `[N]`."""
    names = [
        f"{reduced(str(formula))} {group}"
        for formula, group in zip(library.formula, library.space_group, strict=True)
    ]
    return np.unique(np.array(names), return_inverse=True)[1]


def matched(patterns: np.ndarray, pairs: Pairs, phases: Phases, phase: np.ndarray) -> Match:
    """Matches patterns of pairs; their own structures are left out where the phase has others."""
    others, parts = np.bincount(phase) > 1, []
    for first in range(0, len(patterns), _BATCH):
        own = slice(first, first + _BATCH)
        entry = pairs.entry[own, 0]
        allowed = np.ones((len(entry), len(phase)), bool)
        allowed[np.arange(len(entry)), entry] = ~others[phase[entry]]
        parts.append(
            match(
                patterns[own],
                pairs.mask[own],
                phases.prototypes,
                phases.calibration.posterior,
                allowed=allowed,
            )  # fmt: skip
        )
    return Match(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def hits(found: Match, pairs: Pairs, phases: Phases, phase: np.ndarray) -> np.ndarray:
    """Returns whether the first answers are right, bool `[n, len(ASKED)]`."""
    library = phases.library
    told = answers(
        found, phases.prototypes, library.space_group, library.crystal_system, library.formula,
        phases.calibration,
    )  # fmt: skip
    rows = []
    for answer, entry in zip(told, pairs.entry[:, 0], strict=True):
        members = answer.candidates[0].members if answer.candidates else ()
        rows.append(
            (
                np.argmax(answer.systems) == library.crystal_system[entry],
                answer.space_groups[0][0] == library.space_group[entry],
                any(phase[member] == phase[entry] for member in members),
            )
        )
    return np.array(rows, bool)


def table(
    pairs: Pairs, by_raw: Match, after: np.ndarray, phases: Phases, phase: np.ndarray
) -> list[str]:
    """Returns rows of recognition and l1 by counts; differences are paired by scan."""
    before, truth = pairs.pattern.astype(np.float32), pairs.truth.astype(np.float32)
    by_refined = matched(after, pairs, phases, phase)
    looks = {
        "raw": by_raw,
        "refined": by_refined,
        "both": pooled(by_raw, by_refined),
    }
    right = {look: hits(found, pairs, phases, phase) for look, found in looks.items()}
    distance = {"raw": l1(before, truth), "refined": l1(after, truth)}
    groups = np.unique(phases.library.formula[pairs.entry[:, 0]], return_inverse=True)[1]
    lines = [
        "| counts | scans | pattern | " + " | ".join(f"{a} | − raw" for a in ASKED) + " | ℓ1 |"
    ]
    lines.append("|" + " --- |" * 10)
    for low, high in [*zip(_LEVELS, _LEVELS[1:], strict=False), (0, np.inf)]:
        rows = (pairs.counts >= low) & (pairs.counts < high)
        for look, own in right.items():
            head = [f"{low} to {high:g}", f"{rows.sum()}"] if look == "raw" else ["", ""]
            cells = [*head, look]
            for column in range(len(ASKED)):
                cells.append(f"{100 * own[rows, column].mean():.1f}")
                cells.append(
                    "" if look == "raw"
                    else _difference(own[rows, column], right["raw"][rows, column], groups[rows])
                )  # fmt: skip
            cells.append(f"{distance[look][rows].mean():.1f}" if look in distance else "")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def peak_table(pairs: Pairs, after: np.ndarray) -> list[str]:
    """Returns rows of peaks against those of the truth by counts, in %."""
    before, truth = (max_normalized(x.astype(np.float32)) for x in (pairs.pattern, pairs.truth))
    found = invented_and_lost(before, max_normalized(after), truth)
    lines = [
        "| counts | missed, raw | refined | spurious, raw | refined | invented | lost |",
        "|" + " --- |" * 7,
    ]
    for low, high in zip(_LEVELS, _LEVELS[1:], strict=False):
        rows = (pairs.counts >= low) & (pairs.counts < high)
        total = {name: column[rows].sum() for name, column in found._asdict().items()}
        shares = [
            total[above] / max(total[below], 1)
            for above, below in (
                ("missed_raw", "truth"), ("missed_refined", "truth"), ("spurious_raw", "raw"),
                ("spurious_refined", "refined"), ("invented", "refined"), ("lost", "truth"),
            )
        ]  # fmt: skip
        cells = [f"{low} to {high:g}", *(f"{100 * share:.1f}" for share in shares)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def record(workdir: WorkDir, step: int, refiner: PhaseRefiner, pairs: Pairs) -> None:
    """Writes how far held-out scans are from the truth, as a row `held` of metrics.jsonl, once.

    l1 as a share of the raw one's, of peaks of 2 % those invented and lost in %, and invented below
    50 counts, for either pattern; and the l1 of the denoised one to what a longer scan shows, from
    550 counts on, as a share of the raw one's.
    """
    if any(row["step"] == step for row in workdir.read_metrics("held")):
        return
    x = shown(pairs.pattern, pairs.excess, pairs.noise, pairs.mask)
    raw, truth = x[..., 0], pairs.truth.astype(np.float32)
    made = both_refined(refiner.params, x, pairs.mask, refiner.module)
    longer = np.asarray(counted_longer(truth, x, pairs.mask.astype(np.float32)))
    few, many = pairs.counts < _LEVELS[2], pairs.counts >= _LEVELS[4]
    values = {"longer": l1(made.denoised, longer)[many].sum() / l1(raw, longer)[many].sum()}
    for name, after in made._asdict().items():
        found = invented_and_lost(*map(max_normalized, (raw, after, truth)))
        values |= {
            f"{name}_l1": l1(after, truth).sum() / l1(raw, truth).sum(),
            f"{name}_invented": 100 * found.invented.sum() / max(found.refined.sum(), 1),
            f"{name}_few": 100 * found.invented[few].sum() / max(found.refined[few].sum(), 1),
            f"{name}_lost": 100 * found.lost.sum() / found.truth.sum(),
        }
    workdir.append_metrics("held", step, values)


def _difference(own: np.ndarray, raw: np.ndarray, groups: np.ndarray) -> str:
    found = paired_difference([own], [raw], [groups], seed=_SEED.value)
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return f"{100 * found.value:+.1f}{interval}".replace("-", "−")


def held_out_pairs(known: tuple[Library, Prototypes], first: int, count: int) -> Pairs | None:
    """Returns some held-out pairs of `--parts`, those that are numbered from `first` on."""
    if not count:
        return None
    before, through = (
        load_pairs(Path(_PARTS.value), *known, number, seed=_SEED.value, held=True)
        for number in (max(first, PART), first + count)
    )
    return Pairs(*(column[len(before.mask) if first else 0 :] for column in through))


def main(_: list[str]) -> None:
    devices.keep_freed_memory()
    phases = load_phases(_LIBRARY.value, user_cache("phases"))
    phase = phases_of(phases.library)
    parts, section = Path(_PARTS.value), _RECIPE.value
    known = phases.library, phases.prototypes
    run = ConfigDict({"threads": 1, "log_every": 50, "checkpoint_every": 100})
    workdir = WorkDir(_WORKDIR.value)
    on_device = _ON_DEVICE.value
    if on_device is None:
        on_device = jax.default_backend() != "cpu"
    if not (section.steps or _START.value):
        raise UserError("--recipe.steps=0 trains nothing: say which refiner to measure by --start.")
    begun = load_refiner(_START.value) if _START.value else None
    made_before = read_model_file(_START.value)[0]["made"] if begun else ""
    told = {
        "start": made_before,
        "pairs": _PAIRS.value,
        "library": phases.library.digest,
        "seed": _SEED.value,
    }
    workdir.claim(ConfigDict({"refiner": section, "on_device": on_device, **told}))
    start = begun.params if begun else None
    refiner = PhaseRefiner(section.network, start)
    others = held_out_pairs(known, 0, _HELD.value)
    watched = held_out_pairs(known, _HELD.value, _CURVE.value)
    if start is not None and watched is not None:
        record(workdir, 0, refiner, watched)
    made = made_before
    if section.steps:
        if on_device:
            chosen = load_chosen(parts, *known, _PAIRS.value, seed=_SEED.value)
            having = held(chosen, *known, phase)
            batches = batches_of_draws(having, GRID, section, _SEED.value, Bounds())
            of = f"drawn on the device from {len(having.rival)} structures"
        else:
            pairs = load_pairs(parts, *known, _PAIRS.value, seed=_SEED.value, held=False)
            batches = batches_of_pairs(pairs, phases.prototypes, phase, section, run, _SEED.value)
            of = f"of {len(pairs.mask)} pairs"
        for until in [*range(_EVERY.value, section.steps, _EVERY.value), section.steps]:
            refiner = refiner._replace(params=train_phase_refiner(
                batches, GRID, section, run, workdir, _SEED.value, start, until
            ))  # fmt: skip
            made = f"{made_before}; then " if begun else ""
            made += (
                f"{until} steps of {section.batch_size} {of}, library"
                f" {phases.library.digest[:12]}, seed {_SEED.value}"
            )
            save_refiner(_OUTPUT.value, refiner, made)
            if watched is not None:
                record(workdir, until, refiner, watched)
        logging.info("written: %s", _OUTPUT.value)
    workdir.close()
    if others is None:
        return
    x = shown(others.pattern, others.excess, others.noise, others.mask)
    by_raw = matched(others.pattern.astype(np.float32), others, phases, phase)
    lines = []
    for name, own in [(made, refiner), *((path, load_refiner(path)) for path in _COMPARE.value)]:
        made_of = both_refined(own.params, x, others.mask, own.module)
        rows = table(others, by_raw, made_of.pattern, phases, phase)
        lines += [
            f"{len(others.mask)} scans; {name}",
            "",
            *rows,
            "",
            *peak_table(others, made_of.pattern),
            "",
            "Denoised:",
            "",
            *peak_table(others, made_of.denoised),
            "",
        ]
    text = "\n".join(lines)
    atomic_write_text(Path(_OUTPUT.value).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    app.run(main)
