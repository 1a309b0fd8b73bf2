import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.evaluation import evaluate
from imitation_refinement.evaluation.inputs import EvaluationInputs, Scores
from imitation_refinement.report import figures
from imitation_refinement.report.page import number, render_report, write_report
from imitation_refinement.report.pictures import shared_pictures
from imitation_refinement.tasks import Measure, Picture
from imitation_refinement.xrd.grid import Q_LABEL
from imitation_refinement.xrd.pictures import pattern_pictures

NAMES = ("cubic", "hexagonal", "trigonal")
GRID = np.geomspace(1.1, 5.9, 300)
EVIL = "<script>alert('x')</script>&\"quoted\""
VOID = {"meta", "img", "br", "link", "hr", "input"}


def make_inputs(gain=0.4, closeness=0.5, count=90):
    rng = np.random.default_rng(0)
    positions = rng.uniform(1.2, 5.8, (count, 6))
    truth = np.exp(-0.5 * ((GRID - positions[..., None]) / 0.02) ** 2).sum(axis=1)
    raw = truth + 0.1 * rng.random(truth.shape)
    labels = rng.integers(0, 3, count)

    def logits(accuracy):
        right = np.arange(count) % 10 < 10 * accuracy
        return np.eye(3)[np.where(right, labels, (labels + 1) % 3)]

    return EvaluationInputs(
        raw=raw,
        refined=np.maximum(raw + closeness * (truth - raw), 0),
        truth=truth,
        labels=labels,
        groups=np.arange(count) // 4,
        logits_raw=logits(0.5),
        logits_refined=logits(0.5 + gain),
        logits_truth=logits(0.9),
        judges={
            "other_seed": Scores(logits(0.5), logits(0.5 + gain), logits(0.9)),
            "other_network": Scores(logits(0.4), logits(0.4 + gain), logits(0.8)),
        },
        embedding_raw=rng.normal(size=(count, 8)),
        embedding_refined=rng.normal(size=(count, 8)),
        embedding_truth=rng.normal(size=(count, 8)),
        fold=np.arange(count) // 4 % 3,
    )


def result(**options):
    return evaluate(make_inputs(**options), class_names=NAMES, resamples=200)


@pytest.fixture(scope="module")
def results():
    return result()


@pytest.fixture(scope="module")
def pictures(results):
    records = [
        {"stage": f"refiner/{fold}", "step": step, "loss": 1 / step, "accuracy": None}
        for fold in range(2)
        for step in (1, 2, 3)
    ] + [{"stage": "classifier", "step": 5, "loss": 0.5, "prototype_loss": 2.0}]
    inputs, prototypes = make_inputs(), np.eye(3, 8)
    shared = shared_pictures(inputs, results, prototypes=prototypes, metrics=records)
    return pattern_pictures(inputs, GRID, "q (1/Å)", NAMES) | shared


