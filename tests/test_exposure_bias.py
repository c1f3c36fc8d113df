"""Prefixes of gold and of the model's own, minimum risk, and what is measured on them."""

import itertools
import math

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein
from torch.nn import functional as F

from seq2seq.attention import attention_model
from seq2seq.encoder_decoder import Decoder, greedy_search
from seq2seq.exposure_bias import (
    COUNTED,
    DECAYS,
    DIGITS,
    HEARD,
    POSITIONS,
    PREFIXES,
    RISKS,
    SAMPLED,
    ScheduledSampling,
    by_position,
    candidates_of,
    continued,
    count_scores,
    counting,
    curves,
    decay,
    drawn,
    edit_cost,
    expected_cost,
    exponential,
    follower,
    in_passes,
    inverse_sigmoid,
    linear,
    minimum_risk,
    own_places,
    recovery,
    sequential,
    word_model,
    word_study,
)
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.training import train_step
from seq2seq.rnn import vocabularies
from seq2seq.sequences import Batch, Vocab, collate
from seq2seq.teacher_forcing import cross_entropy
from seq2seq.transformer import transformer_model

LETTERS, PHONES = Vocab("abcdefg"), Vocab("ABCDE")
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def models():
    return {
        "follower": follower(LETTERS, 5, 7),
        "attention": attention_model(LETTERS, LETTERS, 6, 10),
        "transformer": transformer_model(LETTERS, LETTERS, 30, 5),
    }


NAMES = tuple(models())


@pytest.fixture
def batch():
    return collate([([4, 5, 6, 7], [5, 6, 7, 8, 9]), ([8], [4, 4]), ([9, 4, 5], [7, 5, 4])])


def gradients(model, value):
    return torch.autograd.grad(value, list(model.parameters()), allow_unused=True)


# --- the task and its model


def test_a_count_goes_up_by_one_and_is_heard_right_as_often_as_promised():
    heard, said = (np.array(side) - 4 for side in zip(*counting(3000, 5), strict=True))
    assert said.shape == heard.shape == (3000, COUNTED)
    assert ((said[:, 1:] - said[:, :-1]) % 10 == 1).all()
    assert abs((heard == said).mean() - HEARD) < 0.01
    wrong = (heard - said)[heard != said] % 10
    assert (np.bincount(wrong, minlength=10)[1:] / len(wrong)).std() < 0.01   # each of nine alike
    assert np.bincount(said[:, 0], minlength=10).min() > 230
    assert counting(4, 1) == counting(4, 1) != counting(4, 2)


def test_the_follower_steps_as_it_runs_and_padding_changes_nothing(batch):
    model = follower(LETTERS, 5, 7)
    memory = model.encoder(batch.src, batch.src_padding)
    tgt_in = batch.tgt[:, :-1]
    together = model.decoder(tgt_in, memory)
    close(Decoder.forward(model.decoder, tgt_in, memory), together)
    wide = Batch(F.pad(batch.src, (0, 2)), F.pad(batch.tgt, (0, 2)), F.pad(batch.src_padding, (0, 2), value=True))
    close(model(wide)[:, : together.shape[1]], together)
    alone = collate([([8], [4, 4])])
    close(model(alone)[0], model(batch)[1, :3])


def test_the_follower_hears_nothing_of_what_comes_later(batch):
    model = follower(LETTERS, 5, 7)
    other = Batch(batch.src.clone(), batch.tgt, batch.src_padding)
    other.src[0, 2] = 10
    same = (model(batch)[0] == model(other)[0]).all(dim=-1)
    assert same[:2].all() and not same[2:].any()


def test_targets_that_do_not_go_with_their_sources_are_refused(batch):
    model = follower(LETTERS, 5, 7)
    with pytest.raises(ValueError, match="do not go with"):
        model.decoder(batch.tgt[1:, :-1], model.encoder(batch.src, batch.src_padding))


# --- the schedules


