"""Interface messages: what translators made of the English sentences in free software."""

import gzip
import html
import json
import re
import unicodedata
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path

from seq2seq.kit.corpora.base import DamagedCorpus, Example, Splits, Tokens, copied, split

PLACEHOLDER = "{}"
LANGUAGES = ("fr", "de", "zh_Hans")

# %(name)s  %s  %d  %1  {name}  {0:.2f}  ${name}  {{ name }}, but not the "% o" of "50% of"
_PLACEHOLDERS = re.compile(r"%(?:\(\w+\))?[-+#0]*\d*(?:\.\d+)?[a-zA-Z](?![a-zA-Z])|%\d+|\$?\{+[^{}]*\}+")
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTERS = rf"[^\W{_HAN}](?:[^\W{_HAN}]|[\u0300-\u036f])*"          # with accents that no single letter carries
_TOKENS = re.compile(rf"\{{\}}|\.\.\.|(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu)'(?=\s*\w)|[{_HAN}]"
                     rf"|{_LETTERS}(?:['-]{_LETTERS})*|[^\w\s]", re.IGNORECASE)
# Apostrophes are one character, no-break spaces are spaces, and what takes no room goes.
_PLAIN = str.maketrans({"’": "'", "ʼ": "'", "＇": "'", "…": "...", "\xa0": " ", "\u202f": " ", "\u2011": "-",
                        "\xad": None, "\u200b": None, "\u2060": None, "\ufeff": None})


def tokenize(text: str) -> Tokens:
    """Words, punctuation marks and placeholders; a French elision ends its token ("l'", "d'", "qu'"), "don't" and
    "mot-clé" are one token, and each Chinese character is one. Markup goes, and every placeholder becomes "{}":
    tokenize("L'image <b>%(title)s</b> n’existe pas.") -> ("L'", "image", "{}", "n'", "existe", "pas", ".")
    """
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    text = _PLACEHOLDERS.sub(f" {PLACEHOLDER} ", text.replace("%%", "%"))
    text = html.unescape(re.sub(r"<[^<>]*>", " ", text))
    return tuple(_TOKENS.findall(text.translate(_PLAIN)))


def template(tokens: Tokens) -> str:
    """What is left of a message without case, digits, punctuation and placeholders. Messages that share it are near-
    duplicates, and go to the same split: "Delete %d pages?" and "delete pages" are both "delete pages"."""
    if isinstance(tokens, str):
        raise TypeError(f"a template is made of tokens, not of the text {tokens!r}; tokenize it first")
    words = (re.sub(r"[\W\d_]+", "", token.lower()) for token in tokens)
    return " ".join(word for word in words if word)


def messages(language: str = "fr", max_words: int = 20, lower: bool = True) -> Splits:
    """English interface messages of 3 to `max_words` words and their translations into "fr", "de" or "zh_Hans".

    Source: the catalogues of Django 5.2.19, Wagtail 8.0.1, django-oscar 4.2.1, Trac 1.6 and JupyterLab's language
    packs 4.5.post3, which come with this package (tools/catalogues.py collected them). `targets` holds the distinct
    translations of a source, the most frequent first. A pair is left out when it is not translated or its English has
    no letters, when the two sides have different numbers of placeholders, or when one has more than three times the
    tokens of the other. Split by `template`.
    Raises ValueError for another language or a smaller length, DamagedCorpus for a file that is not whole.
    """
    if not max_words >= 3:    # nor NaN
        raise ValueError(f"max_words must be at least 3, the length of the shortest message kept, not {max_words}")
    if language not in LANGUAGES:
        raise ValueError(f"messages are there in {', '.join(LANGUAGES)}, not in {language!r}")
    return copied(_messages(language, max_words, lower))


@lru_cache(maxsize=4)
def _messages(language: str, max_words: int, lower: bool) -> Splits:
    translations: dict[Tokens, Counter[Tokens]] = {}
    for package in _catalogues(language).values():
        for english, other in package:
            source, target = (tokenize(text.lower() if lower else text) for text in (english, other))
            words = sum(token == PLACEHOLDER or any(map(str.isalnum, token)) for token in source)
            translated = target != source and template(source) and len(target) <= 3 * len(source) <= 9 * len(target)
            if translated and 3 <= words <= max_words and source.count(PLACEHOLDER) == target.count(PLACEHOLDER):
                translations.setdefault(source, Counter())[target] += 1
    return split((Example(source, tuple(target for target, _ in counted.most_common()))
                  for source, counted in translations.items()), key=lambda example: template(example.source))


def path_of(language: str) -> Path:
    """The file that holds the messages of one language."""
    return Path(__file__).with_name(f"messages-{language}.json.gz")


def _catalogues(language: str) -> dict[str, list[tuple[str, str]]]:
    """Package and version -> its (English, translation) pairs; a message with a plural has two."""
    path = path_of(language)
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DamagedCorpus(f"{path} is missing or damaged; install the book again ({error})") from error
