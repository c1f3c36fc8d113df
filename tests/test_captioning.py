"""The chapter on captioning: pictures of any size, their masks, and what may be on both sides of a split."""

import importlib
import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq import captioning
from seq2seq.captioning import (
    CAPTIONERS,
    ConvEncoder,
    PatchEncoder,
    PictureBatch,
    StartingWith,
    as_memory,
    caption_scores,
    captioned,
    composed,
    drawn_anew,
    ink,
    learned_pairs,
    look_and_write,
    moved,
    nearest_pictures,
    picture_batches,
    places,
    polyglot_batches,
    polyglot_study,
    polyglot_words,
    sheet,
    speaking,
    write_captions,
)
from seq2seq.encoder_decoder import Memory
from seq2seq.kit import corpora, seed_everything, train
from seq2seq.kit.corpora import Picture
from seq2seq.sequences import Vocab
from seq2seq.teacher_forcing import cross_entropy
from seq2seq.transformer import sinusoids

WORDS = Vocab(["dark", "firefighter", "light", "woman", "skin"])
ENCODERS = {"conv": lambda: ConvEncoder(10), "patches": lambda: PatchEncoder(12, 3)}
ODD = [(7, 11), (13, 5), (1, 1), (4, 8)]          # heights and widths, no multiple of another


def some_pictures(sizes=ODD) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def settled(encoder: nn.Module) -> nn.Module:
    """An encoder whose running means are not those of the start, in eval mode."""
    seed_everything(3)
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.bias)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias)
    return encoder.eval()


# Pictures as numbers


