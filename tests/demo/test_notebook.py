"""The demo notebook runs from top to bottom with the model that comes with the package."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

NOTEBOOK = Path(__file__).parents[2] / "demo" / "Mask_R-CNN_demo.ipynb"


@pytest.fixture
def in_demo_directory(monkeypatch):
    """Where Jupyter starts the notebook."""
    monkeypatch.chdir(NOTEBOOK.parent)


def run_cell(source: str, namespace: dict) -> object:
    """Runs a cell; returns the value of its last line, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)


def test_cells_find_the_cat_and_show_it(in_demo_directory, capsys):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace: dict = {}
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shown = [run_cell(source, namespace) for source in sources]
    assert "cat 0." in capsys.readouterr().out
    assert shown[-1].keys() == {"astronaut", "chelsea", "coffee"}
    assert "person" in shown[-1]["astronaut"] and shown[-1]["chelsea"] == ["cat"]
    drawn, cut_out, heat = (np.asarray(x).astype(int) for x in shown if hasattr(x, "save"))
    photo = namespace["photo"].astype(int)
    assert drawn.shape == photo.shape and (drawn != photo).any(axis=-1).mean() > 0.1
    # the cat fills most of its box, as its pixels are; the rest is white
    white = (cut_out == 255).all(axis=-1)
    left, top = (namespace[side] for side in ("left", "top"))
    of_photo = photo[top : top + len(white), left : left + len(white[0])]
    assert 0.01 < white.mean() < 0.6 and (cut_out == of_photo).all(axis=-1)[~white].all()
    red_minus_blue = heat[..., 0] - heat[..., 2]
    assert red_minus_blue.max() > 80 and red_minus_blue.min() < -20


def test_it_is_stored_without_what_a_run_leaves():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_jupyter_runs_it(in_demo_directory):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 3
