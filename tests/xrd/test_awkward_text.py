"""Text files as people have them: languages, marks between digits, other quantities, lost rows."""

from pathlib import Path

import numpy as np
import pytest
from scan_case_files import (
    ANGLE,
    FACE_CENTRED,
    PAN,
    PEAKS,
    RAS,
    UDF,
    UXD,
    D,
    F,
    O,
    P,
    Q,
    changed,
    lists,
    rows,
    xy,
)
from test_scan_cases import check, read

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_records
from imitation_refinement.xrd.formats.factors import one_scale
from imitation_refinement.xrd.formats.headers import read_header
from imitation_refinement.xrd.formats.names import axis_of, role_of, scale_of

BIG = 5 * F


@pytest.mark.parametrize(
    ("name", "kind", "scale"),
    [
        ("2⋅θ (°)", "two_theta", 1.0), ("2×θ", "two_theta", 1.0), ("2.theta", "two_theta", 1.0),
        ("Theta_2", "two_theta", 1.0), ("2tetha", "two_theta", 1.0), ("角度", "two_theta", 1.0),
        ("Kąt 2θ", "two_theta", 1.0), ("Угол 2θ", "two_theta", 1.0),
        ("Theta/2Theta", "two_theta", 1.0), ("2theta/2", "two_theta", 2.0),
        ("Bragg angle θ", "two_theta", 2.0), ("Bragg theta (deg)", "two_theta", 2.0),
        ("2Theta (gon)", "two_theta", 0.9), ("2Theta (arcmin)", "two_theta", 1 / 60),
        ("Bragg angle", "an angle that may be theta or 2 theta", 1.0),
        ("1/d^2", "a power of d", 1.0), ("sin^2 theta", "the square of a sine", 1.0),
        ("Q (pm^-1)", "q", 100.0), ("d (pm)", "d", 0.01), ("d-Wert [nm]", "d", 10.0),
        ("Q (cm^-1)", "q in a unit that is not known here", 1.0),
        ("keV", "energy", 1.0), ("Binding Energy (eV)", "energy", 1.0),
        ("Wavelength (nm)", "a wavelength", 1.0), ("Raman shift (cm-1)", "a wavenumber", 1.0),
    ],
)  # fmt: skip
def test_axes_as_they_are_spelled(name, kind, scale):
    axis = axis_of(name)
    assert axis is not None and (axis.kind, axis.scale) == (kind, pytest.approx(scale))


@pytest.mark.parametrize(
    ("name", "scale"),
    [("lg I", "log10"), ("Intensity [dB]", "function"), ("asinh(I)", "function"),
     ("I^2", "function"), ("I*Q^2", "function"), ("-log10(I/I0)", "function"), ("1/I", "function"),
     ("dI/d2theta", "function"), ("Cumulative counts", "function"), ("log2(I)", "log"),
     ("Log Creek", ""), ("Root Hill", ""), ("Ln sample", ""), ("I (arb. units)", "")],
)  # fmt: skip
def test_functions_of_the_intensity(name, scale):
    assert scale_of(name) == scale


@pytest.mark.parametrize(
    ("line", "wavelength"),
    [
        ("Lunghezza d'onda 1.54184 A", 1.54184), ("Comprimento de onda: 1,54184 A", 1.54184),
        ("Длина волны: 1.54184 Å", 1.54184), ("波长: 1.54184", 1.54184),
        ("incidentWavelength: 0.7 Angstrom", 0.7), ('<wavelength unit="nm">0.07</wavelength>', 0.7),
        ('{"wavelength_A": 0.7, "detector": "x"}', 0.7), ("E = 12.39841984 keV", 1.0),
        ("Kalpha2 stripped, wavelength 1.5406", 1.5406),
        ("Ka2-stripped data, Mo radiation 0.70930 A", 0.7093),
        ("Wavelengths: 1.5406, 1.5444", (1.5406 + 0.5 * 1.5444) / 1.5),
        ("lambda 1.5406 1.5444 0.5", (1.5406 + 0.5 * 1.5444) / 1.5),
        ("Wavelength 1.5406 Å (Kα1), 1.5444 Å (Kα2)", (1.5406 + 0.5 * 1.5444) / 1.5),
        ("CuKα₁ radiation", 1.54056), ("Cu Kα1/α2", 1.54184), ("Cu K alpha 1.54 A", 1.54184),
        ("sinθ/λ (1/Å)", None), ("wavelength -1", None), ("radiation damage after 30 s", None),
        ("radiation 1.5", None),
    ],
)  # fmt: skip
def test_wavelengths_as_they_are_written(line, wavelength):
    assert read_header([line]).wavelength == pytest.approx(wavelength)


