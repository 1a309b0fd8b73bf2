"""What is compared: classifiers, methods and ablations by name, and the config of each job.

Belongs here: which jobs a config asks for and what each is, as values that carry what they do. A
new method is an entry of `METHODS`, its function in `answers`, and its section in the config.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from imitation_refinement.baselines.fields import ADDA, GTA
from imitation_refinement.comparison import answers
from imitation_refinement.config import Check
from imitation_refinement.stages.fields import CLASSIFIER

# (config of the comparison, config of the job's run) -> sections that the latter gets
Settings = Callable[[ConfigDict, ConfigDict], Mapping[str, ConfigDict]]


class Method(NamedTuple):
    """A way to get better answers on imperfect patterns.

    Attributes:
        label: its name in tables; of refiners what is said of the network.
        labels: whether it reads the labels of imperfect training patterns.
        keeps: whether the classifier stays as it was trained on ideal patterns.
        patterns: whether it makes patterns, which can be compared with the true ones.
        answer: what it does with the test patterns of a fold.
        settings: sections that it gives the config of its run: `method`, or for refiners `refiner`.
        names: what the user calls these sections, where it is another name.
        fields: what the fields of its section of `config.tables` may be, by the section's name.
    """

    label: str
    labels: bool
    keeps: bool
    patterns: bool
    answer: Callable[[answers.Setting], answers.Answerer]
    settings: Settings = lambda config, own: {}
    names: Mapping[str, str] = {}
    fields: Mapping[str, Mapping[str, Check]] = {}


def _denoiser(label: str, kind: str) -> Method:
    return Method(label, True, True, True, partial(answers.denoised, kind))


def _adapted(
    label: str, labels: bool, patterns: bool, name: str, answer: Any, fields: Mapping[str, Check]
) -> Method:
    """A method that adapts the classifier to imperfect patterns, without or with their labels."""

    def settings(config: ConfigDict, own: ConfigDict) -> Mapping[str, ConfigDict]:
        changes = {"label_weight": config.tables.label_weight} if labels else {}
        return {"method": _changed(config.tables[name], changes)}

    names = {"method": f"config.tables.{name}"}
    return Method(label, labels, False, patterns, answer, settings, names, {name: fields})


def _classifier(label: str, labels: bool, name: str, answer: Any) -> Method:
    """A classifier of the network of the frozen one, trained on something else."""

    def settings(config: ConfigDict, own: ConfigDict) -> Mapping[str, ConfigDict]:
        return {"method": _changed(config.tables[name], {"network": own.classifier.network})}

    names = {"method": f"config.tables.{name}"}
    return Method(label, labels, False, False, answer, settings, names, {name: CLASSIFIER})


def _ours(label: str, targeted: bool) -> Method:
    def settings(config: ConfigDict, own: ConfigDict) -> Mapping[str, ConfigDict]:
        return {"refiner": _changed(config.refiner, {"targeted": targeted})}

    return Method(label, targeted, True, True, answers.refined, settings)


def _papers(label: str, targeted: bool, changes: Mapping[str, object] | None = None) -> Method:
    """The paper's refiner, with some fields changed."""

    def settings(config: ConfigDict, own: ConfigDict) -> Mapping[str, ConfigDict]:
        alpha = {} if targeted else {"regularization_weight": config.tables.non_targeted_alpha}
        changed = {"targeted": targeted} | alpha | dict(changes or {})
        return {"refiner": _changed(config.tables.paper_refiner, changed)}

    names = {"refiner": "config.tables.paper_refiner"}
    return Method(label, targeted, True, True, answers.refined, settings, names)


# Losses left out: fields of the paper's refiner.
LOSSES: dict[str, dict[str, object]] = {
    "prediction_only": {"prototype_weight": 0.0},
    "prototype_only": {"prediction_weight": 0.0},
}
METHODS: dict[str, Method] = {
    "raw": Method("raw patterns", False, True, True, answers.raw),
    "dwt": _denoiser("wavelet denoising", "dwt"),
    "smoothed_pca": _denoiser("smoothed PCA", "smoothed_pca"),
    "savitzky_golay": _denoiser("Savitzky–Golay", "savitzky_golay"),
    "adda": _adapted("ADDA", False, False, "adda", answers.adda, ADDA),
    "adda_labels": _adapted("ADDA + labels", True, False, "adda", answers.adda, ADDA),
    "gta": _adapted("GTA", False, True, "gta", answers.gta, GTA),
    "gta_labels": _adapted("GTA + labels", True, True, "gta", answers.gta, GTA),
    "fine_tuned": _classifier("classifier fine-tuned", True, "fine_tuned", answers.fine_tuned),
    "scratch": _classifier("classifier from scratch", True, "scratch", answers.scratch),
    "simulated": _classifier(
        "classifier of simulated imperfections", False, "simulated", answers.simulated
    ),
    "project_page": _papers(
        "earlier variant: prediction loss only", True, LOSSES["prediction_only"]
    ),
    "paper_targeted": _papers("paper's refiner, targeted", True),
    "paper_non_targeted": _papers("paper's refiner, non-targeted", False),
    "ours_targeted": _ours("ours, targeted", True),
    "ours_non_targeted": _ours("ours, non-targeted", False),
}
CLEANERS = ("raw", "dwt", "smoothed_pca", "savitzky_golay")  # that keep the classifier
OURS, OURS_BLIND, PAPERS = "ours_targeted", "ours_non_targeted", "paper_targeted"