class Page(HTMLParser):
    """Checks that tags nest and collects what they hold."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


CONTEXT = {
    "config": {"seed": 0, "refiner": {"alpha": 10.0, "note": EVIL}, "kernel": (3, 5)},
    "environment": {"packages": {"jax": "0.10.1"}},
    "command": f"main.py --note={EVIL}",
    "timings": {EVIL: 12.3},
    "notes": [EVIL],
    "title": EVIL,
}


def test_page_is_well_formed_and_complete(results, pictures):
    page = Page(render_report(results, pictures.values(), CONTEXT))
    assert page.open == []
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(pictures) == 5
    assert all(len(image["alt"]) > 20 for image in images)
    assert "refiner.alpha 10.0" in page.text
    assert "kernel 3, 5" in page.text
    assert "packages.jax 0.10.1" in page.text
    assert "90 test patterns of 3 classes from 23 libraries, 3 folds, one seed." in page.text
    assert "By fold" in page.text


def test_accuracy_on_held_out_patterns_is_shown_when_known(results):
    head = results["accuracy"]["classifier"] | {"held_out": {"seen": 0.9123, "unseen": 0.8}}
    known = results | {"accuracy": results["accuracy"] | {"classifier": head}}
    text = Page(render_report(known, [], {})).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "frozen classifier: seen 91.2 %, unseen 80.0 %." in text


def test_text_from_data_is_escaped(results):
    names = [EVIL, *NAMES[1:]]
    evil = evaluate(make_inputs(), class_names=names, resamples=20)
    evil["measures"] = {"x": Measure(EVIL, 0.5)._asdict()}
    text = render_report(evil, [Picture(EVIL, EVIL, b"png")], CONTEXT)
    assert "<script" not in text.lower()
    page = Page(text)
    assert page.open == []
    assert all(tag != "script" for tag, _ in page.tags)
    assert (
        page.text.count(EVIL) >= 8
    )  # title, note, command, timing, config, class, figure, measure


def test_nothing_is_loaded_from_elsewhere(results, pictures):
    text = render_report(results, pictures.values(), {})
    assert not re.search(r"https?://|url\(|@import|file:", text, re.IGNORECASE)
    for tag, attrs in Page(text).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "data"):
            assert attrs.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")


def first_screen(results):
    return Page(
        render_report(results, [], {}).split("</header>")[0] + "</header></body></html>"
    ).text


def test_first_screen_says_it_helped(results):
    text = first_screen(results).replace("\N{NO-BREAK SPACE}", " ")
    assert "Yes, refinement helped." in text
    assert "recognises 90.0 % of the refined patterns, against 50.0 % of the raw ones" in text
    assert "a gain of 40.0 points (95 % interval +" in text
    fell = -results["quality"]["l1"]["relative_change"]["mean"]["value"]
    assert f"the mean ℓ1 distance fell by {100 * fell:.0f} %" in text
    assert "Readers" not in render_report(results, [], {})
    for name in ("Accuracy", "ℓ1", "KL", "NCC", "invented"):
        assert name in text
    for name, accuracy in (("other seed", "50.0 % → 90.0 %"), ("other network", "40.0 % → 80.0 %")):
        assert f"Unseen judge ({name}), raw → refined {accuracy} +40.0 points" in text
        assert f"A classifier that the refiner never saw ({name}) gains 40.0 points" in text


def test_every_judge_has_a_row(results):
    page = render_report(results, [], {})
    for name in ("other seed", "other network"):
        row = page.split(f'<th scope="row">unseen judge: {name}</th>')[1].split("</tr>")[0]
        accuracy = results["accuracy"]["judges"][name.replace(" ", "_")]
        for kind in ("raw", "refined", "truth"):
            value = f"{100 * accuracy[kind]['value']:.1f}\N{NO-BREAK SPACE}%"
            assert f"<td>{value}" in row


def images():
    """Ten digits' worth of 2-D examples whose truth nobody knows, and a reader."""
    rng = np.random.default_rng(3)
    raw = rng.random((40, 6, 6))
    labels = np.arange(40) % 3
    right = np.eye(3)[labels]
    wrong = np.eye(3)[np.where(np.arange(40) % 4 == 0, labels, (labels + 1) % 3)]
    return EvaluationInputs(
        raw=raw,
        refined=0.9 * raw + 0.1 * rng.random(raw.shape),
        truth=None,
        labels=labels,
        groups=np.arange(40),
        logits_raw=wrong,
        logits_refined=right,
        judges={"other_seed": Scores(wrong, right), "mnist": Scores(right, right)},
    )


def test_images_without_a_truth_make_a_page_that_speaks_of_none():
    results = evaluate(
        images(), noun="images", group_noun="images", readers=["mnist"], resamples=200
    )
    results["measures"] = {"far": Measure("Change far from strokes", 0.013, percent=True)._asdict()}
    shared = shared_pictures(images(), results)
    assert set(shared) == {"confusion"}
    text = render_report(results, shared.values(), {})
    page = Page(text)
    assert page.open == []
    words = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Yes, refinement helped." in words
    assert "40 test images of 3 classes, 1 fold" in words
    assert "Reader (mnist), raw → refined 100.0 % → 100.0 % +0.0 points" in words
    assert "Fixed and broken 30 and 0" in words
    assert "Readers are trained on imperfect images" in words
    assert "Change far from strokes 1.3 % 95 %: no interval" in words
    for absent in ("truth", "ℓ1", "KL", "Peaks", "patterns", "libraries", "nan"):
        assert absent not in words, absent


