"""The paper's Tables 1 to 4 from finished jobs, and what was to be reached.

Belongs here: which figures stand in which table, and their captions. Figures come from `study`;
how tables look in files is in `page`. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from imitation_refinement.comparison.measure import QUALITY
from imitation_refinement.comparison.methods import (
    CLEANERS,
    LOSSES,
    METHODS,
    OURS,
    OURS_BLIND,
    PAPERS,
    Job,
    ablations,
    classifiers,
    job_config,
    jobs,
)
from imitation_refinement.comparison.study import Cell, Pair, Study
from imitation_refinement.evaluation.metrics import METRICS

Entry = Cell | str
# NCC may be near zero or negative, so its improvement is a difference.
FORMS = {name: "signed" if METRICS[name].better == "higher" else "change" for name in QUALITY}


class Table(NamedTuple):
    """A table: rows of entries below columns; the first entries of a row say what it is.

    Attributes:
        key: name in files.
        title, caption: plain text.
        columns: names, with units.
        rows: entries.
    """

    key: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Entry]]


def all_tables(config: ConfigDict, study: Study) -> list[Table]:
    """Returns every table that the config asks for; what is not done has dashes."""
    return [
        targets(config, study),
        table1(config, study),
        table2(config, study),
        table3(config, study),
        *table4(config, study),
    ]


def main_classifier(config: ConfigDict) -> str:
    """Returns the name of the classifier through which all methods are compared."""
    return next(iter(classifiers(config)))


def classifier_label(name: str) -> str:
    """Returns the name of a classifier in words."""
    network, _, weight = name.removeprefix("proto_").partition("_lambda_")
    kind = "prototypical" if name.startswith("proto_") else "standard"
    return f"{kind} {network.replace('_', ' ')}" + (f", λ = {weight}" if weight else "")


def method_label(name: str) -> str:
    """Returns the name of a method or ablation in tables."""
    return METHODS[name].label if name in METHODS else name.replace("_", " ")


def compared(config: ConfigDict) -> list[Pair]:
    """Returns classifier and method of every job but the ablations, in order."""
    names = list(classifiers(config))[:4]
    pairs = [(job.classifier, job.method) for job in _once(config)]
    return [pair for pair in pairs if pair[0] in names and pair[1] in METHODS]


def _once(config: ConfigDict) -> list[Job]:
    return [job for job in jobs(config) if job.seed == config.seed]


def _seeds(config: ConfigDict, study: Study, pair: Pair) -> str:
    done, asked = len(study.seeds(pair)), config.tables.seeds
    return "not done" if not done else str(done) if done == asked else f"{done} of {asked}"


def table1(config: ConfigDict, study: Study) -> Table:
    """Raw patterns through each classifier of ideal patterns."""
    rows: list[list[Entry]] = []
    for name in [name for name, method in compared(config) if method == "raw"]:
        pair, standard = (name, "raw"), (name.removeprefix("proto_"), "raw")
        rows.append(
            [
                classifier_label(name),
                study.mean(pair, "hit"),
                study.mean(pair, "prototype_hit"),
                study.mean(pair, "hit_truth"),
                study.difference(pair, pair, "hit_truth", base_key="hit"),
                study.mean(pair, "held_out_seen"),
                study.mean(pair, "held_out_unseen"),
                study.difference(pair, standard, "hit") if pair != standard else "",
                _seeds(config, study, pair),
            ]
        )
    return Table(
        "table1",
        "Table 1: raw imperfect patterns through classifiers of ideal patterns",
        "Accuracy of the head and of the nearest prototype; on the true patterns, as far as they "
        "are known, and how much more that is than on the raw ones of the same, which is what "
        "perfect refinement would gain; and on held-out ideal patterns of seen and unseen "
        "prototypes.",
        ["classifier", "raw (%)", "raw, nearest prototype (%)", "true patterns (%)",
         "true − raw (points)", "ideal, seen (%)", "ideal, unseen (%)",
         "prototypical − standard (points)", "seeds"],
        rows,
    )  # fmt: skip


def table2(config: ConfigDict, study: Study) -> Table:
    """Accuracy of all methods, with paired differences."""
    ours = main_classifier(config), OURS
    judges = sorted(config.judges)
    rows: list[list[Entry]] = []
    for pair in compared(config):
        classifier, name = pair
        method = METHODS[name]
        versus = pair != ours
        rows.append(
            [
                method_label(name),
                classifier_label(classifier),
                "yes" if method.labels else "no",
                "yes" if method.keeps else "no",
                study.mean(pair, "hit"),
                study.difference(pair, (classifier, "raw"), "hit") if name != "raw" else "",
                study.difference(ours, pair, "hit") if versus else "",
                study.difference(ours, pair, "hit", over_seeds=True) if versus else "",
                *(study.mean(pair, f"hit_{judge}") for judge in judges),
                _seeds(config, study, pair),
            ]
        )
    return Table(
        "table2",
        "Table 2: accuracy of all methods",
        "Through the classifier named, which in methods that keep it has seen ideal patterns only. "
        "Labels: whether those of imperfect training patterns are used, be it to choose settings. "
        "Unseen: accuracy of classifiers that no method had on the patterns that it made; a gain "
        "that they do not share is adversarial.",
        ["method", "classifier", "labels", "classifier kept", "accuracy (%)",
         "minus raw (points)", "ours, targeted − this (points)", "the same, interval over seeds",
         *(f"unseen: {judge.replace('_', ' ')} (%)" for judge in judges), "seeds"],
        rows,
    )  # fmt: skip


def table3(config: ConfigDict, study: Study) -> Table:
    """The paper's refiner with losses left out and weights changed."""
    main = main_classifier(config)
    reference = main, PAPERS
    names = list(classifiers(config))
    pairs = [reference, *((main, name) for name in ablations(config))]
    pairs += [(name, PAPERS) for name in (names[1], *names[4:])]  # other lambdas
    known = {(job.classifier, job.method) for job in _once(config)}
    rows: list[list[Entry]] = []
    for pair in [pair for pair in pairs if pair in known]:
        own = job_config(config, Job(config.seed, *pair))
        r = own.refiner
        versus = pair != reference
        rows.append(
            [
                "yes" if r.prototype_weight > 0 else "no",
                "yes" if r.prediction_weight > 0 else "no",
                f"{r.regularization_weight:g}",
                f"{r.prototype_weight:g}",
                f"{r.norm:g}",
                r.psi.replace("_", " "),
                f"{own.classifier.prototype_weight:g}",
                study.mean(pair, "hit"),
                study.difference(pair, reference, "hit") if versus else "",
                study.difference(pair, reference, "hit", over_seeds=True) if versus else "",
                study.improvement(pair, (main, "raw"), "l1", False, "change"),
                _seeds(config, study, pair),
            ]
        )
    return Table(
        "table3",
        "Table 3: which losses and weights matter",
        "The paper's refiner, targeted, without pairs. Alpha is per element. λ is the weight of "
        "the prototypical loss in training the classifier.",
        ["ℓ_proto", "ℓ_pred", "α", "β", "p", "Ψ", "λ", "accuracy (%)",
         "minus the first row (points)", "the same, interval over seeds", "ℓ1 against raw (%)",
         "seeds"],
        rows,
    )  # fmt: skip


