"""The notebook runs from its first cell to its last."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "five_minutes.ipynb"


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_the_notebook_trains_and_ends_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `!rlssl` finds the command of this environment.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    notebook = read()
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    texts = {
        cell.source.splitlines()[0]: "".join(out.get("text", "") for out in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert "five-minutes" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "results" / "five-minutes").glob("*/episodes.csv"))) == 6
    assert "return of one episode" in texts["import rlssl"]
    assert (tmp_path / "curves.png").stat().st_size > 10_000
