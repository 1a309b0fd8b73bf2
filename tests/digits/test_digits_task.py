import io

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from configs.digits import get_config
from imitation_refinement.digits import figures
from imitation_refinement.digits.handwritten import load_uci
from imitation_refinement.digits.honesty import far_from_strokes, off_stroke_change
from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.tasks import SEEN, TRAIN


def task(tmp_path, **data):
    config = get_config("smoke")
    config.data.update(data)
    return DigitsTask(config, tmp_path, 1)


def test_a_pixel_is_far_beyond_two_pixels_from_the_nearest_ink():
    image = np.zeros((9, 9))
    image[4, 4], image[0, 8] = 1.0, 0.5  # half ink is none
    rows, columns = np.mgrid[:9, :9]
    expected = np.hypot(rows - 4, columns - 4) > 2
    np.testing.assert_array_equal(far_from_strokes(image), expected)


def test_everything_is_far_in_an_image_without_ink():
    assert far_from_strokes(np.zeros((3, 4))).all()


def test_off_stroke_change_by_hand():
    raw = np.zeros((2, 8, 8), np.float32)
    raw[:, 2, 2] = 1.0
    refined = raw.copy()
    refined[0, 2, 2], refined[0, 7, 7] = 0.25, 0.5  # 0.75 on the stroke, 0.5 far from it
    far, total = off_stroke_change(raw, refined)
    assert far.tolist() == [0.5, 0.0]
    assert total.tolist() == [1.25, 0.0]


def test_the_few_images_train_and_the_test_images_are_tested(tmp_path):
    uci = load_uci()
    data = task(tmp_path, images_per_class=2).imperfect
    assert data.pattern.shape == (20 + 500, 28, 28, 1)
    assert data.fold.tolist() == [-1] * 20 + [0] * 500
    assert np.bincount(data.label[:20]).tolist() == [2] * 10
    np.testing.assert_array_equal(np.round(255 * data.pattern[20:, ..., 0]), uci.test_image)
    assert len(set(data.group)) == len(data.group)
    assert data.truth is None


def test_a_validation_run_never_sees_the_test_images(tmp_path):
    uci = load_uci()
    data = task(tmp_path, images_per_class=1, test="validation").imperfect
    np.testing.assert_array_equal(
        np.round(255 * data.pattern[10:, ..., 0]), uci.image[uci.validation]
    )


def test_readers_read_none_of_the_few_or_the_validation(tmp_path):
    found = task(tmp_path, images_per_class=50)
    reading = found.reading
    assert set(reading.split) == {TRAIN, SEEN}
    texts = {reading.fixed(index).tobytes() for index in range(len(reading.label))}
    few = found.imperfect.pattern[found.imperfect.fold < 0]
    assert not texts & {image.tobytes() for image in few}
    validation = task(tmp_path, test="validation").imperfect
    assert not texts & {image.tobytes() for image in validation.pattern[validation.fold == 0]}


def test_ideal_views_are_points_of_the_grid_unless_changes_are_asked_for(tmp_path):
    config, rng, index = get_config("smoke"), np.random.default_rng(0), 12_345
    for name in config.data.ideal:
        config.data.ideal[name] = 0.0
    plain = DigitsTask(config, tmp_path, 1)
    fixed = plain.ideal.fixed(index)
    assert fixed.shape == (28, 28, 1) and fixed.dtype == np.float32
    np.testing.assert_array_equal(plain.ideal.view(index, rng), fixed)
    config.data.ideal.shift = 2.0
    moved = DigitsTask(config, tmp_path, 1)
    assert np.abs(moved.ideal.view(index, rng) - fixed).max() > 0.1
    np.testing.assert_array_equal(moved.ideal.fixed(index), fixed)


def test_pairs_have_an_ideal_truth_of_their_class(tmp_path):
    found = task(tmp_path)
    ideal = {
        found.ideal.fixed(i).tobytes(): found.ideal.label[i]
        for i in range(len(found.ideal.label))
        if found.ideal.split[i] == TRAIN
    }
    rng = np.random.default_rng(1)
    pairs = [found.pair(rng) for _ in range(200)]
    assert all(ideal[truth.tobytes()] == label for _, truth, label in pairs)
    clean = np.mean([np.array_equal(image, truth) for image, truth, _ in pairs])
    assert clean == pytest.approx(found._clean, abs=0.08)
    _, truth, label = found.pair(rng, 7)
    assert label == found.ideal.label[7] and np.array_equal(truth, found.ideal.fixed(7))


