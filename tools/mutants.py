"""Break the library one line at a time and see which breaks no test notices (`make mutants`).

Each mutant is one small change of a module of `seq2seq`: a comparison turned, a constant one higher, a keyword
argument, a call or a mask left out, an axis swapped, `and` for `or`. It is written to a scratch copy of the book, where
the module's own tests run until the first failure: those first that pass through the line, the fastest of them first. A
mutant that no test notices survives and is printed as a diff. Some survivors change nothing that is promised (a line's
width): where one stays after a look at it, its line after the change goes into `tools/equivalent.txt`, and it is not
tried again. Every other one is a test to write.

    python tools/mutants.py rnn --sample 40
    python tools/mutants.py kit/records --function replay
"""

import argparse
import ast
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import coverage

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "_build", "node_modules", "__pycache__", ".pytest_cache")

COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
               ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
              ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Pow: ast.Mult}
# x.masked_fill(…) becomes x, and turned(x, …) becomes x
METHODS = {"clamp", "clone", "cpu", "detach", "double", "expand", "float", "half", "lower", "lstrip", "masked_fill",
           "removeprefix", "removesuffix", "replace", "rstrip", "sort", "strip", "tanh", "to", "transpose", "tril"}
FUNCTIONS = {"abs", "dropout", "log_softmax", "relu", "reversed", "set", "sigmoid", "softmax", "sorted", "turned"}


class Mutant(NamedTuple):
    """One change: bytes `start` to `end` of a file become `text`."""

    path: Path
    line: int
    function: str
    start: int
    end: int
    text: bytes


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may be changed into, one thing at a time."""

    def new(change) -> ast.AST:
        other = deepcopy(node)
        change(other)
        return other

    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                yield new(lambda n, i=i, o=operator: n.ops.__setitem__(i, COMPARISONS[type(o)]()))
        case ast.BoolOp():
            yield new(lambda n: setattr(n, "op", ast.Or() if isinstance(n.op, ast.And) else ast.And()))
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            yield new(lambda n: setattr(n, "op", ARITHMETIC[type(operator)]()))
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(number + 1)
            if number in (1, 2):
                yield ast.Constant(number - 1)
        case ast.IfExp():
            yield new(lambda n: (setattr(n, "body", node.orelse), setattr(n, "orelse", node.body)))
        case ast.Call():
            for i, keyword in enumerate(node.keywords):
                if keyword.arg != "strict":    # left out it is False, which comes by itself
                    yield new(lambda n, i=i: n.keywords.pop(i))
            match node.func:
                case ast.Attribute(attr=name, value=ast.Name("self" | "torch" | "F")) | ast.Name(name):
                    if name in FUNCTIONS and node.args:
                        yield node.args[0]
                case ast.Attribute(attr=name, value=value) if name in METHODS:
                    yield value
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield new(lambda n: setattr(n, "op", ARITHMETIC[type(operator)]()))


def ignored(node: ast.AST, where: str) -> bool:
    """What no test should have to notice: imports, annotations, messages, lists of names.

    Nor a study's sizes and rates: its record goes stale when one changes.
    """
    listed = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    setting = where.endswith("_study") and isinstance(node, ast.Constant) and node.value not in (0, 1, 2)
    return listed or setting or isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Raise)


def mutants(path: Path, function: str = "") -> list[Mutant]:
    """Every mutant of a file, or of those of its functions and classes that are called `function`."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []

    def add(node: ast.AST, text: str, where: str, inner: bool = True) -> None:
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        if not function or f".{function}." in f".{where}.":
            found.append(Mutant(path, node.lineno, where, start, end, (f"({text})" if inner else text).encode()))

    def visit(node: ast.AST, where: str) -> None:
        if ignored(node, where):
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".lstrip(".")
        for decorator in getattr(node, "decorator_list", []):
            if "no_grad" in ast.unparse(decorator):
                add(decorator, "(lambda f: f)", where, inner=False)
        if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            add(node.test, f"not {ast.unparse(node.test)}", where)
        if isinstance(node, ast.comprehension) and node.ifs:
            add(node.ifs[0], "True", where)
        else:
            for other in changes(node):    # parenthesised, so that what stands around it binds as before
                simple = isinstance(other, ast.Constant | ast.Name | ast.Attribute | ast.Call | ast.stmt)
                add(node, ast.unparse(other), where, inner=not simple)
        for name, child in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list", "bases", "ctx", "keywords"):
                for part in child if isinstance(child, list) else [child]:
                    if isinstance(part, ast.AST):
                        visit(part, where)
            if name == "keywords" and isinstance(node, ast.Call):
                for keyword in child:
                    visit(keyword.value, where)

    visit(ast.parse(source), "")
    return sorted(set(found), key=lambda mutant: (mutant.line, mutant.start, mutant.text))


def tests_of(path: Path) -> str:
    """The tests of a module: those of its name (if they are of the library, not of a tool), or else the kit's."""
    for name in (path.stem, path.parent.name):
        tests = ROOT / "tests" / f"test_{name}.py"
        if tests.exists() and re.search(r"^from seq2seq\.", tests.read_text("utf-8"), re.MULTILINE):
            return f"tests/test_{name}.py"
    return "tests/test_kit.py"


