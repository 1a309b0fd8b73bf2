"""HDF5 and SPEC: how axes, units, frames and wavelengths are told, and what is no pattern."""

import io

import numpy as np
import pytest
from scan_case_files import ANGLE, FACE_CENTRED, OTHER, D, F, O, Q, rows
from test_scan_cases import check, read

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_records

h5py = pytest.importorskip("h5py")
DEGREES = {"axis": "two_theta", "units": "deg", "x": ANGLE}


def made(counts=F, axis="q", units="1/nm", x=10 * Q, axes=None, name="I", long="", group="entry/a"):
    """Returns a function that writes an NXdata."""

    def write(file):
        data = file.require_group(group)
        data.attrs["NX_class"], data.attrs["signal"] = "NXdata", name
        data.attrs["axes"] = axes or ([axis] if np.ndim(counts) == 1 else [".", axis])
        data.create_dataset(name, data=counts)
        positions = data.create_dataset(axis, data=x)
        if units:
            positions.attrs["units"] = units
        positions.attrs["long_name"] = long

    return write


def stated(value, units="", key="wavelength", attribute=False):
    def write(file):
        entry = file.require_group("entry")
        if attribute:
            entry.attrs[key] = value
        else:
            entry.create_dataset(key, data=value).attrs["units"] = units

    return write


def hdf5(*writers) -> bytes:
    result = io.BytesIO()
    with h5py.File(result, "w") as file:
        for write in writers:
            write(file)
    return result.getvalue()


@pytest.mark.parametrize(
    "given",
    [
        {"units": "nm^-1"}, {"units": "nm⁻¹"}, {"units": "1/angstrom", "x": Q},
        {"units": "Å⁻¹", "x": Q}, {"units": "", "x": Q}, {"axis": "Q", "units": "1/A", "x": Q},
        DEGREES, {"axis": "polar_angle", "units": "radians", "x": np.deg2rad(ANGLE)},
        {"axis": "d_spacing", "units": "angstrom", "x": D},
        {"axis": "x", "units": "nm^-1", "long": "Scattering vector"},
        {"axis": "radial", "units": "nm^-1", "long": "q (nm^-1)"},
        {"x": np.append(1.5 * 10 * Q[0] - 5 * Q[1], 5 * (Q[1:] + Q[:-1])).tolist() + [10 * Q[-1]]},
        {"counts": np.log10(F), "name": "log10_intensity"},
    ],
)  # fmt: skip
def test_axes_of_nexus(tmp_path, given):
    (scan,) = read(tmp_path, "a.h5", hdf5(made(**given)), "CuKa")
    check(scan, FACE_CENTRED)


@pytest.mark.parametrize(
    ("writer", "wavelength"),
    [
        (stated(1.54184e-10, "m"), 1.54184), (stated(0.154184, "nm"), 1.54184),
        (stated([1.54184], "Å"), 1.54184), (stated(1.54184), 1.54184),
        (stated(8041.3, "eV", "energy"), 1.54184), (stated(1.54184, attribute=True), 1.54184),
        (stated('{"poni": 1, "wavelength": 1.54184e-10}', key="data"), 1.54184),
    ],
)  # fmt: skip
def test_wavelengths_of_nexus(tmp_path, writer, wavelength):
    (scan,) = read(tmp_path, "a.h5", hdf5(made(**DEGREES), writer))
    assert scan.wavelength == pytest.approx(wavelength, rel=1e-4)
    detector = stated(0.5, "angstrom", "detector_wavelength")
    (scan,) = read(tmp_path, "b.h5", hdf5(made(**DEGREES), detector), "CuKa")
    assert scan.wavelength_source == "option"
    with pytest.raises(UserError, match="and --wavelength says 0.7"):
        read(tmp_path, "c.h5", hdf5(made(**DEGREES), writer), 0.7)


def test_frames_lie_either_way_round(tmp_path):
    frames = np.stack([F, O])
    for given in (
        {"counts": frames},
        {"counts": frames, "axes": ["time", "q"]},
        {"counts": frames.T, "axes": ["q", "."]},
    ):
        first, second = read(tmp_path, "a.h5", hdf5(made(**given)), "CuKa")
        check(first, FACE_CENTRED)
        check(second, OTHER)


def test_old_files_tell_axes_and_signal_by_attributes(tmp_path):
    def write(file):
        data = file.create_group("entry1/data")
        data.create_dataset("counts", data=F).attrs["signal"] = b"1"
        angles = data.create_dataset("two_theta", data=ANGLE)
        angles.attrs["units"], angles.attrs["axis"] = b"degrees", 1

    (scan,) = read(tmp_path, "a.h5", hdf5(write), "CuKa")
    check(scan, FACE_CENTRED)


def test_a_data_set_that_is_linked_twice_is_one_pattern(tmp_path):
    def link(file):
        plot = file.create_group("entry/plot")
        plot.attrs["signal"], plot.attrs["axes"] = "I", "q"
        plot["I"], plot["q"] = file["entry/a/I"], file["entry/a/q"]
        file["entry/nothing"] = h5py.SoftLink("/not/there")

    (scan,) = read(tmp_path, "a.h5", hdf5(made(), link), "CuKa")
    check(scan, FACE_CENTRED)


def test_what_is_no_pattern_is_said_of_its_group_alone(tmp_path):
    energy = made(axis="energy", units="keV", x=ANGLE, group="entry/fluorescence")
    (tmp_path / "a.h5").write_bytes(hdf5(made(), energy))
    pattern, other = read_records(tmp_path / "a.h5", "CuKa")
    check(pattern.scan, FACE_CENTRED)
    assert other.by_design and "is energy" in other.reason

    def cake(file):
        made(np.tile(F, (36, 1)), axes=["azimuthal", "q"])(file)
        file["entry/a"].create_dataset("azimuthal", data=np.arange(36.0)).attrs["units"] = "deg"

    for writers, cause in (((energy,), "is energy"), ((cake,), "a cake")):
        with pytest.raises(UserError, match=cause):
            read(tmp_path, "b.h5", hdf5(*writers), "CuKa")


# --- SPEC ----------------------------------------------------------------------------------------


def spec(*scans) -> str:
    return "#F made\n#UWAVELENGTH 1.54184\n\n" + "".join(
        f"#S {number} ascan\n#N 3\n#L {names}\n{body}\n"
        for number, (names, body) in enumerate(scans, start=1)
    )


SCAN = ("Two Theta  Seconds  Detector", rows("{:.3f} 1 {:.0f}", ANGLE, F))


def test_scans_of_spec_over_other_motors_are_left_out(tmp_path):
    tilt = ("Omega  Seconds  Detector", rows("{:.3f} 1 {:.0f}", ANGLE[:40] / 50, F[:40]))
    short = ("Two Theta  Seconds  Detector", "20 1 5\n")
    (tmp_path / "a.spec").write_text(spec(tilt, SCAN, short))
    first, second, third = read_records(tmp_path / "a.spec", None)
    assert first.by_design and "another angle" in first.reason
    check(second.scan, FACE_CENTRED)
    assert second.name == "a_scan2" and second.scan.wavelength == 1.54184
    assert third.scan is None and not third.by_design


def test_spectra_of_a_multichannel_analyzer_are_no_rows(tmp_path):
    names, body = SCAN
    body = body.replace("\n", "\n@A 1 2 3 4 5\\\n 6 7 8\n")
    (scan,) = read(tmp_path, "a.spec", spec((names, body)))
    check(scan, FACE_CENTRED)
    assert scan.name == "a"
