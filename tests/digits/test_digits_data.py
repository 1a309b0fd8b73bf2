import gzip
import hashlib
import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitation_refinement.digits import handwritten
from imitation_refinement.digits.fonts import FONTS, digit_glyphs, find_fonts
from imitation_refinement.digits.handwritten import (
    FILES,
    first_per_class,
    load_mnist,
    load_uci,
    parse_idx,
    read_idx,
    reading_indices,
)
from imitation_refinement.digits.synz import ANGLES, SHIFTS, Synz
from imitation_refinement.errors import UserError
from imitation_refinement.tasks import SEEN

MNIST = Path(os.environ.get("IMITATION_REFINEMENT_DATA", "/nowhere")) / "mnist"


@pytest.fixture(scope="module")
def synz(tmp_path_factory):
    return Synz(find_fonts(("stix", "kalam")), tmp_path_factory.mktemp("cache"))


def test_synz_is_the_papers_grid(synz):
    assert len(ANGLES) == 41
    assert len(SHIFTS) == 25
    assert len(synz) == 2 * 10_250
    assert np.bincount(synz.label).tolist() == [2050] * 10
    assert np.bincount(synz.font).tolist() == [10_250] * 2


def test_synz_holds_out_points_of_every_digit_angle_and_shift(synz):
    grid = (synz.split == SEEN).reshape(2, 10, 41, 25)
    assert grid.mean() == pytest.approx(1 / 11, abs=1e-3)
    for axes in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)):
        assert grid.any(axis=axes).all()
        assert not grid.all(axis=axes).any()


def test_an_image_of_the_grid_equals_the_drawing_of_the_recipe(synz):
    """The recipe word by word: fourfold canvas of 112, turned and shifted in one go, reduced."""
    glyphs = digit_glyphs(find_fonts(("stix",))[0])
    for digit, angle, (down, right) in itertools.product((0, 4, 7), (-20, 3), ((0, 0), (-2, 1))):
        glyph = glyphs[digit]
        scale = 80 / max(glyph.size)
        size = tuple(round(scale * length) for length in glyph.size)
        canvas = Image.new("L", (112, 112))
        corner = (112 - size[0]) // 2, (112 - size[1]) // 2
        canvas.paste(glyph.resize(size, Image.Resampling.LANCZOS), corner)
        canvas = canvas.rotate(angle, Image.Resampling.BILINEAR, translate=(4 * right, 4 * down))
        expected = np.asarray(canvas.resize((28, 28), Image.Resampling.BOX)) / 255
        index = (digit * 41 + ANGLES.index(angle)) * 25 + SHIFTS.index((down, right))
        assert synz.label[index] == digit
        image = synz.image(index)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, atol=2.01 / 255)


def test_an_upright_digit_is_twenty_pixels_high_and_in_the_middle(synz):
    image = synz.image((1 * 41 + 20) * 25 + 12)  # stix 1, angle 0, no shift
    rows = np.flatnonzero(image.max(axis=1) > 0.1)
    assert (rows[0], rows[-1]) == (4, 23)


def test_synz_comes_back_from_the_cache(tmp_path):
    fonts = find_fonts(("courier_prime",))
    first = Synz(fonts, tmp_path)
    (folder,) = tmp_path.iterdir()
    stamp = (folder / "turned.npy").stat().st_mtime_ns
    second = Synz(fonts, tmp_path)
    assert (folder / "turned.npy").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.image(777), second.image(777))


def test_every_shipped_font_has_ten_digits_and_its_licence():
    for font in find_fonts(tuple(FONTS)):
        assert len(digit_glyphs(font)) == 10
        licence = next(font.path.parent.glob(f"{font.path.stem}*LICENSE*"), None) or next(
            font.path.parent.glob("LICENSE_STIX"), None
        )
        assert licence is not None and licence.stat().st_size > 1000


def test_a_font_may_be_a_file(tmp_path):
    path = tmp_path / "mine.ttf"
    path.write_bytes(FONTS["kalam"].read_bytes())
    (font,) = find_fonts((str(path),))
    assert (font.name, font.path) == ("mine", path)
    assert font.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_fonts_that_cannot_be_used_are_one_line(tmp_path):
    with pytest.raises(UserError, match="'comic' is none of kalam, .* no font file"):
        find_fonts(("comic",))
    with pytest.raises(UserError, match="one font twice"):
        find_fonts(("kalam", str(FONTS["kalam"])))
    bad = tmp_path / "bad.ttf"
    bad.write_bytes(b"no font")
    with pytest.raises(UserError, match="bad.ttf: not a font"):
        digit_glyphs(find_fonts((str(bad),))[0])


