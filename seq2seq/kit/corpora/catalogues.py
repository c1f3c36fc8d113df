"""Interface messages: what translators made of the English sentences in free software."""

import html
import re
import struct
from collections import Counter
from functools import lru_cache
from pathlib import Path

import polib

from seq2seq.kit.corpora.base import Example, MissingCorpus, Splits, Tokens, copied, damaged, package_folder, split

PLACEHOLDER = "{}"
_FOLDERS = {"fr": ("fr", "fr_FR"), "de": ("de", "de_DE"), "zh_Hans": ("zh_Hans", "zh_CN")}
_PACK = {"fr": "fr-FR", "de": "de-DE", "zh_Hans": "zh-CN"}
_INSTALL = {"django": "django==5.2.19", "oscar": "django-oscar==4.2.1", "trac": "Trac==1.6",
            "wagtail": "wagtail==8.0.1"}

# %(name)s  %s  %d  %1  {name}  {0:.2f}  ${name}  {{ name }}, but not the "% o" of "50% of"
_PLACEHOLDERS = re.compile(r"%(?:\(\w+\))?[-+#0]*\d*(?:\.\d+)?[a-zA-Z](?![a-zA-Z])|%\d+|\$?\{+[^{}]*\}+")
_HAN = "\u3400-\u9fff"
_TOKENS = re.compile(rf"\{{\}}|\.\.\.|(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu)'(?=\w)|[{_HAN}]"
                     rf"|[^\W{_HAN}]+(?:['-][^\W{_HAN}]+)*|[^\w\s]", re.IGNORECASE)


def tokenize(text: str) -> Tokens:
    """Words, punctuation marks and placeholders; a French elision ends its token ("l'", "d'", "qu'"), "don't" and
    "mot-clé" are one token, and each Chinese character is one. Markup goes, and every placeholder becomes "{}":
    tokenize("L'image <b>%(title)s</b> n’existe pas.") -> ("L'", "image", "{}", "n'", "existe", "pas", ".")
    """
    text = _PLACEHOLDERS.sub(f" {PLACEHOLDER} ", text.replace("%%", "%"))
    text = html.unescape(re.sub(r"<[^<>]*>", " ", text))
    return tuple(_TOKENS.findall(text.replace("’", "'").replace("…", "...")))


def template(tokens: Tokens) -> str:
    """What is left of a message without case, digits, punctuation and placeholders. Messages that share it are near-
    duplicates, and go to the same split: "Delete %d pages?" and "delete pages" are both "delete pages"."""
    words = (re.sub(r"[\W\d_]+", "", token.lower()) for token in tokens)
    return " ".join(word for word in words if word)


def messages(language: str = "fr", max_words: int = 20, lower: bool = True) -> Splits:
    """English interface messages of 3 to `max_words` words and their translations into "fr", "de" or "zh_Hans".

    Source: the compiled catalogues of Django, Wagtail, django-oscar, Trac and JupyterLab's language packs, found in
    the installed packages without importing them. `targets` holds the distinct translations of a source, the most
    frequent first. A pair is left out when it is not translated or its English has no letters, when the two sides have
    different numbers of placeholders, or when one has more than three times the tokens of the other. Split by
    `template`.
    Raises ValueError for another language or a smaller length, MissingCorpus or DamagedCorpus.
    """
    if max_words < 3:
        raise ValueError(f"max_words must be at least 3, the length of the shortest message kept, not {max_words}")
    if language not in _FOLDERS:
        raise ValueError(f"messages are there in {', '.join(_FOLDERS)}, not in {language!r}")
    return copied(_messages(language, max_words, lower))


@lru_cache(maxsize=4)
def _messages(language: str, max_words: int, lower: bool) -> Splits:
    pack = _PACK[language].replace("-", "_")
    packages = _INSTALL | {f"jupyterlab_language_pack_{pack}":
                           f"jupyterlab-language-pack-{_PACK[language]}==4.5.post3"}
    folders, missing = {}, []
    for package, pinned in packages.items():
        try:
            folders[package] = package_folder(package, pinned)
        except MissingCorpus:
            missing.append(package)
    if missing:
        raise MissingCorpus(f"Interface messages need {', '.join(missing)}, not installed here. "
                            f"Run: pip install --no-deps {' '.join(packages[package] for package in missing)}",
                            name=missing[0])
    translations: dict[Tokens, Counter[Tokens]] = {}
    for package, folder in folders.items():
        for english, other in _pairs(folder, language, packages[package]):
            source, target = (tokenize(text.lower() if lower else text) for text in (english, other))
            words = sum(token == PLACEHOLDER or any(map(str.isalnum, token)) for token in source)
            translated = target != source and template(source) and len(target) <= 3 * len(source) <= 9 * len(target)
            if translated and 3 <= words <= max_words and source.count(PLACEHOLDER) == target.count(PLACEHOLDER):
                translations.setdefault(source, Counter())[target] += 1
    return split((Example(source, tuple(target for target, _ in counted.most_common()))
                  for source, counted in translations.items()), key=lambda example: template(example.source))


def _pairs(folder: Path, language: str, install: str) -> list[tuple[str, str]]:
    """(English, translation) for each message of a package's catalogues, a plural as a second pair."""
    files = sorted(file for name in _FOLDERS[language] for file in folder.rglob(f"{name}/LC_MESSAGES/*.mo"))
    if not files:
        raise damaged(f"No catalogue for {language} in {folder}", f"--no-deps {install}")
    pairs = []
    for file in files:
        try:
            entries = polib.mofile(str(file))
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise damaged(f"{file} cannot be read: {error}", f"--no-deps {install}") from error
        for entry in entries:
            forms = entry.msgstr_plural
            pairs.append((entry.msgid, forms[0] if forms else entry.msgstr))
            if forms:
                pairs.append((entry.msgid_plural, forms.get(1, forms[0])))
    return pairs
