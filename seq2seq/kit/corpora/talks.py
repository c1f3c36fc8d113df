"""Talks, English and Chinese: the one corpus of the book that has to be downloaded. No chapter needs it."""

import hashlib
import os
import zipfile
from collections import Counter
from pathlib import Path

from seq2seq.kit.corpora.base import DamagedCorpus, Example, MissingCorpus, Splits, Tokens, split
from seq2seq.kit.corpora.catalogues import tokenize

URL = "https://object.pouta.csc.fi/OPUS-TED2020/v1/moses/en-zh_cn.txt.zip"
# As others have published it, who fetched the same file: it was not fetched where this was written.
SHA256 = "f1a4e205458d67318d1eee31121c5350b3748caa2bca654a6b52a4a69e8d6202"
NAMES = ("TED2020.en-zh_cn.en", "TED2020.en-zh_cn.zh_cn")
LONGEST = 100   # tokens of one side


def talks(folder: str | os.PathLike | None = None, sha256: str = SHA256) -> Splits:
    """Sentences of subtitles of TED talks, in English words and Chinese characters: TED2020 v1 (Reimers and Gurevych,
    2020), from OPUS. Its licence is CC BY-NC-ND 4.0: to learn from, neither to sell nor to pass on changed.

    folder: where the file is, or is put when it is downloaded; the environment variable SEQ2SEQ_DATA, or
    ~/.cache/seq2seq-book, if it is not given. `targets` holds the distinct translations of a sentence. A pair is left
    out when one side is empty, longer than 100 tokens, or three times as long as the other and more.
    Raises MissingCorpus where there is no connection, DamagedCorpus for a file with another checksum or content.
    """
    folder = Path(folder or os.environ.get("SEQ2SEQ_DATA") or "~/.cache/seq2seq-book").expanduser()
    path = folder / URL.rpartition("/")[2]
    if not path.exists():
        download(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DamagedCorpus(f"{path} is not the file that this book reads: its SHA-256 is {found}, not {sha256}. "
                            f"Delete it, and it is downloaded again from {URL}")
    try:
        with zipfile.ZipFile(path) as archive:
            english, chinese = (archive.read(name).decode("utf-8").splitlines() for name in NAMES)
    except (KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise DamagedCorpus(f"{path} does not hold {' and '.join(NAMES)}: {error}") from error
    if len(english) != len(chinese):
        raise DamagedCorpus(f"{path} has {len(english)} English lines and {len(chinese)} Chinese ones")
    translations: dict[Tokens, Counter[Tokens]] = {}
    for pair in zip(english, chinese, strict=True):
        source, target = (tokenize(text.lower()) for text in pair)
        shorter, longer = sorted((len(source), len(target)))
        if shorter > 0 and longer <= min(LONGEST, 3 * shorter + 2):
            translations.setdefault(source, Counter())[target] += 1
    examples = (Example(source, tuple(target for target, _ in targets.most_common()))
                for source, targets in translations.items())  # fmt: skip
    return split(examples, lambda example: " ".join(example.source))


def download(path: Path) -> None:
    """Fetch the file, whole or not at all. Raises MissingCorpus if that cannot be done."""
    import requests  # here, since nothing else needs it

    print(f"downloading {URL} to {path} (CC BY-NC-ND 4.0)", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    try:
        with requests.get(URL, stream=True, timeout=60) as answer, scratch.open("wb") as file:
            answer.raise_for_status()
            for part in answer.iter_content(2**20):
                file.write(part)
    except requests.RequestException as error:
        scratch.unlink(missing_ok=True)
        raise MissingCorpus(f"The talks have to be downloaded once, from {URL}, and that does not work here "
                            f"({type(error).__name__}). Fetch the file where there is a connection, put it into a "
                            "folder, and name that folder in the environment variable SEQ2SEQ_DATA") from error
    os.replace(scratch, path)
