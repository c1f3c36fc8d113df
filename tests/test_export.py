"""The exporter, on small books written for each test; the last tests read the notebooks of this book."""

import ast
import importlib.machinery
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from export import Book, ExportError, generate, main
from format_cells import formatted
from myst_pages import blocks
from twice import rehearsal

ROOT = Path(__file__).resolve().parents[1]

FRONT = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
SITE = "https://press.example/book"
RAW_MYST = re.compile(r"^\s*:::|```+\{|\{[a-z:]+\}`|^\([\w-]+\)=$|^%(?! *pip)|\[\^|\$\$ *\(", re.MULTILINE)


class Tree:
    """A book under a temporary root: two empty chapters, `first` and `second`, until a test writes them."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("book", "chapters", "seq2seq/kit"):
            (root / folder).mkdir(parents=True)
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
        (self.root / path).write_text(text, "utf-8")

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


BIBLIOGRAPHY = """
@inproceedings{bahdanau2015, author = {Bahdanau, Dzmitry and Cho, Kyunghyun and Bengio, Yoshua},
  title = {Neural Machine Translation}, booktitle = {ICLR}, year = 2015, eprint = {1409.0473}}
@article{gers2000, author = {Gers, Felix and M{\\"u}ller, J{\\"u}rgen}, title = {Forgetting}, journal = {NC},
  year = 2000, doi = {10.1162/089976600300015015}}
"""


def code(source: str, options: str = "") -> str:
    return f"```{{code-cell}} ipython3\n{options}{source}\n```\n"


@pytest.fixture
def book(tmp_path: Path) -> Tree:
    (tmp_path / "outside.md").write_text("# Not of this book\n")
    return Tree(tmp_path / "book")


# ---- modules ---------------------------------------------------------------------------------------------------------


def test_a_module_holds_exported_cells_only_tidied_and_without_marks(book: Tree) -> None:
    text = book.module(
        "#| export\nimport math, os\nfrom typing import Any\nimport ast",
        "import json\nprint('not exported')",
        "#| export\nfrom seq2seq import kit\nfrom typing import Iterator, Any\nSIZE = 3\nWIDTH: int = 5\n"
        "# What g does.\ndef g(x: Any) -> Iterator:\n    return math.tau * x     # (B, S)\n\n"
        "class A:\n    k = kit\n\n\n\n",
        "#| export\n@ast.increment_lineno\ndef _h(long_name):\n    y    = SIZE      # aligned\n    return   y",
    )
    assert (
        text
        == '''"""A title: the library code of chapters/first.md.

