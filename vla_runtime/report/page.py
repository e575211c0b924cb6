"""Sections to ``index.html`` and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from vla_runtime.report.section import Section


def write_page(directory: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write ``index.html`` and ``pictures/`` into an existing directory; the page needs nothing from elsewhere."""
    import jinja2

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files("vla_runtime.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    (directory / "pictures").mkdir()
    for section in sections:
        for picture in section.pictures:
            picture.draw(directory / "pictures" / picture.file)
    page = template.render(title=title, lead=lead, sections=sections)
    (directory / "index.html").write_text(page, encoding="utf-8")
