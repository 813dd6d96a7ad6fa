"""The documents' Python blocks run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCKS = [
    pytest.param(source, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, source in enumerate(
        re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.M)
    )
]


@pytest.mark.parametrize("source", BLOCKS)
def test_each_python_block_of_the_documents_runs(source, tmp_path, monkeypatch):
    """From a file, as a reader would run it: refusals quote the line."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "block.py"
    script.write_text(source, encoding="utf-8")
    exec(compile(source, str(script), "exec"), {"__name__": "block"})
