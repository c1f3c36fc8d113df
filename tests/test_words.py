"""Words are counted as a reader meets them."""

import sys
from pathlib import Path

import pytest
import words

PAGE = """<html><body><nav>not this</nav><article class="bd-article"><h1>One title<a class="headerlink">#</a></h1>
<p>Five words and <mjx-container>x</mjx-container> – too.</p><table><tr><td>a</td><td>b</td></tr></table>
<div class="cell_input"><pre>def step():
    model.train()
    loss.backward()</pre></div>
<div class="cell_input"><pre>history = train(model, 3)</pre></div>
<details><p>A folded solution.</p></details>
<details class="predicted"><div class="cell tag_predicted"><pre>seen</pre><details>drawn</details></div></details>
<ol class="stepper-frames"><li>frame one</li><li>frame two</li></ol><script>var x;</script></article></body></html>"""


def test_core_whole_and_training(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE, "utf-8")
    core, whole, before = words.count(page)
    # title 2, paragraph 5 with its equation, table 2, cells 4 + 3, the predicted result 1, a frame 2
    assert core == 19
    assert whole == core + 3 + 1 + 2
    assert before == 13 / 19


@pytest.mark.parametrize(("code", "runs"), [
    ("history = train(model, batches)", True), ("from seq2seq.kit import train", False), ("model.train()", False),
    ("for batch in batches:\n    loss(batch).backward()", True), ("def train(model):\n    pass", False),
])  # fmt: skip
def test_what_a_training_is(code: str, runs: bool) -> None:
    assert words.trains(code) == runs


def test_a_chapter_that_is_too_long_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "chapters/long.html"
    page.parent.mkdir()
    page.write_text(f'<article class="bd-article"><p>{"word " * 6001}</p></article>', "utf-8")
    monkeypatch.setattr(words, "SITE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["words.py"])
    with pytest.raises(SystemExit, match=r"long \(6,001\)"):
        words.main()