def test_views_of_the_few_are_near_them_and_pure(tmp_path):
    data = task(tmp_path).imperfect
    first, again = (data.view(3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (28, 28, 1)
    assert np.abs(first - data.pattern[3]).max() > 0.05
    ink = data.pattern[3].sum()
    assert 0.4 * ink < first.sum() < 2.5 * ink


def inputs(raw, refined, after):
    """Two classes, raw never recognised, refined as said."""
    count = len(raw)
    wrong, right = np.eye(2)[np.ones(count, int)], np.eye(2)[np.where(after, 0, 1)]
    return EvaluationInputs(
        raw, refined, None, np.zeros(count, int), np.arange(count), wrong, right
    )


def test_the_off_stroke_measure_is_the_quotient_of_the_sums(tmp_path):
    raw = np.zeros((40, 28, 28), np.float32)
    raw[:, 5, 5] = 1.0
    refined = raw.copy()
    refined[:, 6, 5] = 0.9
    refined[:10, 20, 20] = 0.3
    found = task(tmp_path).measures(inputs(raw, refined, np.ones(40, bool)))["off_stroke"]
    assert found.value == pytest.approx(10 * 0.3 / (40 * 0.9 + 10 * 0.3), rel=1e-6)
    assert found.low < found.value < found.high
    assert task(tmp_path).measures(inputs(raw, raw, np.ones(40, bool))) == {}


def test_outcomes_and_their_choice():
    before = np.array([0, 1, 1, 0, 1, 1, 1, 0], bool)
    after = np.array([1, 1, 0, 0, 1, 1, 1, 1], bool)
    found = figures.outcome(before, after)
    assert found.tolist() == [
        "fixed", "right", "broken", "wrong", "right", "right", "right", "fixed",
    ]  # fmt: skip
    (chosen,) = figures.choose(np.zeros(8, int), found, 4)
    assert chosen.tolist() == [0, 1, 2, 3]
    (chosen,) = figures.choose(np.zeros(8, int), found, 8)
    assert chosen.tolist() == [0, 7, 1, 4, 5, 6, 2, 3]
    (chosen,) = figures.choose(np.zeros(8, int), found, 6)  # one each, two more of the first
    assert chosen.tolist() == [0, 7, 1, 4, 2, 3]


def test_difference_colours():
    raw, refined = np.array([0.0, 1.0, 0.3]), np.array([1.0, 0.0, 0.3])
    added, taken, same = figures.difference_colors(raw, refined).tolist()
    assert same == [255, 255, 255]
    assert added == [0, 114, 178]  # blue
    assert taken == [213, 94, 0]  # red


def test_the_sheet_shows_every_pixel_where_it_is(tmp_path):
    rng = np.random.default_rng(0)
    raw = rng.random((3, 28, 28))
    kinds = ["fixed", "broken", "right"]
    png = figures.band_sheet({"7": ([figures.grey(raw), figures.grey(raw[:2])], kinds)})
    picture = np.asarray(Image.open(io.BytesIO(png)))[:: figures.ZOOM, :: figures.ZOOM]
    top = figures._TEXT + 30 + 1  # second row of images of 28 with a gap of 1 on each side
    shown = picture[top : top + 28, 31 : 31 + 28]
    np.testing.assert_array_equal(shown, figures.grey(raw[1]))
    bar = picture[figures._TEXT + 60, [5, 35, 65]]
    assert bar.tolist() == [list(figures.BARS[kind]) for kind in kinds]


def test_pictures_of_a_run(tmp_path):
    raw = np.zeros((6, 28, 28), np.float32)
    raw[:, 5:20, 13:15] = 1.0
    refined = scipy.ndimage.shift(raw, (0, 1, 0), order=0)
    (picture,) = task(tmp_path).pictures(inputs(raw, refined, np.ones(6, bool)), {}).values()
    assert Image.open(io.BytesIO(picture.png)).size[0] == 6 * 30 * figures.ZOOM