def table4(config: ConfigDict, study: Study) -> list[Table]:
    """Distances to the true patterns: absolute, improved, and as paired differences."""
    raw, dwt = ((main_classifier(config), name) for name in ("raw", "dwt"))
    known = [
        pair
        for pair in compared(config)
        if METHODS[pair[1]].patterns and (pair[1] != "raw" or pair == raw)
    ]
    heads = ["method", "classifier"]
    labels = [METRICS[name].label for name in QUALITY]
    absolute: list[list[Entry]] = []
    improved: list[list[Entry]] = []
    differences: list[list[Entry]] = []
    for pair in known:
        row: list[Entry] = [method_label(pair[1]), classifier_label(pair[0])]
        absolute.append(
            row
            + [study.mean(pair, name, "number") for name in QUALITY]
            + [study.median(pair, name) for name in QUALITY]
            + [
                study.ratio(pair, "peaks_invented", "peaks_refined"),
                study.ratio(pair, "peaks_lost", "peaks_truth"),
                _seeds(config, study, pair),
            ]
        )
        if pair[1] == "raw":
            continue
        improved.append(
            row
            + [
                study.improvement(pair, raw, name, of_median, FORMS[name])
                for of_median in (False, True)
                for name in QUALITY
            ]
        )
        differences.append(
            row
            + [
                study.difference(pair, base, name, "signed") if pair != base else ""
                for base in (raw, dwt)
                for name in QUALITY
            ]
        )
    better = "ℓ1, ℓ2 and KL fall and NCC rises where patterns come closer."
    formulas = "; ".join(f"{METRICS[name].label}: {METRICS[name].formula}" for name in QUALITY)
    return [
        Table(
            "table4",
            "Table 4: distance to the true patterns",
            f"x is the pattern, y the truth, both with a maximum of 1. {formulas}. Invented: peaks "
            "found neither in the raw pattern nor in the truth, of all peaks; lost: true peaks "
            f"that the raw pattern shows and this one does not. {better}",
            [*heads, *(f"{label}, mean" for label in labels),
             *(f"{label}, median" for label in labels), "invented (%)", "lost (%)", "seeds"],
            absolute,
        ),
        Table(
            "table4_improvement",
            "Table 4 as improvement over raw",
            f"Relative change in %, of NCC the difference. {better}",
            [*heads, *(f"{label}, mean" for label in labels),
             *(f"{label}, median" for label in labels)],
            improved,
        ),
        Table(
            "table4_paired",
            "Table 4: paired differences",
            f"Mean difference for the same patterns, with its interval. {better}",
            [*heads, *(f"{label} − {base}" for base in ("raw", "DWT") for label in labels)],
            differences,
        ),
    ]  # fmt: skip


