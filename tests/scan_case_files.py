"""Small files, one for each kind that people really have: made here, byte by byte.

`primitive` and `face_centred` are two made-up samples; every file says one of them in its own way.
"""

import numpy as np

WAVELENGTH = 1.54184
# d in angstrom and height in percent of the strongest line.
PRIMITIVE = ((4.197, 100), (2.968, 60), (2.423, 30), (2.098, 55), (1.877, 33), (1.713, 38),
             (1.484, 22), (1.399, 13))  # fmt: skip
_FACE = ((1, 1, 1, 100), (2, 0, 0, 28), (2, 2, 0, 55), (3, 1, 1, 45), (2, 2, 2, 9), (4, 0, 0, 8),
         (3, 3, 1, 16), (4, 2, 0, 11), (4, 2, 2, 18))  # fmt: skip
FACE_CENTRED = tuple((5.4116 / np.sqrt(h * h + k * k + m * m), height) for h, k, m, height in _FACE)


def two_theta(d, wavelength: float = WAVELENGTH):
    """Bragg's law, degrees."""
    return 2 * np.rad2deg(np.arcsin(wavelength / (2 * np.asarray(d, float))))


def counts(angle, lines=PRIMITIVE, wavelength=WAVELENGTH, top=1800.0, background=60.0, width=0.28):
    """Returns counts of Gaussian peaks with the noise of counting, the same for the same angles."""
    expected = np.full(len(angle), background)
    for d, height in lines:
        if wavelength < 2 * d:
            at = two_theta(d, wavelength)
            expected += top * height / 100 * np.exp(-4 * np.log(2) * ((angle - at) / width) ** 2)
    return np.random.default_rng(len(angle)).poisson(expected).astype(float)


def strongest(lines, wavelength=WAVELENGTH, low=0.0, high=180.0, most=3):
    """Returns where the strongest lines within a range lie, degrees."""
    inside = [(h, two_theta(d, wavelength)) for d, h in lines if wavelength < 2 * d]
    inside = [(h, at) for h, at in inside if low < at < high]
    return [float(at) for _, at in sorted(inside, reverse=True)[:most]]


ANGLE = np.round(np.arange(15.0, 94.96, 0.05), 3)
P, F = counts(ANGLE), counts(ANGLE, FACE_CENTRED)
OTHER = tuple((0.97 * d, height) for d, height in FACE_CENTRED)
O = counts(ANGLE, OTHER)  # noqa: E741
SINE = np.sin(np.deg2rad(ANGLE / 2))
Q, D = 4 * np.pi * SINE / WAVELENGTH, WAVELENGTH / 2 / SINE


def rows(form: str, *columns) -> str:
    return "".join(form.format(*row) + "\n" for row in zip(*columns, strict=True))


def lists(values, per_line: int, form: str, separator: str = "") -> str:
    lines = [values[i : i + per_line] for i in range(0, len(values), per_line)]
    return "".join(separator.join(form.format(v) for v in line) + "\n" for line in lines)


def xy(values=P, head: str = "") -> str:
    return head + rows("{:.3f} {:.0f}", ANGLE, values)


def changed(values, **places) -> np.ndarray:
    """Returns counts with other values at single angles or from one angle to another."""
    values = values.copy()
    for value, where in places.values():
        for low, high in where:
            values[(low - 1e-6 <= ANGLE) & (high + 1e-6 >= ANGLE)] = value
    return values


def at(*angles: float) -> list[tuple[float, float]]:
    return [(angle, angle) for angle in angles]


SPAN = f"{ANGLE[0]:8.3f}{0.05:8.3f}{ANGLE[-1]:8.3f}"
WL = "_WL1=1.540600\n_WL2=1.544390\n_WLRATIO=0.500000\n"
UXD = "_DRIVE='COUPLED'\n_STEPSIZE=0.05\n_START=15.0\n"
UDF = f"Anode,Cu ,/\nLabdaAlpha1,1.54060 ,/\nLabdaAlpha2,1.54439 ,/\nRatioAlpha21,0.50000 ,/\nDataAngleRange,15.0, {ANGLE[-1]},/\nScanStepSize,0.05,/\nRawScan\n"  # noqa: E501
ASC = f"*TYPE = Raw\n*BEGIN\n*START = 15.0\n*STOP = {ANGLE[-1]}\n*STEP = 0.05\n*WAVE_LENGTH1 = 1.54056\n*COUNT = {len(ANGLE)}\n"  # noqa: E501
PYFAI = "# == pyFAI calibration ==\n# Wavelength: 1.54184e-10 m\n# Polarization factor: 0.95\n"
RAS = '*RAS_HEADER_START\n*HW_XG_WAVE_LENGTH_ALPHA1 "1.540593"\n*HW_XG_WAVE_LENGTH_ALPHA2 "1.544414"\n*MEAS_SCAN_AXIS_X "{}"\n*RAS_HEADER_END\n*RAS_INT_START\n{}*RAS_INT_END\n'  # noqa: E501
JCAMP = f"##TITLE=x\n##JCAMP-DX=4.24\n##DATA TYPE=X-RAY DIFFRACTION\n##XUNITS=2THETA\n##YUNITS=COUNTS\n##FIRSTX=15\n##LASTX={ANGLE[-1]}\n##NPOINTS={len(ANGLE)}\n"  # noqa: E501
PAN = "[Measurement conditions]\nAnode material,Cu\nK-Alpha1 wavelength,1.5405980\nK-Alpha2 wavelength,1.5444260\nRatio K-Alpha2/K-Alpha1,0.5000\nMonochromator used,NO\nScan axis,{}\n{}\n[Scan points]\nAngle,Intensity\n"  # noqa: E501
AFFN = "".join(
    f"{ANGLE[i]:.2f} " + " ".join(f"{v:.0f}" for v in P[i : i + 8]) + "\n"
    for i in range(0, len(ANGLE), 8)
)
PEAKS = np.cumsum(np.random.default_rng(3).uniform(0.3, 4, 42)) + 15

