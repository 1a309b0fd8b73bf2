"""Rows of plain numbers read at once: the same numbers as line by line, and nothing else."""

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import plain, text
from imitation_refinement.xrd.formats.plain import plain_rows
from imitation_refinement.xrd.formats.readers import read_bytes

pytest.importorskip("pyarrow")
ANGLES = np.round(np.linspace(10.0, 80.0, 400), 4)
COUNTS = np.random.default_rng(0).poisson(50.0 + 400.0 * np.exp(-(((ANGLES - 30) / 0.3) ** 2)))
ROWS = [f"{angle:.4f} {count}" for angle, count in zip(ANGLES, COUNTS, strict=True)]
BODY = "\n".join(ROWS)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1 2\n3 4\n", [[1, 2], [3, 4]]),
        ("1 2\r\n3 4", [[1, 2], [3, 4]]),
        ("  1\t 2\n -3  4e-2\n", [[1, 2], [-3, 0.04]]),
        ("1,2,3\n4,.5,6.\n", [[1, 2, 3], [4, 0.5, 6]]),
        (" 7 8", [[7, 8]]),
        (" 7 8\n 1 2", [[7, 8], [1, 2]]),
        ("1\n2\n", [[1], [2]]),
    ],
)
def test_plain_rows_by_hand(said, expected):
    np.testing.assert_array_equal(plain_rows(said), np.array(expected, float))


@pytest.mark.parametrize(
    "said",
    [
        "", "\n", "1 2\n3\n", "1 2\n3 4 5\n", "1\n2 3\n4 5 6\n", "1 2\n\n3 4\n", "1 2 \n3 4 \n",
        "1 2\r3 4\n", "1 2\n3 4\n# end\n", "1 2 a\n", "1 nan\n", "1 2\n3 -\n", "1 2-3\n", "1,,2\n",
        ",1,2\n", "1,2,\n3,4,\n", "1, 2\n", "1;2\n", "1 2\u00a0\n", "1 1e\n", "1,2\n3 4\n",
        "1 2\v3 4\n", "1\n2 3 4\n", "1 1_0\n",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left(said):
    assert plain_rows(said) is None


def test_plain_rows_are_floats_to_the_bit():
    rng = np.random.default_rng(1)
    fields = [
        form % value
        for value in rng.normal(size=600) * 10.0 ** rng.integers(-30, 30, 600)
        for form in ("%.17g", "%.4f", "%.25e", "%d")
    ]
    lines = [" ".join(fields[i : i + 4]) for i in range(0, len(fields), 4)]
    expected = np.array([[float(field) for field in line.split()] for line in lines])
    np.testing.assert_array_equal(plain_rows("\n".join(lines)), expected)


WAYS: dict[str, str | bytes] = {
    "plain": BODY,
    "header": "# wavelength 1.54184\n\n\n# 10 20\n# 2theta counts\n" + BODY,
    "header like a row": "10.0 20 30\n" + BODY,
    "header with the row in it": f"# {ROWS[0]}\n{BODY}",
    "crlf": BODY.replace("\n", "\r\n") + "\r\n",
    "cr": BODY.replace("\n", "\r"),
    "mark": "\ufeff" + BODY,
    "commas": BODY.replace(" ", ","),
    "commas and blanks": BODY.replace(" ", ", "),
    "empty last field": BODY.replace(" ", ",").replace("\n", ",\n") + ",",
    "semicolons": BODY.replace(" ", ";"),
    "decimal commas": BODY.replace(".", ",").replace(" ", "\t"),
    "decimal commas and semicolons": BODY.replace(".", ",").replace(" ", ";"),
    "blanks before": BODY.replace("\n", "\n  "),
    "blanks before all": "  " + BODY.replace("\n", "\n  "),
    "tabs": BODY.replace(" ", "\t"),
    "blanks at both ends": "\n".join(f"  {row}  " for row in ROWS),
    "comments between": "\n".join([*ROWS[:100], "# pause", *ROWS[100:]]),
    "words after": BODY + "\nend of data\n",
    "remarks": "\n".join([*ROWS[:100], ROWS[100] + " peak", *ROWS[101:]]),
    "nan": BODY.replace(ROWS[7], ROWS[7].split()[0] + " nan"),
    "empty lines": BODY.replace("\n", "\n\n"),
    "empty lines at the end": BODY + "\n\n \n",
    "two scans": BODY + "\n" + BODY,
    "falling": "\n".join(ROWS[::-1]),
    "unsorted": "\n".join([*ROWS[200:], *ROWS[:200:3]]),
    "short row": "\n".join([*ROWS[:50], ROWS[50].split()[0], *ROWS[51:]]),
    "three columns": "\n".join(f"{row} {i % 7}.5" for i, row in enumerate(ROWS)),
    "thousands": BODY.replace(ROWS[9], ROWS[9].split()[0] + "\t1 234"),
    "unbreakable blanks": BODY.replace(" ", "\u00a0"),
    "form feeds": BODY.replace("\n", "\f\n"),
    "spec": "#F a\n\n#S 1 ascan tth 10 80\n#L tth counts\n" + BODY + "\n",
    "utf-16": BODY.encode("utf-16"),
    "latin": ("# 2\u03b8 \u00b0\n".encode("utf-8")[:4] + b"\xb0\n") + BODY.encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_outcomes_are_those_of_reading_line_by_line(way, monkeypatch):
    said = WAYS[way]
    fast = _outcome(said)
    monkeypatch.setattr(plain, "pyarrow", None)
    assert plain_rows(BODY) is None
    _same(fast, _outcome(said))


def test_plain_files_do_not_need_the_slow_way(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(text.np, "loadtxt", refuse)
    for way in ("plain", "header", "crlf", "mark", "commas", "tabs", "three columns"):
        (found,) = read_bytes(_bytes(WAYS[way]), "scan.xy", "scan.xy")
        np.testing.assert_array_equal(found.x, ANGLES)
        np.testing.assert_array_equal(found.counts, COUNTS)


def _bytes(said: str | bytes) -> bytes:
    return said if isinstance(said, bytes) else said.encode()


def _outcome(said: str | bytes) -> object:
    try:
        return [tuple(found) for found in read_bytes(_bytes(said), "scan.xy", "scan.xy")]
    except UserError as error:
        return str(error)


def _same(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype and one.flags.writeable == other.flags.writeable
    else:
        assert one == other
