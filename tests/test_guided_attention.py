"""What must hold of attention with a direction, whatever its weights. Coprime sizes, so no axis can be swapped."""

import itertools
import random
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seq2seq import guided_attention
from seq2seq.attention import AttentionDecoder
from seq2seq.encoder_decoder import EncoderDecoder, greedy_search
from seq2seq.guided_attention import (
    ATTENTIONS,
    FRAMES,
    SYMBOLS,
    TESTED,
    WEIGHTS,
    WORDS,
    ContentAttention,
    DirectedDecoder,
    ForwardAttention,
    LocationAwareAttention,
    MonotonicAttention,
    Watched,
    count_edits,
    directed_model,
    expected_alignment,
    frames_study,
    guided_attention_loss,
    guided_loss,
    hard_alignment,
    off_diagonal,
    recordings,
    repeats,
    spoken,
    weight_study,
    words_study,
)
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example
from seq2seq.kit.records import plain, words_of
from seq2seq.rnn import RNNEncoder
from seq2seq.sequences import Batch, Vocab, collate
from seq2seq.teacher_forcing import cross_entropy

V_SRC, V_TGT, WIDTH, D, K = 11, 13, 3, 10, 7
KINDS = list(ATTENTIONS)


def a_model(kind: str) -> EncoderDecoder:
    attention = ATTENTIONS[kind](D, D, K)
    return EncoderDecoder(
        RNNEncoder(V_SRC, WIDTH, D, bidirectional=True), DirectedDecoder(V_TGT, WIDTH, D, attention=attention),
    )


def some_batch() -> Batch:
    """Five pairs of different lengths, one of them with an empty source."""
    rng = random.Random(0)
    lengths = [(7, 3), (0, 5), (4, 1), (2, 6), (5, 2)]
    return collate([([rng.randrange(4, V_SRC) for _ in range(s)], [rng.randrange(4, V_TGT) for _ in range(t)])
                    for s, t in lengths])