@pytest.mark.parametrize(
    ("line", "state"),
    [("Kalpha2 stripped: No", "unknown"), ("K-alpha2 not stripped", "unknown"),
     ("Ka2 stripped = false", "unknown"), ("Ka2 stripping: yes", "stripped"),
     ("K-Alpha2 stripped: Yes", "stripped"), ("Ka2 was removed", "stripped")],
)  # fmt: skip
def test_whether_k_alpha_2_is_stripped(line, state):
    assert read_header([line]).k_alpha2 == state


def test_neutrons_are_noted(tmp_path):
    (scan,) = read(tmp_path, "a.xy", xy(F, "# neutrons, lambda=1.54184 A\n"))
    assert scan.notes == ("neutrons: intensities are not those of X-rays",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Winkel;Zählrate\n(Grad);(Imp/s)\n" + rows("{:.3f};{:.0f}", ANGLE, F).replace(".", ","), ""),  # noqa: E501
        ("角度\t强度\n" + rows("{:.3f}\t{:.0f}", ANGLE, F), ""),
        ("d-Wert [nm]\tZählrate\n" + rows("{:.7f}\t{:.0f}", D / 10, F), "computed from d"),
        ("Q (pm^-1),I\n" + rows("{:.7f},{:.0f}", Q / 100, F), "computed from q"),
        ("2theta;counts\n" + rows("{:.3f};{:,.0f}", ANGLE, BIG).replace(",", " "), ""),
        ("2theta;counts\n" + rows("{:.3f};{:,.0f}", ANGLE, BIG).replace(",", "\u202f"), ""),
        ("2theta\tcounts\n" + rows("{:.3f}\t{:,.0f}", ANGLE, BIG).replace(",", "\u00a0"), ""),
        ("2theta\tcounts\n" + rows("{:.3f}\t{:,.0f}", ANGLE, BIG).replace(",", "’"), ""),
        ("1600 2\n" + xy(F), "far from all others"),
        (xy(F) + "999 999\n", "far from all others"),
        ("15 95 0.05\n1.54184\n" + xy(F), ""),
        ('# {"wavelength_A": 1.54184, "detector": "x"}\n' + xy(F), ""),
        ("x.tif\nQ (Inverse Angstroms)\nIntensity\n 1600 0\n" + rows("{:.6E} {:.6E}", Q, F), "from q"),  # noqa: E501
        ("2Theta,I/Imax\n" + rows("{:.3f},{:.5f}", ANGLE, F / F.max()), ""),
        ("a,b\n" + rows("{:.3f},{:.0f}", ANGLE, F), "columns called a, b: taken for 2 theta"),
    ],
)  # fmt: skip
def test_read_right(tmp_path, text, said):
    (scan,) = read(tmp_path, "a.txt", text, "CuKa")
    check(scan, FACE_CENTRED)
    assert said in " ".join(scan.notes)
    assert bool(said) == any("far" in n or "from" in n or "called" in n for n in scan.notes)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-be", "utf-32", "shift_jis", "gbk"])
def test_other_encodings(tmp_path, encoding):
    name = {"shift_jis": "角度 q(1/nm)\t強度", "gbk": "角度 q(1/nm)\t强度"}.get(
        encoding, "q(1/nm)\tI °"
    )
    text = name.replace("角度 ", "") if encoding == "shift_jis" else name
    text = text.replace("角度 ", "") + "\n" + rows("{:.5f}\t{:.0f}", 10 * Q, F)
    (scan,) = read(tmp_path, "a.txt", text.encode(encoding), "CuKa")
    check(scan, FACE_CENTRED)
    (scan,) = read(tmp_path, "b.txt", xy(F).encode() + bytes(512), "CuKa")  # a crashed computer
    check(scan, FACE_CENTRED)


