"""The formatter of code cells, on a small book."""

import re
from pathlib import Path

import pytest
from books import Tree
from format_cells import main

CHAPTER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# First

```{code-cell} ipython3
---
tags: [hide-input]
mystnb: {code_prompt_show: Imports}
---
#| export
import  math
x = [1,
     2,]
```

```python
prose = [1,2]
```

```{code-cell} ipython3
:tags: [hide-input]

%time 1+1
y = {'a':1}
!ls  -l
```

:::{exercise}
:label: ex-a
:difficulty: 1
:minutes: 1

A.
:::

:::{solution-start} ex-a
:::

```{code-cell} ipython3
z = [[1, 0],
     [0, 1]]  # fmt: skip
z  =  3
```

:::{solution-end}
:::
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Tree(tmp_path).write("chapters/first.md", CHAPTER)
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), *arguments])


def test_cells_and_nothing_else_are_formatted_once(root: Path, capsys):
    assert run(root, "--check") == 1
    assert re.findall(r"first.md:(\d+): not", capsys.readouterr().err) == ["12", "25", "42"]
    assert (root / "chapters/first.md").read_text("utf-8") == CHAPTER

    assert run(root) == 0
    changed = {
        "import  math\nx = [1,\n     2,]": "import math\n\nx = [1, 2]",
        "{'a':1}": '{"a": 1}', "z  =  3": "z = 3",
    }  # fmt: skip
    expected = CHAPTER
    for old, new in changed.items():
        expected = expected.replace(old, new)
    assert (root / "chapters/first.md").read_text("utf-8") == expected
    assert run(root, "--check") == 0


def test_a_line_that_cannot_be_broken_is_named(root: Path, capsys):
    run(root)
    text = (root / "chapters/first.md").read_text("utf-8")
    (root / "chapters/first.md").write_text(text.replace("z = 3", f"z = '{'x' * 90}'"), "utf-8")
    assert run(root) == 1 and "first.md:44: 96 columns, over 88" in capsys.readouterr().err
    assert run(root, "--check") == 1


def test_what_is_not_python_is_named_and_left(root: Path, capsys):
    (root / "chapters/first.md").write_text(CHAPTER.replace("z  =  3", "z  = ("), "utf-8")
    assert run(root) == 1 and capsys.readouterr().err.startswith("chapters/first.md: ")
    assert "z  = (" in (root / "chapters/first.md").read_text("utf-8")
