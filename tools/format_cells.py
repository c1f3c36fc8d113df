"""One format for the code cells of every chapter, solutions included: `ruff format` at 88 columns.

    python tools/format_cells.py [NAME ...]           write
    python tools/format_cells.py --check [NAME ...]   write nothing, exit 1 and name the cells that would change

Both name the lines that are still wider than that: ruff breaks no string and no comment.

A chapter's cells go to ruff as a notebook, so that magics are no mistakes. `# fmt: skip` after a literal,
or `# fmt: off` and `# fmt: on` around it, keep a layout that teaches.
"""

import subprocess
import sys

import nbformat
from export import WIDTH, chosen
from myst_pages import Book, Cell, Page

SETTINGS = ["--isolated", "--no-cache", "--stdin-filename=cells.ipynb", "--target-version=py311",
            f"--config=line-length={WIDTH}", "--config=format.skip-magic-trailing-comma=true"]  # fmt: skip


def formatted(cells: list[str]) -> list[str]:
    """The sources of code cells as ruff would write them. Raises ValueError where one is not Python."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    command = [sys.executable, "-m", "ruff", "format", *SETTINGS, "-"]
    done = subprocess.run(command, input=nbformat.writes(notebook), capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return [cell.source for cell in nbformat.reads(done.stdout, as_version=4).cells]


def changes(page: Page) -> list[tuple[Cell, str]]:
    """The code cells of a chapter that are not in the book's format, each with how it would be."""
    cells = [cell for cell in page.cells if cell.kind == "code"]
    new = formatted([cell.source for cell in cells]) if cells else []
    return [(cell, text) for cell, text in zip(cells, new, strict=True) if cell.source != text]


def wide_lines(page: Page) -> list[str]:
    """Lines that ruff cannot break, such as long strings and comments."""
    lines = [(cell.line + place, line) for cell in page.cells if cell.kind == "code"
             for place, line in enumerate(cell.source.split("\n")) if len(line) > WIDTH]  # fmt: skip
    return [f"{page.file}:{number}: {len(line)} columns, over {WIDTH}" for number, line in lines]


def main(arguments: list[str] | None = None) -> int:
    options, book = chosen("Format the chapters' code cells.", arguments)
    faults = []
    for page in [book.chapters[name] for name in options.names or book.chapters]:
        try:
            found = changes(page)
        except ValueError as error:
            faults.append(f"{page.file}: {error}")
            continue
        if options.check:
            faults += [f"{page.file}:{cell.line}: not in the book's format; run: make format" for cell, _ in found]
        elif found:
            path = options.root / page.file
            lines = path.read_text("utf-8").split("\n")
            for cell, text in reversed(found):
                lines[cell.line - 1 : cell.line + cell.source.count("\n")] = text.split("\n")
            path.write_text("\n".join(lines), "utf-8")
            print(f"{page.file}: {len(found)} cells formatted")
            page = Book(options.root).chapters[page.name]
        faults += wide_lines(page)
    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