IN_Q = rows("{:.6f} {:.2f} {:.2f}", 10 * Q, F, np.sqrt(F))


@pytest.mark.parametrize(
    "head",
    [
        "# Columns: q (nm^-1), intensity, error", "# labels = [q_nm^-1, I, dI]",
        "# Column 1: q (1/nm)\n# Column 2: I\n# Column 3: sigma", "# format: q(1/nm) I dI",
        "# col 1 = Q [nm-1]\n# col 2 = I", "# X: q(1/nm)\n# Y: Intensity",
        "# 1st column: momentum transfer (1/nm); 2nd column: intensity",
        "# field names: q,I,e\n# field units: 1/nm,cts,cts", "'q (nm-1)' 'I' 'e'",
        "# abscissa: scattering vector, nm-1", "# x label = q / nm^-1",
    ],
)  # fmt: skip
def test_names_of_columns_in_prose(tmp_path, head):
    (scan,) = read(tmp_path, "a.dat", head + "\n" + IN_Q, "CuKa")
    check(scan, FACE_CENTRED)


@pytest.mark.parametrize(
    "head",
    [
        "# axis q nm^-1", "q(1/nm)=x, I=y", "# data: q [nm^-1] vs intensity",
        "# Q-values in inverse nm", "Data in d-spacing (A)", "# angular unit: radians",
        "# Intensity is log10", "# Y scale: log10", "x-axis is theta", "# measured by TOF",
        "# energy keV / counts", "# energy (keV)\n# counts", "# theta (not 2theta)",
    ],
)  # fmt: skip
def test_prose_on_another_axis_that_names_no_column_is_refused(tmp_path, head):
    with pytest.raises(UserError, match=r"line 1 \(.*speaks of another (axis|scale)"):
        read(tmp_path, "a.dat", head + "\n" + xy(F), "CuKa")
    (scan,) = read(
        tmp_path,
        "b.dat",
        head + "\n2theta, log10(I)\n" + rows("{:.3f}, {:.5f}", ANGLE, np.log10(F)),
        "CuKa",
    )  # noqa: E501
    check(scan, FACE_CENTRED)


def glued(form: str, values) -> str:
    return "".join(form.format(*row) + "\n" for row in zip(ANGLE, values, strict=True))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (glued("{:8.3f}{:8.0f}", 1e5 * F), "begins like a row"),  # noqa: E501
        (glued("{:7.3f}{:7.0f}", 1e3 * F), "begins like a row"),  # noqa: E501
        (rows("{:.3f} {:.0f}", ANGLE, F).replace("28.550 1", "28.550 1x 1").replace("28.600 1", "28.600 1x 1").replace("28.500 1", "28.500 1x 1"), r"line 271 \('28.500 1x"),  # noqa: E501
        ("Field (Oe),Moment (emu)\n" + rows("{:.3f},{:.0f}", ANGLE, F), "first column is called 'Field"),  # noqa: E501
        ("Wavelength (nm),Abs\n" + rows("{:.3f},{:.0f}", ANGLE, F), "spectrum of absorption|a wavelength"),  # noqa: E501
        ("cm-1,%T\n" + rows("{:.3f},{:.0f}", ANGLE, F), "spectrum of absorption|wavenumber"),
        ("r g(r)\n" + rows("{:.2f} {:.4f}", ANGLE / 10, F), "real space"),
        ("#L Q($\\AA^{-1}$) F($\\AA^{-1}$)\n" + rows("{:.4f} {:.4f}", Q, F), "structure function"),
        ("# energy dispersive, 2theta = 5 deg\n# keV counts\n" + xy(F), "is energy"),
        ("2theta,asinh(I)\n" + rows("{:.3f},{:.3f}", ANGLE, np.arcsinh(F)), "function of the intensity"),  # noqa: E501
        ("2theta\tI\n" + rows("{:.3f}° {:.0f}", ANGLE, F), r"0 lines with two numbers.*line 801 is '54"),  # noqa: E501
        (xy(F) + "# wavelength 0.7107\n", "0.7107 angstrom and --wavelength"),
        ("PDF 00-034-0394\nd(A) I h k l\n" + rows("{:.4f} {:.0f} 1 1 1", PEAKS[::-1] / 12, PEAKS), "list of peaks"),  # noqa: E501
    ],
)  # fmt: skip
def test_refused_for_its_cause(tmp_path, text, cause):
    with pytest.raises(UserError, match=cause):
        read(tmp_path, "a.txt", text, "CuKa")


