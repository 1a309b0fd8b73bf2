"""Handwritten digits: MNIST from its four official files, and the small UCI set that needs none.

Belongs here: reading, checking and downloading them, and which images serve what. Every image is
28 x 28, uint8, white on black.

MNIST's licence is CC BY-SA 3.0 (LeCun, Cortes, Burges); nothing of it is in this package.
"""

import gzip
import hashlib
import struct
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file

# Name of each official file and md5 of its uncompressed bytes.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FEWEST, MOST = 1, 50  # images per class that a refiner may be given: the paper's range
_TIMEOUT = 30.0  # seconds


class Handwritten(NamedTuple):
    """Handwritten digits in their official order.

    Attributes:
        image: uint8 `[n, 28, 28]`, the training images.
        label: int32 `[n]`.
        validation: int64 `[v]`, training images by which settings are chosen.
        test_image: uint8 `[m, 28, 28]`.
        test_label: int32 `[m]`.
    """

    image: np.ndarray
    label: np.ndarray
    validation: np.ndarray
    test_image: np.ndarray
    test_label: np.ndarray


def first_per_class(label: np.ndarray, number: int) -> np.ndarray:
    """Returns the ascending indices of the first `number` examples of each class of int `[n]`."""
    found = [np.flatnonzero(label == k)[:number] for k in range(int(label.max()) + 1)]
    return np.sort(np.concatenate(found))


def reading_indices(data: Handwritten) -> np.ndarray:
    """Returns the training images that readers (judges used to handwriting) are trained on.

    All but those that a refiner may be given and those of the validation.
    """
    taken = np.union1d(first_per_class(data.label, MOST), data.validation)
    return np.setdiff1d(np.arange(len(data.label)), taken)


def load_mnist(folder: str, cache_dir: Path) -> Handwritten:
    """Returns MNIST from a folder, or from the cache, into which it is downloaded once.

    Settings are validated on 5,000 training images, every eleventh from index 5,000 on; the first
    50 of each class end at index 602.

    Args:
        folder: with the four IDX files, plain or .gz; '' for the cache.
        cache_dir: the user's cache of data.

    Raises:
        UserError: files are missing or damaged, or cannot be downloaded.
    """
    where = Path(folder).expanduser() if folder else cache_dir / "mnist"
    if not folder:
        _download(where)
    parts = [read_idx(where, name, checksum) for name, checksum in FILES.items()]
    image, label, test_image, test_label = parts
    validation = np.arange(5000, len(label), 11)
    return Handwritten(
        image, label.astype(np.int32), validation, test_image, test_label.astype(np.int32)
    )


def load_uci() -> Handwritten:
    """Returns the 1,797 digits that come with scikit-learn (UCI optdigits, CC BY 4.0), enlarged.

    The 8 x 8 counts of ink from 0 to 16 become 20 x 20 pixels (bicubic), their contrast is
    stretched so that values from 0.25 to 0.75 span black to white, and 4 black pixels are put
    around, as in MNIST. The last 500 images are the test set; settings are validated on every
    fourth of the others beyond the first 50 of each class.
    """
    from sklearn.datasets import load_digits  # half a second to import

    bundled = load_digits()
    image = np.stack([_enlarged(small) for small in bundled.images.astype(np.float32) / 16])
    label = bundled.target.astype(np.int32)
    cut = len(label) - 500
    rest = np.setdiff1d(np.arange(cut), first_per_class(label[:cut], MOST))
    return Handwritten(image[:cut], label[:cut], rest[::4], image[cut:], label[cut:])


def read_idx(folder: Path, name: str, md5: str | None = None) -> np.ndarray:
    """Returns the unsigned bytes of an IDX file, `name` or `name.gz` in `folder`.

    Args:
        folder: where it lies.
        name: official name; a dot before `idx` is taken as well.
        md5: of the uncompressed bytes, if it shall be checked.

    Raises:
        UserError: missing or damaged.
    """
    names = [name, name.replace("-idx", ".idx")]
    paths = [folder / (stem + ending) for stem in names for ending in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(f"{folder}: has no {name} or {name}.gz; put the four MNIST files there")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 is not None and found != md5:
            raise ValueError(f"md5 is {found}, that of the official file is {md5}")
        return parse_idx(content)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path}: not an intact MNIST file ({error})") from error


def parse_idx(content: bytes) -> np.ndarray:
    """Returns the array of an IDX file of unsigned bytes: 0, 0, 8, rank, big-endian sizes, data.

    Raises:
        ValueError: another type, or not as long as its sizes say.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("does not begin as an IDX file of unsigned bytes")
    rank = content[3]
    shape = struct.unpack_from(f">{rank}I", content, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    return data.reshape(shape)


def _download(folder: Path) -> None:
    """Puts the missing ones of the four files into `folder`, each checked."""
    for name, md5 in FILES.items():
        target = folder / f"{name}.gz"
        if target.exists():
            continue
        reason = "no mirror"
        for mirror in MIRRORS:
            try:
                logging.info("downloading %s%s", mirror, target.name)
                with urllib.request.urlopen(mirror + target.name, timeout=_TIMEOUT) as answer:
                    content = answer.read()
                found = hashlib.md5(gzip.decompress(content), usedforsecurity=False).hexdigest()
                if found == md5:
                    break
                reason = f"{mirror} gave another file"
            except (OSError, EOFError) as error:  # URLError is an OSError
                reason = str(getattr(error, "reason", error))
        else:
            wanted = ", ".join(f"{file}.gz" for file in FILES)
            raise UserError(
                f"cannot download MNIST ({reason}): put {wanted} into {folder} or name their "
                "folder in config.data.mnist_dir, or use --config=configs/digits.py:uci"
            )
        with atomic_file(target) as file:
            file.write(content)


def _enlarged(small: np.ndarray) -> np.ndarray:
    """Returns float32 `[8, 8]` as uint8 `[28, 28]`; see `load_uci`."""
    picture = Image.fromarray(small).resize((20, 20), Image.Resampling.BICUBIC)
    stretched = np.clip(2 * (np.asarray(picture) - 0.25), 0, 1)
    return np.pad(np.round(255 * stretched).astype(np.uint8), 4)
