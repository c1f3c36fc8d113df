"""Write the corpus of prose from Python's own documentation (run only for a new version; CPython 3.11.7's is kept).

The prose of `pydoc_data.topics` and of the standard library's docstrings is written, without what is no sentence, to
`seq2seq/kit/corpora/prose.json.gz`, and Python's licence beside it. Every version of Python has another text, and
so the book keeps one: every reader of a release has the same.
"""

import ast
import gzip
import json
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from seq2seq.kit.corpora.prose import PATH

LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "lib2to3", "turtledemo"}
WORD = re.compile(r"[(\"'`*]*[A-Za-z'’-]+[.,;:?!)\"'`*]*")


def docstrings(library: Path) -> Iterator[str]:
    """Every docstring below a folder, in the order of its files."""
    for path in sorted(library.rglob("*.py")):
        if not LEFT_OUT & set(path.relative_to(library).parts):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield ast.get_docstring(node) or ""


def sentences(text: str) -> list[str]:
    """The paragraphs that are English sentences: no signatures, tables or code."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [p for p in paragraphs if len(p.split()) >= 6 and p[0].isupper() and p[-1] == "."
            and not re.search(r">>>|__|\||=|->", p)
            and sum(bool(WORD.fullmatch(word)) for word in p.split()) > 0.85 * len(p.split())]


def main() -> None:
    library, seen, corpus = Path(sysconfig.get_path("stdlib")), set(), []
    for text in [*topics.values(), *docstrings(library)]:
        paragraphs = [p for p in dict.fromkeys(sentences(text)) if p not in seen]
        seen |= set(paragraphs)
        if paragraphs:
            corpus.append(paragraphs)
    PATH.write_bytes(gzip.compress(json.dumps(corpus, ensure_ascii=False).encode(), mtime=0))
    PATH.with_name("prose-LICENSE.txt").write_text((library / "LICENSE.txt").read_text("utf-8"), "utf-8")
    print(f"{len(corpus):,} documents, {sum(map(len, corpus)):,} paragraphs, {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
