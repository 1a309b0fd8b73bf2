"""What is compared: classifiers, methods and ablations by name, and the config of each job.

Belongs here: which jobs a config asks for and what each is, as values. Nothing here trains,
measures or reads files.
"""

from typing import NamedTuple

from ml_collections import ConfigDict


class Method(NamedTuple):
    """A way to get better answers on imperfect patterns.

    Attributes:
        label: its name in tables; of refiners what is said of the network.
        kind: how it is done: `raw`, `denoise`, `refiner`, `adda`, `gta` or `classifier`.
        labels: whether it reads the labels of imperfect training patterns.
        keeps: whether the classifier stays as it was trained on ideal patterns.
    """

    label: str
    kind: str
    labels: bool
    keeps: bool


METHODS = {
    "raw": Method("raw patterns", "raw", False, True),
    "dwt": Method("wavelet denoising", "denoise", True, True),
    "smoothed_pca": Method("smoothed PCA", "denoise", True, True),
    "savitzky_golay": Method("Savitzky–Golay", "denoise", True, True),
    "adda": Method("ADDA", "adda", False, False),
    "adda_labels": Method("ADDA + labels", "adda", True, False),
    "gta": Method("GTA", "gta", False, False),
    "gta_labels": Method("GTA + labels", "gta", True, False),
    "fine_tuned": Method("classifier fine-tuned", "classifier", True, False),
    "scratch": Method("classifier from scratch", "classifier", True, False),
    "simulated": Method("classifier of simulated imperfections", "classifier", False, False),
    "project_page": Method("earlier variant: prediction loss only", "refiner", True, True),
    "paper_targeted": Method("paper's refiner, targeted", "refiner", True, True),
    "paper_non_targeted": Method("paper's refiner, non-targeted", "refiner", False, True),
    "ours_targeted": Method("ours, targeted", "refiner", True, True),
    "ours_non_targeted": Method("ours, non-targeted", "refiner", False, True),
}
OURS, OURS_BLIND, PAPERS = "ours_targeted", "ours_non_targeted", "paper_targeted"
# Losses left out: fields of the paper's refiner.
LOSSES: dict[str, dict[str, object]] = {
    "prediction_only": {"prototype_weight": 0.0},
    "prototype_only": {"prediction_weight": 0.0},
}


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


def ablations(config: ConfigDict) -> dict[str, dict[str, object]]:
    """Returns by name which fields of the paper's refiner are changed for Table 3."""
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
    return found


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
    kind = METHODS[job.method].kind if job.method in METHODS else "refiner"
    if kind == "refiner":
        own.refiner = _refiner(config, job.method)
    elif kind == "classifier":
        settings = config.tables[job.method].to_dict()
        own.method = ConfigDict({"network": own.classifier.network} | settings)
    elif kind in ("adda", "gta"):
        own.method = ConfigDict(config.tables[kind].to_dict())
        if METHODS[job.method].labels:
            own.method.label_weight = config.tables.label_weight
    return own


def _refiner(config: ConfigDict, method: str) -> ConfigDict:
    if method in (OURS, OURS_BLIND):
        return _changed(config.refiner, {"targeted": METHODS[method].labels})
    paper = config.tables.paper_refiner
    if method == PAPERS:
        return _changed(paper, {"targeted": True})
    if method == "paper_non_targeted":
        alpha = config.tables.non_targeted_alpha
        return _changed(paper, {"targeted": False, "regularization_weight": alpha})
    changes = LOSSES["prediction_only"] if method == "project_page" else ablations(config)[method]
    return _changed(paper, {"targeted": True} | changes)


def _changed(section: ConfigDict, changes: dict) -> ConfigDict:
    return ConfigDict(section.to_dict() | changes)
