"""The whole program on `:smoke`, as it is used.

One uninterrupted run is the reference; tests copy its folder.
"""

import csv
import html
import json
import shutil

import numpy as np
import pytest
from program import JUDGES, STAGES, contents, stages, trained

from imitation_refinement.model.find import load_model
from imitation_refinement.runtime.files import read_json, read_npz

# ---- What a run leaves behind ----


def test_accuracies_and_distances_are_those_of_the_arrays(reference):
    arrays = read_npz(reference / "evaluation" / "arrays.npz")
    results = read_json(reference / "evaluation" / "results.json")
    labels = arrays["labels"]
    assert results["counts"]["patterns"] == len(labels) == 40
    accuracy = results["accuracy"]
    heads = {
        "logits": accuracy["classifier"],
        "prototype": accuracy["prototype"],
        **{f"judge_{name}": head for name, head in accuracy["judges"].items()},
    }
    assert set(heads) == {"logits", "prototype", "judge_other_seed", "judge_other_network"}
    own = np.argmax(arrays["logits_refined"], 1) == labels
    own_gain = np.mean(own) - np.mean(np.argmax(arrays["logits_raw"], 1) == labels)
    for prefix, found in heads.items():
        hits = {
            kind: np.argmax(arrays[f"{prefix}_{kind}"], axis=1) == labels
            for kind in ("raw", "refined", "truth")
        }
        for kind, hit in hits.items():
            assert found[kind]["value"] == pytest.approx(np.mean(hit), abs=1e-12)
        gain = np.mean(hits["refined"]) - np.mean(hits["raw"])
        assert found["gain"]["value"] == pytest.approx(gain, abs=1e-12)
        assert ("own_minus_gain" in found) == prefix.startswith("judge")
        if "own_minus_gain" in found:
            assert found["own_minus_gain"]["value"] == pytest.approx(own_gain - gain, abs=1e-12)
    scaled = {
        kind: arrays[kind].astype(float) / arrays[kind].max(axis=1, keepdims=True)
        for kind in ("raw", "refined", "truth")
    }
    for kind in ("raw", "refined"):
        l1 = np.abs(scaled[kind] - scaled["truth"]).sum(axis=1)
        assert results["quality"]["l1"][kind]["mean"] == pytest.approx(l1.mean(), rel=1e-5)
    assert np.abs(arrays["refined"] - arrays["raw"]).max() > 1e-3  # the refiner does something
    confusion = np.zeros((7, 7), int)
    np.add.at(confusion, (labels, np.argmax(arrays["logits_refined"], axis=1)), 1)
    assert results["confusion"]["refined"] == confusion.tolist()


def test_no_library_is_in_two_folds_and_every_pattern_is_tested_once(reference, program):
    arrays = read_npz(reference / "evaluation" / "arrays.npz")
    folds_of = {group: set(arrays["fold"][arrays["groups"] == group]) for group in arrays["groups"]}
    assert len(folds_of) > 2
    assert all(len(found) == 1 for found in folds_of.values())
    assert set.union(*folds_of.values()) == {0, 1}
    (folder,) = program.data.glob("imperfect-*")
    np.testing.assert_array_equal(arrays["raw"], np.load(folder / "pattern.npy"))
    np.testing.assert_array_equal(arrays["truth"], np.load(folder / "truth.npy"))
    np.testing.assert_array_equal(arrays["groups"], np.load(folder / "library.npy"))


def test_records_of_a_run_agree(reference, program):
    config = read_json(reference / "config.json")
    assert config["classifier"]["steps"] == 8
    assert config["run"]["cache_dir"] == str(program.data)
    environment = read_json(reference / "environment.json")
    assert environment["packages"]["jax"] and environment["python"].startswith("3.")
    assert stages(reference) == STAGES
    rows = [json.loads(line) for line in (reference / "metrics.jsonl").read_text().splitlines()]
    steps = {stage: [r["step"] for r in rows if r["stage"] == stage] for stage in STAGES}
    trainings = STAGES - {"evaluate", "model", "report"}
    assert {stage: found for stage, found in steps.items() if found} == dict.fromkeys(
        trainings, [4, 8]
    )
    assert all(np.isfinite(value) for row in rows for value in list(row.values())[1:])
    results = read_json(reference / "evaluation" / "results.json")
    accuracy = results["accuracy"]
    heads = {"classifier": accuracy["classifier"]}
    heads |= {f"judge/{name}": head for name, head in accuracy["judges"].items()}
    for stage, head in heads.items():
        marker = read_json(reference / "stages" / f"{stage}.json")
        assert head["held_out"] == marker["summary"]
        assert set(marker["summary"]) == {"seen", "unseen"}


def test_judges_of_equal_settings_are_not_the_classifier_again(reference):
    arrays = read_npz(reference / "evaluation" / "arrays.npz")
    logits = [
        arrays[name] for name in ("logits_raw", "judge_other_seed_raw", "judge_other_network_raw")
    ]
    for i, one in enumerate(logits):
        for other in logits[i + 1 :]:
            assert np.abs(one - other).max() > 0.01