Generated by tools/export.py from the chapter's exported cells. Edit the chapter, then run the exporter.
"""

import ast
import math
from typing import Any, Iterator

from seq2seq import kit

__all__ = ["SIZE", "WIDTH", "A", "g"]


SIZE = 3
WIDTH: int = 5


# What g does.
def g(x: Any) -> Iterator:
    return math.tau * x     # (B, S)


class A:
    k = kit


@ast.increment_lineno
def _h(long_name):
    y    = SIZE      # aligned
    return   y
'''
    )


def test_a_module_imports_and_passes_ruff(book: Tree) -> None:
    book.module("#| export\nfrom dataclasses import dataclass\n\n@dataclass\nclass Point:\n    x: int = 3")
    assert book.run() == 0
    show = "import seq2seq.first as m; print(m.__all__, m.Point())"
    printed = subprocess.run([sys.executable, "-c", show], cwd=book.root, capture_output=True, text=True, check=True)
    assert printed.stdout == "['Point'] Point(x=3)\n"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--config",
            ROOT / "pyproject.toml",
            book.root / "seq2seq/first.py",
        ],
        check=True,
    )


def test_a_chapter_that_exports_nothing_has_a_notebook_and_no_module(book: Tree) -> None:
    assert set(book.generate()) == {"chapters/first.ipynb", "chapters/second.ipynb"}


def test_many_public_names_are_listed_one_a_line(book: Tree) -> None:
    names = [f"a_rather_long_name_{letter}" for letter in "abcdefg"]
    text = book.module("#| export\n" + "\n".join(f"{name} = 1" for name in names))
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert listed == names and max(map(len, text.split("\n"))) < 120


# ---- errors in code --------------------------------------------------------------------------------------------------


def test_a_name_exported_twice_in_a_chapter(book: Tree) -> None:
    cells = code("#| export\nx = 1") + code("#| export\ny = 2\n\ndef x(): pass")
    assert book.errors(cells) == ["chapters/first.md:14: x is already exported at chapters/first.md:8"]


def test_a_name_exported_by_two_chapters(book: Tree) -> None:
    book.chapter("second", "# Second\n" + code("#| export\nclass A: pass\n_own = 1"))
    errors = book.errors(code("#| export\n_own = 2\nclass A: pass"))
    assert errors == ["chapters/first.md:9: A is already exported at chapters/second.md:8"]


@pytest.mark.parametrize(
    "statement",
    [
        "from seq2seq.first import x",
        "import seq2seq.first",
        "from seq2seq import first",
        "def f():\n    from .first import x",
        "%time 1\nfrom seq2seq.first import x",
    ],
)
def test_a_cell_that_imports_a_later_chapter(book: Tree, statement: str) -> None:
    line = 7 + statement.count("\n")
    errors = book.errors(code(statement), name="second")  # the table of contents has second before first
    assert errors == [f"chapters/second.md:{line}: the chapter imports the later chapter first"]


def test_a_chapter_that_imports_itself_or_what_does_not_exist(book: Tree) -> None:
    errors = book.errors(code("import seq2seq.first", ":tags: [hide-input]\n\n") + code("import seq2seq.nonesuch"))
    assert errors == [
        "chapters/first.md:9: the chapter imports itself",
        "chapters/first.md:12: there is no seq2seq.nonesuch",
    ]


def test_earlier_chapters_and_the_kit_may_be_imported(book: Tree) -> None:
    text = book.module("#| export\nfrom seq2seq.second import x\nimport seq2seq.kit as kit\ny = x, kit")
    assert "from seq2seq.second import x\n" in text


def test_an_exported_cell_that_needs_a_name_from_elsewhere(book: Tree) -> None:
    cells = code("import os\nhere = 1") + code("#| export\nimport re\n\ndef f():\n    return re, here, len([]), os")
    assert book.errors(cells) == [
        f"chapters/first.md:15: Undefined name `{name}`: no exported cell defines or imports it"
        for name in ("here", "os")
    ]


def test_an_exported_cell_that_runs_something(book: Tree) -> None:
    errors = book.errors(code("#| export\nx = 1\nprint(x)"))
    assert errors == ["chapters/first.md:9: an exported cell holds imports, definitions and constants only"]


def test_a_cell_that_is_not_python(book: Tree) -> None:
    assert book.errors(code("x = 1\nif x")) == ["chapters/first.md:8: expected ':' (in a code cell)"]
    book.chapter("first", "# A\n" + code("!ls\n%matplotlib inline\nfor x in []:\n    %time x") + code("%%bash\nls -l"))
    assert book.generate()


def test_chapters_and_the_table_of_contents_name_each_other(book: Tree) -> None:
    book.chapter("third", "# Third\n")
    (book.root / "chapters/second.md").unlink()
    assert book.errors() == ["chapters/third.md:1: not in _toc.yml", "_toc.yml:1: there is no chapters/second.md"]


# ---- notebooks -------------------------------------------------------------------------------------------------------


def test_a_notebook_is_valid_bare_and_starts_with_title_and_install_cell(book: Tree) -> None:
    book.chapter(
        "first", "(top)=\n# First\n\nWords.\n\n" + code("#| export\nx = 1", ":tags: [hide-input]\n\n") + code("x")
    )
    notebook = book.notebook()
    nbformat.validate(notebook)
    title, install, words, hidden, shown = notebook.cells
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert install.cell_type == "code"
    assert title.source == (
        f"# First\n\n_A chapter of [A book]({SITE}/). With its figures and outputs: "
        f"[on the website]({SITE}/chapters/first.html)._"
    )
    assert words.source == "Words." and install.source.startswith("# @title Install")
    assert install.metadata.cellView == "form" and install.metadata.jupyter.source_hidden
    assert hidden.source == "x = 1" and hidden.metadata.tags == ["hide-input"]
    assert hidden.metadata.jupyter.source_hidden and hidden.metadata.cellView == "form"
    assert shown.metadata == {} and not shown.outputs and shown.execution_count is None
    assert notebook.metadata.kernelspec.name == "python3" and "accelerator" not in notebook.metadata


def test_a_chapter_that_gains_from_a_gpu_asks_for_one(book: Tree) -> None:
    book.chapter("first", "# First\n", FRONT.replace("jupytext", "seq2seq: {gpu: true}\njupytext"))
    metadata = book.notebook().metadata
    assert metadata.accelerator == "GPU" and metadata.colab.gpuType == "T4"


def test_cell_ids_are_stable_and_unique(book: Tree) -> None:
    book.chapter("first", "# First\n" + code("x = 1") + code("x = 1") + code("x = 2"))
    before = [cell.id for cell in book.notebook().cells]
    assert len(set(before)) == len(before) and before == [cell.id for cell in book.notebook().cells]
    book.chapter("first", "# First\n" + code("new = 0") + code("x = 1") + code("x = 1") + code("x = 2"))
    assert [cell.id for cell in book.notebook().cells if cell.source != "new = 0"] == before


@pytest.mark.parametrize("ref", ["main", "v0.1.0"])
def test_links_and_install_cell_follow_the_branch_or_the_release(book: Tree, ref: str) -> None:
    book.settings(ref)
    text = book.markdown("![A picture](../book/picture.svg), [settings](../_config.yml), {doc}`second`")
    assert text == (
        f"![A picture](https://raw.githubusercontent.com/me/book/{ref}/book/picture.svg), "
        f"[settings](https://github.com/me/book/blob/{ref}/_config.yml), [Second]({SITE}/chapters/second.html)"
    )
    install = book.notebook().cells[1].source
    assert f'source="git+https://github.com/me/book@{ref}"' in install
    assert 'version="0.2.0"' in install and 'data="d2l==1.0.3 g2p-en==2.1.0"' in install


class Machine:
    """Where an install cell runs: a folder, what is installed, and a pip that installs the library or fails."""

    def __init__(self, root: Path, cell: str, packages: dict[str, str]):
        self.folder, self.site, self.cell, self.packages = root / "work", root / "site", cell, packages
        self.calls: list[str] = []
        self.fails: dict[str, str] = {}  # word in a call -> what pip says when it fails

    def library(self, version: str) -> None:
        (self.site / "seq2seq/kit").mkdir(parents=True, exist_ok=True)
        (self.site / "seq2seq/__init__.py").write_text(f"__version__ = {version!r}")
        self.packages["seq2seq-book"] = version

    def pip(self, command: list[str], **options: object) -> subprocess.CompletedProcess:
        assert command[1:4] == ["-m", "pip", "install"]
        self.calls.append(" ".join(command[4:]))
        for word, said in self.fails.items():
            if word in self.calls[-1]:
                return subprocess.CompletedProcess(command, 1, "", said)
        if "seq2seq-book" in self.calls[-1]:
            self.library("0.2.0")
        self.packages |= dict(word.split("==") for word in command if "==" in word)
        return subprocess.CompletedProcess(command, 0, "", "")

    def run(self) -> list[str]:
        """Runs the cell; returns what it asked of pip."""
        self.calls = []
        exec(self.cell, {})
        return self.calls


BOOK = "seq2seq-book @ git+https://github.com/me/book@main"
EVERYTHING = ["-q torch==2.9.0+cu126 numpy==2.0.2 " + BOOK, "-q --no-deps d2l==1.0.3 g2p-en==2.1.0"]


@pytest.fixture
def machine(book: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has torch and numpy, as Colab has."""
    made = Machine(tmp_path, book.notebook().cells[1].source, {"torch": "2.9.0+cu126", "numpy": "2.0.2"})

    def version(name: str) -> str:
        if name not in made.packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return made.packages[name]

    made.folder.mkdir()
    made.site.mkdir()
    for name in [name for name in sys.modules if name.split(".")[0] == "seq2seq"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(made.folder), str(made.site)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(subprocess, "run", made.pip)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    yield made
    sys.modules.pop("seq2seq", None)


def test_the_install_cell_brings_what_is_missing_once_and_keeps_torch_and_numpy(machine: Machine, capsys) -> None:
    assert machine.run() == EVERYTHING and "Fetching" in capsys.readouterr().out
    assert machine.run() == [] and capsys.readouterr().out == ""


def test_the_install_cell_is_in_the_format_of_all_cells(book: Tree) -> None:
    cell = book.notebook().cells[1].source
    assert formatted([cell]) == [cell] and max(map(len, cell.split("\n"))) <= 88


@pytest.mark.parametrize(("call", "said", "advice"), [
    ("seq2seq-book", "/usr/bin/python: No module named pip", "no pip: run .* -m ensurepip, then run this cell"),
    ("seq2seq-book", "fatal: Could not resolve host: github.com", "resolve.*a network.* run this cell again"),
    ("d2l", "No matching distribution found", "No matching.*a network.* run this cell again"),
])  # fmt: skip
def test_a_failed_pip_says_what_to_do_and_the_next_run_repairs_it(machine: Machine, call, said, advice) -> None:
    machine.fails = {call: said}
    with pytest.raises(RuntimeError, match=re.compile(advice, re.DOTALL)):
        machine.run()
    done, machine.fails = machine.calls[:-1], {}
    assert done + machine.run() == EVERYTHING


def test_a_machine_without_git_is_told_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.fails = {"seq2seq-book": "ERROR: Cannot find command 'git'"}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="no git: get it from"):
        machine.run()


