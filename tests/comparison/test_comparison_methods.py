from itertools import pairwise

import pytest

from configs.xrd import get_config
from imitation_refinement.applications import check_config
from imitation_refinement.comparison.methods import (
    METHODS,
    Job,
    ablations,
    classifiers,
    job_config,
    jobs,
)
from imitation_refinement.errors import UserError

PRESETS = ("tables", "tables_smoke", "tables_paper", "tables_measured")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_job_is_a_valid_run_of_its_own(preset):
    config = get_config(preset)
    check_config(config)
    before = config.to_json()
    found = jobs(config)
    assert len({job.folder for job in found}) == len(found)
    for job in found:
        own = job_config(config, job)
        assert (own.task, own.seed) == ("xrd", job.seed)
        if "method" in own:
            del own.method
        check_config(own)
    assert config.to_json() == before


def test_jobs_of_the_paper():
    config = get_config("tables")
    found = jobs(config)
    assert {job.seed for job in found} == {0, 1, 2, 3, 4}
    names = list(classifiers(config))
    assert names[:4] == ["proto_densenet_slim", "densenet_slim", "proto_vgg_slim", "vgg_slim"]
    main = {job.method for job in found if job.classifier == names[0]}
    assert set(METHODS) - main == {"project_page"} and set(ablations(config)) < main
    assert Job(2, "densenet_slim", "project_page") in found
    assert Job(2, "proto_densenet_slim_lambda_10", "paper_targeted") in found


def test_all_seeds_are_compared_before_the_first_ablation():
    config = get_config("tables")
    ablated = [job.method not in METHODS or "lambda" in job.classifier for job in jobs(config)]
    assert all(first <= second for first, second in pairwise(ablated))


def test_what_jobs_change():
    config = get_config("tables")

    def refiner(method, classifier="proto_densenet_slim"):
        return job_config(config, Job(0, classifier, method)).refiner

    assert refiner("ours_targeted") == config.refiner
    assert refiner("ours_targeted").pair_weight > 0
    paper = refiner("paper_targeted")
    assert paper == config.tables.paper_refiner and paper.targeted
    assert paper.pair_weight == paper.pair_recognition == paper.pretrain_steps == 0
    assert difference(refiner("ours_non_targeted"), config.refiner) == {"targeted": False}
    alpha = {"regularization_weight": config.tables.non_targeted_alpha}
    assert difference(refiner("paper_non_targeted"), paper) == {"targeted": False} | alpha
    for method, changed in {
        "prediction_only": {"prototype_weight": 0.0},
        "prototype_only": {"prediction_weight": 0.0},
        "alpha_100": {"regularization_weight": 100.0},
        "beta_0.1": {"prototype_weight": 0.1},
        "p_2": {"norm": 2.0},
        "psi_second_conv": {"psi": "second_conv"},
    }.items():
        assert difference(refiner(method), paper) == changed
    earlier = job_config(config, Job(0, "densenet_slim", "project_page"))
    assert (earlier.refiner.prototype_weight, earlier.classifier.prototype_weight) == (0.0, 0.0)
    strong = job_config(config, Job(0, "proto_densenet_slim_lambda_10", "paper_targeted"))
    assert difference(strong.classifier, config.classifier) == {"prototype_weight": 10.0}


def test_settings_of_other_methods():
    config = get_config("tables")
    for kind in ("adda", "gta"):
        blind, sighted = (
            job_config(config, Job(0, "proto_densenet_slim", name)).method
            for name in (kind, f"{kind}_labels")
        )
        assert blind.label_weight == 0.0
        assert difference(sighted, blind) == {"label_weight": 1.0}
    tuned = job_config(config, Job(0, "proto_densenet_slim", "fine_tuned"))
    assert tuned.method.network == tuned.classifier.network


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("other_classifier.network", "densenet_slim", "must differ"),
        ("paper_refiner.pair_weight", 1.0, "has no pairs"),
        ("scratch.warmup_steps", 300, "must be below"),
        ("methods", ("raw", "magic"), "config.tables.methods"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, message):
    config = get_config("tables")
    config.tables.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        check_config(config)


def difference(own, other):
    return {name: own[name] for name in own if own[name] != other[name]}
