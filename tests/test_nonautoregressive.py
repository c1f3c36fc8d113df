"""What must hold where all tokens are written at once: no causality, rounds and blanks by hand. Coprime sizes."""

import itertools
import math
from collections import defaultdict
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from seq2seq import nonautoregressive as nat
from seq2seq.encoder_decoder import Hypotheses, Memory, greedy_search
from seq2seq.kit.records import load_weights, words_of
from seq2seq.kit.training import train, train_step
from seq2seq.nonautoregressive import (
    NAT,
    CTCDecoder,
    LengthPredictor,
    NATDecoder,
    cmlm_loss,
    collapse,
    ctc_loss,
    ctc_model,
    ctc_search,
    cut_search,
    distil,
    frames_needed,
    glance_loss,
    mask_predict,
    nat_loss,
    nat_model,
    prefix_beam,
    ranks,
    refine,
    written,
)
from seq2seq.sequences import Vocab, collate, training_batches
from seq2seq.transformer import TransformerEncoder, transformer_model

D, H, V = 30, 5, 11
SRC, TGT = Vocab("abcdefg"), Vocab("ABCDEFG")
close = torch.testing.assert_close
PAIRS = [([4, 5, 6, 7, 8, 9], [4, 5, 9]), ([7], []), ([4, 4, 5], [6, 6, 5, 4, 4]), ([10, 9], [7])]


