"""Questions to docstrings: "what type is axis ?", asked of the section Parameters, which answers "int, optional"."""

import re
from functools import lru_cache
from typing import NamedTuple

from seq2seq.kit.corpora.base import Example, Splits, Tokens, copied, package_folder, split_of
from seq2seq.kit.corpora.installed import _MARKUP, RUN, _check_pins, _texts, words_of

ASKED = ("numpy", "scipy")
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*) ?: (\S.*)")
_HEADING = re.compile(r"[^\n]*\n\s*-{3}")


class Parameter(NamedTuple):
    """One entry of the section: its names, its type, and the first sentence of what is said about it, as tokens."""

    names: Tokens
    type: Tokens
    about: Tokens


def parameters_of(docstring: str, longest: int = 12) -> list[Parameter]:
    """The entries "name : type" of a docstring's section Parameters; of each description at most `longest` tokens."""
    _, found, section = docstring.partition("Parameters\n----------\n")
    if not found:
        return []
    lines, entries = section.split("\n"), []
    for i, line in enumerate(lines):
        if _HEADING.match("\n".join(lines[i : i + 2])):
            break
        if entry := _ENTRY.fullmatch(line.rstrip()):
            entries.append([entry[1], entry[2], ""])
        elif line.startswith(" ") and entries:
            entries[-1][2] += line.strip() + " "
        elif line.strip():
            entries.append(["", "", ""])                # an entry without a type, or prose: what follows is not ours
    return [Parameter(words_of(names.replace("*", "")), words_of(_plain(kind)), _first(about, longest))
            for names, kind, about in entries if names]


def _plain(text: str) -> str:
    return _MARKUP.sub(lambda found: found[1] or found[2] or "", text)


def _first(text: str, longest: int) -> Tokens:
    """The first sentence, or as much of it as fits, and a full stop."""
    tokens = words_of(_plain(text))
    end = next((i for i, token in enumerate(tokens) if token == "."), len(tokens))
    return (*tokens[: min(end, longest)], ".")


def spelled_out(entry: Parameter) -> Tokens:
    """An entry as one run of tokens: name, two points, type, description. Where the type ends is not marked."""
    return (*entry.names, ":", *entry.type, *entry.about)


def parameters(packages: tuple[str, ...] = ASKED, longest: int = 56, *, pinned: bool = False) -> Splits:
    """A question and some entries of a section Parameters -> the type of the parameter that is asked for.

    The source is "what type is NAME ?" and then as many neighbouring entries as fit into `longest` tokens; the target
    is a type of 1 to 8 tokens. Source: the docstrings in the Python files of installed packages, tests left out; their
    text depends on the packages' versions. Split by file; a question whose entry has `RUN` words in a row from an entry
    asked for in the test is not in `train` or `validation`, nor one of `validation` in `train`, and none is there
    twice. Raises MissingCorpus, if `pinned` also for versions not in `DOCUMENTED`, and ValueError for `longest` < 20.
    """
    if longest < 20:
        raise ValueError(f"a context of at most {longest} tokens holds no entry; take 20 or more")
    if pinned:
        _check_pins(packages)
    return copied(_parameters(tuple(packages), longest))


@lru_cache(maxsize=4)
def _parameters(packages: tuple[str, ...], longest: int) -> Splits:
    parts: dict[str, dict[Tokens, tuple[Tokens, Tokens]]] = {"test": {}, "validation": {}, "train": {}}
    for package in packages:
        folder = package_folder(package, package)
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if not {"test", "tests", "testing"} & {*name.parts}:
                part = parts[split_of(f"{package}/{name.as_posix()}")]
                for text in _texts(path):
                    for group in _groups(parameters_of(text), longest):
                        context = sum(map(spelled_out, group), ())
                        for entry in group:
                            for asked in (n for n in entry.names if n != ","):
                                source = ("what", "type", "is", asked, "?", *context)
                                if 1 <= len(entry.type) <= 8:
                                    part.setdefault(source, (entry.type, spelled_out(entry)))
    splits, told = Splits([], [], []), set()
    for name, part in parts.items():
        mine = {source: _runs(entry) for source, (_, entry) in part.items()}
        getattr(splits, name).extend(Example(source, (part[source][0],)) for source, runs in mine.items()
                                     if not told & runs)
        told |= set().union(*mine.values())
    return splits


def _groups(entries: list[Parameter], longest: int) -> list[list[Parameter]]:
    """Neighbouring entries, as many as fit; an entry that is too long alone is left out."""
    groups, size = [[]], 0
    for entry in entries:
        length = len(spelled_out(entry))
        if length > longest:
            continue
        if size + length > longest:
            groups, size = [*groups, []], 0
        groups[-1].append(entry)
        size += length
    return [group for group in groups if group]


def _runs(entry: Tokens) -> set[Tokens]:
    """Every `RUN` words in a row, or all of a shorter entry."""
    return {entry[i : i + RUN] for i in range(max(1, len(entry) - RUN + 1))}
