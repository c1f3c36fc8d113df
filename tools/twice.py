"""Notebooks that try what readers do besides running all: `python tools/twice.py`, then nbval on `_build/twice`.

Each is a chapter's notebook with every code cell twice in a row, as somebody does who changes a line and runs it again,
followed by the code of its solutions, twice as well.
"""

from collections.abc import Iterator
from pathlib import Path

import nbformat
from export import make_notebook
from myst_pages import Book, Page


def rehearsal(book: Book, page: Page) -> nbformat.NotebookNode:
    """The chapter's notebook with its code cells doubled and its solutions' code, doubled, at the end."""

    notebook = nbformat.reads(make_notebook(book, page), as_version=4)

    def cells() -> Iterator[str]:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                yield from [cell.source, f"# a second time\n{cell.source}"]
        for cell in page.cells:
            if cell.kind == "code" and cell.solution:
                place = f"# a solution, {page.file}:{cell.line}"
                yield from [f"{place}\n{cell.source}", f"{place}, a second time\n{cell.source}"]

    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells()]
    return notebook


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    book, folder = Book(root), root / "_build/twice"
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.ipynb"):
        leftover.unlink()
    for page in book.chapters.values():
        nbformat.write(rehearsal(book, page), folder / f"{page.name}.ipynb")


if __name__ == "__main__":
    main()