def test_schedules_start_at_gold_fall_and_stay_probabilities():
    steps = 500
    for kind in DECAYS:
        share = decay(kind, steps)
        values = [share(i) for i in range(0, 3 * steps, 7)]
        assert values[0] == pytest.approx(1, abs=0.03)
        assert all(a >= b for a, b in itertools.pairwise(values)) and 0 <= values[-1] < 0.2
        assert share(steps / 2) == pytest.approx(0.5, abs=1e-6), kind


def test_schedules_are_the_papers_formulas():
    assert linear(3, slope=0.1) == pytest.approx(0.7)
    assert linear(30, slope=0.1, lowest=0.25) == 0.25
    assert exponential(3, k=0.9) == pytest.approx(0.729)
    assert inverse_sigmoid(7, k=5) == pytest.approx(5 / (5 + math.exp(7 / 5)))
    assert inverse_sigmoid(10**6, k=3) == pytest.approx(0, abs=1e-300)     # no overflow
    with pytest.raises(ValueError, match="none of"):
        decay("square", 10)
    with pytest.raises(ValueError, match="steps"):
        decay("linear", 0)


# --- which tokens are the model's own


def test_a_coin_a_token_is_binomial_and_a_coin_a_sentence_is_all_or_nothing():
    T, p = 7, 0.3
    tgt_in = torch.full((20_000, T + 1), 5)
    tgt_in[:, 0] = Vocab.bos
    token = own_places(tgt_in, p)
    assert (token[:, 0] == 0).all()
    n = token.sum(dim=1)
    expected = [math.comb(T, k) * p**k * (1 - p) ** (T - k) for k in range(T + 1)]
    close(torch.bincount(n, minlength=T + 1) / len(n), torch.tensor(expected), atol=0.015, rtol=0)
    sentence = own_places(tgt_in, p, "sentence").sum(dim=1)
    assert set(sentence.tolist()) == {0, T}
    assert (sentence == T).float().mean().item() == pytest.approx(p, abs=0.015)


@pytest.mark.parametrize("flip", ["token", "sentence"])
def test_bos_and_padding_are_never_replaced(batch, flip):
    tgt_in = batch.tgt[:, :-1]
    own = own_places(tgt_in, 1.0, flip)
    assert torch.equal(own, (tgt_in != Vocab.bos) & (tgt_in != Vocab.pad))
    assert not own_places(tgt_in, 0.0, flip).any()


def test_drawn_words_are_never_special_and_follow_the_distribution():
    logits = torch.tensor([9.0, 9.0, 9.0, 0.0, 1.0, 2.0], requires_grad=True).expand(40_000, -1)
    ids = drawn(logits)
    assert not ids.is_floating_point() and set(ids.tolist()) == {3, 4, 5}
    shares = torch.bincount(ids, minlength=6)[3:] / len(ids)
    close(shares, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.01, rtol=0)
    assert (drawn(logits, best=True) == 5).all()
    assert logits[0, 0] == 9      # the scores are left as they were


# --- the prefixes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("passes", [0, 1, 3])
def test_probability_zero_is_teacher_forcing_to_the_bit(name, passes, batch):
    model = models()[name]
    loss = ScheduledSampling(lambda step: 1.0, passes=passes)
    ours, theirs = loss(model, batch), cross_entropy(model, batch)
    assert ours.item() == theirs.item()
    for mine, other in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        assert (mine is None and other is None) or torch.equal(mine, other)


