"""The figures of docs/training.md: a preset over several seeds, targeted and non-targeted.

    python benchmarks/seeds.py --config=configs/xrd.py --seeds=5 --workdir=runs/seeds

Every seed generates its own crystals, libraries, folds and initial weights. The non-targeted run of
a seed reuses the data, classifier, judges and pre-trained refiner of the targeted one, on which the
labels of imperfect patterns have no influence. What is done is not done again. Prints a Markdown
table: mean and standard deviation over seeds, and a 95 % interval of the mean (Student's t).
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from scipy import stats

_CONFIG = flags.DEFINE_string("config", "configs/xrd.py", "Config file, with a preset.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds.")
_FIRST = flags.DEFINE_integer("first_seed", 0, "The first of them.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/seeds", "Folder for all runs.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides, such as data.ideal.augment=True.")

MAIN = Path(__file__).parents[1] / "main.py"
SHARED = ("classifier", "judge/*", "refiner/pretrained")


def run(workdir: Path, seed: int, targeted: bool) -> None:
    """Runs main.py for one seed, unless its report is there; keeps the seconds it took."""
    took = workdir / "seconds.json"
    if took.exists():
        return
    arguments = [f"--config={_CONFIG.value}", f"--workdir={workdir}", f"--config.seed={seed}"]
    arguments += [f"--config.refiner.targeted={targeted}"]
    arguments += [f"--config.{override}" for override in _SET.value]
    began = time.monotonic()
    subprocess.run([sys.executable, str(MAIN), *arguments], check=True)
    took.write_text(json.dumps(time.monotonic() - began))


def share(source: Path, target: Path) -> None:
    """Copies the stages that do not depend on labels of imperfect patterns."""
    markers = source / "stages"
    for marker in (path for name in SHARED for path in markers.glob(f"{name}.json")):
        name = marker.relative_to(markers).with_suffix("")
        if not (target / name).exists():
            shutil.copytree(source / name, target / name)
            (target / "stages" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(marker, target / "stages" / f"{name}.json")


def headline(workdir: Path) -> dict[str, float]:
    """Returns the figures of one run by name."""
    results = json.loads((workdir / "evaluation" / "results.json").read_text())
    figures = {}
    judges = {f"judge {name}": head for name, head in results["accuracy"]["judges"].items()}
    heads = {name: results["accuracy"][name] for name in ("classifier", "prototype")} | judges
    for name, head in heads.items():
        for kind in ("raw", "refined", "truth", "gain"):
            figures[f"{name} accuracy, {kind} (%)"] = 100 * head[kind]["value"]
        if name in judges:
            figures[f"own minus {name} gain (points)"] = 100 * head["own_minus_gain"]["value"]
    for name in ("l1", "l2", "kl", "ncc"):
        quality = results["quality"][name]
        figures[f"{name} raw, mean"] = quality["raw"]["mean"]
        figures[f"{name} refined, mean"] = quality["refined"]["mean"]
        for middle in ("mean", "median"):
            change = quality["relative_change"][middle]["value"]
            figures[f"{name} change of {middle} (%)"] = 100 * change
    for name in ("invented", "lost", "spurious_raw", "spurious_refined", "missed_raw"):
        figures[f"peaks {name} (%)"] = 100 * results["peaks"]["rates"][name]["value"]
    for name in ("fixed", "broken"):
        figures[name] = results[name]
    figures["seconds"] = json.loads((workdir / "seconds.json").read_text())
    return figures


def table(runs: list[dict[str, float]]) -> str:
    """Returns Markdown rows: figure, mean, standard deviation, interval of the mean."""
    rows = ["| figure | mean | sd | 95 % interval |", "|---|---|---|---|"]
    for name in runs[0]:
        values = np.array([one[name] for one in runs])
        mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else float("nan")
        half = stats.t.ppf(0.975, len(values) - 1) * spread / np.sqrt(len(values))
        interval = f"{mean - half:.2f} to {mean + half:.2f}"
        rows.append(f"| {name} | {mean:.2f} | {spread:.2f} | {interval} |")
    return "\n".join(rows)


def main(argv: list[str]) -> None:
    """Runs all seeds and prints the tables."""
    base = Path(_WORKDIR.value)
    seeds = range(_FIRST.value, _FIRST.value + _SEEDS.value)
    for seed in seeds:
        targeted, blind = base / f"targeted-{seed}", base / f"non-targeted-{seed}"
        run(targeted, seed, targeted=True)
        share(targeted, blind)
        run(blind, seed, targeted=False)
    for name in ("targeted", "non-targeted"):
        print(f"\n{name}, {len(seeds)} seeds\n")
        print(table([headline(base / f"{name}-{seed}") for seed in seeds]))


if __name__ == "__main__":
    app.run(main)
