"""Corpora read where they lie, in packages that the book does not put on a reader's machine for their text: codespell's
dictionary of misspellings, and docstrings. Nothing of them is copied into the book."""

import ast
import re
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from seq2seq.kit.corpora.base import Example, MissingCorpus, Splits, Tokens, copied, damaged, package_folder, split
from seq2seq.kit.corpora.catalogues import template

CODESPELL = "codespell==2.4.3"
DOCUMENTED = {"numpy": "2.4.6", "scipy": "1.17.1", "pandas": "3.1.1", "matplotlib": "3.11.2", "torch": "2.14.1"}
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
    for package in packages if pinned else ():
        package_folder(package, package)
        if (found := version(package).partition("+")[0]) != DOCUMENTED[package]:
            raise MissingCorpus(f"The docstrings on record are of {package} {DOCUMENTED[package]}, not of {found}. "
                                f"Run: pip install {package}=={DOCUMENTED[package]}", name=package)
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
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:                                            # a template, or for another Python
        return []
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    parts = (re.split(r"\n\s*\n", text) for text in texts if text)
    return [(words_of(part[0]), words_of(part[1])) for part in parts if len(part) > 1]


def _is_prose(tokens: Tokens) -> bool:
    """At least half of the tokens have letters, and none belongs to a table, a prompt or a list of parameters."""
    letters = sum(any(map(str.isalpha, token)) for token in tokens)
    return 2 * letters >= len(tokens) and ">" not in tokens and tokens.count("-") < 3
