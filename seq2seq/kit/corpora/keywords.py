"""Keywords of emoji, by which people find them, with the drawings of OpenMoji."""

import gzip
import json
import re
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.kit.corpora.base import DamagedCorpus, Splits, Tokens, copied
from seq2seq.kit.corpora.pictures import combination, connected, draw, drawable, near

PATH = Path(__file__).with_name("keywords.json.gz")
AKIN = 0.1               # root mean square, of colours from 0 to 1: all clock faces are closer to the next one
HELD_OUT = 20            # of a hundred families as many for testing, and half as many for validation


class Emoji(NamedTuple):
    """One drawing and its keywords."""

    symbol: str
    pixels: np.ndarray       # (32, 32, 3) uint8, on white
    keywords: Tokens         # each once, in the order of the source


def keywords(least: int = 10) -> Splits:
    """Emoji with the keywords that `least` pictures of the training split or more have, each emoji with one or more.

    Source: emojilib 4.0.3 (MIT, © Mu-An Chiou), which comes with this package (tools/keywords.py collected it), and
    the drawings of `draw` (CC BY-SA 4.0). The 262 flags of countries and regions are left out: nearly all have the
    same four keywords. What is akin is in one split: one subject as man, woman, person or child, and all drawings that
    a chain of steps below `AKIN` joins, such as the 24 clock faces. A hash of a family's first emoji decides; since
    pictures are few, more is held out than by `split_of`. Raises ValueError for least below 1, MissingCorpus or
    DamagedCorpus.
    """
    if least < 1:
        raise ValueError(f"a keyword is some picture's: least={least} must be at least 1")
    return copied(_keywords(least))


@lru_cache(maxsize=2)
def _keywords(least: int) -> Splits:
    splits = _every()
    count = Counter(word for emoji in splits.train for word in emoji.keywords)
    kept = ([e._replace(keywords=tuple(word for word in e.keywords if count[word] >= least)) for e in part]
            for part in splits)  # fmt: skip
    return Splits(*([e for e in part if e.keywords] for part in kept))


@lru_cache(maxsize=1)
def _every() -> Splits:
    """All emoji but flags, with all their keywords."""
    try:
        listed = json.loads(gzip.decompress(PATH.read_bytes()))
        corpus = {symbol: tuple(dict.fromkeys(words)) for symbol, words in listed.items() if not is_flag(symbol)}
    except (OSError, EOFError, ValueError, AttributeError, zlib.error) as error:
        raise DamagedCorpus(f"{PATH} is missing or damaged; install the book again ({error})") from error
    drawn = draw([drawable(symbol) for symbol in corpus])
    splits, first = Splits([], [], []), {}
    subjects = [first.setdefault(subject(symbol), i) for i, symbol in enumerate(corpus)]
    family = connected(len(corpus), [*near(np.stack(drawn), AKIN), *zip(subjects, range(len(corpus)), strict=True)])
    head = {}            # family -> its first emoji
    for (symbol, words), pixels, of in zip(corpus.items(), drawn, family, strict=True):
        getattr(splits, part_of(head.setdefault(of, symbol))).append(Emoji(symbol, pixels, words))
    return splits


def is_flag(symbol: str) -> bool:
    """Whether it is the flag of a country or region: two letters, or a black flag with a region's name."""
    return bool(re.match("[\U0001f1e6-\U0001f1ff]", symbol)) or "\U000e007f" in symbol


def subject(symbol: str) -> str:
    """What is drawn, whoever it is: man, woman and person, and boy, girl and child, are one, as are all skin tones."""
    return re.sub("[\U0001f466\U0001f467]", "\U0001f9d2", combination(symbol)[0])


def part_of(symbol: str) -> str:
    """The split of a family with this first emoji."""
    bucket = zlib.crc32(symbol.encode()) % 100
    return "test" if bucket < HELD_OUT else "validation" if bucket < 1.5 * HELD_OUT else "train"
