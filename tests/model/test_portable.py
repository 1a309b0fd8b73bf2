import json
import shutil

import jax
import numpy as np
import pytest
from tiny_model import patterns, tiny_model

from imitation_refinement.errors import UserError
from imitation_refinement.model import find
from imitation_refinement.model.find import load_model
from imitation_refinement.model.model_file import read_model_file, write_model_file
from imitation_refinement.model.portable import is_model, save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.npz"
    save_model(tiny_model(), path)
    return path


def test_a_loaded_model_gives_the_same_bits(saved):
    x = patterns(5)
    model, loaded = tiny_model(), load_model(saved)
    for first, second in zip(model.assess(x), loaded.assess(x), strict=True):
        np.testing.assert_array_equal(first, second)
    for name in ("class_names", "grid", "classifier_spec", "refiner_spec", "origin"):
        assert getattr(model, name) == getattr(loaded, name)
    ours, theirs = (m.calibration._replace(cloud=None) for m in (model, loaded))
    assert ours == theirs
    trees = [(m.classifier, m.refiners, m.calibration.cloud) for m in (model, loaded)]
    jax.tree.map(np.testing.assert_array_equal, *trees)


def test_saving_a_loaded_model_loses_nothing(saved, tmp_path):
    save_model(load_model(saved), tmp_path / "again.npz")
    (header, arrays), (header2, arrays2) = map(read_model_file, (saved, tmp_path / "again.npz"))
    assert header == header2 and arrays.keys() == arrays2.keys()


def test_the_file_holds_plain_arrays_alone(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert {archive[name].dtype.kind for name in archive.files} == {"f", "u"}


def altered(saved, tmp_path, change):
    """The file with something in it changed and its checksums made anew."""
    header, arrays = read_model_file(saved)
    header.pop("format")
    change(header, arrays)
    write_model_file(tmp_path / "altered.npz", header, arrays)
    return tmp_path / "altered.npz"


def test_a_changed_number_is_found_and_its_array_named(saved, tmp_path):
    with np.load(saved, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["refiner1/out/kernel"] = arrays["refiner1/out/kernel"] + np.float32(1e-6)
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(UserError, match="'refiner1/out/kernel' is not what was saved"):
        load_model(tmp_path / "changed.npz")
    del arrays["refiner1/out/kernel"]
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(UserError, match="'refiner1/out/kernel' cannot be read"):
        load_model(tmp_path / "changed.npz")


def test_a_flipped_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "small.npz"
    arrays = {"a": np.arange(20, dtype=np.float32), "b/c": np.ones((3, 3), np.float32)}
    write_model_file(path, {"x": 1}, arrays)
    good = path.read_bytes()
    found = 0
    for place in range(len(good)):
        flip = 1 << place % 8
        path.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
        try:
            header, read = read_model_file(path)
        except UserError as error:
            found += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert header == {"format": 1, "x": 1}
            for name, array in arrays.items():
                np.testing.assert_array_equal(read[name], array)
    assert found > len(good) / 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_found(saved, tmp_path, share):
    content = saved.read_bytes()
    (tmp_path / "part.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="part.npz: damaged model"):
        load_model(tmp_path / "part.npz")


@pytest.mark.parametrize("content", [b"not a model", b"\x80\x04N.", b"PK\x03\x04" + bytes(99)])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(UserError, match="other.npz: damaged model"):
        load_model(tmp_path / "other.npz")


def test_arrays_of_somebody_else_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "other.npy", np.zeros(3))
    for name in ("other.npz", "other.npy"):
        with pytest.raises(UserError, match=f"{name}: damaged model"):
            load_model(tmp_path / name)


def test_a_newer_format_is_named(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("imitation_refinement.model.model_file.FORMAT", 2)
    write_model_file(tmp_path / "new.npz", {}, {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 2, this program reads format 1"):
        load_model(tmp_path / "new.npz")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h, a: h["grid"].update(length=512), None),
        (lambda h, a: h["grid"].update(unit=1), "unexpected keyword argument 'unit'"),
        (lambda h, a: h["classifier"].update(network="resnet"), "'resnet' is none of"),
        (lambda h, a: h["class_names"].pop(), "needs shape"),
        (lambda h, a: h.pop("calibration"), "'calibration'"),
        (lambda h, a: h.update(refiners=3), "'refiner2'"),
        (lambda h, a: a.pop("refiner0/out/bias"), r"\['bias'\]: needs shape \(1,\), has none"),
        (lambda h, a: a.update({"cloud/center": np.zeros(3, np.float32)}), "center.*needs shape"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_the_program_is_refused(saved, tmp_path, change, reason):
    path = altered(saved, tmp_path, change)
    if reason is None:  # these networks take any length
        assert load_model(path).grid.length == 512
        return
    with pytest.raises(UserError, match=f"does not fit this version of the program.*{reason}"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz: cannot be read \(No such file"):
        load_model(tmp_path / "none.npz")


def test_an_installation_without_a_model_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "shipped_model", lambda: tmp_path / "xrd.npz")
    with pytest.raises(UserError, match="no model; give --model"):
        load_model()


def test_the_shipped_model_is_loaded_by_default(saved, monkeypatch):
    monkeypatch.setattr(find, "shipped_model", lambda: saved)
    assert load_model().origin["name"] == "tiny"


def test_a_folder_that_keeps_a_model(saved, tmp_path):
    assert not is_model(tmp_path)
    with pytest.raises(UserError, match="holds no finished run"):
        load_model(tmp_path)
    shutil.copy(saved, tmp_path / "model.npz")
    assert is_model(tmp_path) and is_model(saved) and not is_model(tmp_path / "none.npz")
    assert load_model(tmp_path).describe() == tiny_model().describe()


def test_the_shipped_model_loads_and_its_calibration_is_that_of_generated_patterns():
    model = load_model()
    assert len(model.class_names) == 7 and model.refiners
    figures = model.calibration.figures
    assert figures["patterns"] > 500
    assert (
        figures["refined"]["calibration_error_after"]["value"]
        < figures["refined"]["calibration_error_before"]["value"]
    )
    assert "/" not in json.dumps(model.origin)  # no folder of the machine that it was made on


@pytest.mark.slow
def test_a_finished_run_is_a_model(program, copy):
    model = load_model(copy)
    assert is_model(copy) and (copy / "model.npz").exists()
    assert model.origin["config"]["task"] == "xrd" and "run" not in model.origin["config"]
    assert model.calibration.figures["patterns"] == 40 and len(model.refiners) == 2
    x = patterns(3)
    for first, second in zip(model.assess(x), load_model(copy).assess(x), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_run_that_is_not_finished_is_no_model(copy):
    (copy / "stages" / "refiner" / "fold_1.json").unlink()
    (copy / "model.npz").unlink()
    assert not is_model(copy)
    with pytest.raises(UserError, match="holds no finished run; train one"):
        load_model(copy)
