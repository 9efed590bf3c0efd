"""The notebooks of the cookbook run as they stand, and say what they say in the repository."""

import base64
import io
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from patience import PATIENCE
from PIL import Image

COOKBOOK = Path(__file__).parents[2] / "cookbook"
NOTEBOOKS = sorted(COOKBOOK.glob("*.ipynb"))


def printed(cell):
    """What a cell printed or gave back, pictures aside."""
    outputs = cell.get("outputs", [])
    texts = [one.text for one in outputs if one.output_type == "stream" and one.name == "stdout"]
    texts += [
        one.data["text/plain"]
        for one in outputs
        if one.output_type == "execute_result" and "image/png" not in one.data
    ]
    return "".join(texts)


def pictures(notebook):
    return [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def test_there_are_notebooks():
    assert {"quickstart", "agent_with_eyes"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_said(path, tmp_path):
    kept = nbformat.read(path, as_version=4)
    again = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(
        again, timeout=None, startup_timeout=PATIENCE, kernel_name="python3", resources=resources
    )
    client.execute()
    for before, now in zip(kept.cells, again.cells, strict=True):
        assert printed(now) == printed(before), before.source
    assert len(pictures(kept)) == len(pictures(again)) > 0
    for picture in pictures(kept):
        Image.open(io.BytesIO(base64.b64decode(picture))).verify()
    errors = [one for cell in kept.cells for one in cell.get("outputs", []) if "ename" in one]
    assert errors == []