def test_an_installation_that_was_cut_off_is_repaired(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(command: list[str], **options: object) -> None:
        if "--no-deps" in command:
            raise KeyboardInterrupt
        return machine.pip(command)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine.run()
    assert machine.run() == EVERYTHING[1:]


def test_other_data_than_the_books_is_replaced(machine: Machine) -> None:
    machine.run()
    machine.packages["d2l"] = "0.17.0"
    assert machine.run() == ["-q --no-deps d2l==1.0.3"]


@pytest.mark.parametrize("imported", [False, True])
def test_a_folder_of_the_librarys_name_beside_the_notebook_does_not_matter(machine: Machine, imported: bool) -> None:
    (machine.folder / "seq2seq").mkdir()
    if imported:
        importlib.import_module("seq2seq")
    assert machine.run() == EVERYTHING and machine.run() == []
    assert importlib.import_module("seq2seq").__version__ == "0.2.0"


@pytest.mark.parametrize("path", ["seq2seq.py", "seq2seq/__init__.py"])
def test_another_seq2seq_is_named_as_being_in_the_way(machine: Machine, path: str) -> None:
    (machine.folder / path).parent.mkdir(exist_ok=True)
    (machine.folder / path).write_text("raise SystemExit('never run')")
    with pytest.raises(ImportError, match=f"{machine.folder / path} is in the way: .* Rename or move it, restart"):
        machine.run()
    assert machine.calls == []


def test_a_folder_that_hides_an_installed_library_is_named(machine: Machine) -> None:
    (machine.folder / "seq2seq").mkdir()
    machine.packages["seq2seq-book"] = "0.2.0"  # installed from a working tree, so a folder comes first
    with pytest.raises(ImportError, match=f"{machine.folder / 'seq2seq'} is in the way"):
        machine.run()


@pytest.mark.parametrize(("version", "older"), [("0.1.9", True), ("0.2.0", False), ("0.10.0", False)])
def test_a_notebook_newer_than_the_library_says_both_versions_and_the_command(
    machine: Machine, version: str, older: bool
) -> None:
    machine.run()
    machine.library(version)
    sys.modules.pop("seq2seq")
    if older:
        with pytest.raises(ImportError, match=re.escape(f'%pip install --upgrade "{BOOK}"')) as caught:
            machine.run()
        assert "version 0.2.0 of the book" in str(caught.value) and "library to version 0.1.9" in str(caught.value)
    else:
        assert machine.run() == []


EXERCISE = """
:::{exercise} How many $n$?
:label: ex-one
:difficulty: 2
:minutes: 10

Count {doc}`second`.
:::

:::{dropdown} Hint
On paper.
:::

:::{solution-start} ex-one
:class: dropdown
:::

By code:

```{code-cell} ipython3
n = 3
assert n == 3, "you counted the padding"
```

Why: see {ref}`ex-one`.

:::{solution-end}
:::

After {numref}`ex-two`.

:::{exercise}
:label: ex-two
:difficulty: 5
:minutes: 1

More.
:::
"""


def number_chapters(book: Tree) -> None:
    toc = (book.root / "_toc.yml").read_text()
    book.write("_toc.yml", toc.replace("- caption: Chapters\n", "- caption: Chapters\n  numbered: true\n"))


def test_an_exercise_has_a_cell_for_the_answer_and_its_solution_folds_and_does_not_run(book: Tree) -> None:
    number_chapters(book)
    book.chapter("first", "# First\n" + EXERCISE)
    cells = book.notebook().cells[2:]
    page = f"{SITE}/chapters/first.html"
    assert [cell.source for cell in cells] == [
        f"**Exercise 2.1: How many $n$?** (_difficulty 2 of 5, 10 minutes_)\n\n"
        f"Count [Second]({SITE}/chapters/second.html).",
        "# your answer",
        "<details><summary>Hint</summary>\n\nOn paper.\n\n</details>\n\n"
        "<details><summary>Solution</summary>\n\nBy code:\n\n"
        '```python\nn = 3\nassert n == 3, "you counted the padding"\n```\n\n'
        f"Why: see [Exercise 2.1]({page}#ex-one).\n\n</details>\n\n"
        f"After [Exercise 2.2]({page}#ex-two).\n\n"
        "**Exercise 2.2** (_difficulty 5 of 5, 1 minute_)\n\nMore.",
        "# your answer",
    ]
    assert [cell.cell_type for cell in cells] == ["markdown", "code"] * 2


def test_cells_run_twice_and_solutions_after_them(book: Tree) -> None:
    book.chapter("first", "# First\n" + EXERCISE + code("#| export\nx = 1") + code("y = x"))
    loaded = Book(book.root)
    sources = [cell.source for cell in rehearsal(loaded, loaded.chapters["first"]).cells]
    solution = 'n = 3\nassert n == 3, "you counted the padding"'
    assert sources[2:] == [
        *["# your answer", "# a second time\n# your answer"] * 2,
        "x = 1", "# a second time\nx = 1", "y = x", "# a second time\ny = x",
        f"# a solution, chapters/first.md:26\n{solution}",
        f"# a solution, chapters/first.md:26, a second time\n{solution}",
    ]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), [
    (":label: ex-one\n:difficulty: 2\n", ":difficulty:\n", "7: an exercise needs :label: and :difficulty:"),
    (":minutes: 10\n", "", "7: an exercise needs :minutes:"),
    ("{solution-start} ex-one", "{solution-start} ex-none", "19: there is no exercise ex-none"),
    (":::{solution-end}\n:::\n", "", "19: the solution does not end; close it with {solution-end}"),
    (":::{solution-start} ex-one\n:class: dropdown\n:::\n", "", "29: no solution is open"),
    ("n = 3\n", "#| export\nn = 3\n", "26: a solution's cell cannot be exported"),
])  # fmt: skip
def test_mistakes_in_exercises(book: Tree, old: str, new: str, message: str) -> None:
    assert old in EXERCISE
    assert f"chapters/first.md:{message}" in book.errors(EXERCISE.replace(old, new, 1))


