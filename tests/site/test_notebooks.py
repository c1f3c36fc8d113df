"""What a notebook says of itself is what its page says."""

import re
from pathlib import Path

import nbformat
from conftest import ROOT

EQUATION = re.compile(r'class="eqno">\(([\d.]+)\)')
CAPTION = re.compile(r'class="caption-number">((?:Figure|Table|Exercise) [\d.]+)')


def test_equations_figures_tables_and_exercises_have_the_pages_numbers(site: Path, chapters: list[str]):
    for name in chapters:
        page = (site / f"chapters/{name}.html").read_text("utf-8")
        cells = nbformat.read(ROOT / f"chapters/{name}.ipynb", as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert re.findall(r"\\tag\{([\d.]+)\}", text) == EQUATION.findall(page), name
        captions = re.findall(r"^(?:_|\*\*)((?:Figure|Table|Exercise) [\d.]*\d)(?=[:*])", text, re.MULTILINE)
        assert captions == CAPTION.findall(page), name
