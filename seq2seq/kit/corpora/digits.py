"""Handwritten digits, eight pixels by eight."""

import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.kit.corpora.base import DamagedCorpus, Splits, copied

PATH = Path(__file__).with_name("digits.csv.gz")
HELD_OUT = 15            # of a hundred digits as many for testing, and as many for validation


class Digit(NamedTuple):
    """One digit that somebody wrote by hand."""

    pixels: np.ndarray   # (8, 8) uint8: how much of the pixel is ink, 0 to 16
    label: int           # 0 to 9


def digits() -> Splits:
    """1,797 digits, of which a hash of the pixels puts 15 of a hundred into test and as many into validation.

    Source: the test set of the UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998, CC BY 4.0), by
    13 writers, as the file that scikit-learn ships; it comes with this package. Who wrote which digit it does not say,
    so a hand may be on both sides of the split; an image cannot. Raises DamagedCorpus for a file that is not whole.
    """
    return copied(_digits())


@lru_cache(maxsize=1)
def _digits() -> Splits:
    try:
        rows = gzip.decompress(PATH.read_bytes()).decode().split()
        table = np.array([[float(number) for number in row.split(",")] for row in rows]).astype(np.uint8)
        if table.shape != (1797, 65):
            raise ValueError(f"{table.shape} numbers")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DamagedCorpus(f"{PATH} is missing or damaged; install the book again ({error})") from error
    splits = Splits([], [], [])
    for *pixels, label in table:
        image = np.array(pixels, dtype=np.uint8).reshape(8, 8)
        bucket = zlib.crc32(image.tobytes()) % 100
        part = "test" if bucket < HELD_OUT else "validation" if bucket < 2 * HELD_OUT else "train"
        getattr(splits, part).append(Digit(image, int(label)))
    return splits
