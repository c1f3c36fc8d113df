"""What each name of Python's code does where it stands, read off the standard library by its own `ast`."""

import ast
import io
import keyword
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from seq2seq.kit.corpora.base import Example, Splits, Tokens, copied, split

READ = ("asyncio", "email", "http", "json", "logging", "urllib", "xml")
NO_NAME = "-"                       # the label of what is no name
_LEFT_OUT = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)


def roles(packages: Tokens = READ, longest: int = 30) -> Splits:
    """Tagging code: ("x", "=", "f", "(", "y", ")") -> (("set", "-", "call", "-", "read", "-"),).

    Source: packages of the standard library of the Python that runs. An example is one logical line with 2 to `longest`
    tokens and at least two names, each line once. Strings are written ''…'' and numbers 0. A name is read, set, called,
    defined, imported, the parameter of a function, the keyword of a call or a field (after a dot, and not called); all
    else has the label NO_NAME. A file is in one split only. What comes out depends on the version of Python.
    """
    return copied(_roles(tuple(packages), longest))


@lru_cache(maxsize=2)
def _roles(packages: Tokens, longest: int) -> Splits:
    library, found = Path(sysconfig.get_path("stdlib")), {}
    for package in packages:
        paths = sorted((library / package).rglob("*.py"))
        if not paths:
            raise ValueError(f"the standard library at {library} has no package {package}; it has {', '.join(READ)}")
        for path in paths:
            for words, tags in lines_of(path.read_text(encoding="utf-8")):
                names = sum(tag != NO_NAME for tag in tags)
                if 2 <= len(words) <= longest and names >= 2 and words not in found:
                    found[words] = (path.relative_to(library).as_posix(), Example(words, (tags,)))
    file_of = {words: name for words, (name, _) in found.items()}
    return split((example for _, example in found.values()), key=lambda example: file_of[example.source])


def lines_of(text: str) -> Iterator[tuple[Tokens, Tokens]]:
    """The tokens and roles of each logical line of a file; none of a file with letters beyond ASCII.

    Lines with f-strings are left out: from Python 3.12 on they are tokens of their own.
    """
    if not text.isascii():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                   # about escapes in old strings
        role = roles_of(ast.parse(text))
    words, tags, before, whole = [], [], "", True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = token.type
        if kind == tokenize.NEWLINE:
            if whole and words:
                yield tuple(words), tuple(tags)
            words, tags, before, whole = [], [], "", True
        elif kind not in _LEFT_OUT:
            if kind == tokenize.STRING:
                whole = whole and "f" not in token.string.partition(token.string[-1])[0].lower()
            whole = whole and kind in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
            words.append({tokenize.STRING: "''", tokenize.NUMBER: "0"}.get(kind, token.string))
            is_name = kind == tokenize.NAME and not keyword.iskeyword(token.string)
            tag = "defined" if before in ("def", "class") else role.get(token.start, NO_NAME)
            tags.append(tag if is_name else NO_NAME)
            before = token.string


def roles_of(tree: ast.Module) -> dict[tuple[int, int], str]:
    """Where a name stands, as line and column -> what it does there."""
    found: dict[tuple[int, int], str] = {}

    def place(node: ast.expr) -> tuple[int, int]:
        back = len(node.attr) if isinstance(node, ast.Attribute) else node.end_col_offset - node.col_offset
        return node.end_lineno, node.end_col_offset - back

    for node in ast.walk(tree):                          # a call comes before what is called
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            found[place(node.func)] = "call"
        elif isinstance(node, ast.Name | ast.Attribute):
            stored = isinstance(node.ctx, ast.Store)
            found.setdefault(place(node), "set" if stored else "read" if isinstance(node, ast.Name) else "field")
        elif isinstance(node, ast.arg):
            found[node.lineno, node.col_offset] = "parameter"
        elif isinstance(node, ast.keyword) and node.arg:
            found[node.lineno, node.col_offset] = "keyword"
        elif isinstance(node, ast.alias):
            found[node.lineno, node.col_offset] = "imported"
    return found
