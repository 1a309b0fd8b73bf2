"""Is a change of a digit where its strokes are, or does it paint somewhere else?

Belongs here: figures of merit of refined images that need no classifier. Pure functions.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

INK = 0.5  # a pixel above this is part of a stroke
FAR = 2.0  # pixels


def far_from_strokes(image: np.ndarray) -> np.ndarray:
    """Returns which pixels are more than `FAR` pixels from every stroke, bool `[rows, columns]`.

    Distances are between centres of pixels. In an image without a stroke all pixels are far.

    Args:
        image: `[rows, columns]` from 0 to 1.
    """
    strokes = image > INK
    if not strokes.any():
        return np.ones(image.shape, bool)
    return distance_transform_edt(~strokes) > FAR


def off_stroke_change(raw: np.ndarray, refined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much each image changed far from the strokes of the raw one, and in all.

    Args:
        raw: `[n, rows, columns]`.
        refined: as raw.

    Returns:
        Sums of absolute differences, float64 `[n]` each. The share of a set of images is the
        quotient of the sums over it; that of one unchanged image would be 0/0.
    """
    change = np.abs(np.asarray(refined, np.float64) - np.asarray(raw, np.float64))
    far = np.stack([far_from_strokes(image) for image in raw])
    return np.sum(change * far, axis=(1, 2)), np.sum(change, axis=(1, 2))