def test_a_prediction_stands_before_the_cell_that_answers_it(book: Tree) -> None:
    question = ":::{predict} Which needs {doc}`second`?\n- this\n- that\n:::\n\n"
    book.chapter("first", "# First\n\n" + question + code("1 + 1", ":tags: [predicted]\n\n"))
    asked, answer = book.notebook().cells[2:]
    assert asked.source == (
        f"> **Predict first.** Which needs [Second]({SITE}/chapters/second.html)?\n>\n> - this\n> - that\n>\n"
        "> Choose, then run the next cell."
    )
    assert answer.source == "1 + 1" and answer.metadata.tags == ["predicted"]
    assert book.errors(question + "Words.\n") == ["chapters/first.md:6: no cell tagged predicted follows the question"]
    assert book.errors(code("1 + 1", ":tags: [predicted]\n\n")) == [
        "chapters/first.md:9: a cell tagged predicted follows no {predict}"
    ]


def test_numbers_are_the_websites(book: Tree) -> None:
    number_chapters(book)
    book.chapter("second", "# Second\n\n$$\na\n$$ (eq-a)\n\n```{figure} ../book/picture.svg\n:alt: x\n```\n")
    text = book.markdown("{eq}`eq-a` $$b$$\n\n$$\nb\n$$ (eq-b)\n\n{eq}`eq-b`, {numref}`fig-b`\n\n"
                         "```{figure} ../book/picture.svg\n:name: fig-b\n:alt: x\n\nA caption.\n```\n")  # fmt: skip
    assert f"[(1.1)]({SITE}/chapters/second.html#equation-eq-a)" in text and "b \\tag{2.1}" in text
    assert f"(2.1), [Figure 2.1]({SITE}/chapters/first.html#fig-b)" in text and "_Figure 2.1: A caption._" in text