def test_the_report_says_what_the_results_say_and_loads_nothing(reference):
    results = read_json(reference / "evaluation" / "results.json")
    page = (reference / "report.html").read_text(encoding="utf-8")
    text = html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")
    for sentence in [results["verdict"]["headline"], *results["verdict"]["sentences"]]:
        assert sentence in text
    assert page.count("data:image/png;base64,") == 5
    assert "http-equiv" not in page
    assert 'src="http' not in page and "<link" not in page and "<script src" not in page


def test_the_model_file_holds_the_networks_that_were_evaluated(reference):
    arrays = read_npz(reference / "evaluation" / "arrays.npz")
    model = load_model(reference / "model.npz")
    assert len(model.refiners) == 2
    raw = arrays["raw"][..., None]
    np.testing.assert_allclose(
        model.predict(raw).logits, arrays["logits_raw"], rtol=1e-4, atol=1e-4
    )
    for fold in (0, 1):
        own = arrays["fold"] == fold
        refined = model.refine_with(fold, raw[own])[..., 0]
        np.testing.assert_allclose(refined, arrays["refined"][own], rtol=1e-4, atol=1e-5)


# ---- Running again ----


def test_a_second_run_trains_nothing_and_changes_no_file(program, copy):
    before = contents(copy)
    output = program(copy)
    assert contents(copy) == before
    assert not trained(output)
    assert "simulating" not in output
    assert output.endswith(f"nothing left to do; report: {copy / 'report.html'}\n")


@pytest.mark.slow
def test_eight_devices_give_the_results_of_one(program, reference, copy, tmp_path):
    """Of all that a rounding error reaches undistorted; Adam makes steps of it after two steps."""
    rows: dict[int, dict] = {}
    for devices, mode in ((1, "train"), (8, "all")):
        workdir = tmp_path / str(devices)
        output = program(workdir, f"--mode={mode}", "--config.run.log_every=1", devices=devices)
        assert f"{devices} cpu device" in output
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        rows[devices] = {(row["stage"], row["step"]): row for row in map(json.loads, lines)}
    assert rows[1].keys() == rows[8].keys()
    for place in ((stage, step) for stage in ("classifier", *JUDGES) for step in (1, 2)):
        for term in ("loss", "cross_entropy", "prototype", "accuracy"):
            assert rows[8][place][term] == pytest.approx(rows[1][place][term], rel=1e-5), place
    place = "refiner/pretrained", 1  # the identity still, whatever the classifier
    assert rows[8][place]["pair"] == pytest.approx(rows[1][place]["pair"], rel=1e-5)
    assert stages(tmp_path / "8") == STAGES

    # What one device trained, eight evaluate.
    shutil.rmtree(copy / "evaluation")
    program(copy, "--mode=evaluate", devices=8)
    arrays, expected = (read_npz(w / "evaluation" / "arrays.npz") for w in (copy, reference))
    for name in expected:
        np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


# ---- Measured scans ----


def test_refine_writes_results_for_good_scans_and_names_broken_ones(
    program, call, quick_compilation, copy, tmp_path
):
    two_theta = np.linspace(20, 80, 1500)
    counts = np.random.default_rng(0).poisson(
        40 + sum(h * np.exp(-(((two_theta - c) / 0.2) ** 2)) for c, h in ((30, 900), (52, 400)))
    )
    np.savetxt(tmp_path / "good.xy", np.stack([two_theta, counts], axis=1))
    (tmp_path / "broken.xy").write_text("not a scan\n" * 50)
    (copy / "model.npz").unlink()  # as after --mode=train
    before = contents(copy)
    flags = ["--mode=refine", f"--input={tmp_path}/*.xy", "--wavelength=CuKa", "--library=none"]
    output = program(copy, *flags, "--output=out", fails=3)
    assert f"failed: {tmp_path / 'broken.xy'}" in output
    assert not trained(output)
    # The run as it was, and its model in a file, so that the next time is quick.
    assert contents(copy).items() - before.items() == {("model.npz", contents(copy)["model.npz"])}
    assert before.items() <= contents(copy).items()
    folder = tmp_path / "out"
    with open(folder / "summary.csv", newline="", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["broken"]["verdict"] == "failed" and "broken.xy" in rows["broken"]["error"]
    assert float(rows["good"]["wavelength"]) == 1.54184
    for kind in ("raw", "refined"):
        shares = [
            float(value) for name, value in rows["good"].items() if name.startswith(f"{kind}_")
        ]
        assert len(shares) == 7 and sum(shares) == pytest.approx(1, abs=1e-3)
    refined = np.loadtxt(folder / "good.refined.xy")
    assert np.all(np.diff(refined[:, 0]) > 0)
    assert 20 <= refined[0, 0] < 21 and 79 < refined[-1, 0] <= 80
    assert abs(refined[np.argmax(refined[:, 1]), 0] - 30) < 0.5
    # The file of the run's model gives the same.
    assert call(*flags, f"--model={copy / 'model.npz'}", "--output=again") == 3
    for name in ("summary.csv", "good.refined.xy", "good.residual.xy"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
