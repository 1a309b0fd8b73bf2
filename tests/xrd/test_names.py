"""The grammar of names and headers: axes, roles, scales, wavelengths."""

import itertools

import numpy as np
import pytest

from imitation_refinement.xrd.formats import names
from imitation_refinement.xrd.formats.headers import read_header
from imitation_refinement.xrd.formats.layout import find_names
from imitation_refinement.xrd.formats.names import axis_of, goniometer_axis, role_of, scale_of


@pytest.mark.parametrize(
    ("name", "kind", "scale"),
    [
        ("2Theta", "two_theta", 1.0),
        ("2-Theta Angle (Degrees)", "two_theta", 1.0),
        ("Pos. [°2Th.]", "two_theta", 1.0),
        ("2θ/°", "two_theta", 1.0),
        ("tth", "two_theta", 1.0),
        ("2th_deg", "two_theta", 1.0),
        ("2th_rad", "two_theta", 180 / np.pi),
        ("2Theta (mrad)", "two_theta", 0.18 / np.pi),
        ("Theta [deg]", "two_theta", 2.0),
        ("Q", "q", 1.0),
        ("q_A^-1", "q", 1.0),
        ("q_nm^-1", "q", 0.1),
        ("Q (Inverse Nanometres)", "q", 0.1),
        ("Q / nm⁻¹", "q", 0.1),
        ("q ($\\AA^{-1}$)", "q", 1.0),
        ("momentum transfer (1/A)", "q", 1.0),
        ("sin(theta)/lambda (1/A)", "q", 4 * np.pi),
        ("1/d (1/nm)", "q", 0.2 * np.pi),
        ("d-spacing [Å]", "d", 1.0),
        ("d (nm)", "d", 10.0),
        ("TOF(ms)", "time of flight", 1.0),
        ("Energy (keV)", "energy", 1.0),
        ("Omega", "another angle than 2 theta", 1.0),
        ("chi_deg", "another angle than 2 theta", 1.0),
        ("r(A)", "a distance r in real space", 1.0),
        ("r_mm", "a radius on the detector", 1.0),
        ("Channel", "a channel of the detector", 1.0),
        ("No.", "a row number", 1.0),
        ("q^2", "q squared", 1.0),
        ("log10(q)", "a logarithm", 1.0),
    ],
)
def test_axes(name, kind, scale):
    axis = axis_of(name)
    assert axis is not None and axis.kind == kind
    assert axis.scale == pytest.approx(scale)
    assert axis.usable == (kind in ("two_theta", "q", "d"))


@pytest.mark.parametrize(
    "name",
    ["Quartz", "Diopside", "Rutile", "Al2O3", "Intensity", "counts", "Thenardite", "Enstatite"],
)
def test_names_of_samples_are_no_axes(name):
    assert axis_of(name) is None


@pytest.mark.parametrize(
    ("name", "usable"),
    [("Gonio", True), ("2-Theta/Theta", True), ("TwoThetaOmega", True), ("Locked Coupled", True),
     ("Coupled TwoTheta/Theta", True), ("", True), ("Omega", False), ("Phi", False),
     ("Rocking Curve", False)],
)  # fmt: skip
def test_axes_of_goniometers(name, usable):
    assert goniometer_axis(name).usable == usable


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Yobs", names.OBSERVED), ("I_obs", names.OBSERVED), ("Intensity (cps)", names.OBSERVED),
        ("counts", names.OBSERVED), ("observed intensity", names.OBSERVED),
        ("Ycalc", names.CALCULATED), ("I (calc)", names.CALCULATED), ("fit", names.CALCULATED),
        ("Yobs-Ycal", names.DIFFERENCE), ("Diff", names.DIFFERENCE),
        ("Y(diff)", names.DIFFERENCE), ("Y(bkg)", names.BACKGROUND),
        ("I(calc) (a.u.)", names.CALCULATED),
        ("Y(obs)", names.OBSERVED), ("Intensity [arb. units]", names.OBSERVED),
        ("sigma", names.ERROR), ("dI", names.ERROR), ("esd", names.ERROR), ("weight", names.ERROR),
        ("Bckg", names.BACKGROUND), ("Background", names.BACKGROUND),
        ("Monitor", names.OTHER), ("h", names.OTHER), ("Time (s)", names.OTHER),
    ],
)  # fmt: skip
def test_roles(name, role):
    assert role_of(name) == role