def test_a_font_without_digits_is_refused():
    path = FONTS["stix"].with_name("STIXSizTwoSymReg.ttf")  # brackets and sums
    with pytest.raises(UserError, match="STIXSizTwoSymReg"):
        digit_glyphs(find_fonts((str(path),))[0])


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_idx_files_are_read_plain_and_compressed(tmp_path):
    images = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "b-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "c.idx3-ubyte").write_bytes(idx(images))
    for name in ("a", "b", "c"):
        np.testing.assert_array_equal(read_idx(tmp_path, f"{name}-idx3-ubyte"), images)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00\x0d\x01\x00\x00\x00\x01x", idx(np.zeros((2, 3)))[:-1]]
)
def test_what_is_no_idx_file_is_refused(content):
    with pytest.raises((ValueError, struct.error)):
        parse_idx(content)


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "a-idx1-ubyte"
    path.write_bytes(idx(np.arange(5)))
    with pytest.raises(UserError, match="a-idx1-ubyte: not an intact MNIST file .md5 is"):
        read_idx(tmp_path, "a-idx1-ubyte", "0" * 32)
    (tmp_path / "b-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(99)))[:-9])
    with pytest.raises(UserError, match="b-idx1-ubyte.gz: not an intact"):
        read_idx(tmp_path, "b-idx1-ubyte")
    (tmp_path / "c-idx1-ubyte").write_bytes(b"\x00\x00\x08")
    with pytest.raises(UserError, match="c-idx1-ubyte: not an intact"):
        read_idx(tmp_path, "c-idx1-ubyte")


def test_a_folder_without_mnist_says_which_files_it_needs(tmp_path):
    with pytest.raises(UserError, match="has no train-images-idx3-ubyte or .*gz; put the four"):
        load_mnist(str(tmp_path), tmp_path)


def test_without_a_network_one_line_names_the_files_and_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(handwritten, "MIRRORS", ("http://127.0.0.1:9/",))  # discard: refused
    with pytest.raises(UserError) as error:
        load_mnist("", tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert all(name in message for name in FILES)
    assert str(tmp_path / "mnist") in message


def test_files_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    """From file:// addresses: the first mirror has another file, the second the right one."""
    images, labels = np.arange(784 * 3).reshape(3, 28, 28) % 256, np.array([2, 0, 1])
    contents = {name: idx(images if "images" in name else labels) for name in FILES}
    for mirror in ("bad", "good"):
        (tmp_path / mirror).mkdir()
        for name, content in contents.items():
            wrong = content if mirror == "good" else content + b"x"
            (tmp_path / mirror / f"{name}.gz").write_bytes(gzip.compress(wrong))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(handwritten, "FILES", sums)
    mirrors = tuple(f"{(tmp_path / name).as_uri()}/" for name in ("bad", "good"))
    monkeypatch.setattr(handwritten, "MIRRORS", mirrors)
    data = load_mnist("", tmp_path / "cache")
    np.testing.assert_array_equal(data.image, images)
    np.testing.assert_array_equal(data.test_label, labels)
    monkeypatch.setattr(handwritten, "MIRRORS", ())
    np.testing.assert_array_equal(load_mnist("", tmp_path / "cache").image, images)


def test_first_per_class_by_hand():
    label = np.array([2, 0, 0, 1, 2, 0, 1, 2, 2])
    assert first_per_class(label, 1).tolist() == [0, 1, 3]
    assert first_per_class(label, 2).tolist() == [0, 1, 2, 3, 4, 6]


# Begins of the official order: the paper's few images, as ascending comma-joined index lists.
@pytest.mark.skipif(not MNIST.is_dir(), reason="IMITATION_REFINEMENT_DATA/mnist is not there")
@pytest.mark.parametrize(
    "number, largest, sha1",
    [
        (1, 17, "e5de13138f8e"),
        (2, 31, "9d5a852793a5"),
        (5, 76, "26a84ac6f633"),
        (10, 173, "28d0d87d6f39"),
        (20, 273, "cba1a4740aec"),
        (30, 396, "b8858aebd7d8"),
        (40, 503, "cab4774ea39c"),
        (50, 602, "a8aeea9fc8fa"),
    ],
)
def test_the_few_images_are_the_official_ones(number, largest, sha1):
    label = read_idx(MNIST, "train-labels-idx1-ubyte", FILES["train-labels-idx1-ubyte"])
    few = first_per_class(label, number)
    assert len(few) == 10 * number
    assert few.max() == largest
    assert hashlib.sha1(",".join(map(str, few)).encode()).hexdigest()[:12] == sha1


@pytest.mark.skipif(not MNIST.is_dir(), reason="IMITATION_REFINEMENT_DATA/mnist is not there")
def test_mnist_begins_as_the_official_files_do():
    data = load_mnist(str(MNIST), Path("unused"))
    assert data.image.shape == (60_000, 28, 28)
    assert data.label[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_image.shape == (10_000, 28, 28)
    assert data.test_label[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert len(data.validation) == 5_000


def test_parts_of_the_uci_set_do_not_overlap():
    data = load_uci()
    assert data.image.shape == (1297, 28, 28)
    assert data.test_image.shape == (500, 28, 28)
    parts = [set(first_per_class(data.label, 50)), set(data.validation), set(reading_indices(data))]
    assert [len(part) for part in parts] == [500, 200, 597]
    assert len(set.union(*parts)) == 1297
    for label in (data.label[data.validation], data.label[reading_indices(data)], data.test_label):
        assert set(label) == set(range(10))


def test_uci_digits_fill_the_box_of_mnist():
    ink = load_uci().image.max(axis=0) > 0
    assert not ink[:4].any() and not ink[-4:].any() and not ink[:, :4].any()
    assert ink[4:24].any(axis=1).all()