def test_a_figure_in_a_solution_has_its_number_and_no_caption_in_the_notebook(book: Tree) -> None:
    options = ':mystnb: {{figure: {{name: {0}, caption: "{0}."}}}}\n\n'
    solved = EXERCISE.replace("{code-cell} ipython3\n", "{code-cell} ipython3\n" + options.format("fig-in"))
    text = book.markdown(solved + "\n" + code("x", options.format("fig-out")) + "\n{numref}`fig-out`\n")
    assert "_Figure 2: fig-out._" in text and "[Figure 2]" in text and "fig-in" not in text
    assert book.errors(code("x", ":mystnb: {figure: {name: fig-a}}\n\n")) == [
        "chapters/first.md:9: a figure from a cell needs a name and a caption"
    ]


def test_a_fold_that_the_page_names_has_its_name_in_the_notebook(book: Tree) -> None:
    options = "---\ntags: [hide-input]\nmystnb:\n  code_prompt_show: The drawing\n---\n"
    book.chapter("first", "# First\n" + code("#| export\nx = 1", options) + code("%%bash\nls", options))
    named, magic = book.notebook().cells[2:]
    assert named.source == "# @title The drawing\nx = 1" and named.metadata.cellView == "form"
    assert magic.source == "%%bash\nls"
    assert book.generate()["seq2seq/first.py"].endswith("\n\nx = 1\n")


# ---- Markdown --------------------------------------------------------------------------------------------------------