WORDS = ("calc", "err", "sigma", "back", "fit", "diff", "time", "obs", "raw", "std")
ENDINGS = ("ite", "ine", "phase", "ra 3", " quartz", "um-2", "en A")


@pytest.mark.parametrize(
    "name", ["Quartz", "Calcite", "Ferrite", "Sierra 3", "Al2O3", "Y2O3", "I3", "time 30 min",
             *(a + b for a, b in itertools.product(WORDS, ENDINGS[:6]))],
)  # fmt: skip
def test_a_word_that_only_begins_like_a_role_says_nothing(name):
    assert role_of(name, ["2Theta", name, "Other"]) == ""


def test_a_role_after_the_name_of_another_column():
    columns = ["2Theta", "Fe10", "Fe10 err", "Fe20", "Fe20_calc"]
    assert [role_of(name, columns) for name in columns[1:]] == [
        "", names.ERROR, "", names.CALCULATED,
    ]  # fmt: skip
    assert role_of("Sierra err", columns) == ""


@pytest.mark.parametrize(
    ("name", "scale"),
    [("log10(Intensity)", "log10"), ("lg(I)", "log10"), ("ln(I)", "ln"), ("log(I)", "log"),
     ("Log Intensity", "log"), ("sqrt(counts)", "square root"), ("√I", "square root"),
     ("I^0.5", "square root"), ("Intensity", ""), ("Logan quartz", ""), ("Rootite", "")],
)  # fmt: skip
def test_scales(name, scale):
    assert scale_of(name) == scale


@pytest.mark.parametrize(
    ("line", "wavelength"),
    [
        ("# Wavelength: 4.13529e-11 m", 0.413529),
        ("wavelength = 4.13529e-11", 0.413529),
        ("# lambda = 0.15406 nm", 1.5406),
        ("wavelength 0.15406", 1.5406),
        ("# Energy: 12.39841984 keV", 1.0),
        ("Photon energy (eV) = 12398.41984", 1.0),
        ("LabdaAlpha1,1.54060 ,/", 1.5406),
        ("K-Alpha1 [Å],1.54060", 1.5406),
        ("Used wavelength,K-Alpha 1", None),
        ("Anode material,Cu", 1.54184),
        ("# detector Lambda 750K, exposure time 0.50 s", None),
        ("# Lambda 2M 0.71 s", None),
        ("# lambda 0.71 s", None),
        ("# detector energy threshold: 6.4 keV", None),
        ("wavelength range 0.5-2.0", None),
        ("# Lambda/2 filter 0.77", None),
        ("tube energy 40 kV", None),
    ],
)
def test_wavelengths(line, wavelength):
    assert read_header(["a title", line]).wavelength == (wavelength and pytest.approx(wavelength))


def test_units_of_one_wavelength_agree():
    for angstrom in np.random.default_rng(0).uniform(0.1, 2.9, 200).tolist():
        said = {
            f"wavelength: {angstrom!r} A", f"Lambda [nm] = {angstrom / 10!r}",
            f"wave_length_m = {angstrom * 1e-10!r}", f"wavelength {100 * angstrom!r} pm",
            f"energy {12.39841984 / angstrom!r} keV",
        }  # fmt: skip
        for line in said:
            assert read_header([line]).wavelength == pytest.approx(angstrom, rel=1e-9), line


def test_two_lines_give_their_mean_and_two_wavelengths_are_trouble():
    header = read_header(["_WL1=1.5406", "_WL2=1.5444", "_WLRATIO=0.5"])
    assert header.wavelength == pytest.approx((1.5406 + 0.5 * 1.5444) / 1.5)
    assert header.k_alpha2 == "present"
    assert "1.54" in read_header(["wavelength 1.54", "wavelength 0.71"]).trouble
    assert not read_header(["wavelength 1.5406", "wavelength 1.54060"]).trouble


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (["Q,I", "(1/nm),(counts)"], ["Q [1/nm]", "I [counts]"]),
        (["d\tI", "Å\tcounts", "batch 1\tbatch 1"], ["d [Å]", "I [counts]"]),
        (["# 2Theta (deg) I (counts)"], ["2Theta (deg)", "I (counts)"]),
        (["x.tif", " 2-Theta Angle (Degrees)", " Intensity", " 60"],
         ["2-Theta Angle (Degrees)", "Intensity"]),
        (["Quartz standard"], []),
        (["# Energy: 30"], []),
        (["2020 05"], []),
    ],
)  # fmt: skip
def test_names_of_columns_are_found(head, expected):
    assert find_names(head, 2, 60) == expected
