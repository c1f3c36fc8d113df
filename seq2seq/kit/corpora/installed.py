"""Corpora read where they lie, in packages that the book does not put on a reader's machine for their text: codespell's
dictionary of misspellings, and docstrings. Nothing of them is copied into the book."""

import ast
import inspect
import re
import zlib
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

from seq2seq.kit.corpora.base import (
    Example,
    MissingCorpus,
    Splits,
    Tokens,
    copied,
    damaged,
    package_folder,
    split,
    split_of,
)
from seq2seq.kit.corpora.catalogues import template

CODESPELL = "codespell==2.4.3"
DOCUMENTED = {"numpy": "2.4.6", "scipy": "1.17.1", "pandas": "3.1.1", "matplotlib": "3.11.2", "torch": "2.14.1"}
SUMMARISED = ("numpy", "scipy", "pandas", "matplotlib")
RUN = 8    # words in a row that no two splits of `summaries` share
_WORDS = re.compile(r"[^\W\d]\w*(?:\.\w+)*|\d+(?:\.\d+)*|[^\w\s]")


def misspellings() -> Splits:
    """How words are misspelled -> how they are spelled, letter by letter: ("t", "e", "h") -> ("t", "h", "e").

    Source: dictionary.txt of the package codespell 2.4.3, whose 58,916 entries with one correction are all kept. Split
    by the correction, so that no right word is in two splits. Raises MissingCorpus or DamagedCorpus.
    """
    return copied(_misspellings())


@lru_cache(maxsize=1)
def _misspellings() -> Splits:
    path = package_folder("codespell_lib", CODESPELL) / "data" / "dictionary.txt"
    if not path.is_file():
        raise damaged(f"{path} is not there", CODESPELL)
    pairs: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        wrong, arrow, right = line.partition("->")
        if not (wrong and arrow and right):
            raise damaged(f"{path}, line {number}: {line!r:.40} is not wrong->right", CODESPELL)
        if "," not in right:                                       # several corrections, or a remark
            pairs[wrong] = right
    if not pairs:
        raise damaged(f"{path} is empty", CODESPELL)
    return split((Example(tuple(wrong), (tuple(right),)) for wrong, right in pairs.items()),
                 key=lambda example: "".join(example.target))


def words_of(text: str) -> Tokens:
    """Words, dotted names, numbers and marks, in small letters: words_of("Calls `np.sum`.") -> ("calls", "`", …)."""
    return tuple(_WORDS.findall(text.lower()))


def docstrings(packages: tuple[str, ...] = tuple(DOCUMENTED), longest: int = 60, *, pinned: bool = False) -> Splits:
    """What a function does at some length -> in one line: the second paragraph of its docstring, and the first.

    Source: the docstrings in the Python files of installed packages, the tests among them left out; their text depends
    on the packages' versions. A pair has 12 to `longest` tokens and 3 to 16, at least half of both with letters, each
    body once. Split by `template` of the line. Raises MissingCorpus, if `pinned` also for versions not in `DOCUMENTED`.
    """
    if pinned:
        _check_pins(packages)
    return copied(_docstrings(tuple(packages), longest))


@lru_cache(maxsize=4)
def _docstrings(packages: tuple[str, ...], longest: int) -> Splits:
    found: dict[Tokens, Tokens] = {}
    for package in packages:
        folder = package_folder(package, package)
        for path in sorted(folder.rglob("*.py")):
            if not {"test", "tests", "testing"} & {*path.relative_to(folder).parts}:
                for line, body in _first_two(path):
                    if 3 <= len(line) <= 16 and 12 <= len(body) <= longest and _is_prose(line) and _is_prose(body):
                        found.setdefault(body, line)
    return split((Example(body, (line,)) for body, line in found.items()),
                 key=lambda example: template(example.target))