class Job(NamedTuple):
    """One result: a method through a classifier, all folds of one seed.

    Attributes:
        seed: of everything random.
        classifier: a name of `classifiers`.
        method: a name of `METHODS` or of `ablations`.
    """

    seed: int
    classifier: str
    method: str

    @property
    def folder(self) -> str:
        """Its folder within that of the tables."""
        return f"seed_{self.seed}/{self.classifier}/{self.method}"


def classifiers(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the section of each ideal-data classifier by name, the main one first.

    Two networks, each prototypical and standard (lambda 0), then the main one with other lambdas.
    """
    sections = {}
    for section in (config.classifier, config.tables.other_classifier):
        sections[f"proto_{section.network}"] = section
        sections[section.network] = _changed(section, {"prototype_weight": 0.0})
    for weight in config.tables.lambdas:
        changed = _changed(config.classifier, {"prototype_weight": weight})
        sections[f"{next(iter(sections))}_lambda_{weight:g}"] = changed
    return sections


def ablations(config: ConfigDict) -> dict[str, Method]:
    """Returns the paper's refiner with the changes of Table 3, by name."""
    tables = config.tables
    found = dict(LOSSES)
    for field, short, values in (
        ("regularization_weight", "alpha", tables.alphas),
        ("prototype_weight", "beta", tables.betas),
        ("norm", "p", tables.norms),
        ("psi", "psi", tables.psis),
    ):
        for value in values:
            text = value if isinstance(value, str) else f"{value:g}"
            found[f"{short}_{text}"] = {field: value}
    return {name: _papers(name.replace("_", " "), True, changes) for name, changes in found.items()}


def method_of(config: ConfigDict, name: str) -> Method:
    """Returns the method or ablation of this name."""
    return METHODS[name] if name in METHODS else ablations(config)[name]


def jobs(config: ConfigDict) -> list[Job]:
    """Returns all jobs: the methods of all seeds first, then the ablations of all seeds."""
    tables = config.tables
    names = list(classifiers(config))
    wanted = (tables.methods, tables.standard_methods, tables.other_methods,
              tables.other_standard_methods)  # fmt: skip
    pairs = [(name, m) for name, some in zip(names[:4], wanted, strict=True) for m in some]
    rest = [(names[0], name) for name in ablations(config)] + [(n, PAPERS) for n in names[4:]]
    seeds = range(config.seed, config.seed + tables.seeds)
    return [Job(seed, *pair) for part in (pairs, rest) for seed in seeds for pair in part]


def shared_config(config: ConfigDict, seed: int, classifier: str) -> ConfigDict:
    """Returns the config of a single run with this seed and classifier, and our refiner."""
    own = ConfigDict({name: part for name, part in config.to_dict().items() if name != "tables"})
    own.task = "xrd"
    own.seed = seed
    own.classifier = ConfigDict(classifiers(config)[classifier].to_dict())
    own.refiner.targeted = True
    return own


def job_config(config: ConfigDict, job: Job) -> ConfigDict:
    """Returns the config of a single run that does what the job does.

    Its refiner is the job's; of other methods the settings are added as section `method`.
    """
    own = shared_config(config, job.seed, job.classifier)
    for name, section in method_of(config, job.method).settings(config, own).items():
        own[name] = section
    return own


def names_of(config: ConfigDict, job: Job) -> dict[str, str]:
    """Returns what the user calls the sections of `job_config`, where it is another name."""
    names = dict(method_of(config, job.method).names)
    if job.classifier.removeprefix("proto_") == config.tables.other_classifier.network:
        names["classifier"] = "config.tables.other_classifier"
    return names


def _changed(section: ConfigDict, changes: Mapping[str, object]) -> ConfigDict:
    return ConfigDict({**section.to_dict(), **changes})