def targets(config: ConfigDict, study: Study) -> Table:
    """What was to be reached, what was, and whether that is enough."""
    main = main_classifier(config)
    raw, ours = (main, "raw"), (main, OURS)
    measured = bool(config.data.imperfect.measured)
    gain = study.difference(ours, raw, "hit")
    if measured:
        invented = study.ratio(ours, "peaks_invented", "peaks_refined")
        rows = [
            _target("ours, targeted, lifts accuracy over raw by 10 points", {"": gain}, 0.10),
            _target("no more than 1 % of its peaks are invented", {"": invented}, None, most=0.01),
        ]
        return _target_table(rows)
    plain = main.removeprefix("proto_"), "raw"
    keeping = [pair for pair in compared(config) if pair[0] == main and pair[1] in CLEANERS]
    closer = {
        f"{METRICS[name].label}, {METHODS[base[1]].label}": study.difference(*pair, name, "signed")
        for base in (raw, (main, "dwt"))
        for name in QUALITY
        for pair in [(ours, base) if METRICS[name].better == "higher" else (base, ours)]
    }
    rows = [
        _target("the prototypical classifier is no worse than the standard one on raw patterns",
                {"": study.difference(raw, plain, "hit")}, 0.0),
        _target("ours, targeted, is 5 points above every method that keeps the classifier",
                {METHODS[pair[1]].label: study.difference(ours, pair, "hit") for pair in keeping},
                0.05),
        _target("it is closer to the truth than raw and DWT in ℓ1, ℓ2, KL and NCC; intervals "
                "exclude 0", closer, 0.0, sure=True),
        _target("ours, non-targeted, is 3 points above raw",
                {"": study.difference((main, OURS_BLIND), raw, "hit")}, 0.03),
        _target("both losses are no worse than either alone (paper's refiner)",
                {name.replace("_", " "): study.difference((main, PAPERS), (main, name), "hit")
                 for name in LOSSES}, 0.0),
    ]  # fmt: skip
    return _target_table(rows)


def _target(
    text: str,
    cells: Mapping[str, Cell],
    least: float | None,
    *,
    most: float = 0.0,
    sure: bool = False,
) -> list[Entry]:
    """Row of a target: the weakest of some figures, which it is, and whether all are enough."""
    if not cells or any(cell.value is None for cell in cells.values()):
        return [text, "–", "", "not known"]
    figures = {name: cell.low if sure else cell.value for name, cell in cells.items()}
    if any(figure is None for figure in figures.values()):
        return [text, "–", "", "not known: too few groups"]
    weakest = min(figures, key=lambda name: figures[name] or 0.0)
    value = figures[weakest] or 0.0
    row: list[Entry] = [text, cells[weakest], weakest]
    if least is None:
        return [*row, "yes" if value <= most else "no"]
    return [*row, "yes" if value > least or (not sure and value == least) else "no"]


def _target_table(rows: list[list[Entry]]) -> Table:
    return Table(
        "targets",
        "What was to be reached",
        "Set before the runs. Found is the weakest of the figures concerned.",
        ["target", "found", "against", "reached"],
        rows,
    )