@pytest.mark.parametrize("word", ["---", "N/A", "NaN", "-1.#IND", "********", ""])
def test_a_word_for_no_number_is_a_point_without_a_count(tmp_path, word):
    text = rows("{:.3f};{:.0f}", ANGLE, changed(F, gap=(-5, [(40, 42)]))).replace(";-5", f";{word}")
    (scan,) = read(tmp_path, "a.csv", "2theta;I\n" + text, "CuKa")
    check(scan, FACE_CENTRED)
    assert not np.any((scan.two_theta > 39.99) & (scan.two_theta < 42.01))


def test_errors_before_the_counts_are_told_by_their_values(tmp_path):
    text = rows("{:.3f} {:.3f} {:.0f}", ANGLE, np.sqrt(F), F)
    (scan,) = read(tmp_path, "a.xye", text, "CuKa")
    np.testing.assert_array_equal(scan.counts, F)
    assert "the second column has the errors of the third" in scan.notes
    high = F + 1e4  # little noise
    for counts in (F, high):
        for third in (np.sqrt(counts), counts + 60, O, 0 * F, np.full(len(F), 3e4), 3e4 + O):
            text = rows("{:.3f} {:.0f} {:.3f}", ANGLE, counts, third)
            (scan,) = read(tmp_path, "b.xye", text, "CuKa")
            np.testing.assert_array_equal(scan.counts, counts)
            assert scan.notes == ("1 further columns ignored",)


def test_remarks_after_a_row_do_not_cost_the_row(tmp_path):
    for form in ("{:.3f}\t{:.0f}", "{:.3f},{:.0f}", "{:.3f};{:.0f}"):
        lines = rows(form, ANGLE, F).splitlines()
        lines[300] += f"{form[6]}peak 3!"
        (scan,) = read(tmp_path, "a.txt", "\n".join(lines), "CuKa")
        np.testing.assert_array_equal(scan.counts, F)
        assert scan.notes == ("words after the numbers of 1 lines left out",)


def test_radians_without_a_word_are_asked_for(tmp_path):
    from imitation_refinement.xrd.grid import Grid
    from imitation_refinement.xrd.scans import on_grid

    text = rows("{:.6f} {:.0f}", np.deg2rad(ANGLE), F)
    (scan,) = read(tmp_path, "a.xy", text, "CuKa")
    with pytest.raises(UserError, match=r"whether the angles are degrees \(name the column"):
        on_grid(scan, Grid())


def test_names_of_samples_beside_names_of_axes(tmp_path: Path):
    names = ["Energy drink ash", "Temperature 300", "x = 0.2"]
    head = "2Theta," + ",".join(names)
    (tmp_path / "a.csv").write_text(head + "\n" + rows("{:.3f}" + ",{:.0f}" * 3, ANGLE, F, P, F))
    records = read_records(tmp_path / "a.csv", "CuKa")
    assert [record.name for record in records] == [f"a_{name}" for name in names]
    assert role_of("x = 0.2", names) == ""


# --- what instruments say ------------------------------------------------------------------------

TRIPLES = rows("{:.4f} {:.0f} 1.0", ANGLE, F)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("*RAS_DATA_START\n" + RAS.format("Theta", TRIPLES), "measured over Theta"),
        (UXD.replace("COUPLED", "THETA") + "_COUNTS\n" + lists(F, 8, "{:8.0f}"), "over THETA"),
        ('\'Id: "x" Anode: "Cu" Scantype: "Rocking Curve"\n' + xy(F), "another angle"),
    ],
)
def test_scans_of_theta_alone_are_no_patterns(tmp_path, text, cause):
    with pytest.raises(UserError, match=cause):
        read(tmp_path, "a.txt", text, "CuKa")