def test_admonitions_become_quotations_and_nest(book: Tree) -> None:
    text = book.markdown(
        "::::{admonition} This *chapter*\n:class: cost-card\n\nTwo minutes.\n\n:::{note}\nShort, $x$.\n\n"
        "```python\ncode = 1\n```\n:::\n::::\nAfter.\n\n```{tip} Try it.\n```\n"
    )
    assert text == (
        "> **This *chapter***\n>\n> Two minutes.\n>\n> > **Note**\n> >\n> > Short, $x$.\n> >\n"
        "> > ```python\n> > code = 1\n> > ```\n\nAfter.\n\n> **Tip**\n>\n> Try it."
    )


def test_display_math_in_a_quotation_stays_on_one_line(book: Tree) -> None:
    text = book.markdown(":::{note}\n$$\na\n= b\n$$ (eq-a)\n:::\n")
    assert text == "> **Note**\n>\n> $$ a = b \\tag{1} $$"  # a line break would put the quotation's > into the formula


def test_solutions_fold(book: Tree) -> None:
    text = book.markdown(
        "1. Why?\n\n   :::{dropdown} Solution\n   Because {doc}`second`.\n\n   ```python\n   {doc}`x`\n   ```\n   :::\n"
    )
    assert text == (
        "1. Why?\n\n   <details><summary>Solution</summary>\n\n"
        f"   Because [Second]({SITE}/chapters/second.html).\n\n   ```python\n   {{doc}}`x`\n   ```\n\n   </details>"
    )


def test_tabs_labels_comments_and_definitions(book: Tree) -> None:
    text = book.markdown(
        "::::{tab-set}\n:::{tab-item} CPU\nslow\n:::\n:::{tab-item} GPU\nfast\n:::\n::::\n\n"
        "% to the author\n(here)=\n## Section\n\nTerm\n: meaning\n"
    )
    assert text == "**CPU**\n\nslow\n\n**GPU**\n\nfast\n\n## Section\n\n**Term**: meaning"


def test_equations_are_numbered_tagged_and_cited(book: Tree) -> None:
    text = book.markdown(
        "$$x$$\n\n$$\ny\n$$ (eq-y)\n\n```{math}\n:label: eq-z\na &= b \\\\\n  &= c\n```\n\n{eq}`eq-z`, {eq}`eq-y`\n"
    )
    assert text == (
        "$$\nx\n$$\n\n$$\ny \\tag{1}\n$$\n\n"
        "$$\n\\begin{aligned}\na &= b \\\\\n  &= c\n\\end{aligned} \\tag{2}\n$$\n\n(2), (1)"
    )
    book.chapter("second", "# Second\n\n$w$\n\nOf {eq}`eq-z`.\n")
    cell = book.notebook("second").cells[-1].source
    assert cell.endswith(f"Of [(2)]({SITE}/chapters/first.html#equation-eq-z).")


def test_figures_have_absolute_addresses_captions_and_numbers(book: Tree) -> None:
    text = book.markdown(
        "```{figure} ../book/picture.svg\n:name: fig-a\n:alt: Boxes: two\n\nA *caption*\nof {term}`BOS`.\n```\n\n"
        "```{figure} ../book/picture.svg\n:class: only-dark\n:alt: dark\n\nA caption.\n```\n\n"
        "See {numref}`fig-b`, {numref}`plot %s <fig-a>`, {ref}`fig-b`.\n\n"
        + code("x", ':mystnb: {figure: {name: fig-b, caption: "A $curve$."}}\n\n')
        + "\n```{image} ../book/picture.svg\n:alt: plain\n```\n"
    )
    page, raw = f"{SITE}/chapters/first.html", "https://raw.githubusercontent.com/me/book/main/book/picture.svg"
    assert text == (
        f"![Boxes: two]({raw})\n\n_Figure 1: A *caption* of [BOS]({SITE}/book/glossary.html#term-BOS)._\n\n"
        f"See [Figure 2]({page}#fig-b), [plot 1]({page}#fig-a), [A $curve$.]({page}#fig-b).\n\n"
        f"_Figure 2: A $curve$._\n\n![plain]({raw})"
    )


def test_references_across_pages(book: Tree) -> None:
    book.chapter("second", "# Second\n\n(far-away)=\n## A `far` place\n\n(spot)=\nA paragraph.\n")
    text = book.markdown(
        "{ref}`far-away`, {ref}`there <Far-Away>`, {ref}`a\nspot <spot>`, [](#far-away), [x](second.md#far-away), "
        "{doc}`../book/index`, {doc}`home </book/index>`, {term}`start <beginning symbol>`"
    )
    second = f"{SITE}/chapters/second.html"
    assert text == (
        f"[A `far` place]({second}#far-away), [there]({second}#far-away), [a spot]({second}#spot), "
        f"[A `far` place]({second}#far-away), [x]({second}#far-away), [Home]({SITE}/book/index.html), "
        f"[home]({SITE}/book/index.html), [start]({SITE}/book/glossary.html#term-beginning-symbol)"
    )


