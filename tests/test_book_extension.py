import json
from pathlib import Path

import book_extension as ext
import pytest
from books import built, write
from docutils import nodes
from docutils.utils import new_document

CHAPTER = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# NAME

What this chapter is about, in a sentence that is long enough to describe it.

```{code-cell} ipython3
#| export
CODE
```
"""

CLAIM = """from IPython.display import HTML
HTML('<div class="claim claim-holds" data-claim="{&quot;text&quot;: &quot;A beats B.&quot;, '
     '&quot;verdict&quot;: &quot;holds&quot;, &quot;measured&quot;: &quot;3 > 2&quot;}">A beats B.</div>')"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    write(tmp_path, {
        "seq2seq/__init__.py": "", "seq2seq/kit/__init__.py": "from seq2seq.kit.budget import steps",
        "seq2seq/kit/budget.py": "steps = 1", "seq2seq/kit/plots.py": "from . import budget",
        "seq2seq/rnn.py": "from seq2seq.kit import plots", "seq2seq/attention.py": "",
        "seq2seq/records/rnn-seeds.json": "{}", "seq2seq/records/attention-map.json": "{}",
    })
    return tmp_path


def chapter(code: str, name: str = "A chapter") -> str:
    return CHAPTER.replace("NAME", name).replace("CODE", code)


def test_imports_are_followed_through_modules(library: Path):
    found = {path.relative_to(library).as_posix() for path in ext.sources("from seq2seq.rnn import A", library)}
    assert found == {"seq2seq/__init__.py", "seq2seq/rnn.py", "seq2seq/kit/__init__.py", "seq2seq/kit/budget.py",
                     "seq2seq/kit/plots.py"}


@pytest.mark.parametrize(("changed", "stale"), [
    ("seq2seq/rnn.py", True), ("seq2seq/kit/budget.py", True), ("seq2seq/records/rnn-seeds.json", True),
    ("requirements.txt", True), ("requirements-nodeps.txt", True),
    ("seq2seq/attention.py", False), ("seq2seq/records/attention-map.json", False),
])
def test_fingerprint_changes_with_what_the_chapter_needs(library: Path, changed: str, stale: bool):
    text = chapter("import seq2seq.rnn\n%matplotlib inline").replace("ipython3", "ipython3\n:tags: [hide-input]")
    before = ext.fingerprint("rnn", text, library)
    assert before == ext.fingerprint("rnn", text, library)
    write(library, {changed: "changed = True"})
    assert (ext.fingerprint("rnn", text, library) != before) == stale


@pytest.mark.parametrize("code", [
    "if True:\n    %time import math\nimport seq2seq.rnn", "for k in range(3):\n    !echo {k}\nimport seq2seq.rnn",
    "%%time\nimport seq2seq.rnn", "files = !ls\nimport seq2seq.rnn", "print?\nimport seq2seq.rnn",
])  # fmt: skip
def test_magics_hide_no_import(code: str):
    assert ext.imports(code) == {"seq2seq.rnn"}


@pytest.mark.parametrize("options", [
    ":tags: [hide-input]\n", "---\ntags: [hide-input]\nmystnb:\n  figure: {name: a}\n---\n", "---\ntags: []\n---  \n\n",
])  # fmt: skip
def test_cell_options_hide_no_import(library: Path, options: str):
    text = chapter("import seq2seq.attention").replace("#| export\n", options)
    before = ext.fingerprint("other", text, library)
    write(library, {"seq2seq/attention.py": "changed = True"})
    assert ext.fingerprint("other", text, library) != before


def test_fingerprint_changes_with_the_budget(library: Path, monkeypatch):
    text = chapter("import seq2seq.rnn")
    before = ext.fingerprint("rnn", text, library)
    monkeypatch.setenv("SEQ2SEQ_BUDGET", "smoke")
    assert ext.fingerprint("rnn", text, library) != before


def test_fingerprint_of_a_chapter_with_extras_changes_with_them(library: Path, monkeypatch, tmp_path: Path):
    texts = chapter("import seq2seq.rnn"), chapter("import seq2seq.rnn") + "\nTo have them, run `make extras`."
    monkeypatch.setattr(ext, "EXTRAS", tmp_path / "extras.txt")
    before = [ext.fingerprint("rnn", text, library) for text in texts]
    (tmp_path / "extras.txt").write_text("weights: missing")
    after = [ext.fingerprint("rnn", text, library) for text in texts]
    (tmp_path / "extras.txt").write_text("weights: installed")
    assert before[0] == after[0] == ext.fingerprint("rnn", texts[0], library)
    assert len({before[1], after[1], ext.fingerprint("rnn", texts[1], library)}) == 3


