"""``python scripts/docs_images.py``: draw the pictures of docs/tutorial.md by running its blocks."""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    os.chdir(DOCS / "images")
    for source in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.M):
        exec(compile(source, "tutorial.md", "exec"), {"__name__": "block"})


if __name__ == "__main__":
    main()
