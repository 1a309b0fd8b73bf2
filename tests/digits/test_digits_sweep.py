import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from program import ROOT

from configs.digits import get_config
from imitation_refinement.applications import check_config
from imitation_refinement.digits.sweep import ADAPTED, Job, job_config, jobs
from imitation_refinement.digits.sweep_page import (
    differences,
    markdown,
    spread,
    summary,
    value,
    write_page,
)
from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.runtime.files import atomic_write_npz
from imitation_refinement.stages.classifiers import imperfect_as_ideal
from imitation_refinement.tasks import TRAIN


def test_jobs_are_the_papers_and_its_rivals():
    found = jobs(get_config("sweep"))
    assert len(set(found)) == len(found) == 5 * (8 * 4 + 1) + 1 + 5 + 5 * 3 * 4
    assert {job.method for job in found} > set(ADAPTED)
    assert Job(3, "targeted", 20) in found
    assert Job(4, "non_targeted", 50) in found
    assert Job(0, "one_font", 50, "stix") in found
    assert [job.number for job in found if job.method == "gta"] == 5 * [1, 10, 50]
    assert [job for job in found if job.method == "alpha_0"] == [Job(0, "alpha_0", 50)]
    assert len({job.folder for job in found}) == len(found)
    shorter = get_config("sweep")
    shorter.sweep.adapted = ()
    check_config(shorter)
    assert jobs(shorter) == [job for job in found if job.method not in ADAPTED]


def test_a_job_is_a_run_of_its_own():
    config = get_config("sweep")
    for job in jobs(config):
        check_config(job_config(config, job))
    own = job_config(config, Job(2, "non_targeted", 50))
    assert (own.seed, own.data.images_per_class, own.refiner.targeted) == (2, 50, False)
    own = job_config(config, Job(0, "one_font", 50, "stix"))
    assert (own.data.fonts, own.refiner.targeted) == (("stix",), True)
    assert own.refiner.regularization_weight == config.refiner.regularization_weight > 0
    own = job_config(config, Job(0, "alpha_0", 50))
    assert (own.refiner.targeted, own.refiner.regularization_weight) == (True, 0.0)
    own = job_config(config, Job(0, "scratch_as_paper", 1))
    assert (own.classifier.optimizer, own.classifier.prototype_weight) == ("rmsprop", 0.0)
    assert config.seed == 0 and config.data.images_per_class == 50


def test_rivals_are_trained_on_the_few_images_alone(tmp_path):
    config = job_config(get_config("sweep_smoke"), Job(0, "scratch", 2))
    data = DigitsTask(config, tmp_path, 1).imperfect
    few = imperfect_as_ideal(data, np.flatnonzero(data.fold < 0), augment=True)
    assert few.split.tolist() == [TRAIN] * 20
    np.testing.assert_array_equal(few.label, data.label[:20])
    np.testing.assert_array_equal(few.fixed(7), data.pattern[7])
    rng = np.random.default_rng(0)
    assert np.abs(few.view(7, rng) - few.fixed(7)).max() > 0.05
    plain = imperfect_as_ideal(data, np.flatnonzero(data.fold < 0), augment=False)
    np.testing.assert_array_equal(plain.view(7, rng), plain.fixed(7))


def refiner(seed, number, refined, raw, folder="", method="targeted", font=""):
    heads = ("classifier", "prototype", "other_seed", "reader")
    return {
        "seed": seed, "method": method, "number": number, "font": font, "folder": folder,
        "accuracy": {head: {"raw": raw, "refined": refined} for head in heads},
        "fixed": 5, "broken": 1, "change": 0.02, "off_stroke": 0.015,
    }  # fmt: skip


def rival(seed, number, accuracy, method="scratch"):
    return {
        "seed": seed, "method": method, "number": number, "font": "", "folder": "",
        "accuracy": {"classifier": {"raw": accuracy}},
    }  # fmt: skip


