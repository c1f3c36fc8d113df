"""English prose: what Python says of itself."""

import gzip
import json
import re
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path

from seq2seq.kit.corpora.base import DamagedCorpus, Example, Splits, copied, split

PATH = Path(__file__).with_name("prose.json.gz")
_TOKENS = re.compile(r"[a-z]+(?:['’-][a-z]+)*|[.,;:()?!]")


def prose(words: int = 3000, shortest: int = 8) -> Splits:
    """Prose of Python's documentation, a document each: source (), and as target its tokens in small letters.

    Source: `pydoc_data.topics` and the docstrings of the library of CPython 3.11.7, which come with this package
    (tools/prose.py collected them). Only sentences made of the `words` most frequent tokens are kept, so
    there is no unknown word, and only documents that then have `shortest` tokens. Split by a document's beginning.
    Raises ValueError for sizes below 1, DamagedCorpus for a file that is not whole.
    """
    if words < 1 or shortest < 1:
        raise ValueError(f"words={words} and shortest={shortest} must be at least 1")
    return copied(_prose(words, shortest))


@lru_cache(maxsize=2)
def _prose(words: int, shortest: int) -> Splits:
    try:
        corpus = json.loads(gzip.decompress(PATH.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DamagedCorpus(f"{PATH} is missing or damaged; install the book again ({error})") from error
    documents = [[_TOKENS.findall(sentence) for p in paragraphs for sentence in re.split(r"(?<=\.) ", p.lower())]
                 for paragraphs in corpus]
    counted = Counter(token for document in documents for sentence in document for token in sentence)
    known = {token for token, _ in counted.most_common(words)}
    texts = [tuple(t for sentence in document if known.issuperset(sentence) for t in sentence)
             for document in documents]
    return split((Example((), (text,)) for text in texts if len(text) >= shortest),
                 key=lambda example: " ".join(example.target[:shortest]))