class Seconds(Counter):
    """How long each test took, as a plugin of pytest; the cases of one function count together."""

    def pytest_runtest_logreport(self, report) -> None:
        self[report.nodeid.partition("[")[0]] += report.duration


def passes(scratch: Path, tests: list[str], limit: float, lines: Path | None = None) -> bool:
    """Whether the tests pass in the scratch copy; too slow counts as failing. Runs in a child with torch loaded.

    lines: a file in which to note which test passes through which line; `lines` with .json holds how long each took.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(scratch)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.path.insert(0, str(scratch))
        os.environ["PYTHONPATH"] = str(scratch)
        code = 1
        try:
            import pytest

            cover = coverage.Coverage(data_file=lines, source=["seq2seq"], config_file=False)
            cover.set_option("run:dynamic_context", "test_function")
            seconds = Seconds()
            with cover.collect() if lines else nullcontext():
                code = pytest.main(["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests], [seconds])
            if lines:
                cover.save()
                lines.with_suffix(".json").write_text(json.dumps(seconds))
        finally:
            os._exit(int(code))
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return False


def in_order(seconds: dict[str, float], data: coverage.CoverageData, file: Path, line: int) -> list[str]:
    """The tests, those first that ran a line of a file; of each kind the fastest first."""
    ran = {context.rpartition(".")[2] for context in data.contexts_by_lineno(str(file)).get(line, [])}
    return sorted(seconds, key=lambda test: (test.rpartition("::")[2] not in ran, seconds[test]))


def before_and_after(mutant: Mutant) -> tuple[str, str]:
    """The lines that a mutant changes, as one line each."""
    source = mutant.path.read_bytes()
    first = source.rfind(b"\n", 0, mutant.start) + 1
    last = source.find(b"\n", mutant.end)
    before, after = source[first:last], source[first : mutant.start] + mutant.text + source[mutant.end : last]
    return " ".join(before.decode().split()), " ".join(after.decode().split())


def diff(mutant: Mutant) -> str:
    before, after = before_and_after(mutant)
    return f"{mutant.path.relative_to(ROOT)}:{mutant.line}\n  - {before}\n  + {after}"


def equivalent() -> set[tuple[str, str]]:
    """Module and line after the change of the mutants that change nothing promised, from `tools/equivalent.txt`."""
    lines = (ROOT / "tools" / "equivalent.txt").read_text("utf-8").splitlines()
    return {tuple(line.split(": ", 1)) for line in lines if line and not line.startswith("#")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules such as rnn or kit/records; all of them if none is named")
    parser.add_argument("--function", default="", help="only this function, class or method, such as Vocab.encode")
    parser.add_argument("--sample", type=int, help="that many mutants, drawn at random (seed 0), instead of all")
    parser.add_argument("--tests", nargs="+", help="test files to use instead of the module's own")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args()
    library = ROOT / "seq2seq"
    paths = [library / f"{name}.py" for name in options.modules] or sorted(
        path for path in library.rglob("*.py") if path.name != "__init__.py")
    known = equivalent()
    chosen = [mutant for path in paths for mutant in mutants(path, options.function)
              if (path.relative_to(library).with_suffix("").as_posix(), before_and_after(mutant)[1]) not in known]
    if options.sample and options.sample < len(chosen):
        chosen = sorted(random.Random(0).sample(chosen, options.sample))
    if options.list or not chosen:
        print(*map(diff, chosen), f"{len(chosen)} mutants", sep="\n")
        return

    sys.dont_write_bytecode = True    # two files of one second and one length would share their bytecode
    for name in ("torch", "matplotlib.pyplot", "IPython.display", "sacrebleu", "safetensors.torch"):
        importlib.import_module(name)    # once: every child starts with it

    survivors, limits, data, seconds = [], {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "book"
        shutil.copytree(ROOT, scratch, ignore=LEFT_OUT)
        for number, mutant in enumerate(chosen, 1):
            tests = options.tests or [tests_of(mutant.path)]
            file, source = scratch / mutant.path.relative_to(ROOT), mutant.path.read_bytes()
            if mutant.path not in limits:
                start, lines = time.monotonic(), Path(folder, mutant.path.name + ".lines")
                if not passes(scratch, tests, 600, lines):
                    raise SystemExit(f"{' '.join(tests)} fails before anything is changed")
                limits[mutant.path] = 10 + 2 * (time.monotonic() - start)
                data[mutant.path] = coverage.CoverageData(lines)
                data[mutant.path].read()
                seconds[mutant.path] = json.loads(lines.with_suffix(".json").read_text())
            file.write_bytes(source[: mutant.start] + mutant.text + source[mutant.end :])
            ordered = in_order(seconds[mutant.path], data[mutant.path], file.resolve(), mutant.line)
            if passes(scratch, ordered, limits[mutant.path]):
                survivors.append(mutant)
                print(f"{number} of {len(chosen)} survives: {diff(mutant)}", flush=True)
            file.write_bytes(source)
    killed = len(chosen) - len(survivors)
    print(f"{killed} of {len(chosen)} mutants killed: {100 * killed / len(chosen):.0f} %")


if __name__ == "__main__":
    main()
