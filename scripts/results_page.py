"""docs/results.md: one section for each command that measures something."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
HEAD = """# Results

Every figure here was printed by the command that its section names.
"""


def write_section(name: str, text: str) -> None:
    """Replace the section ``name`` of the page, or add it at the end."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text("utf-8") if PAGE.is_file() else HEAD
    section = f"{start}\n{text.strip()}\n{end}\n"
    if start in page:
        before, rest = page.split(start, 1)
        page = before + section.rstrip("\n") + rest.split(end, 1)[1]
    else:
        page = f"{page.rstrip()}\n\n{section}"
    PAGE.write_text(page, "utf-8")
