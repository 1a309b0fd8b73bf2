"""FullProf's layouts, GSAS banks, pages of JCAMP-DX: where the counts stand among the numbers."""

import numpy as np
import pytest
from scan_case_files import ANGLE, FACE_CENTRED, JCAMP, SPAN, F, O, lists, rows
from test_scan_cases import check, read

from imitation_refinement.errors import UserError

ERRORS = np.sqrt(F)
BIG = 300 * F
COUNTERS = np.where(ANGLE < 30, np.ceil((ANGLE - 14) / 2), 9).astype(int)
TIMES = np.where(ANGLE < 50, 10.0, 40.0)
HEAD = ["sample", "instrument", "26-Nov"]


def pairs(values, width: int = 6) -> str:
    texts = [f"{n:2d}{value:{width}.0f}" for n, value in zip(COUNTERS, values, strict=True)]
    return lists(texts, 10, "{}")


def turns(values, errors) -> str:
    return "".join(
        lists(values[i : i + 10], 10, "{:8.0f}") + lists(errors[i : i + 10], 10, "{:8.2f}")
        for i in range(0, len(values), 10)
    )


D1A = f"made up\n{'':16}{0.05:8.3f}\n{ANGLE[0]:8.3f}\n{100000.0:8.0f}{100000.0:8.0f}\n"
D1B = "\n".join(HEAD) + f"\n{123456.0:13.0f}{'':10}{ANGLE[0]:8.3f}{'':45}{0.05:9.3f}\n{len(F):4d}\n"
G41 = "\n".join(HEAD) + f"\n{len(F)} 300.0 300.0 1 100000. 100000.\n{SPAN}\n"
LAYOUTS = {
    "ins0": (SPAN + "\n" + lists(F, 10, "{:8.0f}"), F),
    "ins0-glued": (SPAN + "\n" + lists(6000 * F, 10, "{:8.0f}"), 6000 * F),
    "ins0-huge": (SPAN + "\n" + lists(20000 * F, 10, "{:9.0f}"), 20000 * F),
    "ins1": (SPAN + "\n" + pairs(F), F),
    "ins1-touching": (SPAN + "\n" + pairs(BIG), BIG),
    "ins3": (D1B + pairs(BIG, 8) + "   -1000       0\n", BIG),
    "ins4": ("! made up\n" + SPAN + "\n" + turns(F, ERRORS), F),
    "ins5": (G41 + lists(F, 10, "{:8.0f}") + lists(ERRORS, 10, "{:8.2f}"), F),
    "ins6": (D1A + pairs(F) + "   -1000" * 10 + "\n", F),
    "ins8": (
        "DMC\ntitle\n" + SPAN + " 1000.\n" + lists(F, 10, "{:8.0f}") + lists(ERRORS, 10, "{:8.2f}"),
        F,
    ),  # noqa: E501
    "pairs-of-errors": (
        SPAN + "\n" + lists([v for two in zip(F, ERRORS, strict=True) for v in two], 10, " {:.2f}"),
        F,
    ),  # noqa: E501
    "pairs-of-times": (
        SPAN
        + "\n"
        + lists([v for two in zip(TIMES, F * TIMES, strict=True) for v in two], 10, " {:.0f}"),
        10 * F,
    ),  # noqa: E501
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_counts_of_every_layout(tmp_path, name):
    text, expected = LAYOUTS[name]
    (scan,) = read(tmp_path, "a.dat", text, "CuKa")
    np.testing.assert_allclose(scan.two_theta, ANGLE, atol=1e-6)
    np.testing.assert_allclose(scan.counts / scan.counts[0], expected / expected[0], rtol=1e-2)
    check(scan, FACE_CENTRED)


def test_a_row_of_a_table_is_no_range(tmp_path):
    text = "15 95 0.05\n1.54184\n" + rows("{:.3f} {:.0f}", ANGLE, F)  # 2 * 1601 pieces of 6 places
    (scan,) = read(tmp_path, "a.dat", text, "CuKa")
    np.testing.assert_array_equal(scan.counts, F)


# --- GSAS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binning", "cause"),
    [("RALF 100 20 100 1 ALT", "time of flight"), ("SLOG 3000 20000 4e-4 0 FXYE", "time of flight"),
     ("TIME_MAP 1 STD", "time of flight|no range"), ("CONST 1500 5 0 0 ALT", "CONST ALT"),
     ("EDS 0.1 0.2 0 0 STD", "energy"), ("CONQ 1.0 0.1 0 0 STD", "steps of q")],
)  # fmt: skip
def test_banks_over_something_else_are_named(tmp_path, binning, cause):
    text = f"title\nBANK 1 1600 160 {binning}\n" + lists(F, 10, " 1{:6.0f}")
    with pytest.raises(UserError, match=cause):
        read(tmp_path, "a.gsa", text, "CuKa")