@pytest.fixture(autouse=True)
def exact():
    """In double precision two ways to one number agree to ten digits, so a comparison can be strict."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shaken(model):
    """The model with no weight at its first value: biases of 0 and gains of 1 hide mistakes."""
    for p in model.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return model.eval()


def a_nat(**options) -> NAT:
    return shaken(nat_model(SRC, TGT, D, H, 2, max_len=9, **options))


def a_ctc(**options):
    return shaken(ctc_model(SRC, TGT, D, H, 2, **options))


def finite(model) -> bool:
    return all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# The decoder

def test_every_position_sees_all_others_and_no_padding():
    decoder = shaken(NATDecoder(V, D, H))
    memory = Memory(torch.randn(2, 3, D), torch.zeros(2, 3, dtype=torch.bool))
    padding = torch.arange(7) >= torch.tensor([[7], [5]])                  # (B, T)
    x = torch.randn(2, 7, D, requires_grad=True)
    for t in range(5):
        [gradient] = torch.autograd.grad(decoder.through(x, memory, padding)[:, t].sum(), x)
        seen = gradient.norm(dim=-1) > 1e-9
        assert (seen == ~padding).all(), t                                 # before and after, but not padding


def test_one_pass_with_a_causal_mask_is_the_autoregressive_decoder():
    """The same weights and layers: a NATDecoder that may look back alone is a TransformerDecoder, step by step."""
    ar = shaken(transformer_model(SRC, TGT, D, H, 2))
    decoder = NATDecoder(len(TGT), D, H, 2).eval()
    decoder.load_state_dict(ar.decoder.state_dict())
    batch = collate(PAIRS)
    memory = ar.encoder(batch.src, batch.src_padding)
    tokens = torch.randint(4, len(TGT), (4, 5))
    for t in range(5):                                                     # as long as t + 1: nothing comes after
        alone = tokens[:, : t + 1]
        together = decoder(alone, memory, torch.zeros_like(alone, dtype=torch.bool))
        if t == 0:
            close(together, ar.decoder(alone, memory))
        else:                                                              # earlier positions have looked ahead
            assert not torch.allclose(together[:, 0], ar.decoder(alone, memory)[:, 0])
    state = ar.decoder.init_state(memory)
    close(decoder(tokens[:, :1], memory, torch.zeros(4, 1, dtype=torch.bool))[:, 0],
          ar.decoder.step(tokens[:, 0], state).logits)


def test_there_is_no_step():
    model = a_nat()
    batch = collate(PAIRS)
    with pytest.raises(TypeError, match="mask_predict"):
        greedy_search(model, batch.src, batch.src_padding)


@pytest.mark.parametrize(("make", "search", "how"), [
    (lambda: a_nat(), mask_predict, {}), (lambda: a_nat(), mask_predict, {"rounds": 3, "candidates": 2}),
    (lambda: a_nat(length="cut"), cut_search, {}), (lambda: a_ctc(), ctc_search, {}),
    (lambda: a_ctc(), ctc_search, {"width": 9})])
def test_company_changes_nothing(make, search, how):
    model = make()
    batch = collate(PAIRS)
    together = search(model, batch.src, batch.src_padding, **how)
    for i, (source, _) in enumerate(PAIRS):
        one = collate([(source, [])])
        alone = search(model, one.src, one.src_padding, **how)
        assert TGT.decode(together.tokens[i].tolist()) == TGT.decode(alone.tokens[0].tolist())
        close(together.scores[i], alone.scores[0].to(together.scores.dtype))


def test_losses_do_not_count_padding():
    model, ctc = a_nat(), a_ctc()
    for loss, which in ((nat_loss, model), (ctc_loss, ctc)):
        parts = [loss(which, collate([pair])) for pair in (PAIRS[0], PAIRS[2])]
        both = loss(which, collate([PAIRS[0], PAIRS[2]]))
        if loss is ctc_loss:
            close(both, (3 * parts[0] + 5 * parts[1]) / 8)
        else:
            tokens = [nat_loss(which, collate([p]), weight=0.0) for p in (PAIRS[0], PAIRS[2])]
            close(nat_loss(which, collate([PAIRS[0], PAIRS[2]]), weight=0.0), (3 * tokens[0] + 5 * tokens[1]) / 8)


# The length

def test_a_length_is_predicted_from_symbols_alone():
    predictor = shaken(LengthPredictor(D, 9))
    states, padding = torch.randn(2, 7, D), torch.arange(7) >= torch.tensor([[7], [3]])
    loud = torch.where(padding[..., None], torch.full_like(states, 1e3), states)
    scores = predictor(Memory(loud, padding))
    assert scores.shape == (2, 10) and predictor.max_len == 9
    close(scores, predictor(Memory(states, padding)))
    close(scores[1:], predictor(Memory(states[1:, :3], padding[1:, :3])))
    assert not torch.allclose(scores[1], predictor(Memory(states[1:, :2], padding[1:, :2]))[0])


def test_a_length_is_learned():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    pairs = [([4 + i % 7] * n, [5] * (n + 1)) for n in range(1, 6) for i in range(20)]
    model = nat_model(SRC, TGT, D, H, 1, max_len=9)
    train(model, training_batches(pairs, 20), 200, loss=partial(nat_loss, weight=1.0), lr=5e-3, warmup=20)
    batch = collate([([4] * n, []) for n in (1, 3, 5)])
    found = mask_predict(model, batch.src, batch.src_padding).tokens
    assert (found != Vocab.pad).sum(dim=1).tolist() == [2, 4, 6]


def test_the_reader_sets_the_length():
    model, batch = a_nat(), collate(PAIRS)
    lengths = torch.tensor([1, 7, 0, 3])
    found = mask_predict(model, batch.src, batch.src_padding, rounds=3, lengths=lengths)
    assert found.tokens.shape == (4, 7)
    assert ((found.tokens != Vocab.pad).sum(dim=1) == lengths).all() and found.scores[2] == 0
    assert not torch.isin(found.tokens[1], torch.tensor([Vocab.bos, Vocab.eos])).any()
    with pytest.raises(ValueError, match="one length for each"):
        mask_predict(model, batch.src, batch.src_padding, lengths=lengths[:2])
    with pytest.raises(ValueError, match="no candidates"):
        mask_predict(model, batch.src, batch.src_padding, lengths=lengths, candidates=2)


def test_candidates_are_the_likeliest_lengths_and_the_surest_is_kept():
    model, batch = a_nat(), collate(PAIRS)
    memory = model.encoder(batch.src, batch.src_padding)
    tops = model.length(memory).topk(3).indices                            # (B, 3)
    kept = mask_predict(model, batch.src, batch.src_padding, rounds=2, candidates=3)
    for i in range(len(PAIRS)):
        one = batch.src[i : i + 1], batch.src_padding[i : i + 1]
        tried = [mask_predict(model, *one, rounds=2, lengths=n[None]) for n in tops[i]]
        means = [-math.inf if n == 0 else t.scores.item() / n.item() for n, t in zip(tops[i], tried, strict=True)]
        best = 0 if tops[i, 0] == 0 else max(range(3), key=means.__getitem__)
        assert TGT.decode(kept.tokens[i].tolist()) == TGT.decode(tried[best].tokens[0].tolist())
        close(kept.scores[i], tried[best].scores[0])


def test_an_empty_candidate_does_not_win_for_free():
    model, batch = a_nat(), collate(PAIRS)
    model.length.score.weight.data.zero_()
    model.length.score.bias.data.copy_(torch.tensor([5.0, 0, 6, 0, 0, 0, 0, 0, 0, 0]))   # 2, then 0
    found = mask_predict(model, batch.src, batch.src_padding, candidates=2)
    assert ((found.tokens != Vocab.pad).sum(dim=1) == 2).all()
    model.length.score.bias.data[0] = 7.0                                                # 0, then 2
    found = mask_predict(model, batch.src, batch.src_padding, candidates=2)
    assert (found.tokens == Vocab.pad).all() and (found.scores == 0).all()


def test_cut_at_the_first_eos():
    model, batch = a_nat(length="cut"), collate(PAIRS)
    found = cut_search(model, batch.src, batch.src_padding)
    memory = model.encoder(batch.src, batch.src_padding)
    bos = torch.full((4, 10), Vocab.bos)
    log_probs = model.decoder(bos, memory, torch.zeros(4, 10, dtype=torch.bool))
    log_probs[..., [Vocab.pad, Vocab.bos]] = -torch.inf
    log_probs = log_probs.log_softmax(dim=-1)
    for i in range(4):
        row, score = [], 0.0
        for t in range(10):
            token = int(log_probs[i, t].argmax())
            row, score = [*row, token], score + log_probs[i, t, token].item()
            if token == Vocab.eos:
                break
        assert found.tokens[i].tolist() == row + [Vocab.pad] * (10 - len(row))
        assert found.scores[i].item() == pytest.approx(score)
    model.decoder.output.bias.data[Vocab.eos] = 100.0                      # EOS at once: an empty output
    found = cut_search(model, batch.src, batch.src_padding)
    assert (found.tokens[:, 0] == Vocab.eos).all() and (found.tokens[:, 1:] == Vocab.pad).all()


def test_nothing_after_eos_is_scored():
    model = a_nat(length="cut")
    gold, padding = model.targets(collate(PAIRS).tgt)
    assert gold.shape == (4, 10) and not padding.any()
    assert gold[1].tolist() == [Vocab.eos] + [Vocab.pad] * 9 and gold[0, :4].tolist() == [4, 5, 9, Vocab.eos]
    logits = model(collate(PAIRS))
    by_hand = F.cross_entropy(logits[gold != 0], gold[gold != 0])
    close(nat_loss(model, collate(PAIRS)), by_hand)
    gold, padding = a_nat().targets(collate(PAIRS).tgt)
    assert not (gold == Vocab.eos).any() and (padding == (gold == Vocab.pad)).all()
    assert (~padding).sum(dim=1).tolist() == [3, 0, 5, 1]


def test_the_loss_is_the_sum_of_its_parts():
    model, batch = a_nat(), collate(PAIRS)
    gold, padding = model.targets(batch.tgt)
    seen = (torch.rand(gold.shape) < 0.5) & ~padding
    memory = model.encoder(batch.src, batch.src_padding)
    logits = model.decoder(torch.where(seen, gold, Vocab.bos), memory, padding).log_softmax(dim=-1)
    asked = ~seen & ~padding
    tokens = -logits.gather(-1, gold[..., None])[..., 0][asked].mean()
    lengths = -model.length(memory).log_softmax(dim=-1)[torch.arange(4), torch.tensor([3, 0, 5, 1])].mean()
    close(nat_loss(model, batch, seen, weight=0.25), tokens + 0.25 * lengths)


# Mask-predict

def by_hand(model, source, n, rounds):
    """One source, one position after the other; hides by sorting, predicts each hidden token from its own pass."""
    one = collate([(source, [])])
    memory = model.encoder(one.src, one.src_padding)
    tokens, probs = [Vocab.bos] * n, [0.0] * n
    for r in range(rounds):
        count = math.floor(n * (rounds - r) / rounds + 1e-9)
        order = sorted(range(n), key=lambda t: (probs[t], t))
        hidden = order[:count]
        shown = [Vocab.bos if t in hidden else tokens[t] for t in range(n)]
        for t in hidden:
            logits = model.decoder(torch.tensor([shown]), memory, torch.zeros(1, n, dtype=torch.bool))[0, t]
            p = logits[3:].softmax(dim=0)                                  # no PAD, BOS or EOS
            tokens[t], probs[t] = 3 + int(p.argmax()), p.max().item()
    return tokens, sum(map(math.log, probs))


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 8])
def test_mask_predict_by_hand(rounds):
    model = a_nat()
    with torch.no_grad():
        model.decoder.output.weight.mul_(0.2)                              # some doubt, or nothing is ever changed
    batch, lengths = collate(PAIRS), torch.tensor([7, 1, 5, 3])
    found = mask_predict(model, batch.src, batch.src_padding, rounds, lengths)
    for i, (source, _) in enumerate(PAIRS):
        n = int(lengths[i])
        tokens, score = by_hand(model, source, n, rounds)
        assert found.tokens[i, :n].tolist() == tokens
        assert found.scores[i].item() == pytest.approx(score)


def test_rounds_hide_the_least_certain_and_ever_fewer():
    model, batch = a_nat(), collate(PAIRS)
    memory = model.encoder(batch.src, batch.src_padding)
    lengths = torch.tensor([7, 0, 5, 3])
    before, counts = None, []
    for now in refine(model.decoder, memory, lengths, 4):
        counts.append(now.hidden.sum(dim=1).tolist())
        if before is not None:
            assert (now.tokens == before.tokens)[~now.hidden].all()        # what is kept is kept
            for row, old, n in zip(now.hidden, before.log_probs, lengths, strict=True):
                if row.any():
                    assert old[row].max() <= old[:n][~row[:n]].min()
        before = now
    assert counts == [[7, 0, 5, 3], [5, 0, 3, 2], [3, 0, 2, 1], [1, 0, 1, 0]]
    with pytest.raises(ValueError, match="rounds"):
        next(refine(model.decoder, memory, lengths, 0))


def test_one_round_is_one_pass():
    model, batch = a_nat(), collate(PAIRS)
    lengths = torch.tensor([3, 2, 5, 1])
    memory = model.encoder(batch.src, batch.src_padding)
    padding = torch.arange(5) >= lengths[:, None]
    logits = model.decoder(torch.full((4, 5), Vocab.bos), memory, padding)[..., 3:]
    found = mask_predict(model, batch.src, batch.src_padding, lengths=lengths).tokens
    assert (found == (logits.argmax(dim=-1) + 3).masked_fill(padding, Vocab.pad)).all()


@pytest.mark.parametrize("training", [True, False])
def test_a_search_leaves_the_model_as_it_was(training):
    batch = collate(PAIRS)
    for model, search in ((a_nat(dropout=0.5), mask_predict), (a_nat(length="cut", dropout=0.5), cut_search),
                          (a_ctc(dropout=0.5), ctc_search)):
        model.train(training)
        first = search(model, batch.src, batch.src_padding)
        assert (first.tokens == search(model, batch.src, batch.src_padding).tokens).all()      # no dropout inside
        assert all(part.training == training for part in model.modules())


# Training

def test_a_lot_numbers_the_tokens_of_each_row():
    gold = collate(PAIRS).tgt[:, 1:].masked_fill(collate(PAIRS).tgt[:, 1:] == Vocab.eos, Vocab.pad)
    n = (gold != Vocab.pad).sum(dim=1).tolist()
    firsts = defaultdict(int)
    for _ in range(200):
        numbers = ranks(gold)
        for row, ids, k in zip(numbers.tolist(), gold.tolist(), n, strict=True):
            assert sorted(row) == list(range(gold.shape[1]))
            assert sorted(r for r, i in zip(row, ids, strict=True) if i) == list(range(k))     # tokens first
        firsts[numbers[2].tolist().index(0)] += 1
    assert set(firsts) == set(range(5)) and min(firsts.values()) > 15                          # each may be first


def seen_by(loss, model, batch, monkeypatch, times=300):
    """What a loss lets the model see, as masks."""
    masks, real = [], nat.nat_loss
    monkeypatch.setattr(nat, "nat_loss", lambda m, b, seen=None, **k: masks.append(seen) or real(m, b, seen, **k))
    for _ in range(times):
        loss(model, batch)
    return torch.stack(masks)


def test_one_to_n_tokens_are_hidden(monkeypatch):
    model, batch = a_nat(), collate(PAIRS)
    _, padding = model.targets(batch.tgt)
    masks = seen_by(cmlm_loss, model, batch, monkeypatch)
    assert not (masks & padding).any()
    hidden = (~masks & ~padding).sum(dim=2)                                # (times, B)
    for row, n in zip(hidden.T, (3, 0, 5, 1), strict=True):
        assert set(row.tolist()) == set(range(1, n + 1)) or (n == 0 and set(row.tolist()) == {0})
    shares = torch.bincount(hidden[:, 2], minlength=6)[1:] / len(hidden)
    assert shares.min() > 0.1                                              # all numbers equally often
    where = masks[:, 2, :5].double().mean(dim=0)
    assert (where.max() - where.min()) < 0.2                               # and all places


def test_a_glance_shows_half_of_what_was_wrong(monkeypatch):
    model, batch = a_nat(), collate(PAIRS)
    gold, padding = model.targets(batch.tgt)
    wrong = ((model(batch).argmax(dim=-1) != gold) & ~padding).sum(dim=1)
    masks = seen_by(glance_loss, model, batch, monkeypatch, 50)
    assert (masks.sum(dim=2) == wrong // 2).all() and wrong.max() >= 3
    assert len({tuple(m[2].tolist()) for m in masks}) > 3                  # by lot, not always the first
    masks = seen_by(lambda m, b: glance_loss(m, b, ratio=0.0), model, batch, monkeypatch, 2)
    assert not masks.any()
    masks = seen_by(lambda m, b: glance_loss(m, b, ratio=1.0), model, batch, monkeypatch, 2)
    assert (masks.sum(dim=2) == wrong).all()


def test_a_model_that_is_right_is_shown_nothing(monkeypatch):
    model = a_nat()
    batch = collate([([4], [5]), ([6, 7], [5, 5, 5])])
    model.decoder.output.bias.data[5] = 1e3
    assert not seen_by(glance_loss, model, batch, monkeypatch, 3).any()


@pytest.mark.parametrize("loss", [nat_loss, cmlm_loss, glance_loss, ctc_loss])
def test_empty_repeated_and_infeasible_targets_leave_finite_gradients(loss):
    make = (lambda: ctc_model(SRC, TGT, D, H, 1, factor=1)) if loss is ctc_loss else lambda: nat_model(
        SRC, TGT, D, H, 1, max_len=9)
    for pairs in (PAIRS, [([4], []), ([5, 6], [])], [([4], [4, 4, 4, 4]), ([5, 6], [4])], [([], [])],
                  [([4], [5, 5])]):
        model = make()
        value = loss(model, collate(pairs))
        value.backward()
        assert value.isfinite() and finite(model), pairs
        train_step(make(), collate(pairs), torch.optim.Adam(model.parameters()), loss)


@pytest.mark.parametrize("loss", [nat_loss, cmlm_loss, glance_loss])
def test_everything_runs_on_meta(loss):
    torch.set_default_dtype(torch.float32)
    model = nat_model(SRC, TGT, D, H, 1, max_len=9).to("meta")
    loss(model, collate(PAIRS).to("meta")).backward()
    assert all(p.grad.device.type == "meta" for p in model.parameters() if p.grad is not None)
    ctc = ctc_model(SRC, TGT, D, H, 1).to("meta")                          # torch has no ctc_loss there
    batch = collate(PAIRS).to("meta")
    logits, padding = ctc.decoder(ctc.encoder(batch.src, batch.src_padding))
    assert logits.shape == (4, 14, len(TGT)) and padding.shape == (4, 14)


def test_the_same_seed_draws_the_same():
    model, batch = a_nat(), collate(PAIRS)
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        values.append(cmlm_loss(model, batch).item())
    torch.manual_seed(6)
    assert values[0] == values[1] != cmlm_loss(model, batch).item()


# Distillation

def test_a_student_learns_what_the_teacher_says():
    teacher = shaken(transformer_model(SRC, TGT, D, H, 1))
    pairs = [*PAIRS, ([5, 5, 5, 5], [9]), ([8], [10, 10])]
    found = distil(teacher, pairs, max_len=7, batch_size=2)
    assert [s for s, _ in found] == [s for s, _ in pairs]
    for source, target in found:
        one = collate([(source, [])])
        row = greedy_search(teacher, one.src, one.src_padding, 7).tokens[0].tolist()
        assert target == (row[: row.index(Vocab.eos)] if Vocab.eos in row else row)
        assert not {Vocab.pad, Vocab.bos, Vocab.eos} & set(target)
    teacher.decoder.output.bias.data[Vocab.eos] = 1e3
    assert [t for _, t in distil(teacher, pairs)] == [[]] * len(pairs)


def test_batches_of_a_teacher_are_those_of_the_pairs():
    torch.set_default_dtype(torch.float32)
    teacher = shaken(transformer_model(SRC, TGT, D, H, 1))
    pairs = [([4 + i % 7, 4 + i % 5, 4 + i % 3][: 1 + i % 3], [4] * (i % 4)) for i in range(23)]
    stream = lambda: itertools.islice(training_batches(pairs, 5, 1), 9)  # noqa: E731
    all_first = list(nat.taught(teacher, stream(), pairs))
    as_needed = list(nat.taught(teacher, stream(), None))
    answers = {tuple(s): t for s, t in distil(teacher, pairs)}
    for plain, a, b in zip(stream(), all_first, as_needed, strict=True):
        assert (a.src == plain.src).all() and (a.tgt == b.tgt).all() and (a.src == b.src).all()
        for src, tgt in zip(a.src.tolist(), a.tgt.tolist(), strict=True):
            source = tuple(src[: src.index(Vocab.eos)])
            assert tgt[1 : tgt.index(Vocab.eos)] == answers[source]


# CTC

def every_path(log_probs):
    """Each output and its probability, by adding up all V^T paths."""
    T, V_ = log_probs.shape
    total = defaultdict(float)
    for path in itertools.product(range(V_), repeat=T):
        total[tuple(collapse(path))] += math.exp(sum(log_probs[t, s].item() for t, s in enumerate(path)))
    return total


def test_runs_become_one_and_blanks_go():
    assert collapse([]) == [] and collapse([0, 0]) == [] and collapse([4, 4, 4]) == [4]
    assert collapse([4, 0, 4]) == [4, 4] and collapse([0, 4, 4, 5, 0, 5, 5, 0]) == [4, 5, 5]
    assert frames_needed([]) == 0 and frames_needed([4, 5, 4]) == 3 and frames_needed([4, 4, 5, 5, 5]) == 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("T", "V_"), [(1, 3), (4, 3), (5, 4), (7, 2)])
def test_prefix_beam_is_exact_with_room_for_all(T, V_, seed):
    log_probs = (2 * torch.randn(T, V_, generator=torch.Generator().manual_seed(seed))).log_softmax(dim=-1)
    total = every_path(log_probs)
    assert sum(total.values()) == pytest.approx(1)
    best = max(total, key=total.get)
    found, score = prefix_beam(log_probs, width=2000)
    assert tuple(found) == best and score == pytest.approx(math.log(total[best]))
    for width in (1, 2, 3):                               # never more than it really has, as some paths are dropped
        found, score = prefix_beam(log_probs, width)
        assert math.exp(score) <= total[tuple(found)] + 1e-9
    log_probs[:, -1] = -torch.inf                         # what is impossible is not tried
    assert V_ - 1 not in prefix_beam(log_probs, 2000)[0]


def test_prefix_beam_where_the_best_path_is_wrong():
    frames = torch.tensor([[0.6, 0.4]] * 2).log()
    found, score = prefix_beam(frames, 2)
    assert found == [1] and math.exp(score) == pytest.approx(0.64)
    assert prefix_beam(frames, 2, least=math.log(0.5))[0] == []
    repeated = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]).log()    # a a, with a blank between
    assert prefix_beam(repeated, 10)[0] == [1, 1]
    with pytest.raises(ValueError, match="width"):
        prefix_beam(frames, 0)


@pytest.mark.parametrize("factor", [1, 2])
def test_ctc_loss_is_the_sum_over_all_paths(factor):
    small = Vocab("A")                                    # five symbols, so that all paths can be listed
    model = shaken(ctc_model(SRC, small, D, H, 1, factor=factor))
    pairs = [([4, 5], [4]), ([6], []), ([7, 8], [4, 4]), ([9], [4, 4, 4, 4])]
    if factor == 2:
        pairs = [(s[:1], t) for s, t in pairs]
    total, tokens = 0.0, 0
    for source, target in pairs:
        one = collate([(source, [])])
        logits, padding = model.decoder(model.encoder(one.src, one.src_padding))
        assert logits.shape[1] == factor * (len(source) + 1) and not padding.any()
        p = every_path(logits[0].log_softmax(dim=-1))[tuple(target)]
        fits = frames_needed(target) <= logits.shape[1]
        assert (p > 0) == fits
        total, tokens = total - (math.log(p) if fits else 0.0), tokens + len(target)
    close(ctc_loss(model, collate(pairs)), torch.tensor(total / tokens))


def test_ctc_search_is_path_by_path():
    model, batch = a_ctc(), collate(PAIRS)
    logits, padding = model.decoder(model.encoder(batch.src, batch.src_padding))
    logits[..., [Vocab.bos, Vocab.eos]] = -torch.inf
    log_probs = logits.log_softmax(dim=-1)
    found = ctc_search(model, batch.src, batch.src_padding)
    wide = ctc_search(model, batch.src, batch.src_padding, width=4)
    for i in range(4):
        frames = log_probs[i][~padding[i]]
        best, path = frames.max(dim=-1)
        output = collapse(path.tolist())
        assert [t for t in found.tokens[i].tolist() if t] == output
        assert found.scores[i].item() == pytest.approx(best.sum().item())
        output, score = prefix_beam(frames, 4)
        assert [t for t in wide.tokens[i].tolist() if t] == output
        assert wide.scores[i].item() == pytest.approx(score)


def test_an_empty_output_has_a_row():
    model, batch = a_ctc(), collate(PAIRS)
    model.decoder.output.bias.data[Vocab.pad] = 1e3
    for width in (0, 3):
        found = ctc_search(model, batch.src, batch.src_padding, width)
        assert len(found.tokens) == 4 and not found.tokens.any()
        assert TGT.decode(found.tokens[0].tolist()) == []


def test_blanks_stand_between_the_letters_own_positions():
    decoder = shaken(CTCDecoder(V, D, H, factor=3))
    memory = Memory(torch.randn(2, 5, D), torch.arange(5) >= torch.tensor([[5], [2]]))
    logits, padding = decoder(memory)
    assert logits.shape == (2, 15, V) and (~padding).sum(dim=1).tolist() == [15, 6]
    assert (padding[1] == (torch.arange(15) >= 6)).all()
    halves = decoder.split(memory.states)
    close(halves.view(2, 15, D)[:, 4], halves[:, 1, D : 2 * D])            # the second of the second letter


# Doors

def test_errors_say_what_to_do():
    batch = collate(PAIRS)
    long = collate([([4], [5] * 12)])
    with pytest.raises(ValueError, match=r"12 tokens does not fit.*9 at most.*max_len"):
        nat_loss(a_nat(), long)
    with pytest.raises(ValueError, match=r"12 tokens does not fit.*9 at most.*max_len"):
        nat_loss(a_nat(length="cut"), long)
    nat_loss(a_nat(), collate([([4], [5] * 9)]))
    nat_loss(a_nat(length="cut"), collate([([4], [5] * 9)]))
    with pytest.raises(ValueError, match="cut_search"):
        mask_predict(a_nat(length="cut"), batch.src, batch.src_padding)
    with pytest.raises(ValueError, match="mask_predict"):
        cut_search(a_nat(), batch.src, batch.src_padding)
    with pytest.raises(ValueError, match="candidates"):
        mask_predict(a_nat(), batch.src, batch.src_padding, candidates=0)
    with pytest.raises(ValueError, match="predicted"):
        nat_model(SRC, TGT, D, H, length="guessed")
    with pytest.raises(ValueError, match="factor"):
        ctc_model(SRC, TGT, D, H, factor=0)
    with pytest.raises(ValueError, match="max_len"):
        LengthPredictor(D, 0)
    with pytest.raises(ValueError, match="length"):
        NAT(TransformerEncoder(9, D, H), NATDecoder(9, D, H), 0)
    decoder = NATDecoder(V, D, H)
    memory = Memory(torch.randn(2, 3, D), torch.zeros(2, 3, dtype=torch.bool))
    bos = torch.full((2, 4), Vocab.bos)
    for padding in (torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match="padding must be boolean"):
            decoder(bos, memory, padding)
    gold, _ = a_nat().targets(batch.tgt)
    for seen in (torch.zeros(1, 1).bool(), torch.zeros(gold.shape), torch.zeros(gold.shape[1]).bool()):
        with pytest.raises(ValueError, match="seen must be boolean"):
            nat_loss(a_nat(), batch, seen)
    for ratio in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="no share from 0 to 1"):
            glance_loss(a_nat(), batch, ratio)
    with pytest.raises(ValueError, match="max_len is 9"):
        mask_predict(a_nat(), batch.src, batch.src_padding, candidates=11)
    for lengths in (torch.tensor([1, 2, -1, 0]), torch.tensor([1.0, 2, 3, 0])):
        with pytest.raises(ValueError, match="0 or more"):
            mask_predict(a_nat(), batch.src, batch.src_padding, lengths=lengths)
    for size in (0, -1):
        with pytest.raises(ValueError, match="batch_size"):
            distil(transformer_model(SRC, TGT, D, H, 1), PAIRS, batch_size=size)
    with pytest.raises(ValueError, match="not the text 'bad'"):
        written(partial(mask_predict, a_nat()), "bad", SRC, TGT, torch.device("cpu"))
    with pytest.raises(ValueError, match="none of"):
        nat.loss_of("NAR")
    for log_probs in (torch.full((2, V), math.nan), torch.zeros(2, V)):
        with pytest.raises(ValueError, match="no symbol has a log-probability above"):
            prefix_beam(log_probs, least=0.0)


def test_a_model_of_nan_writes_nothing():
    batch, lengths = collate(PAIRS), torch.tensor([2, 1, 3, 1])
    for model, search in (
        (a_nat(), lambda m: mask_predict(m, batch.src, batch.src_padding, lengths=lengths)),
        (a_nat(length="cut"), lambda m: cut_search(m, batch.src, batch.src_padding)),
        (a_ctc(), lambda m: ctc_search(m, batch.src, batch.src_padding)),
        (a_ctc(), lambda m: ctc_search(m, batch.src, batch.src_padding, width=2)),
    ):
        model.decoder.norm.weight.data.fill_(math.nan)
        with pytest.raises(ValueError, match="no token a probability"):
            search(model)


def test_words_are_written_in_their_order():
    torch.set_default_dtype(torch.float32)
    model = a_nat()
    sources = ["abc", "", "gfedcba", "b"]
    search = lambda src, padding: mask_predict(model, src, padding, rounds=2)  # noqa: E731
    found = written(search, sources, SRC, TGT, torch.device("cpu"), batch_size=3)
    for source, said in zip(sources, found, strict=True):
        one = collate([(SRC.encode(source), [])])
        assert said == TGT.decode(search(one.src, one.src_padding).tokens[0].tolist())


# The studies' machinery

def test_every_system_can_be_made_trained_and_asked(monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(nat, "SIZE", {"width": D, "heads": H, "layers": 1})
    batch = collate(PAIRS)
    for system in nat.BUILDERS:
        model = nat.made(system, SRC, TGT)
        nat.loss_of(system)(model, batch).backward()
        assert finite(model)
        tokens = nat.search_of(system, model, rounds=2, candidates=1)(batch.src, batch.src_padding).tokens
        assert len(tokens) == 4
    deep = nat.made("AR, 6 + 1 layers", SRC, TGT)
    assert len(deep.encoder.layers) == 6 and len(deep.decoder.layers) == 1
    with pytest.raises(ValueError, match="NAT"):
        nat.made("something", SRC, TGT)


def test_timed_models_write_as_much_as_gold_has(monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(nat, "SIZE", {"width": D, "heads": H, "layers": 1})
    batch = collate([p for p in PAIRS if p[1]])
    for name, (system, how) in nat.TIMED.items():
        model = nat.made(system, SRC, TGT)
        tokens = nat.as_long_as_gold(system, model, **how)(batch).tokens
        if system.startswith("AR"):
            assert tokens.shape[1] == 6 and not (tokens == Vocab.eos).any(), name       # five tokens and EOS's step
        elif system != "CTC":
            assert (tokens != Vocab.pad).sum(dim=1).tolist() == [3, 5, 1], name
    took = nat.milliseconds({"nothing": lambda b: type("H", (), {"tokens": b.src})}, [batch], 2)
    assert 0 < took["nothing"] < 50


def test_a_time_is_that_of_a_source_and_the_best_of_the_passes(monkeypatch):
    clock = iter([0.0, 8.0, 10.0, 12.0, 20.0, 26.0])     # starts and ends: 8, 2 and 6 seconds
    monkeypatch.setattr(nat.time, "perf_counter", lambda: next(clock))
    batch = collate(PAIRS)
    assert nat.milliseconds({"four words": lambda b: Hypotheses(b.src, None)}, [batch], 3) == {"four words": 500.0}


def test_timed_ctc_takes_the_best_path_unless_told_otherwise():
    batch, model = collate([p for p in PAIRS if p[1]]), a_ctc()
    close(nat.as_long_as_gold("CTC", model)(batch).scores, ctc_search(model, batch.src, batch.src_padding).scores)
    close(nat.search_of("CTC", model)(batch.src, batch.src_padding).scores,
          ctc_search(model, batch.src, batch.src_padding).scores)


def test_sizes_are_those_of_the_page_where_none_are_given():
    model = ctc_model(SRC, TGT, D, H)
    assert model.decoder.factor == 2 and len(model.encoder.layers) == len(model.decoder.layers) == 2
    model = nat_model(SRC, TGT, D, H)
    assert model.length.max_len == 40 and len(model.encoder.layers) == len(model.decoder.layers) == 2


@pytest.fixture
def few_words(monkeypatch):
    torch.set_default_dtype(torch.float32)
    words, letters, phones, pairs = nat.task()
    few = words._replace(validation=words.validation[:12], test=words.test[:15])
    monkeypatch.setattr(nat, "task", lambda: (few, letters, phones, pairs[:60]))
    monkeypatch.setattr(nat, "SIZE", {"width": D, "heads": H, "layers": 1})
    nat.system_trained.cache_clear()
    yield few
    nat.system_trained.cache_clear()


def test_each_system_is_timed_at_each_size_and_a_replay_knows_the_models(few_words, monkeypatch):
    for name, (system, how) in nat.TIMED.items():
        assert name == system + (f", {how['rounds']} rounds" if "rounds" in how else "") + (
            f", beam of {how['beam']}" if "beam" in how else "")
    for row in nat.LATENCY.rows():
        took = row["result"]["milliseconds"]
        assert took.keys() == nat.TIMED.keys() and all(list(each) == ["1", "8", "64"] for each in took.values())
    assert nat.AT_ONCE == (1, 8, 64)
    monkeypatch.setattr(nat, "AT_ONCE", (5, 12))
    found = nat.latency_study(passes=1)
    assert found["milliseconds"].keys() == nat.TIMED.keys() and len(found["losses"]) == len(nat.BUILDERS)
    assert all(set(took) == {"5", "12"} and min(took.values()) > 0 for took in found["milliseconds"].values())
    assert nat.latency_study(until=2) == {"losses": found["losses"][:2]}


def test_a_study_trains_writes_and_scores_each_word(few_words, monkeypatch):
    asked, real = [], nat.search_of

    def noted(system, model, rounds, candidates, beam):
        asked.append((rounds, candidates, beam))
        return real(system, model, rounds, candidates, beam)

    monkeypatch.setattr(nat, "search_of", noted)
    found = nat.systems_study(system="mask-predict", rounds=2, steps=2)
    assert asked[:2] == [(2, 1, 0), (2, 5, 0)] and asked[2] == (2, found["candidates"], 0)
    assert found["candidates"] == min((1, 5), key=lambda c: found["validation"][str(c)])
    edits = words_of([found])
    assert len(edits) == len(few_words.test) and found["per"] == pytest.approx(edits[:, 0].sum() / edits[:, 1].sum())
    assert found["wer"] == pytest.approx((edits[:, 0] > 0).mean()) and found["loss"] == pytest.approx(
        sum(found["losses"]) / 2)
    for system in ("AR", "CTC", "NAT, cut at EOS"):
        assert nat.systems_study(system=system, steps=1)["validation"].keys() == {"1"}


def test_a_study_is_its_seeds_and_its_replay_is_its_beginning(few_words):
    first = nat.systems_study(system="CTC", steps=3)["losses"]
    nat.system_trained.cache_clear()
    assert nat.systems_study(system="CTC", steps=3, until=2) == {"losses": first[:2]}
    assert nat.systems_study(system="CTC", steps=3, seed=1, until=1)["losses"] != first[:1]


def test_a_distilled_study_learns_what_the_teacher_says(few_words, monkeypatch):
    _, letters, phones, _ = nat.task()
    teacher = nat.made("AR", letters, phones)
    monkeypatch.setattr(nat, "load_weights", lambda name: teacher.state_dict())
    learned, real = [], nat.loss_of("NAT")
    monkeypatch.setitem(nat.LOSSES, "NAT", lambda model, batch: learned.append(batch) or real(model, batch))
    for until in (None, 1):
        nat.system_trained("NAT", True, 1, 0, until)
        for source, target in zip(learned[-1].src.tolist(), learned[-1].tgt.tolist(), strict=True):
            [(_, said)] = distil(teacher, [(source[: source.index(Vocab.eos)], [])])
            assert target[1 : target.index(Vocab.eos)] == said


def test_the_teacher_on_record_speaks():
    torch.set_default_dtype(torch.float32)
    _, letters, phones, _ = nat.task()
    teacher = nat.made("AR", letters, phones)
    teacher.load_state_dict(load_weights("nonautoregressive-teacher"))
    [(_, said)] = distil(teacher, [(letters.encode("cat"), [])])
    assert phones.decode(said) == ["K", "AE", "T"]


def test_every_row_on_record_is_in_the_plan():
    for study in (nat.TEACHER, nat.SYSTEMS, nat.REMEDIES, nat.LATENCY):
        assert [row["settings"] for row in study.rows()] == study.plan()
    words = words_of(nat.SYSTEMS.results({"system": "CTC"}))
    assert len(words) == len(nat.task()[0].test)
    assert words[:, 0].sum() / words[:, 1].sum() == pytest.approx(nat.SYSTEMS.mean({"system": "CTC"}, "per"))