def test_a_title_with_an_article_fits_into_a_sentence(book: Tree) -> None:
    book.chapter("second", "# The second\n")
    second = f"{SITE}/chapters/second.html"
    assert book.markdown("In the {doc}`second`, and {doc}`second`.") == (
        f"In the [second]({second}), and [The second]({second}).")


def test_citations_and_the_list_of_what_a_chapter_cites(book: Tree) -> None:
    text = book.markdown(
        "{cite:t}`bahdanau2015` and {cite:p}`gers2000, bahdanau2015`.\n\n```{bibliography}\n:filter: x\n```\n"
    )
    arxiv, doi = "https://arxiv.org/abs/1409.0473", "https://doi.org/10.1162/089976600300015015"
    cited, listed = text.split("\n\n")
    assert cited == (
        f"[Bahdanau et al. (2015)]({arxiv}) and ([Gers and Müller, 2000]({doi}); [Bahdanau et al., 2015]({arxiv}))."
    )
    first, second = listed.split("\n")
    assert first.startswith("- Dzmitry Bahdanau, Kyunghyun Cho, and Yoshua Bengio. ") and arxiv in first
    assert second.startswith("- Felix Gers and Jürgen Müller. ") and doi in second
    book.chapter("second", "# Second\n\n{cite:p}`gers2000`\n\n```{bibliography}\n```\n")
    assert "Bahdanau" not in book.notebook("second").cells[-1].source


def test_footnotes(book: Tree) -> None:
    assert book.markdown("One[^a] two[^b].\n\n[^a]: First {doc}`second`.\n\n[^b]: Second.") == (
        "One<sup>1</sup> two<sup>2</sup>.\n\n"
        f"<sup>1</sup> First [Second]({SITE}/chapters/second.html).\n\n<sup>2</sup> Second."
    )


def test_code_spans_code_blocks_and_formulas_are_left_alone(book: Tree) -> None:
    text = (
        "Write ``{doc}`x` `` or `:::{note}` or `[a](b)`; $p[i](j)$ costs \\$5.\n\n"
        "````md\n```{note}\n(x)=\n% y\n```\n````\n\n"
        "    {ref}`indented`\n\n| a | b |\n|---|---|\n| `{x}` | $y$ |"
    )
    assert book.markdown(text) == text


# ---- errors in Markdown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "message"), [
    ("{doc}`nowhere`", "there is no page nowhere"),
    ("{ref}`nowhere`", "label nowhere is unknown"),
    ("{eq}`nowhere`", "label nowhere of role eq is unknown"),
    ("{numref}`nowhere`", "label nowhere of role numref is unknown"),
    ("{cite:p}`nobody1999`", "references.bib has no entry nobody1999"),
    ("{term}`nothing`", "the glossary has no term nothing"),
    ("{strange}`x`", "unknown role strange"),
    (":::{strange}\nx\n:::", "unknown directive strange"),
    ("[x](missing.md)", "the link missing.md leads nowhere"),
    ("[x](second.md#missing)", "there is no missing on chapters/second.md"),
    ("[x](#missing)", "label missing is unknown"),
    ("[x](../../outside.md)", "the link ../../outside.md leads nowhere"),
    ("![x](missing.png)", "there is no image missing.png"),
    ("![](../book/picture.svg)", "image ../book/picture.svg has no text alternative"),
    ("```{figure} ../book/picture.svg\n```", "image ../book/picture.svg has no text alternative"),
    ("x[^note]", "there is no footnote note"),
    ("[x]: https://example.org", "a notebook's cells share no link definitions: write the address in the link"),
    ("and $$x$$ (eq-x)", "a labelled equation needs an empty line before and after it"),
    (":::{note}\nopen", ":::{note} is not closed before the cell ends; a code cell cannot stand inside a directive"),
])  # fmt: skip
def test_what_cannot_be_resolved_is_an_error_with_its_line(book: Tree, text: str, message: str) -> None:
    assert book.errors(f"\nA line.\n\n{text}\n") == [f"chapters/first.md:9: {message}"]
    nested = f"\n::::{{note}}\n:class: x\n\nA line.\n\n{text}\n::::\n"
    if "not closed" not in message:
        assert f"chapters/first.md:12: {message}" in book.errors(nested)


