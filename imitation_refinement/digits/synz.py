"""Synz, the ideal digits: typeset, in every shift and angle of a grid (Bai et al. 2019).

10 digits x 25 shifts x 41 angles are the paper's 10,250 images of each font. Belongs here: how one
image of the grid is drawn and found. White on black, 28 x 28 pixels like MNIST.
"""

from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from imitation_refinement.digits.fonts import Font, as_array, digit_glyphs
from imitation_refinement.runtime.generate import cached_arrays
from imitation_refinement.tasks import SEEN, TRAIN

SIZE = 28  # pixels
BOX = 20  # pixels of a digit's longer side, as in MNIST
ANGLES = tuple(range(-20, 21))  # degrees, counter-clockwise
SHIFTS = tuple((down, right) for down in range(-2, 3) for right in range(-2, 3))  # pixels
DIGITS = 10

_FINE = 4  # drawn so many times larger
_MARGIN = 4  # pixels around, so that a shift brings back what a turn pushed over the edge
# Every so many points of the grid one is held out; coprime to 25 and 41, so that no shift or angle
# is left out as a whole.
_HELD_OUT = 11


def turned_digits(font: Font) -> np.ndarray:
    """Returns the digits of a font in all angles, uint8 `[10, 41, 36, 36]`, in the middle.

    Drawn fourfold: cropped to the ink, longer side 20 pixels (Lanczos), box centred, turned about
    the centre (bilinear), then reduced by means of 4 x 4 blocks.
    """
    wide = SIZE + 2 * _MARGIN
    result = np.empty((DIGITS, len(ANGLES), wide, wide), np.uint8)
    for digit, glyph in enumerate(digit_glyphs(font)):
        scale = _FINE * BOX / max(glyph.size)
        width, height = (max(1, round(scale * length)) for length in glyph.size)
        upright = Image.new("L", (_FINE * wide, _FINE * wide))
        corner = (_FINE * wide - width) // 2, (_FINE * wide - height) // 2
        upright.paste(glyph.resize((width, height), Image.Resampling.LANCZOS), corner)
        for index, angle in enumerate(ANGLES):
            turned = upright.rotate(angle, Image.Resampling.BILINEAR)
            result[digit, index] = as_array(turned.resize((wide, wide), Image.Resampling.BOX))
    return result


class Synz:
    """The grid of some fonts: index = ((font * 10 + digit) * 41 + angle) * 25 + shift.

    Args:
        fonts: drawn in this order.
        cache_dir: folder for the drawn digits.

    Attributes:
        label: int32 `[n]`, the digit.
        font: int32 `[n]`, position in `fonts`.
        split: int8 `[n]`: every eleventh point of the grid is SEEN, the others TRAIN. No font is
            held out: the paper merges all.
    """

    def __init__(self, fonts: tuple[Font, ...], cache_dir: Path):
        turned = [_cached(font, cache_dir) for font in fonts]
        self._turned = np.concatenate(turned).reshape(-1, *turned[0].shape[2:])
        index = np.arange(len(self._turned) * len(SHIFTS))
        self.label = (index // (len(SHIFTS) * len(ANGLES)) % DIGITS).astype(np.int32)
        self.font = (index // (len(SHIFTS) * len(ANGLES) * DIGITS)).astype(np.int32)
        self.split = np.where(index % _HELD_OUT == 0, SEEN, TRAIN).astype(np.int8)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.label)

    def image(self, index: int) -> np.ndarray:
        """Returns one image, float32 `[28, 28]` from 0 to 1."""
        turned, shift = divmod(index, len(SHIFTS))
        top, left = (_MARGIN - shifted for shifted in SHIFTS[shift])
        window = self._turned[turned, top : top + SIZE, left : left + SIZE]
        return window.astype(np.float32) / np.float32(255)


def _cached(font: Font, cache_dir: Path) -> np.ndarray:
    key = {
        "font": font.sha256,
        "pillow": PIL.__version__,
        "freetype": features.version("freetype2"),
        "version": 1,
    }
    return cached_arrays(cache_dir, "synz", key, lambda: {"turned": turned_digits(font)})["turned"]
