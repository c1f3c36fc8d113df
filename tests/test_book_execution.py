"""Chapters execute side by side, go on where they were, and fail loudly."""

import json
import time
from pathlib import Path

import book_execution
import pytest
from book_execution import ChapterError
from books import built, write
from bs4 import BeautifulSoup
from test_book_extension import chapter, library  # noqa: F401

RUN = """\
import json, os, time
start = time.time()
time.sleep({seconds})
with open("runs.txt", "a") as runs:
    print(json.dumps(["{name}", start, time.time(), os.environ["OMP_NUM_THREADS"]]), file=runs)
{then}"""


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_execution, "JOBS", 2)  # whatever `make JOBS=…` says


@pytest.fixture
def book(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", str(library))
    write(library, {
        "conf.py": 'extensions = ["myst_nb", "book_extension", "book_execution"]\nnb_execution_mode = "cache"\n'
                   'exclude_patterns = ["_build", "seq2seq"]\nroot_doc = "index"\n',
        "index.md": "# A book\n\n```{toctree}\none\ntwo\nthree\ntimings\n```\n",
        "timings.md": "# Timings\n\n```{timings}\n```\n",
        **{f"{name}.md": chapter(RUN.format(name=name, seconds=seconds, then=""), name.title())
           for name, seconds in {"one": 2, "two": 2, "three": 0}.items()},
    })  # fmt: skip
    return library


def build(book: Path) -> dict[str, tuple[float, float, str]]:
    """Builds the book; returns when each chapter that was executed began and ended, and its threads."""
    runs = book / "runs.txt"
    runs.unlink(missing_ok=True)
    assert built(book) == ""
    return {name: times for name, *times in map(json.loads, runs.read_text().splitlines())} if runs.exists() else {}


def test_two_at_a_time_with_one_thread_each_and_a_page_of_seconds(book: Path, capsys) -> None:
    runs = build(book)
    assert set(runs) == {"one", "two", "three"} and {threads for _, _, threads in runs.values()} == {"1"}
    side_by_side = [sum(a <= start < b for a, b, _ in runs.values()) for start, _, _ in runs.values()]
    assert max(side_by_side) == 2
    said = capsys.readouterr().out
    assert "one starts" in said and "3 to execute, 2 at a time" in said and "left" in said
    rows = BeautifulSoup((book / "_build/html/timings.html").read_text("utf-8"), "lxml").select("table.timings tr")
    cells = [[cell.get_text(strip=True) for cell in row.select("th, td")] for row in rows]
    assert cells[0] == ["Page", "Executed in"] and cells[4][0] == "Together"
    assert {cell[0] for cell in cells[1:4]} == {"One", "Two", "Three"}
    assert {row.select_one("a")["href"] for row in rows[1:4]} == {"one.html", "two.html", "three.html"}

    # Known seconds put the longest first, and what nothing changed is executed no more.
    assert build(book) == {}
    for name in ("one", "two", "three"):
        write(book, {f"{name}.md": (book / f"{name}.md").read_text("utf-8").replace("start = ", "start  = ")})
    again = build(book)
    assert max(again, key=lambda name: again[name][0]) == cells[3][0].lower()   # on a busy machine not "three"
    assert "3 to execute, 2 at a time: about" in capsys.readouterr().out


def test_a_failing_cell_fails_the_build_and_the_other_chapters_are_kept(book: Path) -> None:
    good = (book / "two.md").read_text("utf-8")
    write(book, {"two.md": chapter(RUN.format(name="two", seconds=0, then="print(undefined_name)"), "Two")})
    with pytest.raises(ChapterError, match=r"two\.md(.|\n)*NameError(.|\n)*undefined_name"):
        build(book)
    assert not (book / "_build/html/two.html").exists()
    write(book, {"two.md": good})
    assert set(build(book)) == {"two"}


def test_a_kernel_that_dies_is_named(book: Path) -> None:
    write(book, {"three.md": chapter("import os\nos._exit(1)", "Three")})
    with pytest.raises(ChapterError, match=r"three\.md(.|\n)*DeadKernelError"):
        build(book)


def test_time_left_counts_what_runs_and_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cache:
        def list_cache_records(self):
            return []

    progress = book_execution.Progress(["a", "b", "c"], Cache(), {"a": "a", "b": "b", "c": "c"})
    progress.known = {"a": 100, "b": 40}
    assert progress.expected("c") == 70 and progress.rest() == "2 min"   # 210 over two
    now = time.monotonic()
    progress.began["a"] = now - 90
    progress.left.remove("b")
    assert progress.rest() == "70 s"   # 10 + 70 over two, but the one of 70 cannot be shared