def test_ink_keeps_every_pixel_where_it_was_and_makes_paper_of_white() -> None:
    pixels = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(5, 7, 3)
    found = ink(pixels)
    assert found.shape == (3, 5, 7) and found.dtype == torch.float32
    for i, j, c in itertools.product(range(5), range(7), range(3)):
        assert found[c, i, j].item() == pytest.approx(1 - pixels[i, j, c] / 255)
    assert (ink(np.full((2, 3, 3), 255, dtype=np.uint8)) == 0).all()


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7), (0, 7, 3), (5, 7, 4)])
def test_ink_says_what_a_picture_is(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RGB"):
        ink(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        ink(np.zeros((5, 7, 3)))


def test_a_picture_of_any_size_is_captioned() -> None:
    """As somebody's own file would be: another size, odd, read by Pillow."""
    from PIL import Image

    seed_everything(0)
    strange = [np.asarray(Image.effect_noise(size, 80).convert("RGB")) for size in ((33, 45), (7, 7), (64, 31))]
    for make in CAPTIONERS.values():
        written = write_captions(make(WORDS), strange, WORDS)
        assert len(written) == 3 and all(token in WORDS.symbols for caption in written for token in caption)


@pytest.mark.parametrize("down", [-3, -1, 0, 2])
@pytest.mark.parametrize("right", [-2, 0, 1])
def test_moved_equals_moving_pixel_by_pixel(down: int, right: int) -> None:
    picture = some_pictures([(5, 7)])[0]
    expected = torch.zeros_like(picture)
    for i, j in itertools.product(range(5), range(7)):
        if 0 <= i - down < 5 and 0 <= j - right < 7:
            expected[:, i, j] = picture[:, i - down, j - right]
    assert torch.equal(moved(picture, down, right), expected)


# Batches


def test_sheet_holds_each_picture_in_its_corner_and_marks_the_rest() -> None:
    pictures = some_pictures()
    src, padding = sheet(pictures)
    assert src.shape == (4, 3, 13, 11) and padding.shape == (4, 13, 11)
    for row, picture in enumerate(pictures):
        _, h, w = picture.shape
        assert torch.equal(src[row, :, :h, :w], picture) and not padding[row, :h, :w].any()
        assert (~padding[row]).sum() == h * w and (src[row] * padding[row]).abs().sum() == 0


def test_a_batch_is_checked_at_its_door() -> None:
    src, padding = sheet(some_pictures())
    tgt = torch.tensor([[1, 5, 2]] * 4)
    for parts in ((src.permute(0, 2, 3, 1), tgt, padding), (src, tgt, padding.float()), (src, tgt, padding[:, :-1]),
                  (src, tgt[:3], padding), (src, tgt[0], padding), (src[:0], tgt[:0], padding[:0]),
                  (src, tgt, torch.ones_like(padding))):  # fmt: skip
        with pytest.raises(ValueError):
            PictureBatch(*parts)
    with pytest.raises(ValueError):
        sheet([])
    assert len(PictureBatch(src, tgt, padding)) == 4


def test_an_epoch_has_every_pair_once_moved_by_no_more_than_its_reach() -> None:
    pairs = [(torch.zeros(3, 9, 9), [i]) for i in range(4, 11)]
    for picture, _ in pairs:
        picture[:, 4, 4] = 1.0
    stream, seen, spots = picture_batches(pairs, 3, seed=1, reach=2), [], set()
    for size in (3, 3, 1):
        batch = next(stream)
        assert len(batch) == size and (batch.tgt[:, 0] == Vocab.bos).all() and (batch.tgt[:, 2] == Vocab.eos).all()
        seen += batch.tgt[:, 1].tolist()
    assert sorted(seen) == list(range(4, 11))
    next_epoch = [token for _ in range(3) for token in next(stream).tgt[:, 1].tolist()]
    assert sorted(next_epoch) == sorted(seen) and len({tuple(seen), tuple(next_epoch), tuple(sorted(seen))}) == 3
    for _ in range(200):
        spots |= {(int(i), int(j)) for _, i, j in next(stream).src[:, 0].nonzero()}
    assert spots == set(itertools.product(range(2, 7), range(2, 7)))
    again = picture_batches(pairs, 3, seed=1, reach=2)
    first = next(again)
    assert torch.equal(first.src, next(picture_batches(pairs, 3, seed=1, reach=2)).src)
    assert not torch.equal(next(again).tgt, first.tgt)
    still = next(picture_batches(pairs, 7, reach=0))
    assert (still.src[:, 0, 4, 4] == 1).all()
    for wrong in ({"batch_size": 0}, {"batch_size": 2, "reach": -1}):
        with pytest.raises(ValueError):
            next(picture_batches(pairs, **wrong))
    with pytest.raises(ValueError):
        next(picture_batches([], 2))


# Encoders


def test_places_tell_every_row_and_column_apart_and_do_not_depend_on_the_size() -> None:
    table = places(6, 9, 10)
    assert table.shape == (6, 9, 10)
    assert len({tuple(row) for row in table.flatten(0, 1).tolist()}) == 54
    assert torch.equal(table[4, 7, :5], sinusoids(6, 5)[4]) and torch.equal(table[4, 7, 5:], sinusoids(9, 5)[7])
    assert torch.equal(places(3, 4, 10), table[:3, :4])
    assert places(2, 3, 7).shape == (2, 3, 7)


@pytest.mark.parametrize("kind", ENCODERS)
def test_on_empty_paper_a_state_tells_its_place_and_nothing_else(kind: str) -> None:
    encoder = settled(ENCODERS[kind]())
    states = encoder(*sheet([torch.zeros(3, 36, 44)])).states.view(9, 11, -1)[2:7, 2:9]       # far from the edges
    assert len({tuple(row) for row in states.flatten(0, 1).tolist()}) == 35
    if kind == "conv":
        rest = states - captioning.PLACE * places(9, 11, states.shape[-1])[2:7, 2:9]
        torch.testing.assert_close(rest, rest[:1, :1].expand_as(rest), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ENCODERS)
def test_padding_changes_nothing(kind: str) -> None:
    """A picture alone leaves the states that it leaves beside larger ones, whatever lies on the sheet outside of it."""
    encoder, pictures = settled(ENCODERS[kind]()), some_pictures()
    src, padding = sheet(pictures)
    dirty = src.masked_fill(padding[:, None], 7.0)
    together, spoiled = encoder(src, padding), encoder(dirty, padding)
    rows = -(-src.shape[2] // 4)
    for row, picture in enumerate(pictures):
        alone = encoder(*sheet([picture]))
        h, w = (-(-size // 4) for size in picture.shape[1:])
        assert alone.states.shape[1] == h * w and not alone.padding.any()
        for memory in (together, spoiled):
            states = memory.states[row].unflatten(0, (rows, -1))
            inside = torch.zeros(states.shape[:2], dtype=torch.bool)
            inside[:h, :w] = True
            assert torch.equal(~memory.padding[row].view_as(inside), inside)
            torch.testing.assert_close(states[:h, :w].flatten(0, 1), alone.states[0], atol=1e-5, rtol=1e-4)
            assert (states[~inside] == 0).all()
            torch.testing.assert_close(memory.summary[row], alone.summary[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_pixel_reaches_the_memory_and_none_of_the_padding_does(kind: str) -> None:
    encoder = settled(ENCODERS[kind]())
    src, padding = sheet(some_pictures([(9, 11), (5, 6)]))
    src.requires_grad_()
    memory = encoder(src, padding)
    weights = torch.randn(memory.states.shape, generator=torch.Generator().manual_seed(2))
    [gradient] = torch.autograd.grad((weights * memory.states).sum(), src)
    assert gradient.isfinite().all()
    reached = gradient.abs().sum(dim=1) > 0                                  # (B, H, W)
    assert not (reached & padding).any()
    if kind == "patches":
        assert (reached | padding).all()


def test_a_convolutions_state_is_made_around_its_own_pixels() -> None:
    """State (i, j) of a grid a quarter as large depends on pixel (4 i, 4 j), not on those far from it."""
    encoder = settled(ConvEncoder(8))
    base = torch.zeros(1, 3, 33, 41)
    nothing = torch.zeros(1, 33, 41, dtype=torch.bool)
    plain = encoder(base, nothing).states
    for i, j in ((0, 0), (3, 5), (8, 10)):
        spot = base.clone()
        spot[:, :, 4 * i, 4 * j] = 5.0
        changed = (encoder(spot, nothing).states - plain).abs().sum(dim=-1).view(9, 11) > 1e-6
        assert changed[i, j]
        for a, b in changed.nonzero().tolist():
            assert abs(a - i) <= 2 and abs(b - j) <= 2


def test_patches_are_the_pictures_squares_row_by_row() -> None:
    encoder = PatchEncoder(12, 3, size=4)
    picture = some_pictures([(7, 10)])[0]
    found = encoder.patches(picture[None])
    assert found.shape == (1, 2, 3, 48)
    paper = F.pad(picture, (0, 2, 0, 1))
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(found[0, i, j], paper[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten())


def test_the_first_layer_of_patches_is_a_convolution_with_a_stride_of_its_window() -> None:
    encoder, picture = PatchEncoder(12, 3, size=4), some_pictures([(8, 12)])
    weight = encoder.cut.weight.view(12, 3, 4, 4)
    expected = F.conv2d(torch.stack(picture), weight, encoder.cut.bias, stride=4).permute(0, 2, 3, 1)
    torch.testing.assert_close(encoder.cut(encoder.patches(torch.stack(picture))), expected, atol=1e-5, rtol=1e-4)


def test_the_summary_is_the_greatest_of_the_pictures_places() -> None:
    grid = -1 - torch.rand(2, 3, 5, 7)               # all below zero: what padding holds would be greater
    padding = torch.zeros(2, 3, 5, dtype=torch.bool)
    padding[1, 2:] = True
    padding[1, :, 3:] = True
    memory = as_memory(grid, padding)
    assert isinstance(memory, Memory) and memory.states.shape == (2, 15, 7)
    torch.testing.assert_close(memory.summary[1], grid[1, :2, :3].flatten(0, 1).amax(dim=0))
    assert torch.equal(memory.states[0, 5 + 2], grid[0, 1, 2]) and (memory.states[1, 3:5] == 0).all()


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_check_what_they_are_given(kind: str) -> None:
    encoder = ENCODERS[kind]()
    src, padding = sheet(some_pictures())
    for wrong in ((src.permute(0, 2, 3, 1), padding), (src, padding[:, 0]), (src, padding.long())):
        with pytest.raises(ValueError):
            encoder(*wrong)


# Models


@pytest.mark.parametrize("system", CAPTIONERS)
def test_step_by_step_equals_all_at_once(system: str) -> None:
    seed_everything(1)
    model = CAPTIONERS[system](WORDS).eval()
    src, padding = sheet(some_pictures())
    tgt = torch.randint(4, len(WORDS), (4, 6))
    memory = model.encoder(src, padding)
    state, found = model.decoder.init_state(memory), []
    for token in tgt.unbind(dim=1):
        logits, state, _ = model.decoder.step(token, state)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, dim=1), model.decoder(tgt, memory), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("system", CAPTIONERS)
def test_captions_do_not_depend_on_the_company(system: str) -> None:
    seed_everything(2)
    model = CAPTIONERS[system](WORDS)
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ODD]
    together = write_captions(model, pictures, WORDS)
    assert together == [write_captions(model, [p], WORDS)[0] for p in pictures]
    assert together == write_captions(model, pictures, WORDS, batch_size=3)
    assert model.training and all(part.training for part in model.modules())


@pytest.mark.parametrize("system", CAPTIONERS)
def test_a_model_learns_a_few_pictures_by_heart(system: str) -> None:
    seed_everything(0)
    model = CAPTIONERS[system](WORDS, dropout=0.0)
    captions = [[4, 5], [6, 5], [7, 4, 8], [8]]
    pixels = [np.full((12, 8 + i, 3), 40 * i, np.uint8) for i in range(4)]
    pairs = [(ink(p), c) for p, c in zip(pixels, captions, strict=True)]
    history = train(model, picture_batches(pairs, 4, reach=0), 60, lr=5e-3, warmup=5)
    assert history.losses[-1] < 0.1 < history.losses[0]
    assert write_captions(model, pixels, WORDS) == [WORDS.decode(c) for c in captions]


def test_the_search_looks_at_the_places_of_the_picture() -> None:
    seed_everything(0)
    model = CAPTIONERS["attention"](WORDS)
    src, padding = sheet(some_pictures([(9, 11), (5, 6)]))
    found = look_and_write(model, src, padding, max_len=4)
    S = model.eval().encoder(src, padding).states.shape[1]
    assert found.weights.shape == (2, found.tokens.shape[1], S) and found.tokens.shape[1] <= 4
    torch.testing.assert_close(found.weights.sum(dim=-1), torch.ones(found.weights.shape[:2]))
    assert (found.weights[1].masked_select(model.encoder(src, padding).padding[1]) == 0).all()


@pytest.mark.parametrize("system", CAPTIONERS)
def test_gradients_are_finite_and_meta_works(system: str) -> None:
    seed_everything(0)
    model = CAPTIONERS[system](WORDS)
    src, padding = sheet(some_pictures())
    batch = PictureBatch(src, torch.tensor([[1, 4, 2]] * 4), padding)
    cross_entropy(model, batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    there = model.to("meta")
    assert there(batch.to("meta")).shape == (4, 2, len(WORDS))


# Scores and the baseline


def made(symbol: str, value: int, *captions: str) -> Picture:
    return Picture(symbol, np.full((2, 3, 3), value, np.uint8), {"en": tuple(tuple(c.split()) for c in captions)})


def test_the_nearest_picture_is_the_one_with_the_least_squared_difference() -> None:
    known = [made("a", 0, "black"), made("b", 100, "grey"), made("c", 255, "white")]
    asked = [np.full((2, 3, 3), v, np.uint8) for v in (10, 60, 170, 230)]
    assert [p.symbol for p in nearest_pictures(asked, known)] == list("abbc")
    generator = np.random.default_rng(0)
    known = [made(str(i), 0, "x")._replace(pixels=generator.integers(0, 256, (5, 7, 3), np.uint8)) for i in range(40)]
    asked = [generator.integers(0, 256, (5, 7, 3), np.uint8) for _ in range(31)]
    for pixels, found in zip(asked, nearest_pictures(asked, known), strict=True):
        gaps = [((p.pixels.astype(float) - pixels) ** 2).sum() for p in known]
        assert found.symbol == str(int(np.argmin(gaps)))
    for wrong in (known[:0], [made("a", 0, "black")], [*known, made("a", 0, "black")]):
        with pytest.raises(ValueError):
            nearest_pictures(asked, wrong)


def test_any_of_a_pictures_captions_is_right_and_a_part_is_not() -> None:
    pictures = [made("a", 0, "firefighter dark skin", "man firefighter dark skin"), made("b", 0, "woman")]
    def scored(*written):
        return caption_scores([text.split() for text in written], pictures, "en")

    assert scored("man firefighter dark skin", "woman") == pytest.approx({"exact": 1.0, "bleu": 100.0})
    assert scored("firefighter dark", "woman")["exact"] == 0.5
    assert scored("man dark", "")["exact"] == 0.0


# The data of the page


def test_no_held_out_caption_or_combination_is_in_training_and_every_part_is() -> None:
    for language in ("en", "fr", "zh"):
        splits, words = captioned(language)
        seen = {caption for p in splits.train for caption in p.captions[language]}
        parts = {token for caption in seen for token in caption}
        for p in splits.validation + splits.test:
            assert not seen & set(p.captions[language]), p.symbol
            assert parts >= {token for caption in p.captions[language] for token in caption}
        assert all(token in words.ids for p in splits.train for token in p.captions[language][0])
    keys = [{corpora.combination(p.symbol) for p in part} for part in splits]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert {subject for subject, _ in keys[2]} <= {subject for subject, _ in keys[0]}
    assert all(tone for _, tone in keys[1] | keys[2])
    with pytest.raises(ValueError):
        captioned("de")


def test_composed_keeps_the_subjects_that_have_tones_whole() -> None:
    every = corpora.pictures()
    kept = composed(every)
    symbols = {p.symbol for part in kept for p in part}
    assert {"👩🏼‍🚒", "👍"} <= symbols and not symbols & {"🐙", "🇫🇷"}
    assert [p.symbol for p in kept.test] == [p.symbol for p in every.test]


def test_pictures_drawn_anew_are_other_pictures_of_the_same() -> None:
    some = random.Random(0).sample(corpora.pictures().train, 20)
    for before, after in zip(some, drawn_anew(some), strict=True):
        assert before.symbol == after.symbol and before.captions == after.captions
        assert before.pixels.shape == after.pixels.shape and (before.pixels != after.pixels).any()


def test_pairs_are_ink_and_the_first_caption() -> None:
    words = Vocab(["a", "b"])
    pairs = learned_pairs([made("x", 0, "b a", "a")], words, "en")
    assert pairs[0][1] == [5, 4] and torch.equal(pairs[0][0], torch.ones(3, 2, 3))


def test_a_study_is_the_same_twice_and_stops_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, words = captioned("en")
    small = type(splits)(splits.train[:40], splits.validation[:5], splits.test[:7])
    monkeypatch.setattr(captioning, "captioned", lambda language: (small, words))
    first = captioning.caption_study(steps=4, seed=1)
    assert len(first["losses"]) == 4 and len(first["said"]) == 7
    assert set(first) == {"losses", "parameters", "validation", "held out", "drawn anew", "said"}
    begun = captioning.caption_study(steps=4, seed=1, until=2)
    assert begun["losses"] == pytest.approx(first["losses"][:2], rel=1e-4) and set(begun) == {"losses"}
    assert captioning.caption_study(steps=4, seed=2, until=1)["losses"] != begun["losses"][:1]
    with pytest.raises(ValueError):
        captioning.caption_study(system="magic")


# One model for three languages

SPOKEN = Vocab(["<en>", "<fr>", "<zh>", "dark", "femme", "foncée", "woman", "女"])


def named(symbol: str, value: int, **captions: str) -> Picture:
    """A picture with one caption in each language."""
    return Picture(symbol, np.full((9, 7, 3), value, np.uint8), {k: (tuple(c.split()),) for k, c in captions.items()})


@pytest.mark.parametrize("system", CAPTIONERS)
def test_a_language_is_what_the_decoder_is_started_with_and_nothing_else(system: str) -> None:
    seed_everything(1)
    model = CAPTIONERS[system](SPOKEN).eval()
    src, padding = sheet(some_pictures())
    tgt = torch.randint(4, len(SPOKEN), (4, 5))
    tgt[:, 0] = Vocab.bos
    logits = {}
    for language in ("en", "fr", "zh"):
        asked = speaking(model, SPOKEN, language).eval()
        assert isinstance(asked.decoder, StartingWith)
        assert {id(p) for p in asked.parameters()} == {id(p) for p in model.parameters()}
        begun = tgt.clone()
        begun[:, 0] = SPOKEN.ids[f"<{language}>"]
        logits[language] = asked.decoder(tgt, asked.encoder(src, padding))
        expected = model.decoder(begun, model.encoder(src, padding))
        torch.testing.assert_close(logits[language], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits["en"], logits["fr"]) and not torch.allclose(logits["fr"], logits["zh"])
    with pytest.raises(KeyError, match="<de>"):
        speaking(model, SPOKEN, "de")


def test_the_words_of_all_languages_are_known_and_each_language_has_a_symbol() -> None:
    words = polyglot_words()
    assert all(words.ids[f"<{language}>"] for language in corpora.CAPTIONS)
    own = {language: set(captioned(language)[1].ids) for language in corpora.CAPTIONS}
    assert set(words.ids) == set().union(*own.values(), {"<en>", "<fr>", "<zh>"})
    assert "police" in own["en"] & own["fr"]


def test_batches_of_languages_hold_every_caption_once_begun_by_its_language() -> None:
    dark = named("a", 40, en="dark woman", fr="femme foncée", zh="女")
    light = named("b", 200, en="woman", fr="femme", zh="女 女")
    stream = polyglot_batches({"en": [dark, light], "fr": [dark], "zh": [dark, light]}, SPOKEN, 2, seed=3)
    found = []
    for size in (2, 2, 1):
        batch = next(stream)
        assert len(batch) == size and (batch.tgt != Vocab.bos).all()
        for picture, row in zip(batch.src, batch.tgt.tolist(), strict=True):
            assert not any(row[1 + row.index(Vocab.eos) :])      # PAD is 0
            found.append((round(255 * (1 - picture.max().item())), *SPOKEN.decode(row)))
    assert sorted(found) == [(40, "<en>", "dark", "woman"), (40, "<fr>", "femme", "foncée"), (40, "<zh>", "女"),
                             (200, "<en>", "woman"), (200, "<zh>", "女", "女")]  # fmt: skip
    with pytest.raises(KeyError, match="<de>"):
        next(polyglot_batches({"de": []} | {"de": [named("a", 0, de="frau")]}, SPOKEN, 2))


def test_one_model_learns_what_a_picture_is_called_in_each_language() -> None:
    seed_everything(0)
    model = captioning.conv_attention(SPOKEN, 24, 0.0)
    known = [named("a", 40, en="dark woman", fr="femme foncée", zh="女"),
             named("b", 200, en="woman", fr="femme", zh="女 女")]
    stream = polyglot_batches(dict.fromkeys(("en", "fr", "zh"), known), SPOKEN, 6)
    train(model, stream, 80, lr=5e-3, warmup=5)
    for language in ("en", "fr", "zh"):
        said = write_captions(speaking(model, SPOKEN, language), [p.pixels for p in known], SPOKEN)
        assert said == [list(p.captions[language][0]) for p in known]


def few(monkeypatch: pytest.MonkeyPatch) -> corpora.Splits:
    """A few pictures in place of all."""
    splits = captioned("en")[0]
    small = type(splits)(splits.train[:21], splits.validation[:5], splits.test[:7])
    before = captioned
    monkeypatch.setattr(captioning, "captioned", lambda language: (small, before(language)[1]))
    return small


@pytest.mark.parametrize("shown_in", [(), ("en",), ("zh", "fr")])
def test_training_shows_test_pictures_in_the_languages_that_it_is_told(
    shown_in: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, words, seen = few(monkeypatch), polyglot_words(), []

    def watched(model, stream, steps, **options):
        for _ in range(-(-(3 * 21 + len(shown_in) * 7) // 32)):
            batch = next(stream)
            seen.extend(tuple(words.decode(row)) for row in batch.tgt.tolist())
        return train(model, stream, steps, **options)

    monkeypatch.setattr(captioning, "train", watched)
    polyglot_study(steps=1, shown_in=shown_in, until=1)
    expected = [(f"<{language}>", *p.captions[language][0])
                for language in ("en", "fr", "zh")
                for p in small.train + (small.test if language in shown_in else [])]  # fmt: skip
    assert sorted(seen) == sorted(expected)
    with pytest.raises(ValueError, match="de"):
        polyglot_study(shown_in=("de",))


def test_a_study_of_languages_is_the_same_twice_and_scores_each(monkeypatch: pytest.MonkeyPatch) -> None:
    small = few(monkeypatch)
    first = polyglot_study(steps=4, seed=1)
    assert set(first) == {"losses", "parameters", "en", "fr", "zh"} and len(first["losses"]) == 4
    for language in ("en", "fr", "zh"):
        assert set(first[language]) == {"validation", "test", "said"} and len(first[language]["said"]) == 7
        said = [text.split() for text in first[language]["said"]]
        assert first[language]["test"] == caption_scores(said, small.test, language)
    begun = polyglot_study(steps=4, seed=1, until=2)
    assert begun["losses"] == pytest.approx(first["losses"][:2], rel=1e-4) and set(begun) == {"losses"}
    assert polyglot_study(steps=4, seed=2, until=1)["losses"] != begun["losses"][:1]


def test_a_study_of_languages_asks_in_each_and_draws_batches_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    small, drawn = few(monkeypatch), []

    def asked(model, pictures, words):
        return [[words.symbols[model.decoder.start]]] * len(pictures)

    def watched(model, stream, steps, **options):
        drawn.append(next(stream).tgt.tolist())
        return train(model, stream, steps, **options)

    monkeypatch.setattr(captioning, "write_captions", asked)
    monkeypatch.setattr(captioning, "train", watched)
    for seed in (1, 2, 1):
        found = polyglot_study(steps=1, seed=seed)
    assert drawn[0] == drawn[2] != drawn[1]
    for language in ("en", "fr", "zh"):
        assert found[language]["said"] == [f"<{language}>"] * len(small.test)


def test_the_module_is_named_after_its_chapter() -> None:
    assert importlib.import_module("seq2seq.captioning") is captioning