@pytest.mark.parametrize("name", NAMES)
def test_probability_one_is_running_free_token_by_token(name, batch):
    model = models()[name]
    with torch.no_grad():
        for layer in [model.decoder.output]:
            layer.bias[[Vocab.eos, Vocab.pad, Vocab.bos]] = -50.0       # it never stops
    logits = sequential(model, batch, 1.0, best=True)
    free = greedy_search(model, batch.src, batch.src_padding, logits.shape[1]).tokens
    said = logits.argmax(dim=-1)
    for row, length in zip(range(3), (6, 3, 4), strict=True):       # up to the gold's own EOS
        assert said[row, :length].tolist() == free[row, :length].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_few_gold_tokens_between_are_read_as_gold(name, batch, monkeypatch):
    """With fixed coins and the most probable tokens, the prefix can be written by hand."""
    model = models()[name]
    own = torch.tensor([[0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]]).bool()
    monkeypatch.setattr("seq2seq.exposure_bias.own_places", lambda *_: own)
    gold, memory = batch.tgt[:, :-1], model.encoder(batch.src, batch.src_padding)
    prefix = gold.clone()
    for t in range(1, gold.shape[1]):
        said = drawn(model.decoder(prefix[:, :t], memory)[:, -1], best=True)
        prefix[:, t] = torch.where(own[:, t], said, gold[:, t])
    close(sequential(model, batch, 0.5, best=True), model.decoder(prefix, memory), atol=1e-5, rtol=0)
    many = in_passes(model, batch, 0.5, passes=gold.shape[1], best=True)
    close(many, model.decoder(prefix, memory), atol=1e-5, rtol=0)


def test_one_further_pass_reads_what_was_said_after_gold(batch):
    model = models()["transformer"]
    memory, gold = model.encoder(batch.src, batch.src_padding), batch.tgt[:, :-1]
    said = drawn(model.decoder(gold, memory), best=True)
    mixed = gold.clone()
    for row in range(len(gold)):
        for t in range(1, gold.shape[1]):
            if gold[row, t] != Vocab.pad:
                mixed[row, t] = said[row, t - 1]
    close(in_passes(model, batch, 1.0, best=True), model.decoder(mixed, memory))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("passes", [0, 2])