def test_spread_by_hand():
    records = [refiner(0, 5, 0.8, 0.7), refiner(1, 5, 0.9, 0.7), refiner(0, 1, 0.1, 0.1)]
    mean, deviation, seeds = spread(records, "targeted", 5, "accuracy.classifier.refined")
    assert mean == pytest.approx(0.85)
    assert deviation == pytest.approx(0.05 * np.sqrt(2))
    assert seeds == 2
    assert spread(records, "scratch", 5, "accuracy.classifier.raw") is None
    assert np.isnan(spread(records, "targeted", 1, "change")[1])
    assert value(records[0], "accuracy.other_network.raw") is None


def test_tables_hold_means_deviations_and_seeds():
    records = [refiner(0, 5, 0.8, 0.7), refiner(1, 5, 0.9, 0.7), rival(0, 5, 0.6)]
    lines = markdown(summary(records)).splitlines()
    (row,) = [line for line in lines if line.startswith("| targeted")]
    assert row.startswith("| targeted | 5 | 2 | 85.00 ± 7.07 | 70.00 ± 0.00 |")
    assert "| scratch | 5 | 1 | 60.00 |" in lines


def test_differences_are_paired_by_seed():
    records = [refiner(0, 5, 0.8, 0.7), refiner(1, 5, 0.9, 0.7), rival(0, 5, 0.6), rival(2, 5, 0.1)]
    lines = differences(records).splitlines()
    # Over 0.1 and 0.2: 15 points, and Student's t of one degree of freedom, 12.706.
    half = 12.7062 * 10 * np.std([1, 2], ddof=1) / np.sqrt(2)
    assert f"| refined − raw | +15.00 ({15 - half:+.2f} to {15 + half:+.2f}) |" in lines
    assert "| refined − from scratch, tuned | +20.00 |" in lines
    assert not any("fine-tuned" in line for line in lines)
    blind = [refiner(0, 50, 0.8, 0.7, method="non_targeted"), rival(0, 50, 0.7, method="gta")]
    assert "| refined without labels − GTA | +10.00 |" in differences(blind).splitlines()
    assert differences([rival(0, 5, 0.6)]) == ""


def test_one_font_refiners_are_not_averaged():
    records = [refiner(0, 5, 0.8, 0.7, method="one_font", font=font) for font in ("a", "b")]
    assert summary(records) == []


def test_files_of_a_sweep(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.random((2, 40, 28, 28)).astype(np.float32)
    kept = {
        "raw": images[0], "refined": images[1], "label": np.arange(40) % 10,
        "before": np.arange(40) % 3 == 0, "after": np.arange(40) % 2 == 0,
    }  # fmt: skip
    records = []
    for name, font in (("all", ""), ("stix", "stix"), ("alpha_0", "")):
        atomic_write_npz(tmp_path / name / "images.npz", kept)
        method = "one_font" if font else "targeted" if name == "all" else name
        records.append(refiner(0, 2, 0.8, 0.7, str(tmp_path / name), method, font))
    records.append(rival(0, 2, 0.5))
    write_page(tmp_path, records)
    widths = {"figure7": 960, "figure6_classes": 4 * 60, "figure6_fonts": 20 * 60}
    for name, width in widths.items():
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size[0] == width
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert [row["method"] for row in rows] == ["targeted", "one_font", "alpha_0", "scratch"]
    assert float(rows[0]["accuracy.reader.refined"]) == 0.8
    assert rows[3]["accuracy.reader.refined"] == ""


@pytest.mark.slow
def test_a_sweep_does_what_is_missing_and_no_more(program, tmp_path):
    config = f"--config={ROOT / 'configs' / 'digits.py'}:sweep_smoke"
    workdir = tmp_path / "run"
    output = program(workdir, config=config)
    assert "job 10 of 10" in output
    results = sorted(workdir.glob("seed_0/*/result.json"))
    assert len(results) == 10
    before = {path: path.read_bytes() for path in results}
    found = json.loads((workdir / "seed_0" / "targeted_2" / "result.json").read_text())
    assert set(found["accuracy"]) == {
        "classifier", "prototype", "other_seed", "other_network", "reader", "standard",
    }  # fmt: skip
    results[0].unlink()
    output = program(workdir, config=config)
    assert "job 1 of 10" in output and "job 2 of 10" not in output
    assert {path: path.read_bytes() for path in results} == before
    assert "targeted" in (workdir / "table.md").read_text()
