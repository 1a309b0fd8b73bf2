"""What each method does with the test patterns of a fold: from frozen classifier to answer.

Belongs here: on which rows a method trains and what it answers. The training is in `stages` and
`baselines`, names and settings in `methods`, and measuring in `measure`.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.baselines import denoise
from imitation_refinement.baselines.stages import adda_stage, gta_stage
from imitation_refinement.method.classifier import Classifier, Prediction
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    imperfect_as_ideal,
    simulated_as_ideal,
)
from imitation_refinement.stages.refiners import (
    pretraining_stage,
    refined_patterns,
    refiner_stage,
)
from imitation_refinement.stages.run import Run


class Answer(NamedTuple):
    """What a method makes of the test patterns of one fold.

    Attributes:
        pattern: float32 `[n, L, 1]`; None if it leaves them as they are.
        prediction: its answer.
        settings: what it chose on the training folds, for result.json.
    """

    pattern: np.ndarray | None
    prediction: Prediction
    settings: dict[str, Any]


class Setting(NamedTuple):
    """Where a method works.

    Attributes:
        run: of the job, with the method's own settings as `run.config.method`.
        shared: the run of what all jobs of this seed and classifier share.
        frozen: the classifier of ideal patterns.
    """

    run: Run
    shared: Run
    frozen: TrainedClassifier


# (fold, training rows, test patterns [n, L, 1]) -> Answer
Answerer = Callable[[int, np.ndarray, np.ndarray], Answer]


def raw(setting: Setting) -> Answerer:
    """The frozen classifier on patterns as they are."""
    run, _, frozen = setting
    return lambda fold, training, x: Answer(x, frozen.predict(run, x), {})


def denoised(kind: str, setting: Setting) -> Answerer:
    """A denoiser of `baselines.denoise`, its settings chosen on the training folds."""
    run, _, frozen = setting
    data = run.task.imperfect
    logits = remembered(lambda x: frozen.predict(run, x[..., None]).logits)

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        known = data.pattern[training][..., 0]
        chosen = denoise.choose(
            kind, known, data.label[training], data.group[training], logits, run.config.seed
        )
        clean = denoise.fit(kind, chosen.settings, known)(x[..., 0])[..., None]
        settings = {**chosen.settings, "accuracy": chosen.accuracy}
        return Answer(clean, frozen.predict(run, clean), settings)

    return answer


def refined(setting: Setting) -> Answerer:
    """The refiner that the run's config asks for.

    Pre-training sees pairs alone, so what is targeted and what is not share it.
    """
    run, shared, frozen = setting
    own = run.config.refiner.pretrain_steps > 0
    pretrained = pretraining_stage(shared, frozen) if own else None

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        pattern = refined_patterns(run, refiner_stage(run, frozen, fold, pretrained), x)
        return Answer(pattern, frozen.predict(run, pattern), {})

    return answer


def adda(setting: Setting) -> Answerer:
    """ADDA: the classifier's encoder is adapted to imperfect patterns."""
    run, _, frozen = setting

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        name, section = f"adda/fold_{fold}", run.config.method
        found = adda_stage(run, frozen, name, training, section, run.called("method"))
        return Answer(None, found.predict(run, x), {})

    return answer


def gta(setting: Setting) -> Answerer:
    """GTA: the whole classifier is adapted, and a generator makes patterns."""
    run, _, frozen = setting

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        name, section = f"gta/fold_{fold}", run.config.method
        found = gta_stage(run, frozen, name, training, section, run.called("method"))
        return Answer(found.generate(x), found.classifier.predict(run, x), {})

    return answer


def fine_tuned(setting: Setting) -> Answerer:
    """The frozen classifier, trained on the imperfect training patterns."""
    return _retrained(setting, setting.frozen.tree)


def scratch(setting: Setting) -> Answerer:
    """A classifier trained on the imperfect training patterns alone."""
    return _retrained(setting, None)


def _retrained(setting: Setting, start: Classifier | None) -> Answerer:
    run = setting.run

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        found = classifier_stage(
            run,
            f"classifier/fold_{fold}",
            start,
            section=run.config.method,
            called=run.called("method"),
            data=imperfect_as_ideal(run.task.imperfect, training),
        )
        return Answer(None, found.predict(run, x), {})

    return answer


def simulated(setting: Setting) -> Answerer:
    """A classifier of simulated imperfect patterns; without measured ones: one for all folds."""
    run = setting.run

    def answer(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
        found = classifier_stage(
            run,
            "classifier",
            section=run.config.method,
            called=run.called("method"),
            data=simulated_as_ideal(run),
        )
        return Answer(None, found.predict(run, x), {})

    return answer


def remembered(logits: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the same function of patterns `[n, L]`, which it asks only once for equal rows.

    The folds of a cross-validation ask for the same denoised patterns again and again.
    """
    known: dict[bytes, np.ndarray] = {}

    def ask(patterns: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(row.tobytes()).digest() for row in patterns]
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            answers = np.asarray(logits(patterns[list(new.values())]))
            known.update(zip(new, answers, strict=True))
        return np.stack([known[key] for key in keys])

    return ask
