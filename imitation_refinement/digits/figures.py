"""Figures of digits: arrays in, PNG bytes out. How things look, not what is true of them.

Drawn pixel by pixel with Pillow, so that a dot or a dash that a refiner paints is seen as it is.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imitation_refinement.report.figures import RAW_COLOR, REFINED_COLOR

ZOOM = 2  # screen pixels per pixel on each axis
FIXED, RIGHT, BROKEN, WRONG = KINDS = ("fixed", "right", "broken", "wrong")
# Screen colours of the bar below an image, by what refinement did to its recognition.
BARS = {
    FIXED: (0, 158, 115),
    RIGHT: (255, 255, 255),
    BROKEN: (213, 94, 0),
    WRONG: (160, 160, 160),
}
_GAP, _BAR, _TEXT = 1, 2, 14  # pixels before zooming: around an image, of a bar, of a caption


def outcome(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns `fixed`, `right`, `broken` or `wrong` of bool `[n]`: recognised raw, and refined?"""
    return np.where(before, np.where(after, RIGHT, BROKEN), np.where(after, FIXED, WRONG))


def choose(labels: np.ndarray, outcomes: np.ndarray, columns: int) -> list[np.ndarray]:
    """Returns indices of examples of each class, in the order fixed, right, broken, wrong.

    The first ones of each outcome, a quarter of the columns each; what one leaves free goes to the
    others, in the same order.

    Args:
        labels: int `[n]`.
        outcomes: of `outcome`.
        columns: most examples of a class.
    """
    chosen = []
    for label in np.unique(labels):
        found = [np.flatnonzero((labels == label) & (outcomes == kind)) for kind in KINDS]
        take = [min(len(indices), columns // len(KINDS)) for indices in found]
        for number, indices in enumerate(found):
            take[number] += min(len(indices) - take[number], columns - sum(take))
        chosen.append(np.concatenate([i[:n] for i, n in zip(found, take, strict=True)]))
    return chosen


def difference_colors(raw: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """Returns uint8 `[..., 3]`: white where nothing changed, blue ink added, red ink taken away."""
    change = np.clip(np.asarray(refined, float) - np.asarray(raw, float), -1.0, 1.0)[..., None]
    added, taken = (
        np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        for color in (REFINED_COLOR, RAW_COLOR)
    )
    hue = np.where(change > 0, added, taken)
    return np.round(255 + np.abs(change) * (hue - 255)).astype(np.uint8)


def grey(images: np.ndarray) -> np.ndarray:
    """Returns images from 0 to 1 as uint8 `[..., 3]`."""
    level = np.round(255 * np.clip(images, 0.0, 1.0)).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)


def band_sheet(bands: Mapping[str, tuple[Sequence[np.ndarray], Sequence[str]]]) -> bytes:
    """Draws bands of images below each other.

    Args:
        bands: by caption: rows of uint8 `[m, rows, columns, 3]`, each as long as the others of its
            band, and for each column one of `BARS`.

    Returns:
        A PNG file.
    """
    side = max(row.shape[1] for rows, _ in bands.values() for row in rows) + 2 * _GAP
    columns = max(len(kinds) for _, kinds in bands.values())
    heights = [_TEXT + len(rows) * side + _BAR + _GAP for rows, _ in bands.values()]
    canvas = np.full((sum(heights), columns * side, 3), 255, np.uint8)
    top = 0
    tops = []
    for (rows, kinds), height in zip(bands.values(), heights, strict=True):
        tops.append(top)
        for number, row in enumerate(rows):
            for column, image in enumerate(row):
                y, x = top + _TEXT + number * side + _GAP, column * side + _GAP
                canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        y = top + _TEXT + len(rows) * side
        for column, kind in enumerate(kinds):
            canvas[y : y + _BAR, column * side + _GAP : (column + 1) * side - _GAP] = BARS[kind]
        top += height
    picture = Image.fromarray(canvas)
    picture = picture.resize(
        (ZOOM * picture.width, ZOOM * picture.height), Image.Resampling.NEAREST
    )
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(10 * ZOOM)
    for caption, y in zip(bands, tops, strict=True):
        pen.text((2, ZOOM * y), caption, fill=(0, 0, 0), font=font)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def refinement_sheet(
    raw: np.ndarray,
    refined: np.ndarray,
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    class_names: Sequence[str],
    columns: int = 16,
) -> bytes:
    """Draws raw, refined and their difference for some images of each class (the paper's Fig. 6).

    Args:
        raw: `[n, rows, columns]` from 0 to 1.
        refined: as raw.
        labels: int `[n]`.
        before: bool `[n]`, whether the raw image is recognised.
        after: bool `[n]`, whether the refined one is.
        class_names: K names.
        columns: most images of a class.
    """
    outcomes = outcome(before, after)
    bands = {}
    for chosen in choose(labels, outcomes, columns):
        pair = raw[chosen], refined[chosen]
        rows = [grey(pair[0]), grey(pair[1]), difference_colors(*pair)]
        bands[class_names[labels[chosen[0]]]] = rows, list(outcomes[chosen])
    return band_sheet(bands)
