"""The tool that breaks the library: its breaks are Python, differ from what stands there, and leave messages alone."""

import ast

import mutants as tool  # tools/mutants.py
import pytest

ROOT = tool.ROOT

SOURCE = '''
from torch import Tensor


def mean(x: Tensor, padding: Tensor, size: int = 64) -> Tensor:
    """A mean of 3 rows."""
    if not padding.any() and size < 3:
        raise ValueError(f"{size + 1} is too few")
    total = x.masked_fill(padding[..., None], 0.0).sum(dim=1)    # a comment – of bytes
    return total / size
'''


def broken(mutant: tool.Mutant) -> str:
    text = mutant.path.read_bytes()
    return (text[: mutant.start] + mutant.text + text[mutant.end :]).decode()


def test_a_break_is_one_change_of_one_line(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(SOURCE)
    lines = SOURCE.splitlines()
    changed = set()
    for mutant in tool.mutants(path):
        [(before, after)] = [(a, b) for a, b in zip(lines, broken(mutant).splitlines(), strict=True) if a != b]
        assert lines[mutant.line - 1] == before
        changed.add(after.strip())
    assert changed == {
        "def mean(x: Tensor, padding: Tensor, size: int = 65) -> Tensor:",
        "if (not padding.any() or size < 3):", "if padding.any() and size < 3:",
        "if not padding.any() and (size <= 3):", "if not padding.any() and size < 4:", "return (total * size)",
        "total = x.sum(dim=1)    # a comment – of bytes",
        *(f"total = x.masked_fill(padding[..., None], 0.0).sum({axis})    # a comment – of bytes"
          for axis in ("", "dim=0", "dim=2")),
        "total = x.masked_fill(padding[..., None], 1.0).sum(dim=1)    # a comment – of bytes",
    }


def test_the_sizes_of_a_study_are_left_to_its_record(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text("def toy_study(steps: int = 9, seed: int = 0):\n    return train(steps, lr=8e-3, size=seed + 64)\n")
    changed = {broken(mutant).splitlines()[mutant.line - 1].strip() for mutant in tool.mutants(path)}
    assert changed == {"def toy_study(steps: int = 9, seed: int = 1):", "return train(steps, size=seed + 64)",
                       "return train(steps, lr=0.008)", "return train(steps, lr=8e-3, size=(seed - 64))"}


def test_every_break_of_the_library_is_python():
    for path in (ROOT / "seq2seq").rglob("*.py"):
        for mutant in tool.mutants(path):
            ast.parse(broken(mutant))


def test_one_function_can_be_chosen():
    path = ROOT / "seq2seq" / "kit" / "records.py"
    methods = tool.mutants(path, "Study.replay")
    assert methods and {mutant.function for mutant in methods} == {"Study.replay"}
    assert set(methods) < set(tool.mutants(path, "Study")) < set(tool.mutants(path))


class Contexts:
    """Which tests ran which line, as coverage tells it."""

    def contexts_by_lineno(self, file: str) -> dict[int, list[str]]:
        return {7: ["", "test_toy.test_slow", "test_toy.test_fast"], 8: ["test_toy.test_other"]}


def test_the_fastest_test_through_a_line_comes_first_and_none_is_left_out(tmp_path):
    seconds = {"t.py::test_slow": 2.0, "t.py::test_other": 0.1, "t.py::test_fast": 1.0}
    fast, slow, other = "t.py::test_fast", "t.py::test_slow", "t.py::test_other"
    assert tool.in_order(seconds, Contexts(), tmp_path, 7) == [fast, slow, other]
    assert tool.in_order(seconds, Contexts(), tmp_path, 8) == [other, fast, slow]
    assert tool.in_order(seconds, Contexts(), tmp_path, 9) == [other, fast, slow]


def test_breaks_that_change_nothing_promised_are_not_tried_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "seq2seq").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "seq2seq" / "toy.py").write_text("x = 1\ny = x < 3\n")
    (tmp_path / "tools" / "equivalent.txt").write_text("# why\ntoy: y = (x <= 3)\nother: x = 2\n")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["mutants", "toy", "--list"])
    tool.main()
    after = [line.strip(" +") for line in capsys.readouterr().out.splitlines() if line.startswith("  +")]
    assert after == ["x = 0", "x = 2", "y = x < 4"]


@pytest.mark.parametrize("module, tests", [
    ("rnn", "rnn"), ("kit/records", "records"), ("kit/claims", "kit"), ("kit/corpora/words", "corpora"),
    ("kit/corpora/grammar", "grammar"),
])
def test_a_module_is_tried_by_its_own_tests(module, tests):
    assert tool.tests_of(ROOT / "seq2seq" / f"{module}.py") == f"tests/test_{tests}.py"


@pytest.mark.parametrize("test, passed", [("assert toy.f() == 3", True), ("assert toy.f() == 4", False),
                                          ("while True: pass", False)])
def test_a_break_is_noticed_by_a_failure_or_by_taking_too_long(tmp_path, test, passed):
    (tmp_path / "toy.py").write_text("def f():\n    return 3\n")
    (tmp_path / "test_toy.py").write_text(f"import toy\n\ndef test_it():\n    {test}\n")
    assert tool.passes(tmp_path, ["test_toy.py"], limit=5 if "while" in test else 60) is passed