def test_padding_changes_nothing(name, passes, batch):
    model = models()[name]
    wide = Batch(F.pad(batch.src, (0, 2)), F.pad(batch.tgt, (0, 3)), F.pad(batch.src_padding, (0, 2), value=True))
    losses = [ScheduledSampling(lambda step: 0.0, best=True, passes=passes)(model, b).item() for b in (batch, wide)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("passes", [0, 1])
def test_the_loss_counts_its_steps_and_every_token_that_is_no_padding(batch, passes):
    model, asked = models()["attention"], []
    loss = ScheduledSampling(lambda step: asked.append(step) or 0.5, best=True, passes=passes)
    values = [loss(model, batch) for _ in range(3)]
    assert asked == [0, 1, 2] and all(v.isfinite() for v in values)
    free = ScheduledSampling(lambda step: 0.0, best=True, passes=passes)(model, batch)
    way = sequential(model, batch, 1.0, best=True) if not passes else in_passes(model, batch, 1.0, best=True)
    gold = batch.tgt[:, 1:]
    by_hand = -way.log_softmax(-1).gather(2, gold[..., None])[..., 0][gold != Vocab.pad].mean()
    assert free.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_the_options_reach_the_prefixes(batch, monkeypatch):
    seen = []
    real = own_places

    def noted(tgt_in, p, flip):
        seen.append((p, flip))
        return real(tgt_in, p, flip)

    monkeypatch.setattr("seq2seq.exposure_bias.own_places", noted)
    for passes in (0, 2):
        ScheduledSampling(lambda step: 0.25, flip="sentence", passes=passes)(models()["follower"], batch)
    assert seen == [(0.75, "sentence")] * 2


def test_a_training_step_of_each_kind_moves_every_weight_and_stays_finite(batch):
    losses = [ScheduledSampling(lambda step: 0.3), ScheduledSampling(lambda step: 0.3, passes=2), minimum_risk]
    for loss in losses:
        model = models()["attention"]
        before = [w.clone() for w in model.parameters()]
        train_step(model, batch, torch.optim.Adam(model.parameters(), 0.01), loss)
        assert all(w.isfinite().all() for w in model.parameters())
        assert any((w != b).any() for w, b in zip(model.parameters(), before, strict=True))


def test_forward_and_backward_run_without_numbers():
    model = attention_model(LETTERS, LETTERS, 6, 10).to("meta")
    batch = collate([([4, 5], [5, 6])]).to("meta")
    for passes in (0, 2):
        ScheduledSampling(lambda step: 0.5, passes=passes)(model, batch).backward()


@pytest.mark.parametrize("way", [sequential, in_passes])
def test_doors_of_the_prefixes(way, batch):
    model = models()["follower"]
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            way(model, batch, p)
    with pytest.raises(ValueError, match="none of"):
        way(model, batch, 0.5, flip="batch")
    with pytest.raises(ValueError, match="passes"):
        in_passes(model, batch, 0.5, 0)
    with pytest.raises(ValueError, match="passes"):
        ScheduledSampling(lambda step: 1.0, passes=-1)
    with pytest.raises(ValueError, match="none of"):
        ScheduledSampling(lambda step: 1.0, flip="word")


# --- minimum risk


def every_output(length=3, symbols=(4, 5)):
    return [
        (*y, *end)
        for n in range(length + 1)
        for y in itertools.product(symbols, repeat=n)
        for end in ([()] if n == length else [(Vocab.eos,)])
    ]


@pytest.mark.parametrize("name", ["follower", "attention"])
def test_the_risk_of_all_outputs_is_the_expected_cost_and_so_is_its_gradient(name):
    model = {"follower": follower(PHONES, 5, 7), "attention": attention_model(PHONES, PHONES, 6, 10)}[name].double()
    with torch.no_grad():
        model.decoder.output.bias[[0, 1, 3, 6, 7, 8]] = -1e9
    batch, outputs = collate([([4, 5], [4, 5])]), every_output()
    costs = [edit_cost(y, (4, 5, Vocab.eos)) for y in outputs]

    total = 0.0           # token by token, without the chapter's code
    memory = model.encoder(batch.src, batch.src_padding)
    for y, cost in zip(outputs, costs, strict=True):
        state, token, log_p = model.decoder.init_state(memory), torch.tensor([Vocab.bos]), 0.0
        for i in y:
            logits, state, _ = model.decoder.step(token, state)
            log_p = log_p + logits.log_softmax(-1)[0, i]
            token = torch.tensor([i])
        total = total + log_p.exp() * cost
    risk = expected_cost(model, batch, [outputs], [costs])
    close(risk, total)
    for mine, other in zip(gradients(model, risk), gradients(model, total), strict=True):
        if mine is not None:
            close(mine, other, atol=1e-9, rtol=1e-5)


def test_each_source_has_a_risk_of_its_own_and_alpha_sharpens(batch):
    model = models()["attention"]
    few = [[(5, 2), (6, 2, )], [(4, 4, 2)], [(7, 2), (7, 5, 4, 2), (8, 8, 2)]]
    costs = [[0.5, 1.0], [0.25], [1.0, 0.0, 2.0]]
    alone = []
    for i in range(3):
        length = int((~batch.src_padding[i]).sum())
        one = Batch(batch.src[i : i + 1, :length], batch.tgt[i : i + 1], batch.src_padding[i : i + 1, :length])
        alone.append(expected_cost(model, one, few[i : i + 1], costs[i : i + 1]).item())
    assert alone[1] == pytest.approx(0.25)
    assert expected_cost(model, batch, few, costs).item() == pytest.approx(np.mean(alone), abs=1e-6)
    flat = expected_cost(model, batch, few, costs, alpha=1e-6).item()
    assert flat == pytest.approx(np.mean([np.mean(c) for c in costs]), abs=1e-4)


def test_a_constant_added_to_the_costs_changes_no_gradient(batch):
    model = models()["attention"]
    few, costs = [[(5, 2), (6, 2)]] * 3, [[0.5, 1.0]] * 3
    more = [[c + 5 for c in row] for row in costs]
    risks = [expected_cost(model, batch, few, c) for c in (costs, more)]
    assert risks[1].item() == pytest.approx(risks[0].item() + 5, abs=1e-5)
    for mine, other in zip(*(gradients(model, r) for r in risks), strict=True):
        assert mine is None or torch.allclose(mine, other, atol=1e-6)


def test_candidates_are_drawn_once_each_and_gold_is_added_when_asked(batch, monkeypatch):
    model, seen = models()["attention"], []
    found = candidates_of(model, batch, draws=20, max_len=4)
    assert all(len(set(each)) == len(each) <= 20 and max(map(len, each)) <= 4 for each in found)
    monkeypatch.setattr(
        "seq2seq.exposure_bias.expected_cost",
        lambda m, b, candidates, costs, alpha: seen.append((candidates, costs)) or torch.tensor(0.0),
    )
    gold = [(5, 6, 7, 8, 9, 2), (4, 4, 2), (7, 5, 4, 2)]
    for with_gold in (True, False):
        minimum_risk(model, batch, draws=5, max_len=2, with_gold=with_gold)
        candidates, costs = seen.pop()
        assert all((g in each) == with_gold for g, each in zip(gold, candidates, strict=True))
        for g, each, cost in zip(gold, candidates, costs, strict=True):
            assert cost == [Levenshtein.distance(y, g) / len(g) for y in each]
            assert 0 in cost if with_gold else min(cost) > 0


def test_doors_of_the_risk(batch):
    model = models()["follower"]
    for candidates, costs in (([[(5, 2)]], [[1.0]]), ([[(5, 2)], [], [(5, 2)]], [[1.0], [], [1.0]]),
                              ([[(5, 2)]] * 3, [[1.0, 2.0]] * 3)):
        with pytest.raises(ValueError, match="every source needs candidates"):
            expected_cost(model, batch, candidates, costs)
    with pytest.raises(ValueError, match="alpha"):
        expected_cost(model, batch, [[(5, 2)]] * 3, [[1.0]] * 3, alpha=0.0)
    with pytest.raises(ValueError, match="alpha"):
        expected_cost(model, batch, [[(5, 2)]] * 3, [[1.0]] * 3, alpha=math.nan)


# --- what is measured


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_prefix_is_greedy_search_and_a_written_one_is_kept(name, batch):
    model = models()[name].train()
    nothing, stopped = batch.tgt[:, :0], []
    for bias in torch.linspace(-1, 3, 60):        # somewhere some rows stop before the others
        with torch.no_grad():
            model.decoder.output.bias[Vocab.eos] = bias
        free = continued(model, batch.src, batch.src_padding, nothing, max_len=6)
        assert torch.equal(free, greedy_search(model, batch.src, batch.src_padding, 6).tokens)
        stopped.append((free == Vocab.pad).any().item())
    assert any(stopped) or name != "follower"
    with torch.no_grad():
        model.decoder.output.bias[Vocab.eos] = 0.0
    prefix = torch.tensor([[5, 6], [7, 8], [9, 4]])
    found = continued(model, batch.src, batch.src_padding, prefix, max_len=6)
    assert torch.equal(found[:, :2], prefix) and model.training
    tgt_in = F.pad(found[:, :-1], (1, 0), value=Vocab.bos)
    model.eval()
    best = model.decoder(tgt_in, model.encoder(batch.src, batch.src_padding)).detach()
    best[..., [Vocab.pad, Vocab.bos]] = -torch.inf
    shown = found[:, 2:] != Vocab.pad
    assert torch.equal(best.argmax(-1)[:, 2:][shown], found[:, 2:][shown])
    for wrong in (prefix[:2], prefix[0], prefix.repeat(1, 3)):
        with pytest.raises(ValueError, match=r"do not go with|no room"):
            continued(model, batch.src, batch.src_padding, wrong, max_len=6)
    with pytest.raises(ValueError, match="begins after BOS"):
        continued(model, batch.src, batch.src_padding, batch.tgt[:, :2], max_len=6)
    model.decoder.output.bias.data.fill_(math.nan)
    with pytest.raises(ValueError, match="no token a probability"):
        continued(model, batch.src, batch.src_padding, prefix, max_len=6)


def alignments(said, gold):
    """Every way to align with the fewest edits -> which gold symbols are left alone, by brute force."""
    if not said or not gold:
        return len(said) + len(gold), {(False,) * len(gold)}
    ways = []
    for a, b, cost, mark in ((said[1:], gold[1:], said[0] != gold[0], (said[0] == gold[0],)),
                             (said[1:], gold, 1, ()), (said, gold[1:], 1, (False,))):
        edits, marks = alignments(a, b)
        ways.append((edits + cost, {mark + m for m in marks}))
    fewest = min(edits for edits, _ in ways)
    return fewest, set().union(*(marks for edits, marks in ways if edits == fewest))


def test_accuracy_by_position_is_that_of_a_best_alignment():
    rng = np.random.default_rng(0)
    for _ in range(150):
        said = "".join(rng.choice(list("abc"), size=rng.integers(0, 6)))
        gold = "".join(rng.choice(list("abc"), size=rng.integers(1, 6)))
        found = by_position([said], [gold], len(gold))
        assert tuple(found == 1) in alignments(said, gold)[1], (said, gold)


def test_a_shift_counts_once_and_positions_are_of_the_same_rows():
    assert by_position(["xabcd", "abcd"], ["abcd", "abce"], 4).tolist() == [1, 1, 1, 0.5]
    assert by_position(["xabcd"], ["abcd"], 2).tolist() == [1, 1]
    for gold in ([], ["abc", "ab"]):
        with pytest.raises(ValueError, match="positions"):
            by_position(["abc"] * len(gold), gold, 3)


def scripted(write, monkeypatch):
    """`transduce` and `after_gold` of the chapter say what `write` does."""
    monkeypatch.setattr("seq2seq.exposure_bias.transduce", lambda m, sources, *_, **__: [write[s] for s in sources])
    monkeypatch.setattr("seq2seq.exposure_bias.after_gold", lambda m, some, *_: [["A"] * len(e.target) for e in some])


def test_curves_tell_words_with_several_pronunciations_apart(monkeypatch):
    gold, other = tuple("AABBCCDDE"), tuple("ABBBCCDDE")
    examples = [Example("one", (gold,)), Example("two", (gold, other)), Example("short", (gold[:5],)),
                Example("half", (gold, gold[:5]))]
    scripted({"one": list("XAABBCCDDE"), "two": list(other), "half": []}, monkeypatch)
    found = curves(None, examples, None, None)
    assert found["one"]["words"] == found["several"]["words"] == 1
    assert found["one"]["free"] == [1] * POSITIONS == found["one"]["nearest"]
    assert found["one"]["gold"] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert found["several"]["free"] == [1, 0, 1, 1, 1, 1, 1, 1]
    assert found["several"]["nearest"] == [1] * POSITIONS


def test_recovery_writes_one_wrong_sound_and_scores_what_follows(monkeypatch):
    phones, letters = Vocab("ABCDE"), Vocab("abcd")
    gold, seen = "AABBCCDDE", []

    def echo(model, src, padding, prefix, max_len):
        seen.append(prefix)
        rest = torch.tensor(phones.encode(gold[prefix.shape[1] :])).expand(len(prefix), -1)
        return torch.cat([prefix, rest], dim=1)

    monkeypatch.setattr("seq2seq.exposure_bias.continued", echo)
    model = follower(phones)
    found = recovery(model, [Example("abc", (tuple(gold),))] * 40 + [Example("a", (tuple("AB"),))], letters, phones)
    assert found == {"gold": [1] * 5, "wrong": [1] * 5}
    right, wrong = seen
    assert len(right) == 40 and right.tolist() == [phones.encode("AAB")] * 40
    assert (wrong[:, :2] == right[:, :2]).all() and (wrong[:, 2] != right[:, 2]).all()
    assert set(wrong[:, 2].tolist()) == set(phones.encode("ACDE"))      # never a special symbol


def test_the_scores_of_counts_are_those_of_a_model_that_only_counts():
    class Counter(torch.nn.Module):
        """Says the digit after the one it reads, and at first the one it hears."""

        def init_state(self, memory):
            return memory.states[:, 0, 0].long(), torch.zeros(len(memory.states), 1)

        def step(self, token, state):
            from seq2seq.encoder_decoder import Step

            first, t = state
            said = torch.where(token == Vocab.bos, first, (token - 4 + 1) % 10 + 4)
            said = torch.where(t[:, 0] == COUNTED, torch.full_like(said, Vocab.eos), said)
            return Step(100.0 * F.one_hot(said, len(DIGITS)).float(), (first, t + 1))

        def forward(self, tgt_in, memory):
            return Decoder.forward(self, tgt_in, memory)

    model = follower(DIGITS)
    model.decoder = Counter()
    with torch.no_grad():
        model.encoder.embedding.weight[:, 0] = torch.arange(float(len(DIGITS)))
    pairs = counting(4000, 3)
    found = count_scores(model, pairs)
    first = np.mean([heard[0] == said[0] for heard, said in pairs])
    assert found["free"] == pytest.approx([first] * COUNTED)
    assert found["gold"] == pytest.approx([first] + [1.0] * (COUNTED - 1))
    assert found["after gold"] == [1.0] * (COUNTED - 8) and found["after wrong"] == [0.0] * (COUNTED - 8)
    assert len(count_scores(model, pairs[:50], place=3)["after wrong"]) == COUNTED - 3


# --- the study of words


@pytest.fixture
def few_words(monkeypatch):
    words = corpora.pronunciations()
    few = Splits(words.train[:300], words.validation[:400], words.test[:20])
    monkeypatch.setattr(corpora, "pronunciations", lambda: few)


def test_all_prefixes_start_from_the_same_loss_and_what_is_cut_short_is_replayed(few_words):
    firsts = {"GRU": set(), "Transformer": set()}
    for setting in PREFIXES.settings:
        losses = word_study(**setting, steps=1000, until=1)["losses"]
        firsts[setting["model"]].add(round(losses[0], 4))
    assert all(len(first) <= 2 for first in firsts.values())     # inverse sigmoid does not begin at 1


def test_half_gold_falls_to_one_half_where_others_fall_to_nothing(few_words, monkeypatch):
    shares = []

    def noted(share, **options):
        shares.append(([share(step) for step in (0, 2, 4, 8)], options))
        return ScheduledSampling(share, **options)

    monkeypatch.setattr("seq2seq.exposure_bias.ScheduledSampling", noted)
    for prefixes in ("two passes, half gold", "two passes"):
        word_study(prefixes=prefixes, steps=8, until=1)
    assert shares == [([1.0, 0.75, 0.5, 0.5], {"passes": 1}), ([1.0, 0.75, 0.5, 0.0], {"passes": 1})]


def test_minimum_risk_takes_the_last_third_and_every_word_is_scored(few_words, monkeypatch):
    calls = []
    real = minimum_risk

    def noted(model, batch, **options):
        calls.append(options)
        return real(model, batch, draws=2, max_len=5, **options)

    monkeypatch.setattr("seq2seq.exposure_bias.minimum_risk", noted)
    found = word_study(prefixes="risk without gold", steps=6)
    assert calls == [{"with_gold": False}] * 2 and len(found["losses"]) == 6
    assert len(found["edits"]) == len(found["lengths"]) == 20
    assert {"validation", "nats", "curves", "recovery", "per", "wer"} <= found.keys()


def test_both_models_of_words_have_one_size_and_each_its_own_rate():
    letters, phones = vocabularies(corpora.pronunciations().train)
    (gru, its), (transformer, others) = (word_model(name, letters, phones) for name in ("GRU", "Transformer"))
    size, other = (sum(p.numel() for p in model.parameters()) for model in (gru, transformer))
    assert size == pytest.approx(other, rel=0.01)
    assert its == {"lr": 8e-3} and others == {"lr": 3e-3, "warmup": 200}


def test_doors_of_the_study():
    with pytest.raises(ValueError, match="none of"):
        word_study(prefixes="silver")
    with pytest.raises(ValueError, match="none of"):
        word_model("LSTM", LETTERS, PHONES)
    assert {s["prefixes"] for s in PREFIXES.settings} == {"gold", *SAMPLED, *RISKS}
