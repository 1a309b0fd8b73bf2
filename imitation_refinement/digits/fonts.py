"""Fonts by name or file, and their ten digits as pictures.

Belongs here: finding font files and rasterising glyphs with Pillow (FreeType). No data sets.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imitation_refinement.errors import UserError

_FACES = Path(__file__).with_name("faces")
# Freely licensed stand-ins for the paper's Bradley Hand, Brush Script, Hannotate, Times and
# Typewriter, in this order.
FONTS: dict[str, Path] = {
    "kalam": _FACES / "kalam.ttf",
    "yellowtail": _FACES / "yellowtail.ttf",
    "patrick_hand": _FACES / "patrick-hand.ttf",
    "stix": Path(matplotlib.get_data_path(), "fonts", "ttf", "STIXGeneral.ttf"),
    "courier_prime": _FACES / "courier-prime.ttf",
}

_POINTS = 400  # drawn large: neither hinting nor the raster of FreeType matters
_INK = 8  # of 255


class Font(NamedTuple):
    """A font file.

    Attributes:
        name: of `FONTS`, or the file's name without ending.
        path: where it is.
        sha256: of its bytes, in hexadecimal.
    """

    name: str
    path: Path
    sha256: str


def find_fonts(fonts: Sequence[str]) -> tuple[Font, ...]:
    """Returns the fonts that a config names: names of `FONTS` or paths of .ttf, .otf, .woff files.

    Raises:
        UserError: neither, or not readable, or one twice.
    """
    found = []
    for name in fonts:
        path = FONTS.get(name) or Path(name).expanduser()
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(
                f"config.data.fonts: {name!r} is none of {', '.join(FONTS)} and no font file "
                f"({error.strerror or error})"
            ) from error
        found.append(Font(name if name in FONTS else path.stem, path, digest))
    if len({font.sha256 for font in found}) < len(found):
        raise UserError("config.data.fonts: names one font twice")
    return tuple(found)


def digit_glyphs(font: Font) -> list[Image.Image]:
    """Returns pictures (mode L, white on black) of 0 to 9, each cropped to its ink.

    Raises:
        UserError: no font, or one without digits.
    """
    try:
        face = ImageFont.truetype(str(font.path), _POINTS, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UserError(f"config.data.fonts: {font.path}: not a font ({error})") from error
    glyphs = []
    for digit in "0123456789":
        picture = Image.new("L", (4 * _POINTS, 4 * _POINTS))
        ImageDraw.Draw(picture).text((_POINTS, _POINTS), digit, fill=255, font=face)
        box = picture.point(lambda value: 255 * (value > _INK)).getbbox()
        if box is None:
            raise UserError(f"config.data.fonts: {font.path} draws nothing for {digit!r}")
        glyphs.append(picture.crop(box))
    if len({glyph.tobytes() for glyph in glyphs}) < 10:  # a box stands for what a font has not
        raise UserError(f"config.data.fonts: {font.path} does not have ten different digits")
    return glyphs


def as_array(picture: Image.Image) -> np.ndarray:
    """Returns a mode L picture as uint8 `[rows, columns]`."""
    return np.asarray(picture, dtype=np.uint8)
