"""The documentation as text: its pages, and the code that stands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language of a page below docs/."""
    return [body for found, body in _FENCE.findall((DOCS / page).read_text()) if found == language]


def spans(text: str) -> list[str]:
    """What stands in `single quotes of code`, fenced blocks left out."""
    return [span for span in _SPAN.findall(_FENCE.sub("", text)) if span]


def code_lines(text: str) -> list[str]:
    """Every line of code of a page, joined where a backslash continues it, and every span."""
    fenced = "\n".join(body for _, body in _FENCE.findall(text)).replace("\\\n", " ")
    return [*fenced.splitlines(), *spans(text)]


def table_rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads' rulers."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or a higher one."""
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    level = heading.split(" ", 1)[0]
    end = re.compile(rf"^#{{1,{len(level)}}} ", re.M).search(text, start)
    return text[start : end.start() if end else len(text)]