# --- JCAMP-DX ------------------------------------------------------------------------------------

TUPLES = (
    "##TITLE=x\n##JCAMP-DX=5.00\n##DATA TYPE=X-RAY DIFFRACTION\n##NTUPLES=POWDER\n"
    "##VAR_NAME=2THETA, COUNTS, SAMPLE\n##SYMBOL=X, Y, N\n##VAR_TYPE=INDEPENDENT, DEPENDENT, PAGE\n"
    f"##VAR_FORM=AFFN, ASDF, AFFN\n##VAR_DIM={len(F)}, {len(F)}, 2\n##UNITS={{}}, COUNTS, NONE\n"
    "##FIRST={}, 0, 1\n##LAST={}, 0, 2\n##FACTOR={}, 0.5, 1\n"
)


def page(number: int, values, form: str = "(X++(Y..Y)), XYDATA") -> str:
    body = "".join(
        f"{ANGLE[i]:.2f} " + " ".join(f"{2 * v:.0f}" for v in values[i : i + 8]) + "\n"
        for i in range(0, len(values), 8)
    )
    return f"##PAGE=N={number}\n##NPOINTS={len(values)}\n##DATA TABLE={form}\n{body}"


def test_pages_of_ntuples_are_patterns(tmp_path):
    head = TUPLES.format("2THETA", ANGLE[0], ANGLE[-1], 1)
    first, second = read(tmp_path, "a.dx", head + page(1, F) + page(2, O) + "##END=\n", "CuKa")
    for scan, expected in ((first, F), (second, O)):
        np.testing.assert_allclose(scan.two_theta, ANGLE, atol=1e-9)
        np.testing.assert_array_equal(scan.counts, expected)
    with pytest.raises(UserError, match="list of peaks"):
        read(tmp_path, "b.dx", head + page(1, F, "(XY..XY), PEAKS") + "##END=\n", "CuKa")
    head = TUPLES.format("1/CM", 400, 4000, 1)
    with pytest.raises(UserError, match="wavenumber"):
        read(tmp_path, "c.dx", head + page(1, F) + "##END=\n", "CuKa")


def test_packed_repeated_and_plain_ordinates_are_the_same(tmp_path):
    values = np.repeat(F[::4], 4)  # many repeats, for DUP
    plain = JCAMP + "##XYDATA=(X++(Y..Y))\n" + lists(values, 8, " {:.0f}").replace("\n ", "\n15 ")
    plain = plain.replace("(Y..Y))\n ", "(Y..Y))\n15 ")
    packed = JCAMP + "##XYDATA=(X++(Y..Y))\n" + "".join(
        "15" + "".join(f"+{v:.0f}" for v in values[i : i + 8]) + "\n"
        for i in range(0, len(values), 8)
    )  # fmt: skip
    marks = dict(enumerate("STUVWXYZs", start=1))
    squeezed = dict(enumerate("@ABCDEFGHI"))
    repeated = JCAMP + "##XYDATA=(X++(Y..Y))\n"
    for i in range(0, len(values), 8):
        repeated += "15"
        for value in values[i : i + 8 : 4]:
            digits = f"{value:.0f}"
            repeated += squeezed[int(digits[0])] + digits[1:] + marks[4]
        repeated += "\n"
    for number, text in enumerate((plain, packed, repeated)):
        (scan,) = read(tmp_path, f"{number}.dx", text + "##END=\n", "CuKa")
        np.testing.assert_array_equal(scan.counts, values)