# name -> (content, option, expected): samples as (name ending, lines), or words of the error.
# The wavelength of peaks is that of the option or of the file.
ONE_P, ONE_F = [("", PRIMITIVE)], [("", FACE_CENTRED)]
CASES: dict[str, tuple[str, str | None, list | str]] = {
    "q-json.dat": ('# {"wavelength": 1.54184e-10, "unit": "q_nm^-1"}\n' + rows("{:.6f} {:.2f}", 10 * Q, P), None, ONE_P),  # noqa: E501
    "fortran.dat": (rows("{:.3E} {:.5E}", ANGLE, P).replace("E", "D"), "CuKa", ONE_P),
    "quoted-names.csv": ('"2Theta, deg","Intensity, counts",\n' + rows("{:.3f},{:.0f},", ANGLE, P), "CuKa", ONE_P),  # noqa: E501
    "gsas-ii.csv": ('"# made up"\n"x","y_obs","weight","y_calc","y_bkg","Q",\n' + rows("{:.3f},{:.0f},0.1,{:.1f},60.0,{:.5f},", ANGLE, P, O, Q), "CuKa", ONE_P),  # noqa: E501
    "metres.dat": (PYFAI + "#   2th_deg   I\n" + rows(" {:.6e} {:.6e}", ANGLE, P), None, ONE_P),
    "q-nm.chi": (f"x.tif\n Q (Inverse Nanometres)\n Intensity\n {len(Q)}\n" + rows("{:.7E} {:.7E}", 10 * Q, P), "CuKa", ONE_P),  # noqa: E501
    "q-pyfai.dat": (PYFAI + "#  q_nm^-1  I  sigma\n" + rows("{:.6e} {:.6e} 3", 10 * Q, P), None, ONE_P),  # noqa: E501
    "two.ras": ("*RAS_DATA_START\n" + RAS.format("2-Theta/Theta", rows("{:.4f} {:.4f} 1.0", ANGLE, P)) + RAS.format("2-Theta/Theta", rows("{:.4f} {:.4f} 1.0", ANGLE, O)), None, [("_scan1", PRIMITIVE), ("_scan2", OTHER)]),  # noqa: E501
    "tilt.ras": ("*RAS_DATA_START\n" + RAS.format("Omega", rows("{:.4f} {:.4f} 1.0", ANGLE, P)), None, "measured over Omega"),  # noqa: E501
    "ins0.dat": (SPAN + "  made-up sample\n" + lists(P, 10, "{:8.0f}"), "CuKa", ONE_P),
    "ins0-small.dat": (SPAN + "\n" + lists(P * 0.01, 10, "{:8.3f}"), "CuKa", ONE_P),
    "ins8.dat": ("title\n" + SPAN + " 1000.\n" + lists(P, 10, "{:8.0f}") + lists(P**0.5, 10, "{:8.2f}"), "CuKa", ONE_P),  # noqa: E501
    "ins0-cut.dat": (SPAN + "\n" + lists(P[:900], 10, "{:8.0f}"), "CuKa", "1600 points announced"),
    "listed.udf": (UDF + lists(P, 8, "{:8.0f}", ",") + "/\n", None, ONE_P),
    "decimals.udf": (UDF + lists(P / 900, 8, "{:8.3f}", ",") + "/\n", None, ONE_P),
    "old.asc": (ASC + lists(P, 4, " {:.0f}", ",") + "*END\n*EOF\n", None, ONE_P),
    "counts.uxd": (WL + UXD + "_COUNTS\n" + lists(P, 8, "{:8.0f}"), None, ONE_P),
    "cps.uxd": (WL + UXD + "_CPS\n" + lists(P / 900, 8, "{:9.3f}"), None, ONE_P),
    "two-ranges.uxd": (WL + UXD + "_2THETACOUNTS\n" + xy() + UXD + "_2THETACOUNTS\n" + xy(O), None, [("_range1", PRIMITIVE), ("_range2", OTHER)]),  # noqa: E501
    "affn.dx": (JCAMP + "##XYDATA=(X++(Y..Y))\n" + AFFN + "##END=\n", "CuKa", ONE_P),
    "peaks.dx": (JCAMP + "##PEAK TABLE=(XY..XY)\n" + AFFN + "##END=\n", "CuKa", "list of peaks"),
    "paired.csv": ("2Theta A,Intensity A,2Theta B,Intensity B\n" + rows("{:.3f},{:.0f},{:.3f},{:.0f}", ANGLE, P, ANGLE + 1, counts(ANGLE + 1)), "CuKa", [("_Intensity A", PRIMITIVE), ("_Intensity B", PRIMITIVE)]),  # noqa: E501
    "panalytical.csv": (PAN.format("Gonio", "") + rows("{:.4f},{:.0f}", ANGLE, P), None, ONE_P),
    "tilt.csv": (PAN.format("Omega", "") + rows("{:.4f},{:.0f}", ANGLE, P), None, "another angle"),
    "thousands.txt": ("2theta\tcounts\n" + rows("{:.3f}\t{:,.0f}", ANGLE, 5 * P), "CuKa", ONE_P),
    "thousands-quoted.csv": ("2theta,counts\n" + rows('{:.3f},"{:,.0f}"', ANGLE, 5 * P), "CuKa", ONE_P),  # noqa: E501
    "thousands-bare.csv": ("2theta,counts\n" + rows("{:.3f},{:,.0f}", ANGLE, 5 * P), "CuKa", "comma for thousands"),  # noqa: E501
    "lambda-detector.xy": (xy(head="# detector Lambda 750K, exposure time 0.50 s\n"), "CuKa", ONE_P),  # noqa: E501
    "pd.cif": ("data_x\n_pd_meas_2theta_range_min 15.0\n_pd_meas_2theta_range_max 94.95\n_pd_meas_2theta_range_inc 0.05\n_diffrn_radiation_wavelength 1.54184\nloop_\n_pd_calc_intensity_total\n_pd_proc_intensity_total\n" + rows("{:.3f} {:.3f}", O / 9, P / 9), None, ONE_P),  # noqa: E501
    "structure.cif": ("data_x\n_cell_length_a 4.0\nloop_\n_atom_site_label\nCu\n", "CuKa", "crystal structure"),  # noqa: E501
    "momentum.csv": ("momentum transfer (1/A),I\n" + rows("{:.6f},{:.0f}", Q, P), "CuKa", ONE_P),
    "samples.csv": ("2Theta,Quartz,Calcite,Ferrite\n" + rows("{:.3f},{:.0f},{:.0f},{:.0f}", ANGLE, F, O, P), "CuKa", [("_Quartz", FACE_CENTRED), ("_Calcite", OTHER), ("_Ferrite", PRIMITIVE)]),  # noqa: E501
    "oxides.csv": ("2Theta,Al2O3,Y2O3,Sierra 3\n" + rows("{:.3f},{:.0f},{:.0f},{:.0f}", ANGLE, F, O, P), "CuKa", [("_Al2O3", FACE_CENTRED), ("_Y2O3", OTHER), ("_Sierra 3", PRIMITIVE)]),  # noqa: E501
    "times.csv": ("2Theta,time 0 min,time 30 min\n" + rows("{:.3f},{:.0f},{:.0f}", ANGLE, F, O), "CuKa", [("_time 0 min", FACE_CENTRED), ("_time 30 min", OTHER)]),  # noqa: E501
    "units-line.csv": ("Q,I\n(1/nm),(counts)\n" + rows("{:.5f},{:.0f}", 10 * Q, F), "CuKa", ONE_F),
    "origin.txt": ("d\tI\nÅ\tcounts\nbatch 1\tbatch 1\n" + rows("{:.6f}\t{:.0f}", D, F), "CuKa", ONE_F),  # noqa: E501
    "fit.txt": ("x Ycalc Yobs Diff\n" + rows("{:.3f} {:.1f} {:.0f} {:.1f}", ANGLE, O, F, F - O), "CuKa", ONE_F),  # noqa: E501
    "log10.csv": ("2Theta,log10(Intensity)\n" + rows("{:.3f},{:.5f}", ANGLE, np.log10(F)), "CuKa", ONE_F),  # noqa: E501
    "root.csv": ("2Theta,sqrt(counts)\n" + rows("{:.3f},{:.5f}", ANGLE, np.sqrt(F)), "CuKa", ONE_F),
    "log.csv": ("2Theta,log(I)\n" + rows("{:.3f},{:.5f}", ANGLE, np.log10(F)), "CuKa", "base that"),
    "reflections.csv": ("Pos. [°2Th.],Height [cts],Rel. Int. [%]\n" + rows("{:.4f},{:.1f},{:.1f}", PEAKS, PEAKS, PEAKS), "CuKa", "list of peaks"),  # noqa: E501
    "reflections.txt": ("2-THETA INTENSITY D-SPACING H K L\n" + rows("{:.2f} {:.2f} 1.5 1 1 1", PEAKS, PEAKS), "CuKa", "list of peaks"),  # noqa: E501
    "sticks.xy": (rows("{:.3f} {:.1f}", PEAKS, PEAKS), "CuKa", "list of peaks"),
    "decimal-comma.csv": ("2theta,intensity\n" + rows("{:.1f},{:.0f}", ANGLE[::4], F[::4]).replace(".", ","), "CuKa", "decimal comma"),  # noqa: E501
    "index.dat": (rows("{} {:.2f} {:.0f}", range(1, 401), ANGLE[::4], F[::4]), "CuKa", ONE_F),
    "index-only.dat": (rows("{} {:.0f}", range(1, 1601), F), "CuKa", "counts the rows"),
    "matrix.csv": (lists([v for line in (ANGLE[::-4], F[::-4], O[::-4]) for v in line], 400, "{:g}", ","), "CuKa", [("_row1", FACE_CENTRED), ("_row2", OTHER)]),  # noqa: E501
    "tof.dat": ("# TOF(ms)  I  sigma\n" + rows("{:.3f} {:.0f} 3", ANGLE / 10, F), "CuKa", "time of flight"),  # noqa: E501
    "pair.gr": ("#S 1\n#L r($\\AA$)  G($\\AA^{-2}$)\n" + rows("{:.2f} {:.4f}", ANGLE, np.sin(ANGLE)), "CuKa", "real space"),  # noqa: E501
    "radians.dat": ("#   2th_rad   I\n" + rows("{:.6f} {:.0f}", np.deg2rad(ANGLE), F), "CuKa", ONE_F),  # noqa: E501
    "theta.csv": ("Theta (deg),I\n" + rows("{:.4f},{:.0f}", ANGLE / 2, F), "CuKa", ONE_F),
    "energy.csv": ("Energy (keV),I\n" + rows("{:.4f},{:.0f}", ANGLE, F), "CuKa", "energy"),
    "channel.dat": ("Channel Counts\n" + rows("{} {:.0f}", range(5, 1605), F), "CuKa", "channel"),
    "twice.xy": (xy(F) + "# again\n" + xy(O), "CuKa", [("_part1", FACE_CENTRED), ("_part2", OTHER)]),  # noqa: E501
    "falling.xy": (rows("{:.3f} {:.0f}", ANGLE[::-1], F[::-1]), "CuKa", ONE_F),
    "shuffled.xy": (rows("{:.3f} {:.0f}", *np.random.default_rng(0).permutation(np.stack([ANGLE, F]), axis=1)), "CuKa", "neither rise nor fall"),  # noqa: E501
    "contradiction.xy": (xy(F, "# wavelength 0.7093\n"), "CuKa", "0.7093 angstrom and"),
    "spec.dat": ("".join(f"#S {i} ascan tth 15 95 1600 1\n#L Two Theta  Monitor  Detector\n" + rows("{:.3f} 500 {:.0f}", ANGLE, v) for i, v in ((1, F), (2, O))), "CuKa", [("_scan1", FACE_CENTRED), ("_scan2", OTHER)]),  # noqa: E501
    "esd.gsa": ("title\n" + f"BANK 1 {len(ANGLE)} 320 CONST 1500.00 5.00 0 0 ESD".ljust(80) + "\n" + lists([v for c in F for v in (c, c**0.5)], 10, "{:8.1f}"), "CuKa", ONE_F),  # noqa: E501
    "banks.fxye": ("title\n" + "".join(f"BANK {i} {len(ANGLE)} {len(ANGLE)} CONS 1500.00 5.00 0 0 FXYE\n" + rows("{:.3f} {:.0f} 1.0", 100 * ANGLE, v) for i, v in ((1, F), (2, O))), "CuKa", [("_bank1", FACE_CENTRED), ("_bank2", OTHER)]),  # noqa: E501
    "bank-tof.gsa": ("title\nBANK 1 1600 1600 SLOG 3000 20000 0.0004 0 FXYE\n" + rows("{:.3f} {:.0f} 1.0", 100 * ANGLE, F), "CuKa", "time of flight"),  # noqa: E501
}  # fmt: skip