def test_first_screen_says_it_did_not_help():
    text = first_screen(result(gain=-0.4, closeness=-0.5))
    assert "No, refinement did not help: the refined patterns are recognised less often" in text
    assert "further from the truth" in text
    assert "a loss of 40.0 points" in text


def test_first_screen_says_it_is_unclear():
    text = first_screen(result(gain=0.0))
    assert "Unclear whether refinement helped: the change in accuracy is within" in text


def test_no_judge_and_no_interval_still_make_a_page():
    inputs = make_inputs(count=12)._replace(judges={})
    text = render_report(evaluate(inputs, resamples=20), [], {})
    page = Page(text)
    assert "no second classifier was trained" in page.text
    assert "Fewer than five libraries: no intervals." in page.text
    assert "nan" not in page.text.lower()


def test_written_file_is_the_page(tmp_path, results):
    write_report(tmp_path / "report.html", results, [], CONTEXT)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text == render_report(results, [], CONTEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_unwritable_place_is_a_user_error(tmp_path, results):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        write_report(tmp_path / "file" / "report.html", results, [], {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (38.993, "39.0"), (4.913, "4.91"), (0.012345, "0.0123"), (0.000123, "0.000123"),
        (4321.0, "4321"), (0.0, "0"), (None, "–"), (-0.5, "−0.500"), (1.23e-7, "1.23e−07"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


# ---- Figures ----


def test_figures_are_png_of_sane_size(pictures):
    assert set(pictures) == {"overlays", "heat_maps", "confusion", "embedding", "learning_curves"}
    for _, _, png in pictures.values():
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        height, width, _ = imread(io.BytesIO(png)).shape
        assert 400 <= width <= 2000
        assert 250 <= height <= 2000
        assert len(png) < 2_000_000


def test_pictures_of_patterns_without_a_truth():
    inputs = make_inputs(count=12)
    known = pattern_pictures(inputs, GRID, "q (1/Å)", NAMES)
    found = pattern_pictures(inputs._replace(truth=None), GRID, "q (1/Å)", NAMES)
    assert found.keys() == known.keys()
    for name in found:
        assert found[name].png.startswith(b"\x89PNG") and found[name].png != known[name].png
    assert "true pattern" not in found["overlays"].caption


def test_same_arrays_give_the_same_bytes():
    scan = np.exp(-((GRID - 3) ** 2))
    first = figures.overlays(GRID, scan, scan**2, None, ["scan"], Q_LABEL)
    assert first == figures.overlays(GRID, scan, scan**2, None, ["scan"], Q_LABEL)
    assert first != figures.overlays(GRID, scan, scan**3, None, ["scan"], Q_LABEL)


def test_picked_examples_are_extreme_and_middle():
    before = np.array([10.0, 10, 10, 10, 10])
    after = np.array([9.0, 2, 30, 8, 11])
    assert figures.pick_examples(before, after) == {"best": 1, "median": 0, "worst": 2}


def test_classes_differ_in_colour_or_marker():
    styles = [figures._class_style(k) for k in range(49)]
    assert len(set(styles)) == 49
    assert styles[0] == ("#E69F00", "o") and styles[7] == ("#E69F00", "s")


def test_tsne_keeps_clusters_apart():
    rng = np.random.default_rng(1)
    centres = 10 * np.eye(3, 5)
    labels = np.repeat(np.arange(3), 12)
    flat = figures.tsne(centres[labels] + rng.normal(0, 0.1, (36, 5)))
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + 1e9 * np.eye(36)
    assert (labels[gaps.argmin(axis=1)] == labels).all()


def test_records_without_terms_are_refused():
    with pytest.raises(ValueError, match="no loss terms"):
        figures.learning_curves([{"stage": "a", "step": 1, "loss": None}])