@pytest.mark.parametrize(
    "text",
    [
        "*WAVE_LENGTH1\t1.54184\n*SCAN_AXIS\t2theta/theta\n*START\t15.0\n" + xy(F),
        "[Wavelength]\nKa1,1.54184\n2θ(deg),Intensity(cps)\n" + rows("{:.2f},{:.0f}", ANGLE, F),
        '\'Id: "x" Anode: "Cu" Scantype: "Coupled TwoTheta/Theta"\n' + xy(F),
        PAN.format("Gonio", "").replace(",", ";").replace(".", ",")
        + rows("{:.4f};{:.0f}", ANGLE, F).replace(".", ","),
        ("*RAS_DATA_START\n*FILE_SAMPLE 試料\n" + RAS.format("2θ/θ", TRIPLES)).encode("shift_jis"),
    ],
)
def test_headers_of_instruments(tmp_path, text):
    (scan,) = read(tmp_path, "a.txt", text)
    check(scan, FACE_CENTRED)
    assert scan.wavelength_source == "file"


def test_a_second_scan_of_a_udf_is_a_pattern(tmp_path):
    text = "".join(UDF + lists(values, 8, "{:8.0f}", ",") + "/\n" for values in (F, O))
    first, second = read(tmp_path, "a.udf", text)
    np.testing.assert_array_equal(first.counts, F)
    np.testing.assert_array_equal(second.counts, O)


# --- time, monitor, attenuator -------------------------------------------------------------------

TIME = np.where(ANGLE < 50, 1.0, 4.0)
FACTOR = np.where((ANGLE > 28) & (ANGLE < 34), 10.0, 1.0)


@pytest.mark.parametrize(
    ("name", "beside", "raw"),
    [("time (s)", TIME, F * TIME), ("Step Time", TIME, F * TIME), ("Monitor", TIME, F * TIME),
     ("attenuation", FACTOR, F / FACTOR)],
)  # fmt: skip
def test_counts_are_brought_to_one_time_unless_they_were(name, beside, raw):
    scaled, notes = one_scale(raw, {name: beside, "sigma": TIME})
    shape = scaled / F
    np.testing.assert_allclose(shape, shape[0])
    assert len(notes) == 1 and notes[0].endswith(f"varies ({name}): intensities brought to one")
    same, notes = one_scale(F, {name: beside})  # it was divided out before
    np.testing.assert_array_equal(same, F)
    assert notes == ()
    assert one_scale(raw, {name: np.full(len(F), 2.0)})[1] == ()
    drift = np.linspace(1.0, 2.0, len(F)) ** -1
    same, notes = one_scale(F, {name: drift})
    np.testing.assert_array_equal(same, F)
    assert notes[0].endswith("intensities not brought to one")


def test_the_time_of_the_clock_is_no_counting_time():
    assert one_scale(F, {"time (s)": np.arange(1.0, len(F) + 1)}) == (pytest.approx(F), ())


# --- marks and overflow --------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [1e10, 1e20, 9_999_999])
def test_a_run_far_beyond_all_counts_is_a_mark(tmp_path, mark):
    (scan,) = read(tmp_path, "a.xy", xy(changed(F, gap=(mark, [(40, 42)]))), "CuKa")
    check(scan, FACE_CENTRED)
    assert scan.unmeasured == ((40.0, 42.0),)


@pytest.mark.parametrize("signed", [True, False])
def test_a_counter_that_overflowed_is_noted(tmp_path, signed):
    values = (50 if signed else 40) * F
    values = np.where(values > 32767, values - 65536, values) if signed else values % 65536
    (scan,) = read(tmp_path, "a.xy", xy(values), "CuKa")
    assert any("a counter of 16 bits overflowed" in note for note in scan.notes)
    (scan,) = read(tmp_path, "b.xy", xy(30 * F if not signed else 15 * F), "CuKa")
    assert not any("overflowed" in note for note in scan.notes)
