"""The notebook as a newcomer runs it: every cell, in order, in a kernel of its own."""

import ast
import os
from pathlib import Path

import nbformat
from program import QUICK, ROOT, as_flags

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


def cells(kind: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_it_is_valid_and_holds_no_output():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert not cell.outputs and cell.execution_count is None


def test_it_installs_only_where_the_package_is_missing():
    install = next(source for source in cells("code") if "pip" in source)
    assert "find_spec" in install.split("subprocess.run")[0]


def test_it_runs_from_top_to_bottom(tmp_path, quick_program, copy, monkeypatch):
    """Its command finds all done but the report: the run is `reference`, or would be refused."""
    from nbclient import NotebookClient

    (copy / "report.html").unlink()
    (copy / "stages" / "report.json").unlink()

    for name, value in quick_program.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    # A kernel is another process: it finds this checkout by the path alone.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (training,) = (cell for cell in code if "tempfile.mkdtemp()" in cell.source)
    training.source = training.source.replace("tempfile.mkdtemp()", repr(str(copy.parent)))
    assert "[*command," in training.source
    training.source = training.source.replace("*command,", f"*command, *{as_flags(QUICK)},")
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "verdict:" in printed and "model.jaxexport" in printed
    assert "'not recognised' 'not recognised' 'not recognised'" in printed
    assert f"report: {copy / 'report.html'}" in printed
    assert (copy / "report.html").exists()
    assert not list(Path(tmp_path).glob("imitation-refinement"))  # nothing was cloned
