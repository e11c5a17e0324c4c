"""Every Python example in the docs runs as it stands, and so does the notebook."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.glob("*.md") if "```python" in page.read_text())
BLOCK = re.compile(r"```python( script)?\n(.*?)```", re.DOTALL)


@pytest.mark.proof
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program, but for scripts, which stand alone."""
    pytest.importorskip("pandas", reason="pip install 'kancl[dev]'")
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {"__name__": page.stem}
    for alone, code in BLOCK.findall(page.read_text()):
        assert not alone or len(code.strip().splitlines()) <= 15
        exec(compile(code, page.name, "exec"), {} if alone else whole)


@pytest.mark.proof
def test_notebook_runs(tmp_path: Path) -> None:
    reason = "pip install 'kancl[dev]'"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    notebook = nbformat.read(DOCS / "first_steps.ipynb", as_version=4)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html", "text/markdown"} <= kinds
    progress = "application/vnd.jupyter.widget-view+json"
    assert progress in kinds and not [o for o in outputs if o.get("name") == "stderr"]
    assert not [*tmp_path.iterdir()]