def _first_two(path: Path) -> list[tuple[Tokens, Tokens]]:
    """The first two paragraphs of each docstring in a file, as tokens, where there are two."""
    parts = (re.split(r"\n\s*\n", text) for text in _texts(path))
    return [(words_of(part[0]), words_of(part[1])) for part in parts if len(part) > 1]


@cache
def _texts(path: Path) -> list[str]:
    """The docstrings of a file's functions and classes, read once for all corpora."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:                                            # a template, or for another Python
        return []
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return [text for text in texts if text]


def _check_pins(packages: tuple[str, ...]) -> None:
    for package in packages:
        package_folder(package, package)
        if (found := version(package).partition("+")[0]) != DOCUMENTED[package]:
            raise MissingCorpus(f"The docstrings on record are of {package} {DOCUMENTED[package]}, not of {found}. "
                                f"Run: pip install {package}=={DOCUMENTED[package]}", name=package)


def _is_prose(tokens: Tokens) -> bool:
    """At least half of the tokens have letters, and none belongs to a table, a prompt or a list of parameters."""
    letters = sum(any(map(str.isalpha, token)) for token in tokens)
    return 2 * letters >= len(tokens) and ">" not in tokens and tokens.count("-") < 3


# What is markup in a docstring: a role (its text stays), backquotes, a footnote; and two points that end no sentence.
_MARKUP = re.compile(r":[\w:]+:`[~!.]*([^`<]*)[^`]*`|`+(?:[~!.]+(?=\w))?|\s*\[\w+\]_|\b(e\.g|i\.e)\.")
# How a paragraph begins that is no prose: a heading with a line below it, a list, a prompt, a field, a named section.
_SECTION = re.compile(
    r"[^\n]*\n\s*[-=~^]{3}|\s*(?:[:|@*+-]|>>>|\.\.|\d+[.)] |(?:args|arguments|parameters|returns?|raises|yields"
    r"|examples?|notes?|see also|references|attributes|keyword arguments)\s*:+?\s*(?:\n|$))", re.IGNORECASE)


def line_and_body(docstring: str, longest: int = 60) -> tuple[Tokens, Tokens]:
    """A docstring's first paragraph, and the prose after it up to its first section, as tokens without markup.

    The body has the whole sentences that end within `longest` tokens, or as much of the first. A paragraph without a
    full stop gets one. Raises ValueError for `longest` below 1.
    """
    if longest < 1:
        raise ValueError(f"a body of at most {longest} tokens is none")
    line, *rest = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    body: Tokens = ()
    for paragraph in rest:
        tokens = () if _SECTION.match(paragraph) else _prose(paragraph)
        if not tokens or not _is_prose(tokens):
            break
        body += tokens if tokens[-1] in ".!?" else (*tokens[:-1], ".") if tokens[-1] == ":" else (*tokens, ".")
    ends = [i for i, token in enumerate(body[:longest], 1) if token in ".!?"]
    return _prose(line), body[: ends[-1] if ends else longest]


def _prose(text: str) -> Tokens:
    return words_of(_MARKUP.sub(lambda found: found[1] or found[2] or "", text))


def summaries(packages: tuple[str, ...] = SUMMARISED, longest: int = 60, *, pinned: bool = False) -> Splits:
    """What a docstring says after its first line -> its first line, as `line_and_body` reads them.

    Source: as for `docstrings`. A pair has 12 to `longest` tokens and 3 to 16, at least half of both with letters, each
    body once. Split by file, and near-duplicates are left out: no text of `train` has its line, or `RUN` words in a
    row, from the other splits, nor one of `validation` from `test`. Raises MissingCorpus, if `pinned` also for versions
    not in `DOCUMENTED`.
    """
    if pinned:
        _check_pins(packages)
    return copied(_summaries(tuple(packages), longest))


@lru_cache(maxsize=4)
def _summaries(packages: tuple[str, ...], longest: int) -> Splits:
    found: dict[Tokens, tuple[Tokens, str]] = {}
    for package in packages:
        folder = package_folder(package, package)
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if not {"test", "tests", "testing"} & {*name.parts}:
                for line, body in (line_and_body(text, longest) for text in _texts(path)):
                    if 3 <= len(line) <= 16 and len(body) >= 12 and _is_prose(line) and _is_prose(body):
                        found.setdefault(body, (line, f"{package}/{name.as_posix()}"))
    splits, told = Splits([], [], []), set()
    for part in ("test", "validation", "train"):
        mine = [Example(body, (line,)) for body, (line, name) in found.items() if split_of(name) == part]
        getattr(splits, part).extend(e for e in mine if not told & marks(e))
        told |= {mark for e in mine for mark in marks(e)}
    return splits


def marks(example: Example, run: int = RUN) -> set:
    """What a near-duplicate of this example would share: its line without marks, and every `run` words in a row."""
    texts = (template(text).split() for text in (example.source, example.target))
    grams = {tuple(words[i : i + run]) for words in texts for i in range(len(words) - run + 1)}
    return grams | {template(example.target)}


def signatures(packages: tuple[str, ...] = SUMMARISED, longest: int = 24, *, pinned: bool = False) -> Splits:
    """What a function is called and does -> its parameters, in the order of its signature.

    ("nan", "to", "num", ":", "replace", …) -> ("x", "copy", …): the words of the name, a colon, and its docstring's
    first paragraph without markup, of 3 to `longest` tokens. Source: public functions and methods with a
    docstring in the Python files of installed packages, without their tests; `self` and `cls` do not count. Each pair
    once. Functions whose names have the same letters are in one split (15 % of the names test, 10 % validation), and no
    first paragraph of `train` is in the other splits, nor one of `validation` in `test`. Raises MissingCorpus, if
    `pinned` also for versions not in `DOCUMENTED`.
    """
    if pinned:
        _check_pins(packages)
    return copied(_signatures(tuple(packages), longest))


@lru_cache(maxsize=2)
def _signatures(packages: tuple[str, ...], longest: int) -> Splits:
    found: dict[tuple[str, Tokens, Tokens], None] = {}
    for package in packages:
        folder = package_folder(package, package)
        for path in sorted(folder.rglob("*.py")):
            if not {"test", "tests", "testing"} & {*path.relative_to(folder).parts}:
                for name, line, parameters in _called(path):
                    if 3 <= len(line) <= longest and parameters:
                        found.setdefault((name, line, parameters))
    splits, told = Splits([], [], []), set()
    for part in ("test", "validation", "train"):
        mine = [call for call in found if _split_of_name(call[0]) == part and template(call[1]) not in told]
        told |= {template(line) for _, line, _ in mine}
        getattr(splits, part).extend(Example((*_name_words(name), ":", *line), (names,)) for name, line, names in mine)
    return splits


def _called(path: Path) -> list[tuple[str, Tokens, Tokens]]:
    """Name, first paragraph and parameters of a file's public functions and methods that have a docstring."""
    try:
        pending = list(ast.parse(path.read_text(encoding="utf-8", errors="replace")).body)
    except SyntaxError:
        return []
    found = []
    for node in pending:
        if isinstance(node, ast.ClassDef):
            pending += node.body
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        if text := ast.get_docstring(node):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = tuple(each.arg for each in given if each.arg not in ("self", "cls"))
            found.append((node.name, _prose(re.split(r"\n\s*\n", text)[0]), names))
    return found


def _name_words(name: str) -> Tokens:
    """"nan_to_num" -> ("nan", "to", "num")."""
    return tuple(word for word in name.lower().split("_") if word)


def _split_of_name(name: str) -> str:
    """The split of a function's name: by its letters alone, so that `log2` goes with `log`."""
    bucket = zlib.crc32("".join(filter(str.isalpha, name.lower())).encode()) % 100
    return "test" if bucket < 15 else "validation" if bucket < 25 else "train"