def test_a_code_cell_inside_a_directive_is_an_error(book: Tree) -> None:
    errors = book.errors(f"\n:::{{dropdown}} Solution\n{code('x = 1')}:::\n")
    assert errors[0].startswith("chapters/first.md:7: :::{dropdown} Solution is not closed before the cell ends")
    errors = book.errors(f"\n````{{note}}\n\n{code('x = 1')}````\n")
    assert errors == ["chapters/first.md:9: a code cell cannot stand inside a directive"]


def test_a_label_given_twice(book: Tree) -> None:
    book.chapter("second", "# Second\n\n(x)=\n## A\n")
    assert book.errors("\n(x)=\n## B\n") == ["chapters/first.md:8: label x is taken by chapters/second.md"]


def test_all_errors_are_reported_at_once(book: Tree) -> None:
    assert book.errors("{doc}`a`\n{doc}`b`\n") == [
        f"chapters/first.md:{n}: there is no page {x}" for n, x in ((6, "a"), (7, "b"))
    ]


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(book: Tree) -> Tree:
    book.module("#| export\nx = 1")
    assert book.run() == 0 and book.run("--check") == 0
    return book


def test_running_twice_writes_nothing(exported: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    files = [exported.root / "seq2seq/first.py", exported.root / "chapters/first.ipynb"]
    before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]
    capsys.readouterr()
    assert exported.run() == 0 and capsys.readouterr().out == "generated files are up to date\n"
    assert before == [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]


@pytest.mark.parametrize("path", ["seq2seq/first.py", "chapters/first.ipynb"])
def test_check_fails_on_drift_and_on_a_missing_file(
    exported: Tree, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported.root / path
    file.write_text(file.read_text() + "\n")
    assert exported.run("--check") == 1 and f"{path}: differs from its chapter" in capsys.readouterr().err
    assert exported.run("--check", "second") == 0 and exported.run("--check", "first") == 1
    file.unlink()
    assert exported.run("--check") == 1 and f"{path}: missing" in capsys.readouterr().err
    assert not file.exists() and exported.run() == 0 and exported.run("--check") == 0


@pytest.mark.parametrize("path", ["seq2seq/gone.py", "chapters/gone.ipynb", "seq2seq/second.py"])
def test_a_file_that_no_chapter_generates_is_an_error(
    exported: Tree, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.write(path, "made_by_hand = True\n")
    assert exported.run("--check") == 1 and f"{path}: no chapter generates it" in capsys.readouterr().err
    assert exported.run() == 1 and (exported.root / path).exists()


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_check_fails_on_a_generated_file_that_git_does_not_track(
    exported: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", exported.root], check=True)
    subprocess.run(["git", "-C", exported.root, "add", "chapters"], check=True)
    assert exported.run("--check") == 1
    assert capsys.readouterr().err == "seq2seq/first.py: not tracked by git\n"
    subprocess.run(["git", "-C", exported.root, "add", "seq2seq"], check=True)
    assert exported.run("--check") == 0


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_repository_of_another_user_is_exported_and_the_check_says_what_git_says(
    exported: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", exported.root], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert exported.run() == 0
    capsys.readouterr()
    assert exported.run("--check") == 1 and "safe.directory" in capsys.readouterr().err


def test_errors_end_the_command_and_an_unknown_name_is_refused(book: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    book.chapter("first", "# First\n\n{doc}`nowhere`\n")
    assert book.run() == 1 and capsys.readouterr().err == "chapters/first.md:7: there is no page nowhere\n"
    assert not list(book.root.glob("chapters/*.ipynb")) and book.run("second") == 0
    with pytest.raises(SystemExit):
        book.run("third")


# ---- this book -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("chapters/*.md")))
def test_a_chapter_has_two_predictions_and_five_exercises_with_hints_and_solutions(name: str) -> None:
    page = Book(ROOT).chapters[name]
    order = [block for cell in page.cells if not cell.solution or cell.kind == "markdown" for block, _ in blocks(cell)]
    assert order.count("predict") >= 2
    ladders = " ".join(block for block in order if block).split("exercise")[1:]
    assert len(ladders) >= 5
    for number, ladder in enumerate(ladders, 1):
        rungs = ladder.split()
        assert "dropdown" in rungs[: rungs.index("solution-start")], f"exercise {number} has no hint first"
    assert any(cell.kind == "code" and cell.solution for cell in page.cells)


@pytest.mark.parametrize("path", sorted(ROOT.glob("chapters/*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_of_this_book_shows_no_raw_myst_and_no_outputs(path: Path) -> None:
    notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert "#| export" not in json.dumps(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"(`{3,}).*?\1|(`+)(?!`).+?(?<!`)\2(?!`)", "", cell.source, flags=re.DOTALL)
            found = RAW_MYST.search(cell.source) if "`" not in cell.source else RAW_MYST.search(prose)
            assert not found, cell.source
