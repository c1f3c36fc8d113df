"""Exercises, solutions, predictions and figures from cells, on a small book built by Sphinx."""

import re
from pathlib import Path

import pytest
from books import built, write

PAGE = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# One

See {ref}`ex-two`, {ref}`the last <ex-far>`, {numref}`ex-far` and {numref}`fig-a`.

:::{predict} Which needs more `padding`?
- words in random order
- words in buckets
:::

```{code-cell} ipython3
:tags: [predicted]
print(6 * 7)
```

```{code-cell} ipython3
:tags: [predicted]
print(7 * 8)
```

```{code-cell} ipython3
---
tags: [hide-input]
mystnb:
  code_prompt_show: The drawing
  code_prompt_hide: The drawing
  figure: {name: fig-a, caption: "Error against *length*."}
---
from IPython.display import HTML
HTML('<div class="picture"><svg/></div>')
```

:::{exercise} How many?
:label: ex-one
:difficulty: 2
:minutes: 10

Text.
:::

:::{solution-start} ex-one
:class: dropdown
:::

```{code-cell} ipython3
print("the answer is", 6 * 9)
```

Why: because.

:::{solution-end}
:::

:::{exercise}
:label: ex-two
:difficulty: 5
:minutes: 1

More.
:::

:::{solution-start} ex-two
:class: dropdown
:::

Nothing.

:::{solution-end}
:::
"""
FAR = """\
# Two

:::{exercise} Far
:label: ex-far
:difficulty: 1
:minutes: 2

Back to {ref}`ex-one` and its {ref}`solution <ex-one-solution>`.
:::
"""
CONF = """\
extensions = ["myst_nb", "sphinx_design", "sphinx_external_toc", "book_directives"]
external_toc_path = "_toc.yml"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
exercise_style = "solution_follow_exercise"
"""
TOC = """\
format: jb-book
root: index
parts:
  - {caption: Chapters, numbered: true, chapters: [{file: one}, {file: two}]}
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    files = {"conf.py": CONF, "_toc.yml": TOC, "index.md": "# Home\n", "one.md": PAGE, "two.md": FAR}
    write(tmp_path, files)
    return tmp_path


def build(book: Path) -> tuple[str, str, str]:
    """Builds the book; returns its two pages and what Sphinx warns of."""
    warnings = built(book)
    one, two = ((book / f"_build/html/{name}.html").read_text("utf-8") for name in ("one", "two"))
    return one, two, warnings


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_exercises_solutions_predictions_and_figures(book: Path):
    one, two, warnings = build(book)
    assert not warnings

    exercise = one[one.index('id="ex-one"') : one.index("</details>", one.index('id="ex-one-solution"'))]
    assert "Exercise 1.1 How many?" in words(exercise) and 'href="#ex-one"' in exercise
    assert "●●○○○ difficulty 2 of 5, 10 minutes Text." in words(exercise)
    assert "●●●●● difficulty 5 of 5, 1 minute More." in words(one)
    solution = exercise[exercise.index('id="ex-one-solution"') :]
    assert words(solution).endswith("the answer is 54 Why: because.") and "Solution" in words(solution)
    assert one.count("<details") == one.count("</details>") == 4

    # Numbers and links, within the page and from one chapter to the other.
    assert "See Exercise 1.2 , the last , Exercise 2.1 and Fig. 1.1" in words(one)
    assert 'href="two.html#ex-far"' in one and "Fig. 1.1 Error against length ." in words(one)
    assert "Back to Exercise 1.1 and its solution" in words(two) and 'href="one.html#ex-one-solution"' in two

    # Both cells of the answer are in the fold that names its question, and nothing else is.
    box = one[one.index('class="predict"') : one.index('<details class="predicted"')]
    name = re.search(r'id="([^"]*)"', box)[1]
    fold = one[one.index(f'<details class="predicted" data-question="{name}"') :].split("</details>")[0]
    assert "Which needs more padding ? words in random order words in buckets" in words(box)
    assert words(fold).split()[:3] == ["Show", "the", "result"] and "42" in fold and "56" in fold
    assert "The drawing" not in fold
    assert one.count("document.querySelectorAll(\".predict\")") == 1 and ".predict" not in two

    ids = re.findall(r' id="([^"]*)"', one)
    assert len(ids) == len(set(ids))


def test_a_page_that_changes_is_read_again_without_complaint(book: Path):
    build(book)
    (book / "one.md").write_text(PAGE + "\nOne more sentence.\n", "utf-8")
    one, _, warnings = build(book)
    assert not warnings and "One more sentence." in one and "Exercise 1.1" in one


@pytest.mark.parametrize(("old", "new", "message"), [
    (":difficulty: 2\n", "", "an exercise needs :difficulty:"),
    (":difficulty: 2\n:minutes: 10\n", "", "an exercise needs :difficulty: and :minutes:"),
    (":difficulty: 2\n", ":difficulty: 6\n", "6 is not a number from 1 to 5"),
    ("- words in buckets\n", "", "a prediction needs one list of at least two options"),
])  # fmt: skip
def test_mistakes_are_warned_of(book: Path, old: str, new: str, message: str):
    (book / "one.md").write_text(PAGE.replace(old, new, 1), "utf-8")
    assert message in build(book)[2]
