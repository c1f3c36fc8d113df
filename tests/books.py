"""Small books for tests, under a temporary root: exported from, or built by Sphinx."""

from pathlib import Path

import nbformat
import pytest
from export import Book, ExportError, generate, main
from sphinx.testing.util import SphinxTestApp

FRONT = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
SITE = "https://press.example/book"
BIBLIOGRAPHY = """
@inproceedings{bahdanau2015, author = {Bahdanau, Dzmitry and Cho, Kyunghyun and Bengio, Yoshua},
  title = {Neural Machine Translation}, booktitle = {ICLR}, year = 2015, eprint = {1409.0473}}
@article{gers2000, author = {Gers, Felix and M{\\"u}ller, J{\\"u}rgen}, title = {Forgetting}, journal = {NC},
  year = 2000, doi = {10.1162/089976600300015015}}
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def built(book: Path) -> str:
    """Builds the site of a book with a `conf.py`; returns what Sphinx warns of."""
    app = SphinxTestApp("html", srcdir=book, builddir=book / "_build")
    try:
        app.build()
        said = app.warning.getvalue()
    finally:
        app.cleanup()
    return "\n".join(line for line in said.splitlines() if "WARNING" in line or "ERROR" in line)


def code(source: str, options: str = "") -> str:
    return f"```{{code-cell}} ipython3\n{options}{source}\n```\n"


class Tree:
    """A book under a temporary root: two empty chapters, `first` and `second`, until a test writes them."""

    def __init__(self, root: Path):
        self.root = root
        (root / "seq2seq/kit").mkdir(parents=True)
        self.write("seq2seq/__init__.py", "")
        self.write("pyproject.toml", '[project]\nversion = "0.2.0"\n')
        self.write("requirements-nodeps.txt", "# data only\nd2l==1.0.3\ng2p-en==2.1.0\n")
        self.settings("main")
        self.write(
            "_toc.yml",
            "format: jb-book\nroot: book/index\nparts:\n- caption: Chapters\n  chapters:\n"
            "  - file: chapters/second\n  - file: chapters/first\n"
            "- caption: Reference\n  chapters:\n  - file: book/glossary\n",
        )
        self.write("book/index.md", "# Home\n")
        self.write("book/glossary.md", "# Glossary\n\n:::{glossary}\nbeginning symbol\nBOS\n  The first one.\n:::\n")
        self.write("book/picture.svg", "<svg/>")
        self.write("book/references.bib", BIBLIOGRAPHY)
        self.chapter("second", "# Second\n")
        self.chapter("first", "# First\n")

    def settings(self, branch: str) -> None:
        self.write(
            "_config.yml",
            f"title: A book\nrepository: {{url: https://github.com/me/book, branch: {branch}}}\n"
            f"html: {{baseurl: {SITE}/}}\n",
        )

    def write(self, path: str, text: str) -> None:
        write(self.root, {path: text})

    def chapter(self, name: str, text: str, front: str = FRONT) -> None:
        self.write(f"chapters/{name}.md", front + text)

    def generate(self) -> dict[str, str]:
        return generate(Book(self.root))

    def notebook(self, name: str = "first") -> nbformat.NotebookNode:
        return nbformat.reads(self.generate()[f"chapters/{name}.ipynb"], as_version=4)

    def markdown(self, text: str, title: str = "# First\n\n") -> str:
        """The Markdown that a chapter of this text becomes, below its title and note."""
        self.chapter("first", title + text)
        cells = [cell.source for cell in self.notebook().cells if cell.cell_type == "markdown"]
        return "\n\n".join(cells[1:])

    def module(self, *cells: str, name: str = "first") -> str:
        self.chapter(name, "# A title\n\n" + "\n".join(code(cell) for cell in cells))
        return self.generate()[f"seq2seq/{name}.py"]

    def errors(self, text: str = "", name: str = "first") -> list[str]:
        """The errors of a chapter whose text starts at line 6, after four lines of front matter and a title."""
        if text:
            self.chapter(name, f"# A title\n{text}")
        with pytest.raises(ExportError) as caught:
            self.generate()
        return str(caught.value).split("\n")

    def run(self, *arguments: str) -> int:
        return main(["--root", str(self.root), *arguments])
