"""The page: everything given is on it, as text, and its pictures lie beside it."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from vla_runtime.report.page import write_page
from vla_runtime.report.section import Picture, Section, Table

SECTION = Section(
    "Depth & width",
    ("A <b>bold</b> sentence.",),
    ("Mind the gap.",),
    (Table(("layer", "kept"), (("0", "yes"), ("1 < 2", "no"))),),
    (Picture("one.png", "A picture", lambda path: path.write_bytes(b"pixels") and None),),
)


def test_sections_are_text_never_markup(tmp_path: Path) -> None:
    write_page(tmp_path, "A <title>", "Lead.", [SECTION])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    for said in ("A <title>", "Lead.", "Depth & width", "A <b>bold</b> sentence.", "Mind the gap.", "1 < 2", "kept"):
        assert said in text
    assert page.count("<tr>") == 3


def test_pictures_are_drawn_beside_the_page_which_needs_nothing_else(tmp_path: Path) -> None:
    write_page(tmp_path, "Title", "Lead.", [SECTION])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["pictures/one.png"]
    assert (tmp_path / "pictures" / "one.png").read_bytes() == b"pixels"