@pytest.fixture
def book(library: Path) -> Path:
    write(library, {
        "conf.py": 'extensions = ["myst_nb", "book_extension"]\nnb_execution_mode = "cache"\n'
                   'exclude_patterns = ["_build", "seq2seq", "*.ipynb"]\nroot_doc = "index"\n',
        "index.md": "# A book\n\n```{toctree}\nrnn\nattention\nclaims\n```\n",
        "claims.md": "# Claims\n\n```{claims}\n```\n",
        "rnn.md": chapter(
            f"# fmt: off\nimport seq2seq.rnn\n# fmt: on\nopen('runs.txt', 'a').write('rnn ')\n{CLAIM}", "Recurrent"),
        "attention.md": chapter("import seq2seq.attention\nopen('runs.txt', 'a').write('attention ')", "Attention"),
        "rnn.ipynb": json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
    })
    return library


def test_a_label_moves_to_a_page_that_is_read_earlier(book: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(book))
    equation = "\n```{math}\n:label: moved\nx = 1\n```\n"
    write(book, {"rnn.md": chapter("1", "Recurrent") + equation, "attention.md": chapter("2", "Attention")})
    build(book)
    write(book, {"rnn.md": chapter("1", "Recurrent"), "attention.md": chapter("2", "Attention") + equation})
    build(book)


def test_a_changed_style_sheet_alone_reaches_the_site(book: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(book))
    write(book, {"book/static/book.css": "/* one */", "conf.py": (book / "conf.py").read_text()
                 + 'html_static_path = ["book/static"]\n'})  # fmt: skip
    build(book)
    write(book, {"book/static/book.css": "/* two */"})
    assert build(book) == []
    assert (book / "_build/html/_static/book.css").read_text() == "/* two */"


def build(book: Path) -> list[str]:
    """Builds the book; returns the chapters that were executed."""
    runs = book / "runs.txt"
    runs.unlink(missing_ok=True)
    assert built(book) == ""
    return sorted(runs.read_text().split()) if runs.exists() else []


def test_a_changed_module_executes_exactly_the_chapters_that_import_it(book: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(book))
    assert build(book) == ["attention", "rnn"]
    assert build(book) == []
    write(book, {"seq2seq/kit/budget.py": "steps = 2"})
    assert build(book) == ["rnn"]
    page = (book / "_build/html/rnn.html").read_text("utf-8")
    assert "depends on" not in page and "| export" not in page and "fmt: o" not in page
    assert 'id="claim-1"' in page

    # The claim is on the page of claims, linked, and is still there when the chapter comes from the cache.
    write(book, {"rnn.md": (book / "rnn.md").read_text("utf-8") + "\nOne more sentence.\n"})
    assert build(book) == []
    claims = (book / "_build/html/claims.html").read_text("utf-8")
    assert "A beats B." in claims and "3 &gt; 2" in claims and 'href="rnn.html#claim-1"' in claims
    assert (book / "_build/html/rnn.ipynb").is_file()

    # A claim that the chapter no longer makes leaves the page.
    write(book, {"rnn.md": chapter("1", "Recurrent")})
    build(book)
    assert "A beats B." not in (book / "_build/html/claims.html").read_text("utf-8")


def test_a_finished_progress_bar_leaves_no_room_on_the_page():
    def bundle(html: str) -> nodes.container:
        parts = [nodes.container("", nodes.raw("", html, format="html"), mime_type="text/html"),
                 nodes.container("", nodes.literal_block("", html), mime_type="text/plain")]
        return nodes.container("", *parts, nb_element="mime_bundle")

    cells = [nodes.container("", nodes.container("", *map(bundle, outputs), classes=["cell_output"]))
             for outputs in ([""], ["", "<b>1</b>"], ["<b>2</b>"])]
    page = new_document("page")
    page += cells
    ext.drop_empty_outputs(None, page)
    assert [len(cell.children) for cell in cells] == [0, 1, 1]
    assert [raw.astext() for raw in page.findall(nodes.raw)] == ["<b>1</b>", "<b>2</b>"]