def aligned(model: EncoderDecoder, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return model.decoder.aligned(batch.tgt[:, :-1], model.encoder(batch.src, batch.src_padding))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_forward_and_aligned(kind):
    model, batch = a_model(kind).eval(), some_batch()
    memory = model.encoder(batch.src, batch.src_padding)
    logits, weights = aligned(model, batch)
    torch.testing.assert_close(logits, model(batch))
    state = model.decoder.init_state(memory)
    for t, token in enumerate(batch.tgt[:, :-1].unbind(dim=1)):
        found = model.decoder.step(token, state)
        torch.testing.assert_close(found.logits, logits[:, t])
        torch.testing.assert_close(found.weights, weights[:, t])
        torch.testing.assert_close(found.state.previous, weights[:, t])
        state = found.state


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_and_gets_no_weight(kind):
    model, batch = a_model(kind).eval(), some_batch()
    logits, weights = aligned(model, batch)
    assert (weights.masked_select(batch.src_padding[:, None].expand_as(weights)) == 0).all()
    for row, padding in enumerate(batch.src_padding):
        length = int((~padding).sum())
        one = Batch(batch.src[row : row + 1, :length], batch.tgt[row : row + 1], padding[None, :length])
        alone, looked = aligned(model, one)
        torch.testing.assert_close(alone[0], logits[row])
        torch.testing.assert_close(looked[0], weights[row, :, :length])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_row_of_padding_gives_no_weight_and_finite_gradients(kind, training):
    model = a_model(kind).train(training)
    src = torch.tensor([[0, 0, 0], [5, 7, 2]])
    states = model.encoder(src, src == Vocab.pad)
    tgt = torch.tensor([[1, 4, 5], [1, 6, 7]])
    logits, weights = model.decoder.aligned(tgt, states)
    assert (weights[0] == 0).all()
    logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_no_logit_depends_on_a_later_token(kind):
    model, batch = a_model(kind).eval(), some_batch()
    logits = model(batch)
    for t in reversed(range(1, batch.tgt.shape[1] - 1)):  # what stands later is changed already
        batch.tgt[:, t] = 4 + (batch.tgt[:, t] + 1) % (V_TGT - 4)
        torch.testing.assert_close(model(batch)[:, :t], logits[:, :t])


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_without_a_device(kind):
    model, batch = a_model(kind).to("meta"), some_batch().to("meta")
    guided_loss(model, batch).backward()
    assert all(p.grad is None or p.grad.device.type == "meta" for p in model.parameters())


class Without(torch.nn.Module):
    """A dropout that leaves nothing of the tensors of one width."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.shape[-1] != self.size)


def test_dropout_falls_on_what_the_decoder_reads_and_on_what_it_writes_from():
    model, batch = a_model("content"), some_batch()
    logits, _ = aligned(model, batch)
    model.decoder.dropout = Without(WIDTH)
    without, _ = aligned(model, batch)
    assert not torch.allclose(without, logits)
    batch.tgt[batch.tgt > Vocab.unk] = Vocab.unk  # other tokens, which it cannot read
    torch.testing.assert_close(aligned(model, batch)[0], without)
    model.decoder.dropout = Without(D)
    torch.testing.assert_close(aligned(model, batch)[0], model.decoder.output.bias.expand_as(logits))


def test_at_first_the_finger_is_on_the_first_symbol():
    model, batch = a_model("location"), some_batch()
    previous = model.decoder.init_state(model.encoder(batch.src, batch.src_padding)).previous
    torch.testing.assert_close(previous, F.one_hot(torch.zeros(5).long(), batch.src.shape[1]).float())


def test_what_each_attention_adds_to_the_parameters():
    vocab, k, r, hidden = Vocab(SYMBOLS), 8, 7, 64
    size = {kind: sum(p.numel() for p in directed_model(vocab, vocab, attention=make).parameters())
            for kind, make in ATTENTIONS.items()}
    assert size["location"] - size["content"] == k * (2 * r + 1) + k * hidden
    assert size["monotonic"] - size["content"] == hidden + 2 and size["forward"] == size["content"]
    model = directed_model(vocab, vocab)
    assert model.decoder.embedding.weight.shape == (len(vocab), 32) and model.decoder.rnn.hidden_size == 128
    assert len(model.encoder.backwards) == 1


@pytest.mark.parametrize("layers", [1, 2])
def test_content_attention_is_that_of_the_chapter_before(layers):
    encoder, batch = RNNEncoder(V_SRC, WIDTH, D, layers, bidirectional=True), some_batch()
    decoder = DirectedDecoder(V_TGT, WIDTH, D, layers, attention=ContentAttention(D, D, K))
    before = AttentionDecoder(V_TGT, WIDTH, D, layers, attention=decoder.attention)
    before.load_state_dict(decoder.state_dict())
    memory = encoder(batch.src, batch.src_padding)
    torch.testing.assert_close(decoder.aligned(batch.tgt[:, :-1], memory)[0], before(batch.tgt[:, :-1], memory))


def test_targets_that_do_not_go_with_their_sources_are_refused():
    model, batch = a_model("location"), some_batch()
    with pytest.raises(ValueError, match="5 sources"):
        model.decoder.aligned(batch.tgt[1:], model.encoder(batch.src, batch.src_padding))


def test_without_filters_the_location_says_nothing():
    attention, plain = LocationAwareAttention(D, D, K, filters=5, reach=2), ContentAttention(D, D, K)
    attention.F.weight.data.zero_()
    plain.load_state_dict(attention.state_dict(), strict=False)
    query, keys, padding = torch.randn(3, D), torch.randn(3, 7, K), torch.zeros(3, 7, dtype=torch.bool)
    previous = torch.rand(3, 7)
    torch.testing.assert_close(
        attention.align(query, keys, padding, previous), plain.align(query, keys, padding, previous))


def test_the_location_enters_the_score_as_the_equation_has_it():
    """e_t = v · tanh(W q + U h_t + L f_t), f_t = Σ_j F_j α_{t+j-r}: Chorowski et al. (2015), equations 8 and 9."""
    attention, r = LocationAwareAttention(D, D, K, filters=5, reach=2), 2
    query, states, previous = torch.randn(3, D), torch.randn(3, 7, D), torch.rand(3, 7)
    scores = torch.zeros(3, 7)
    for b, t in itertools.product(range(3), range(7)):
        f = sum(attention.F.weight[:, 0, j] * previous[b, t + j - r] for j in range(5) if 0 <= t + j - r < 7)
        hidden = attention.W(query[b]) + attention.U(states[b, t]) + attention.L(f)
        scores[b, t] = attention.v(hidden.tanh())[0]
    found = attention.align(query, attention.keys(states), torch.zeros(3, 7).bool(), previous)
    torch.testing.assert_close(found, scores.softmax(dim=1))


def test_the_location_moves_with_the_finger():
    """Where all keys are alike, shifting the previous weights shifts the new ones, away from the ends."""
    attention = LocationAwareAttention(D, D, K, filters=5, reach=2)
    query, keys, padding = torch.randn(1, D), torch.randn(1, 1, K).expand(1, 17, K), torch.zeros(1, 17).bool()
    here, there = torch.zeros(1, 17), torch.zeros(1, 17)
    here[0, 6], there[0, 9] = 1.0, 1.0
    before, after = (attention.align(query, keys, padding, place)[0] for place in (here, there))
    torch.testing.assert_close(before[4:9], after[7:12])
    assert (before[4:9] - before[0]).abs().max() > 1e-4, "the finger should make a difference"
    torch.testing.assert_close(before[9:], before[9].expand(8))  # beyond its reach it makes none


def enumerated(p: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """p (T, S), start (S,) -> expected weights (T, S), over all paths i_1 ≤ … ≤ i_T that stop, by brute force."""
    steps, length = p.shape
    weights = torch.zeros(steps, length, dtype=p.dtype)
    for first in range(length):
        for t in range(steps):
            for path in itertools.combinations_with_replacement(range(first, length), t + 1):
                chance, at = start[first].clone(), first
                for step, stop in enumerate(path):
                    chance = chance * (1 - p[step, at:stop]).prod() * p[step, stop]
                    at = stop
                weights[t, path[-1]] += chance
    return weights


def test_the_expectation_is_the_sum_over_all_walks():
    p, start = torch.rand(4, 5, dtype=torch.double), torch.rand(5, dtype=torch.double).softmax(0)
    weights, rows = start[None], []
    for chances in p:
        weights = expected_alignment(chances[None], weights)
        rows.append(weights[0])
    torch.testing.assert_close(torch.stack(rows), enumerated(p, start))
    assert all(row.sum() <= 1 for row in rows)


def test_the_expectation_is_the_papers_closed_form():
    """Raffel et al. (2017), equation 11: a = p · cumprod(1 - p) · cumsum(previous / cumprod(1 - p)), both exclusive."""
    p, previous = torch.rand(3, 7, dtype=torch.double) * 0.8, torch.rand(3, 7, dtype=torch.double)
    passed = torch.cumprod(F.pad(1 - p, (1, -1), value=1.0), dim=1)
    torch.testing.assert_close(expected_alignment(p, previous), p * passed * torch.cumsum(previous / passed, dim=1))


def test_a_walk_over_one_symbol_stops_there_or_nowhere():
    p, previous = torch.tensor([[0.25]]), torch.tensor([[0.5]])
    torch.testing.assert_close(expected_alignment(p, previous), p * previous)


def test_certain_walks_are_their_own_expectation():
    for _ in range(20):
        stops, previous = torch.rand(3, 7) < 0.4, F.one_hot(torch.randint(7, (3,)), 7).float()
        torch.testing.assert_close(expected_alignment(stops.float(), previous), hard_alignment(stops, previous))


def test_a_hard_walk_never_goes_back_and_looks_at_one_place():
    previous, at = F.one_hot(torch.tensor([2, 0, 6]), 7).float(), torch.tensor([2, 0, 6])
    for _ in range(10):
        previous = hard_alignment(torch.rand(3, 7) < 0.5, previous)
        stopped = previous.sum(dim=1) == 1
        assert ((previous == 0) | (previous == 1)).all() and (previous.sum(dim=1) <= 1).all()
        assert (previous.argmax(dim=1)[stopped] >= at[stopped]).all()
        at = torch.where(stopped, previous.argmax(dim=1), 7)
    assert (hard_alignment(torch.ones(1, 7).bool(), torch.zeros(1, 7)) == 0).all()  # a walk that is over


def test_monotonic_attention_is_random_in_training_alone():
    model, batch = a_model("monotonic"), some_batch()
    assert not torch.equal(aligned(model.train(), batch)[1], aligned(model, batch)[1])
    assert torch.equal(aligned(model.eval(), batch)[1], aligned(model, batch)[1])
    assert set(aligned(model, batch)[1].unique().tolist()) <= {0.0, 1.0}


def test_the_gain_is_the_length_of_the_direction():
    """The score does not change when v gets longer, and grows with the gain."""
    attention = MonotonicAttention(D, D, K).eval()
    arguments = torch.randn(3, D), torch.randn(3, 7, K), torch.zeros(3, 7).bool(), torch.eye(7)[:3]
    torch.manual_seed(1)
    before = attention.train().align(*arguments)
    attention.v.weight.data *= 5
    torch.manual_seed(1)
    torch.testing.assert_close(attention.align(*arguments), before)
    attention.gain.data *= 5
    torch.manual_seed(1)
    assert not torch.allclose(attention.align(*arguments), before)


def test_a_walk_stops_where_the_chance_is_above_one_half():
    attention = MonotonicAttention(D, D, K).eval()
    query, keys, padding, previous = torch.randn(3, D), torch.randn(3, 7, K), torch.zeros(3, 7).bool(), torch.eye(7)[:3]
    assert (attention.align(query, keys, padding, previous) == 0).all(), "at first most chances are small"
    attention.gain.data.zero_()
    attention.r.data.fill_(0.1)
    assert torch.equal(attention.align(query, keys, padding, previous), previous)
    weights = attention.train().align(query, keys, padding, previous)
    assert (weights >= 0).all() and (weights.sum(dim=1) <= 1 + 1e-6).all() and weights.sum() > 0


def test_the_bias_of_the_walk_is_added_to_every_key():
    attention = MonotonicAttention(D, D, K)
    assert attention.gain.item() == pytest.approx(K**-0.5)
    shift, arguments = torch.randn(K), (torch.zeros(3, 7).bool(), torch.eye(7)[:3])
    query, keys = torch.randn(3, D), torch.randn(3, 7, K)
    torch.manual_seed(1)
    expected = attention.align(query, keys + shift, *arguments)
    attention.b.data.copy_(shift)
    torch.manual_seed(1)
    torch.testing.assert_close(attention.align(query, keys, *arguments), expected)


def test_forward_attention_stays_or_moves_by_one():
    attention, S = ForwardAttention(D, D, K), 7
    query, keys, padding = torch.randn(S, D), torch.randn(S, S, K), torch.zeros(S, S).bool()
    weights = attention.align(query, keys, padding, torch.eye(S))  # row i: the finger on i
    assert (weights >= 0).all()
    content = ContentAttention.align(attention, query, keys, padding, torch.eye(S))
    for i in range(S):
        allowed = [i, i + 1][: S - i]
        expected = torch.zeros(S)
        expected[allowed] = content[i, allowed] / content[i, allowed].sum()
        torch.testing.assert_close(weights[i], expected, atol=1e-4, rtol=1e-3)


def test_the_diagonal_is_free_and_each_row_has_its_own():
    src_padding = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    tgt_padding = torch.tensor([[False] * 3, [False] * 3])
    away = off_diagonal(src_padding, tgt_padding, g=0.3)
    for row, (T, S) in enumerate([(3, 6), (3, 3)]):
        for t, i in itertools.product(range(T), range(S)):
            expected = 1 - np.exp(-((t / T - i / S) ** 2) / (2 * 0.3**2))
            assert away[row, t, i].item() == pytest.approx(expected, abs=1e-6)
    assert away[1, 1, 1] == 0 and away[0, 1, 2] == 0
    torch.testing.assert_close(off_diagonal(src_padding, tgt_padding), off_diagonal(src_padding, tgt_padding, g=0.2))
    assert off_diagonal(torch.ones(1, 4).bool(), torch.ones(1, 3).bool()).isfinite().all()  # no symbols at all


def test_the_guided_loss_is_a_mean_over_symbols_whatever_the_padding():
    weights = torch.rand(2, 3, 6).softmax(dim=-1)
    src_padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    tgt_padding = torch.tensor([[False] * 3, [False, True, True]])
    weights = weights.masked_fill(src_padding[:, None], 0.0)
    together = guided_attention_loss(weights, src_padding, tgt_padding)
    torch.testing.assert_close(guided_attention_loss(weights, src_padding, tgt_padding, g=0.2), together)
    first = guided_attention_loss(weights[:1], src_padding[:1], tgt_padding[:1])
    second = guided_attention_loss(weights[1:, :1, :4], src_padding[1:, :4], tgt_padding[1:, :1])
    torch.testing.assert_close(together, (3 * first + second) / 4)


def test_guidance_adds_its_share_and_none_adds_nothing():
    model, batch = a_model("content"), some_batch()
    gold = cross_entropy(model, batch)
    torch.testing.assert_close(guided_loss(model, batch, guidance=0.0), gold)
    away = guided_attention_loss(aligned(model, batch)[1], batch.src_padding, batch.tgt[:, 1:] == Vocab.pad)
    torch.testing.assert_close(guided_loss(model, batch), gold + away)
    torch.testing.assert_close(guided_loss(model, batch, guidance=3.0), gold + 3 * away)


def test_guidance_alone_teaches_the_diagonal():
    batch, model = some_batch(), a_model("content")
    watched = Watched(guidance=1.0, batch=batch)
    optimizer = torch.optim.Adam(model.decoder.attention.parameters(), lr=0.05)
    before = guided_attention_loss(aligned(model, batch)[1], batch.src_padding, batch.tgt[:, 1:] == Vocab.pad)
    for _ in range(51):
        loss = watched(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(watched.shares) == 2 and watched.shares[1] < watched.shares[0]
    assert watched.shares[0] == pytest.approx(before.item())


def test_recordings_are_what_they_say():
    for e in recordings(50, 3, 6, seed=0, noise=0.0):
        runs = [(symbol, len(list(run))) for symbol, run in groupby(e.source)]
        assert tuple(symbol for symbol, _ in runs) == e.target
        assert all(2 <= length <= 4 for _, length in runs) and 3 <= len(e.target) <= 6
    noisy = recordings(200, 12, 12, seed=0, noise=0.5)
    clean = recordings(200, 12, 12, seed=0, noise=0.0)
    assert recordings(5, 3, 6, seed=1) == recordings(5, 3, 6, seed=1) != recordings(5, 3, 6, seed=2)
    assert sum(len(e.source) for e in noisy) == pytest.approx(sum(len(e.source) for e in clean), rel=0.05)
    assert all(a != b for e in noisy for a, b in itertools.pairwise(e.target))
    assert any(e.target[i] == e.target[i + 2] for e in noisy for i in range(10)), "only neighbours differ"
    assert {len(spoken("a", random.Random(seed))) for seed in range(50)} == {2, 3, 4}
    usual = recordings(300, 12, 12, seed=0)
    others = [frame != "a" for seed in range(3000) for frame in spoken("a", random.Random(seed))]
    assert np.mean(others) == pytest.approx(0.1 * 19 / 20, abs=0.015)  # the noise may say the symbol itself
    runs = [length == 1 for e in usual for length in (len(list(run)) for _, run in groupby(e.source))]
    assert 0.1 < np.mean(runs) < 0.4  # a drowned frame stands alone


def test_edits_are_named_from_the_listeners_side():
    gold = [Example(("x",), (tuple("abcd"),)), Example(("x",), (tuple("abcd"),))]
    none = dict.fromkeys(("omitted", "added", "wrong", "repeated"), 0)
    assert count_edits([list("acd"), list("abcd")], gold) == none | {"omitted": 1 / 8}
    assert count_edits([list("abccd"), list("abxd")], gold) == none | {"added": 1 / 8, "wrong": 1 / 8}
    with pytest.raises(ValueError, match="zip"):
        count_edits([list("abcd")], gold)
    assert count_edits([list("abcdabcd"), list("abcd")], gold) == none | {"added": 4 / 8, "repeated": 2 / 8}


def test_a_symbol_is_repeated_where_it_ends_three_that_were_said_before():
    for said in ("", "a", "ab", "abc", "abcacb", "aabb"):
        assert repeats(said) == 0
    for length in (3, 5, 7):
        once = SYMBOLS[:length]
        assert repeats(once * 3) == 3 * length - 2 - length  # all threes but the first `length` different ones
        assert repeats([*once, "x", "y", *once]) == length - 2


@pytest.fixture
def few(monkeypatch):
    """Studies on little data."""
    words = corpora.pronunciations()
    small = SimpleNamespace(train=words.train[:300], validation=words.validation[:21], test=words.test[:13])
    monkeypatch.setattr(corpora, "pronunciations", lambda: small)
    monkeypatch.setattr(guided_attention, "recordings", lambda count, *rest, **more: recordings(
        min(count, 200 if rest[0] == 4 else 5), *rest, **more))
    return small


def test_a_study_replays_itself_and_scores_every_length(few):
    settings = {"attention": "location", "guidance": 1.0, "steps": 3}
    result, again = frames_study(**settings, seed=1), frames_study(**settings, seed=1, until=2)
    assert result["losses"][:2] == again["losses"] and set(again) == {"losses"}
    assert frames_study(**settings, seed=2, until=2)["losses"] != again["losses"]
    for n in map(str, TESTED):
        scored = result.pop(n)
        assert scored["error"] == pytest.approx(scored["omitted"] + scored["added"] + scored["wrong"])
        assert scored["repeated"] >= 0
    chosen = frames_study(**settings, seed=1, split="validation")
    assert chosen == result  # the tested messages change nothing of what the choice rests on
    for setting in ({"attention": "monotone"}, {"attention": "content", "split": "train"}):
        with pytest.raises(ValueError, match=r"monotonic|validation"):
            frames_study(**setting)


def test_the_study_of_words_chooses_on_validation_and_keeps_every_test_word(few):
    settings = {"attention": "content", "guidance": 0.5, "steps": 3}
    result, again = words_study(**settings, seed=1), words_study(**settings, seed=1, until=2)
    assert result["losses"][:2] == again["losses"] and set(again) == {"losses"}
    words = words_of([result])
    assert len(words) == len(few.test)
    assert result["per"] == pytest.approx(words[:, 0].sum() / words[:, 1].sum())
    chosen = words_study(**settings, seed=1, split="validation")
    assert set(chosen) == {"losses", "off_diagonal", "validation"}
    assert all(chosen[key] == result[key] for key in chosen)
    assert words_study(attention="content", steps=3, seed=1)["losses"] != result["losses"], "guidance is in the loss"
    few.validation = few.validation[:7]
    assert words_study(**settings, seed=1)["validation"] != result["validation"]
    with pytest.raises(ValueError, match="validation"):
        words_study(attention="content", split="train")


def test_what_is_written_may_be_longer_than_what_is_right(few, monkeypatch):
    asked = []
    monkeypatch.setattr(guided_attention, "transduce", lambda model, sources, *vocabs, max_len: [
        asked.append(max_len) or ["a"] for _ in sources])
    frames_study(attention="content", steps=1)
    assert set(asked) == {2 * n + 10 for n in TESTED}
    asked.clear()
    words_study(attention="content", steps=1)
    assert set(asked) == {30} and max(len(t) for e in few.test for t in e.targets) < 30


def test_the_plans_are_on_record_and_train_as_they_did():
    for study in (FRAMES, WORDS, WEIGHTS):
        assert [row["settings"] for row in study.rows()] == [plain(settings) for settings in study.plan()]
    assert all({str(n) for n in TESTED} <= row["result"].keys() for row in FRAMES.rows())
    assert TESTED[1] == 12  # the longest message of the training
    FRAMES.replay(FRAMES.settings[3] | {"seed": 1})
    WORDS.replay(WORDS.settings[0] | {"seed": 2})


def test_a_weight_is_tried_as_its_study_trains_it(few):
    for task, run in {"frames": frames_study, "words": words_study}.items():
        tried = weight_study(task=task, attention="location", guidance=10.0, seed=3, until=2)
        assert tried == run(attention="location", guidance=10.0, seed=3, until=2)
        assert tried != run(attention="location", seed=3, until=2)
    with pytest.raises(ValueError, match="words"):
        weight_study(task="word", attention="location", guidance=1.0)


def test_the_weight_of_the_guidance_is_the_best_on_validation_data_and_its_seed_is_not_reported():
    assert not set(WEIGHTS.seeds) & {*FRAMES.seeds, *WORDS.seeds}
    for task, study in {"frames": FRAMES, "words": WORDS}.items():
        for guided in (setting for setting in study.settings if "guidance" in setting):
            rows = [row for row in WEIGHTS.rows()
                    if (row["settings"]["task"], row["settings"]["attention"]) == (task, guided["attention"])]
            best = min(rows, key=lambda row: row["result"]["validation"])
            assert len(rows) == 3 and guided["guidance"] == best["settings"]["guidance"]


@pytest.mark.parametrize("kind", KINDS)
def test_search_writes_and_says_where_it_looked(kind):
    model = a_model(kind)
    batch = some_batch()
    found = greedy_search(model, batch.src, batch.src_padding, max_len=5)
    assert found.weights.shape == (*found.tokens.shape, batch.src.shape[1])


def test_a_model_has_the_attention_asked_for():
    vocab = Vocab(SYMBOLS)
    for make in ATTENTIONS.values():
        assert type(directed_model(vocab, vocab, attention=make).decoder.attention) is make
