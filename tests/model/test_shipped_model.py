"""The model that is shipped with the package: it answers, and it refuses where nothing is."""

from pathlib import Path

from no_peaks import KINDS, without_peaks

from imitation_refinement import classify, load_model, read_patterns

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_refuses_a_hundred_scans_without_crystals():
    # From 1000 on no scan was seen when thresholds were set. The two smoothed kinds are left out:
    # with less than one count in four points their noise looks like peaks.
    kinds = [kind for kind in KINDS if kind not in ("running mean", "savgol")]
    scans = [without_peaks(kind, 1000 + index) for kind in kinds for index in range(10)]
    answer = classify(scans, load_model())
    assert len(scans) == 100
    assert set(answer.verdict) == {"not recognised"}


def test_it_answers_where_there_are_crystals_and_knows_most_of_them():
    systems = {
        "silicon": "cubic",
        "zincite": "hexagonal",
        "rutile": "tetragonal",
        "corundum": "trigonal",
        "tenorite": "monoclinic",
    }
    scans = [read_patterns(EXAMPLES / f"{name}.xy", None)[0] for name in systems]
    model = load_model()
    answer = classify(scans, model)
    assert "not recognised" not in answer.verdict
    first_two = [{model.class_names[k] for k in row.argsort()[-2:]} for row in answer.probabilities]
    assert sum(system in two for system, two in zip(systems.values(), first_two, strict=True)) >= 4
