"""Searches against enumeration, against each other, against teacher forcing and against transformers."""

import dataclasses
import inspect
import itertools
import math
from collections import OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from test_encoder_decoder import SRC, Counting, Fixed, Interrupting, Ticking, model_of, pairs_of
from test_training import modes
from torch import Tensor, nn

from seq2seq import decoding
from seq2seq.decoding import (
    BEAMS,
    ERRORS,
    Beginnings,
    Trained,
    beam_search,
    beam_study,
    blame,
    each,
    error_study,
    exact_search,
    examples_of,
    expand,
    first_beams,
    grow,
    reorder,
    rescore,
    sample,
    trained,
    truncated,
)
from seq2seq.encoder_decoder import Decoder, EncoderDecoder, Step, greedy_search
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example
from seq2seq.rnn import RNNDecoder, RNNEncoder
from seq2seq.sequences import Vocab, collate

EOS = Vocab.eos


def rnn_of(seed: int = 0, vocab: int = 7, sure: float = 4.0, eos: float = 0.0) -> EncoderDecoder:
    """A random recurrent model. sure: how far apart its logits are; eos: added to EOS's."""
    torch.manual_seed(seed)
    encoder = RNNEncoder(SRC, width=5, hidden_size=6, layers=2, bidirectional=True)
    model = EncoderDecoder(encoder, RNNDecoder(vocab, width=3, hidden_size=6, layers=2))
    with torch.no_grad():
        model.decoder.output.weight *= sure
        model.decoder.output.bias[EOS] += eos
    return model


def certain(model: EncoderDecoder) -> EncoderDecoder:
    """Gives PAD and BOS no probability, so that nothing has to be renormalised without them."""
    with torch.no_grad():
        model.decoder.output.bias[[Vocab.pad, Vocab.bos]] = -torch.inf
    return model


def enumerated(model: EncoderDecoder, source: list[int], max_len: int, vocab: int) -> list[tuple[float, list[int]]]:
    """Every output that ends within max_len symbols, with its log-probability, the most probable first."""
    symbols = [Vocab.unk, *range(4, vocab)]
    every = [[*head, EOS] for n in range(max_len) for head in itertools.product(symbols, repeat=n)]
    totals = [sum(row) for row in rescore(model, [(source, y) for y in every])]
    return sorted(zip(totals, every, strict=True), reverse=True)


def batch_of(count: int = 5):
    return collate([(x, []) for x, _ in pairs_of(count)])


# --- reorder ---


class Pair(NamedTuple):
    a: Tensor
    b: object


@dataclasses.dataclass
class Plain:
    a: Tensor
    note: str = "n"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: Tensor
    inner: Plain


def test_reorder_keeps_the_state_in_its_shape():
    x = torch.arange(15).view(3, 5)
    index = torch.tensor([2, 0, 0, 1])
    state = {"pair": Pair(x, None), "list": [x, (x, x[:, 0])], "step": 3, "rate": np.float64(0.5), "name": "s"}
    picked = reorder(state, index)
    assert type(picked["pair"]) is Pair and picked["pair"].b is None
    assert type(picked["list"]) is list and type(picked["list"][1]) is tuple
    for found in (picked["pair"].a, picked["list"][0], picked["list"][1][0]):
        assert torch.equal(found, x[index])
    assert torch.equal(picked["list"][1][1], x[index, 0])
    assert (picked["step"], picked["rate"], picked["name"]) == (3, 0.5, "s")
    assert torch.equal(state["pair"].a, torch.arange(15).view(3, 5))


def test_reorder_reaches_into_dataclasses():
    x = torch.arange(15).view(3, 5)
    index = torch.tensor([2, 0])
    state = Frozen(x, Plain(x[:, 1]))
    state.inner.later = x[:, 2]     # an attribute that no field declares
    picked = reorder(state, index)
    assert type(picked) is Frozen and type(picked.inner) is Plain and picked.inner.note == "n"
    assert torch.equal(picked.a, x[index]) and torch.equal(picked.inner.a, x[index, 1])
    assert torch.equal(picked.inner.later, x[index, 2])
    assert state.inner.a.tolist() == [1, 6, 11] and state.inner.later.tolist() == [2, 7, 12]


@pytest.mark.parametrize("kind", [OrderedDict, lambda items: defaultdict(list, items)])
def test_reorder_keeps_kinds_of_dictionaries(kind):
    state = kind({"a": torch.arange(3)})
    picked = reorder(state, torch.tensor([1]))
    assert type(picked) is type(state) and picked["a"].tolist() == [1] and state["a"].tolist() == [0, 1, 2]


class Unknown:
    def __init__(self):
        self.rows = torch.arange(3)


@pytest.mark.parametrize("state", [Unknown(), {1, 2}, np.arange(3), iter([1]), Plain], ids=lambda s: type(s).__name__)
def test_reorder_refuses_what_it_does_not_know(state):
    with pytest.raises(TypeError, match="may hold rows"):
        reorder(("fine", state), torch.tensor([0]))


def test_reordered_rows_go_on_as_they_would_have():
    model, batch = model_of(), collate(pairs_of())
    _, state, _ = model.decoder.step(
        batch.tgt[:, 0], model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    )
    index = torch.tensor([4, 4, 0])
    whole, part = model.decoder.step(batch.tgt[:, 1], state), reorder(state, index)
    torch.testing.assert_close(model.decoder.step(batch.tgt[index, 1], part).logits, whole.logits[index])


# --- beam search ---


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_a_beam_as_wide_as_all_outputs_is_an_enumeration(seed, alpha):
    model, source = rnn_of(seed), [5, 9]
    batch = collate([(source, [])])
    count = sum(4**n for n in range(4))
    [found] = beam_search(model, batch.src, batch.src_padding, 4, width=5 * 64, alpha=alpha, n_best=count)
    brute = sorted(((s / len(y) ** alpha, y) for s, y in enumerated(model, source, 4, 7)), reverse=True)
    assert [h.ids for h in found] == [y for _, y in brute]
    torch.testing.assert_close(torch.tensor([h.score for h in found]), torch.tensor([s for s, _ in brute]))


@pytest.mark.parametrize("make", [rnn_of, model_of])
def test_width_one_is_greedy_search(make):
    for seed in range(5):
        model, batch = make(seed=seed), batch_of()
        greedy = greedy_search(model, batch.src, batch.src_padding, max_len=9)
        for row, [h] in enumerate(beam_search(model, batch.src, batch.src_padding, 9, width=1)):
            expected = [i for i in greedy.tokens[row].tolist() if i != Vocab.pad]
            assert h.ids == expected
            assert h.score == pytest.approx(greedy.scores[row].item(), abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_source_does_not_depend_on_its_batch(alpha):
    for seed in range(4):
        model, pairs = rnn_of(seed, sure=2.0, eos=2.0 * (seed % 2)), pairs_of(5)
        batch = collate([(x, []) for x, _ in pairs])
        together = beam_search(model, batch.src, batch.src_padding, 8, width=3, alpha=alpha, n_best=3)
        for found, (x, _) in zip(together, pairs, strict=True):
            alone = collate([(x, [])])
            [single] = beam_search(model, alone.src, alone.src_padding, 8, width=3, alpha=alpha, n_best=3)
            assert [h.ids for h in found] == [h.ids for h in single]
            assert [h.score for h in found] == pytest.approx([h.score for h in single], abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_scores_are_those_of_teacher_forcing_and_count_eos(alpha):
    model, pairs = rnn_of(eos=1.0), pairs_of(5)
    batch = collate([(x, []) for x, _ in pairs])
    found = beam_search(model, batch.src, batch.src_padding, 8, width=4, alpha=alpha, n_best=4)
    for hypotheses, (x, _) in zip(found, pairs, strict=True):
        assert len(hypotheses) == 4 and len({tuple(h.ids) for h in hypotheses}) == 4
        again = rescore(model, [(x, h.ids) for h in hypotheses])
        for h, log_probs in zip(hypotheses, again, strict=True):
            assert h.log_probs == pytest.approx(log_probs, abs=1e-5) and len(h.ids) == len(h.log_probs)
            assert h.score == pytest.approx(sum(log_probs) / len(h.ids) ** alpha, abs=1e-5)
        ended = [h.score for h in hypotheses if h.ids[-1] == EOS]
        cut = [h.score for h in hypotheses if h.ids[-1] != EOS]
        assert ended == sorted(ended, reverse=True) and cut == sorted(cut, reverse=True)
        assert [h.ids[-1] == EOS for h in hypotheses] == [True] * len(ended) + [False] * len(cut)


def unstopped(model, batch, max_len, width, alpha, n_best):
    """Beam search that never stops before max_len: the stopping rule taken out of its source."""
    source = inspect.getsource(beam_search)
    rule = "found[row][-1].score >= best"
    assert rule in source
    space = dict(vars(decoding))
    exec(source.replace(rule, "False"), space)
    return space["beam_search"](model, batch.src, batch.src_padding, max_len, width, alpha=alpha, n_best=n_best)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("n_best", [1, 3])
def test_stopping_early_changes_nothing(alpha, n_best):
    for seed in range(6):
        model, batch = rnn_of(seed, eos=float(seed % 3)), batch_of()
        found = beam_search(model, batch.src, batch.src_padding, 12, 3, alpha=alpha, n_best=n_best)
        assert found == unstopped(model, batch, 12, 3, alpha, n_best)


class Counted(nn.Module):
    """Counts the steps of a decoder, and the rows."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.rows = decoder, []

    def init_state(self, memory):
        return self.decoder.init_state(memory)

    def step(self, token, state):
        self.rows.append(len(token))
        return self.decoder.step(token, state)


def test_a_search_stops_when_nothing_can_win_and_not_before():
    """EOS has .6 at each step: -0.51. What goes on has t log .4; its mean is lower, but might come up to it."""
    scores = torch.tensor([0.0, 0.0, 0.6, 0.0, 0.4]).log()
    batch = collate([([4], [])])
    for alpha, steps, best in ((0.0, 1, [EOS]), (1.0, math.ceil(9 * math.log(0.6) / math.log(0.4)), [EOS])):
        decoder = Counted(Fixed(scores.tolist()))
        decoder.decoder.step = lambda token, state, s=scores: Step(s.expand(len(token), -1), None)
        [[h]] = beam_search(EncoderDecoder(Counting(), decoder), batch.src, batch.src_padding, 9, 1, alpha=alpha)
        assert h.ids == best and len(decoder.rows) == steps


def test_the_encoder_runs_once_and_each_step_takes_all_beams_at_once():
    model, batch, calls = rnn_of(), batch_of(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    model.decoder = Counted(model.decoder)
    beam_search(model, batch.src, batch.src_padding, 6, width=3)
    assert calls == [1] and set(model.decoder.rows) == {5 * 3} and len(model.decoder.rows) <= 6


def test_a_wider_n_best_only_adds():
    model, batch = rnn_of(2, eos=1.0), batch_of()
    many = beam_search(model, batch.src, batch.src_padding, 8, 5, n_best=5)
    few = beam_search(model, batch.src, batch.src_padding, 8, 5, n_best=2)
    assert few == [found[:2] for found in many]


class Table(Decoder):
    """The next symbol's probabilities by the last one; states carry what was written."""

    def __init__(self, table: dict[int, dict[int, float]], size: int = 6):
        super().__init__()
        self.table = torch.zeros(size, size)
        for last, row in table.items():
            for token, p in row.items():
                self.table[last, token] = p

    def init_state(self, memory):
        return memory.summary

    def step(self, token, state):
        return Step(self.table[token].log(), state)


GARDEN = Table({1: {2: 0.1, 4: 0.5, 5: 0.4}, 4: {2: 0.4, 4: 0.3, 5: 0.3}, 5: {2: 0.9, 4: 0.05, 5: 0.05}})


def test_two_beams_find_what_greedy_search_misses():
    model, batch = EncoderDecoder(Counting(), GARDEN), collate([([4], [])])
    [[one]] = beam_search(model, batch.src, batch.src_padding, width=1)
    [two] = beam_search(model, batch.src, batch.src_padding, width=2, n_best=2)
    assert one.ids == [4, EOS] and [h.ids for h in two] == [[5, EOS], [4, EOS]]
    assert math.exp(two[0].score) == pytest.approx(0.36) and math.exp(two[1].score) == pytest.approx(0.2)
    assert [math.exp(p) for p in two[0].log_probs] == pytest.approx([0.4, 0.9])


@pytest.mark.parametrize("width", [1, 3])
def test_pad_and_bos_are_never_written(width):
    scores = torch.tensor([9.0, 9.0, 0.0, -1.0, 2.0])

    class Tempting(Ticking):
        def step(self, token, state):
            return Step(scores.expand(len(token), -1), state)

    batch = collate([([4], []), ([5, 5], [])])
    model = EncoderDecoder(Counting(), Tempting())
    log_probs = scores.log_softmax(0)
    for found in beam_search(model, batch.src, batch.src_padding, 4, width, n_best=width):
        for h in found:
            assert not {Vocab.pad, Vocab.bos} & {*h.ids}
            assert h.log_probs == pytest.approx([log_probs[i].item() for i in h.ids])   # not renormalised
    for found in sample(model, batch.src, batch.src_padding, 4, draws=50):
        assert not any({Vocab.pad, Vocab.bos} & {*h.ids} for h in found)
    [exact, _] = exact_search(model, batch.src, batch.src_padding, 4)
    assert exact.best.ids == [EOS] and exact.best.score == pytest.approx(log_probs[EOS].item())


def test_what_max_len_cuts_off_comes_last():
    table = Table({1: {2: 0.01, 4: 0.99}, 4: {4: 1.0}})
    batch = collate([([4], [])])
    model = EncoderDecoder(Counting(), table)
    [found] = beam_search(model, batch.src, batch.src_padding, 3, width=2, n_best=2)
    assert [h.ids for h in found] == [[EOS], [4, 4, 4]]
    assert found[0].score < found[1].score
    [found] = beam_search(model, batch.src, batch.src_padding, 3, width=4, n_best=4)
    assert len(found) == 2      # there is nothing else to list


@pytest.mark.parametrize("bad", [[0.0, 0.0, torch.nan, 1.0], [1.0, 0.0, -torch.inf, -torch.inf], [-torch.inf] * 4],
                         ids=str)
def test_a_model_without_probabilities_is_refused(bad):
    batch = collate([([4], [])])
    scores = torch.tensor(bad)

    class Bad(Ticking):
        def step(self, token, state):
            return Step(scores.expand(len(token), -1), state)

    model = EncoderDecoder(Counting(), Bad())
    for search in (beam_search, exact_search, sample):
        with pytest.raises(ValueError, match="no token a probability"):
            search(model, batch.src, batch.src_padding, 3)


def test_a_finished_source_may_score_as_it_likes():
    class Spoilt(Ticking):
        def step(self, token, state):
            logits, state, _ = super().step(token, state)
            over = (token == Vocab.pad) | (state[:, 0] < -2)
            return Step(torch.where(over[:, None], torch.nan, logits), state)

    batch = collate([([4], []), ([6], [])])
    model = EncoderDecoder(Counting(), Spoilt())
    assert [h.ids for [h] in beam_search(model, batch.src, batch.src_padding, width=1)] == [[4, EOS], [4, 4, 4, EOS]]
    torch.manual_seed(0)
    found = sample(model, batch.src, batch.src_padding, temperature=1e-3)
    assert [h.ids for [h] in found] == [[4, EOS], [4, 4, 4, EOS]]


SEARCHES = [beam_search, exact_search, sample]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_leaves_modes_and_gradients_as_they_were(search):
    seen = []

    class Watching(Ticking):
        def step(self, token, state):
            seen.append((self.training, self.dropout.training, torch.is_grad_enabled()))
            return super().step(token, state)

    batch = collate([([4], [])])
    for kind in (Watching, Interrupting):
        model = EncoderDecoder(Counting(), kind())
        model.decoder.dropout = nn.Dropout(0.5)
        model.encoder.eval()
        before = modes(model)
        try:
            search(model, batch.src, batch.src_padding)
        except KeyboardInterrupt:
            assert kind is Interrupting
        assert modes(model) == before and torch.is_grad_enabled()
    assert seen and not any(any(one) for one in seen)


@pytest.mark.parametrize("arguments", [
    {"max_len": 0}, {"width": 0}, {"n_best": 0}, {"width": 2, "n_best": 3}, {"alpha": -0.5},
    {"alpha": math.nan}, {"alpha": math.inf},
], ids=str)
def test_beam_search_refuses_sizes_that_make_no_sense(arguments):
    batch = batch_of()
    with pytest.raises(ValueError, match=next(iter(arguments))):
        beam_search(rnn_of(), batch.src, batch.src_padding, **arguments)


def test_ids_of_32_bits_are_ids():
    model, batch = rnn_of(), batch_of()
    ours = beam_search(model, batch.src.int(), batch.src_padding, 6)
    assert ours == beam_search(model, batch.src, batch.src_padding, 6)


def test_rescoring_keeps_no_gradient_and_no_mode():
    model, seen = rnn_of(), []
    model.decoder.dropout.eval()
    before = modes(model)
    model.decoder.register_forward_hook(lambda part, *_: seen.append((torch.is_grad_enabled(), part.training)))
    assert len(rescore(model, [([5], [4, EOS]), ([], [EOS])])[0]) == 2
    assert seen == [(False, False)] and modes(model) == before and torch.is_grad_enabled()


def test_beams_live_where_the_source_does():
    beams = first_beams(None, 2, 3, torch.device("meta"))
    assert {x.device.type for x in beams[:4]} == {"meta"} and beams.ids.shape == (2, 3, 1)


def test_a_step_grows_twice_as_many_as_it_keeps_the_most_probable_first():
    model, batch = rnn_of(), batch_of()
    state = model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    grown = grow(model.decoder, first_beams(state, 5, 3, batch.src.device))
    assert grown.ids.shape == (5, 6, 2) and grown.log_probs.shape == (5, 6, 1) and grown.rows.shape == (5, 6)
    assert (grown.totals.diff(dim=1) <= 0).all()


# --- exact search ---


def test_exact_search_goes_on_from_what_is_more_probable_than_the_mode_and_from_nothing_else():
    """A beam of five finds these modes, so nothing else had to be looked at."""
    proven = 0
    for seed in range(6):
        model, (x, _) = rnn_of(seed, vocab=6, sure=2.0, eos=1.0), pairs_of(1)[0]
        batch = collate([(x, [])])
        [exact], [[h]] = (search(model, batch.src, batch.src_padding, 6) for search in (exact_search, beam_search))
        assert exact.best.ids == h.ids
        heads = (y for n in range(1, 6) for y in itertools.product([Vocab.unk, 4, 5], repeat=n))
        totals = [sum(row) for row in rescore(model, [(x, list(y)) for y in heads])]
        more = 1 + sum(total > exact.best.score for total in totals)      # 1: the empty beginning
        assert not exact.proven or exact.expanded == more
        proven += exact.proven
    assert proven > 3


def test_exact_search_starts_with_what_a_beam_has_found():
    table = {1: {4: 0.6, 5: 0.3, 6: 0.1}, 4: {7: 1.0}, 5: {7: 1.0}, 6: {7: 1.0}, 7: {2: 0.98, 7: 0.02}}
    batch = collate([([4], [])])
    [exact] = exact_search(EncoderDecoder(Counting(), Table(table, 8)), batch.src, batch.src_padding, 9)
    assert exact.proven and exact.best.ids == [4, 7, EOS] and exact.expanded == 3    # nothing, 4, and 4 7


def test_what_is_expanded_comes_the_most_probable_first():
    model, batch = rnn_of(sure=1.0), batch_of(1)
    state = model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    nothing = Beginnings(torch.tensor([0]), torch.tensor([[1]]), torch.zeros(1, 0), torch.zeros(1), state)
    grown = expand(model.decoder, nothing, [None], torch.tensor([-torch.inf]))
    assert len(grown.totals) == 4 and (grown.totals.diff() < 0).all()       # of 7 symbols, less PAD, BOS and EOS


@pytest.mark.parametrize("block", [1, 2, 512])
@pytest.mark.parametrize("seed", range(4))
def test_exact_search_finds_the_mode(seed, block):
    model, pairs = rnn_of(seed, vocab=6, eos=1.0), pairs_of(5)
    batch = collate([(x, []) for x, _ in pairs])
    found = exact_search(model, batch.src, batch.src_padding, 5, block=block)
    for exact, (x, _) in zip(found, pairs, strict=True):
        score, ids = enumerated(model, x, 5, 6)[0]
        assert exact.best.ids == ids and exact.best.score == pytest.approx(score, abs=1e-5)
        assert exact.best.log_probs == pytest.approx(rescore(model, [(x, ids)])[0], abs=1e-5)
    longer = exact_search(model, batch.src, batch.src_padding, 8)
    for short, long in zip(found, longer, strict=True):    # proven: of whatever length
        assert not short.proven or short.best.ids == long.best.ids
    assert any(exact.proven for exact in found)


def test_exact_search_finds_what_a_narrow_beam_has_missed():
    """Five probable beginnings that come to nothing hide one that ends well."""
    table = {1: {4: 0.12} | {i: 0.176 for i in range(5, 10)}, 4: {2: 0.9, 4: 0.1}}
    table |= {i: {j: 0.2 for j in range(5, 10)} for i in range(5, 10)}
    batch = collate([([4], [])])
    model = EncoderDecoder(Counting(), Table(table, 10))
    [[h]] = beam_search(model, batch.src, batch.src_padding, 4)
    [exact] = exact_search(model, batch.src, batch.src_padding, 4)
    assert h.ids[-1] != EOS and exact.best.ids == [4, EOS]
    assert exact.proven and math.exp(exact.best.score) == pytest.approx(0.108)
    assert math.exp(sum(exact.best.log_probs)) == pytest.approx(0.108)


def test_no_more_beginnings_of_a_length_than_one_over_p():
    for seed in range(4):
        model, batch = rnn_of(seed, sure=3.0, eos=1.0), batch_of()
        for exact in exact_search(model, batch.src, batch.src_padding, 9):
            assert exact.expanded <= 9 / math.exp(exact.best.score) + 9 and exact.expanded >= 1


def test_a_limit_is_kept_and_told():
    model, batch = rnn_of(1, sure=0.1, eos=-3.0), batch_of()
    found = exact_search(model, batch.src, batch.src_padding, 9, limit=7, block=3)
    assert all(not exact.proven and 7 < exact.expanded <= 7 + 3 for exact in found)
    beams = beam_search(model, batch.src, batch.src_padding, 9)
    for exact, [h] in zip(found, beams, strict=True):      # never worse than where it started
        assert exact.best.score >= h.score or h.ids[-1] != EOS


def test_one_source_that_gives_up_does_not_stop_the_others():
    class Two(Ticking):
        """Row 0 (state 9) hesitates between all symbols, row 1 is sure."""

        def step(self, token, state):
            sure = torch.tensor([0.0, 0.0, 0.9, 0.05, 0.05]).log()
            unsure = torch.tensor([0.0, 0.0, 0.02, 0.49, 0.49]).log()
            return Step(torch.where(state > 5, unsure, sure), state)

    batch = collate([([6, 6, 6], []), ([4], [])])
    hard, easy = exact_search(EncoderDecoder(Counting(), Two()), batch.src, batch.src_padding, 30, limit=40)
    assert not hard.proven and easy.proven and easy.best.ids == [EOS] and easy.expanded == 1


def test_what_could_still_win_beyond_max_len_is_not_proven():
    table = Table({1: {4: 1.0}, 4: {4: 0.99, 2: 0.01}})
    model, batch = EncoderDecoder(Counting(), table), collate([([4], [])])
    [exact] = exact_search(model, batch.src, batch.src_padding, 5)
    assert not exact.proven and exact.best.ids == [4, EOS]
    table = Table({1: {4: 1.0}, 4: {4: 0.4, 2: 0.6}})
    [exact] = exact_search(EncoderDecoder(Counting(), table), batch.src, batch.src_padding, 2)
    assert exact.proven and exact.best.ids == [4, EOS] and exact.expanded == 2


@pytest.mark.parametrize("name", ["max_len", "limit", "block"])
def test_exact_search_refuses_sizes_that_make_no_sense(name):
    batch = batch_of()
    with pytest.raises(ValueError, match=name):
        exact_search(rnn_of(), batch.src, batch.src_padding, **{name: 0})


# --- sampling ---


def test_what_is_drawn_has_the_frequencies_of_its_probabilities():
    model, source = certain(rnn_of(3, vocab=6, sure=2.0, eos=1.0)), [5, 9]
    batch = collate([(source, [])] * 2)
    torch.manual_seed(0)
    for found in sample(model, batch.src, batch.src_padding, 6, draws=4000):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        drawn = [tuple(h.ids) for h in found]
        for score, ids in enumerated(model, source, 4, 6)[:8]:
            p = math.exp(score)
            assert abs(drawn.count(tuple(ids)) / 4000 - p) < 4.5 * math.sqrt(p * (1 - p) / 4000)
        for h in found[::200]:
            assert h.log_probs == pytest.approx(rescore(model, [(source, h.ids)])[0], abs=1e-5)
            assert h.score == pytest.approx(sum(h.log_probs)) and len(h.ids) <= 6


def test_a_temperature_sharpens_the_draw_and_not_the_scores():
    model, batch = EncoderDecoder(Counting(), GARDEN), collate([([4], [])])
    for temperature in (0.5, 2.0):
        torch.manual_seed(0)
        [found] = sample(model, batch.src, batch.src_padding, 1, draws=4000, temperature=temperature)
        powers = torch.tensor([0.5, 0.4, 0.1]) ** (1 / temperature)
        for token, p in zip((4, 5, EOS), (powers / powers.sum()).tolist(), strict=True):
            mine = [h for h in found if h.ids[0] == token]
            assert abs(len(mine) / 4000 - p) < 0.03
            assert mine[0].log_probs[0] == pytest.approx(GARDEN.table[1, token].log().item())


def test_no_temperature_is_greedy_search():
    model, batch = rnn_of(1, eos=1.0), batch_of()
    greedy = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    for setting in ({"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-9}):
        for row, found in enumerate(sample(model, batch.src, batch.src_padding, 9, 3, **setting)):
            for h in found:
                assert h.ids == [i for i in greedy.tokens[row].tolist() if i != Vocab.pad]


def directly(p: list[float], top_k: int | None, top_p: float) -> set[int]:
    """The smallest set of the most probable, of k at most, that has top_p of their probability."""
    order = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    total, chosen = sum(p[i] for i in order), []
    for i in order:
        if chosen and sum(p[j] for j in chosen) / total >= top_p:
            break
        chosen.append(i)
    return set(chosen)


@pytest.mark.parametrize("top_k", [None, 1, 3, 7, 50])
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999, 1.0])
def test_truncation_keeps_the_smallest_nucleus(top_k, top_p):
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(5, 2, 11)).log_softmax(dim=-1)
    kept = truncated(log_probs, top_k, top_p)
    assert kept.shape == log_probs.shape
    for before, after in zip(log_probs.flatten(0, 1), kept.flatten(0, 1), strict=True):
        chosen = after.isfinite().nonzero().flatten().tolist()
        assert set(chosen) == directly(before.exp().tolist(), top_k, top_p)
        assert torch.equal(after[chosen], before[chosen])


def test_nothing_is_truncated_unless_asked():
    log_probs = torch.tensor([50.0, 0.0, -60.0, -torch.inf]).log_softmax(dim=-1)
    assert torch.equal(truncated(log_probs), log_probs)


def test_what_is_truncated_is_never_drawn():
    model, batch = EncoderDecoder(Counting(), GARDEN), collate([([4], [])])
    [found] = sample(model, batch.src, batch.src_padding, 1, draws=500, top_k=2)
    assert {h.ids[0] for h in found} == {4, 5}
    [found] = sample(model, batch.src, batch.src_padding, 1, draws=500, top_p=0.89)
    assert {h.ids[0] for h in found} == {4, 5}
    [found] = sample(model, batch.src, batch.src_padding, 1, draws=500, top_p=0.91)
    assert {h.ids[0] for h in found} == {4, 5, EOS}


@pytest.mark.parametrize("setting", [{"top_k": 0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": -1.0}, {"top_p": 1.5},
                                     {"top_p": math.nan}], ids=str)
def test_nothing_is_truncated_that_leaves_nothing_or_all(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        truncated(torch.zeros(2, 5), **setting)


def test_a_generator_of_its_own_decides():
    model, batch = rnn_of(), batch_of()

    def draw():
        return sample(model, batch.src, batch.src_padding, 5, 3, generator=torch.Generator().manual_seed(7))

    first, state = draw(), torch.get_rng_state()
    assert first == draw() and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("arguments", [
    {"max_len": 0}, {"draws": 0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"temperature": 0.0},
    {"temperature": -1.0}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": -1},
], ids=str)
def test_sampling_refuses_settings_that_make_no_sense(arguments):
    batch = batch_of()
    with pytest.raises(ValueError, match=next(iter(arguments))):
        sample(rnn_of(), batch.src, batch.src_padding, **arguments)


# --- the studies ---


class Spelled(NamedTuple):
    """What `blame` needs of a model."""


def tiny() -> Trained:
    """Says one letter of table GARDEN for whatever it reads."""
    names = {4: "X", 5: "Y"}
    return Trained(EncoderDecoder(Counting(), GARDEN), Vocab("ab"), lambda ids: [names[i] for i in ids if i in names])


def test_blame_tells_search_errors_from_model_errors():
    right, wrong = Example(("a",), (("Y",),)), Example(("b", "b"), (("Z",),))
    greedy_right = Example(("a", "b"), (("X",), ("Z",)))
    found = blame(tiny(), [right, wrong, greedy_right, right])
    assert found["sources"] == 4 and found["unproven"] == 0 and found["empty"] == 0 and found["wrong modes"] == 2
    assert found["greedy"] == {"search errors": 4, "wrong": 3, "the mode is right": 2, "right, the mode wrong": 1}
    assert found["beam 5"] == {"search errors": 0, "wrong": 2, "the mode is right": 0, "right, the mode wrong": 0}
    assert found["losses"] == pytest.approx([-math.log(0.36)] * 4) and found["expanded"] == [3.0, 3]


def test_blame_leaves_out_what_is_not_proven():
    found = blame(tiny(), [Example(("a",), (("Y",),))], limit=1)
    assert (found["sources"], found["unproven"], found["wrong modes"], found["greedy"]["wrong"]) == (0, 1, 0, 0)


def test_blame_counts_empty_modes():
    model = EncoderDecoder(Counting(), Table({1: {2: 0.6, 4: 0.4}, 4: {2: 1.0}}))
    found = blame(Trained(model, Vocab("ab"), lambda ids: [str(i) for i in ids if i > 3]), [Example(("a",), ((),))])
    assert found["empty"] == 1 and found["wrong modes"] == 0


def test_each_keeps_the_order_of_the_sources():
    sources = ["aaaa", "a", "bb", "", "aab"]
    model = Trained(EncoderDecoder(Counting(), Ticking()), Vocab("ab"), list)
    found = each(beam_search, model, sources, batch_size=2, width=2, max_len=30)
    ticks = [sum(1 if letter == "a" else 2 for letter in source) for source in sources]
    assert [len(h.ids) - 1 for [h] in found] == ticks


def test_each_batches_by_length_where_the_models_are(monkeypatch):
    monkeypatch.setattr(decoding, "device", lambda: torch.device("meta"))
    seen = []

    def search(model, src, src_padding):
        seen.append((src.device.type, *src.shape))
        return [None] * len(src)

    each(search, tiny(), ["aaaaaaa", "b", "bbbbbbb", "a"], batch_size=2)
    assert seen == [("meta", 2, 2), ("meta", 2, 8)]
    for name in ("GRU", "g2p-en", "translation"):
        model = trained.__wrapped__(name).model
        assert {weights.device.type for weights in model.parameters()} == {"meta"}


def test_blame_searches_everything_to_the_same_length(monkeypatch):
    seen, real = [], decoding.each
    monkeypatch.setattr(decoding, "each", lambda *given, **how: seen.append((given[0], how)) or real(*given, **how))
    blame(tiny(), [Example(("a",), (("Y",),))], limit=70)
    assert seen == [(exact_search, {"max_len": 30, "limit": 70}), (beam_search, {"max_len": 30, "width": 1}),
                    (beam_search, {"max_len": 30, "width": 5})]


@pytest.mark.parametrize("name", ["GRU", "g2p-en", "translation"])
def test_models_on_record_speak(name):
    model = trained(name)
    assert trained(name) is model
    source = ["delete", "this", "page"] if name == "translation" else list("knight")
    [[h]] = each(beam_search, model, [source], max_len=30)
    said = model.read(h.ids)
    assert said == ["N", "AY", "T"] if name != "translation" else "supprimer" in said


def test_models_there_are_not_are_refused():
    with pytest.raises(ValueError, match="'French' is none of"):
        trained("French")
    with pytest.raises(ValueError, match="'train' is none of"):
        examples_of("GRU", "train")
    with pytest.raises(ValueError, match="'French' is none of"):
        examples_of("French", "test")


def test_sources_come_in_a_list_and_in_batches_of_one_at_least():
    model = Trained(rnn_of(), Vocab("abcdefg"), list)
    with pytest.raises(ValueError, match="a list of sources, not the text 'cab'"):
        each(beam_search, model, "cab")
    for size in (0, -1):
        with pytest.raises(ValueError, match="batch_size"):
            each(beam_search, model, ["cab"], size)


def test_examples_of_a_task():
    words, messages = corpora.pronunciations(), corpora.messages("fr", max_words=12)
    assert examples_of("GRU", "test") == words.test and examples_of("g2p-en", "validation") == words.validation[::4]
    assert examples_of("translation", "validation") == messages.validation


def few(monkeypatch, count):
    """The first examples of every task only."""
    real = decoding.examples_of
    monkeypatch.setattr(decoding, "examples_of", lambda task, split: real(task, split)[:count])


def test_a_row_of_the_beam_study(monkeypatch):
    few(monkeypatch, 12)
    result = beam_study(width=2, alpha=1.0)
    assert result["losses"][:5] == pytest.approx(beam_study(width=2, alpha=1.0, until=5)["losses"], rel=1e-5)
    assert len(result["losses"]) == 12 and result["log_prob"] == pytest.approx(-np.mean(result["losses"]))
    edits, lengths = ([int(digit, 36) for digit in result[name]] for name in ("edits", "lengths"))
    assert result["per"] == sum(edits) / sum(lengths) and result["wer"] == sum(n > 0 for n in edits) / 12
    assert 0.8 < result["length"] < 1.2 and result["empty"] == 0


def test_a_row_of_translations(monkeypatch):
    few(monkeypatch, 20)
    result = beam_study(task="translation", width=2, split="validation")
    assert len(result["outputs"]) == 20 and 0 < result["bleu"] <= 100 and "per" not in result
    examples = decoding.examples_of("translation", "validation")
    written = [said.split() for said in result["outputs"]]
    assert result["length"] == sum(map(len, written)) / sum(len(e.target) for e in examples)


def test_a_row_of_the_error_study(monkeypatch):
    few(monkeypatch, 12)
    result = error_study(task="g2p-en")
    assert result["sources"] == 12 and error_study(task="g2p-en", until=5)["losses"] == pytest.approx(
        result["losses"][:5], rel=1e-4)
    assert set(error_study(until=2)) == {"losses"}


def test_what_is_on_record():
    assert all(row["provenance"]["commit"] != "unknown" for study in (BEAMS, ERRORS) for row in study.rows())
    assert {len(study.rows()) for study in (BEAMS, ERRORS)} == {len(BEAMS.settings), len(ERRORS.settings)}


# --- the same searches in transformers ---


@pytest.fixture(scope="module")
def theirs():
    """transformers' generation over one of our models; skipped where the package is not installed."""
    transformers = pytest.importorskip("transformers", reason="transformers is a test-only extra: pip install it")
    from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

    class Passing(nn.Module):
        """An encoder that hands the ids on."""

        def forward(self, input_ids, **_):
            return BaseModelOutput(input_ids[..., None].float())

    class Adapted(transformers.PreTrainedModel, transformers.GenerationMixin):
        """Scores the last of all tokens given, by stepping through them: slow, and has nothing of ours to reorder."""

        config_class = transformers.PretrainedConfig
        main_input_name = "input_ids"

        def __init__(self, ours: EncoderDecoder, batch, vocab: int):
            config = transformers.PretrainedConfig(is_encoder_decoder=True, vocab_size=vocab, use_cache=False)
            super().__init__(config)
            self.ours, self.batch, self.unused = ours, batch, nn.Parameter(torch.zeros(1))
            self.generation_config = transformers.GenerationConfig(
                pad_token_id=Vocab.pad, bos_token_id=Vocab.bos, eos_token_id=EOS, decoder_start_token_id=Vocab.bos,
                suppress_tokens=None, use_cache=False)

        def get_encoder(self, *_, **__):
            return Passing()

        def prepare_inputs_for_generation(self, input_ids, encoder_outputs=None, **_):
            return {"decoder_input_ids": input_ids, "encoder_outputs": encoder_outputs}

        def forward(self, decoder_input_ids=None, encoder_outputs=None, **_):
            src = encoder_outputs[0].squeeze(-1).long()        # (B * width, S): each row brings its source along
            memory = self.ours.encoder(src, src == Vocab.pad)
            return Seq2SeqLMOutput(logits=self.ours.decoder(decoder_input_ids, memory))

    def generate(ours, batch, vocab, **options):
        model = Adapted(ours, batch, vocab).eval()
        return model.generate(
            input_ids=batch.src, do_sample=False,
            return_dict_in_generate=True, output_scores=True, renormalize_logits=False, **options)

    return generate


def test_greedy_search_is_that_of_transformers(theirs):
    for seed in range(3):
        model, batch = certain(rnn_of(seed, eos=1.0)).eval(), batch_of()
        found = theirs(model, batch, 7, num_beams=1, max_new_tokens=9)
        ours = greedy_search(model, batch.src, batch.src_padding, max_len=9)
        assert torch.equal(found.sequences[:, 1:], ours.tokens)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("width", [2, 4])
def test_beam_search_is_that_of_transformers(theirs, width, alpha):
    compared = 0
    for seed in range(4):
        model, batch = certain(rnn_of(seed, eos=1.0)).eval(), batch_of()
        found = theirs(model, batch, 7, num_beams=width, num_return_sequences=width, max_new_tokens=9,
                       length_penalty=alpha, early_stopping="never")
        ours = beam_search(model, batch.src, batch.src_padding, 9, width, alpha=alpha, n_best=width)
        sequences = found.sequences[:, 1:].view(len(batch), width, -1).tolist()
        scores = found.sequences_scores.view(len(batch), width).tolist()
        for hypotheses, lists, their_scores in zip(ours, sequences, scores, strict=True):
            # they rank what max_len cuts off among the others, we after them: compare what has ended
            ended = [(ids[: ids.index(EOS) + 1], score) for ids, score in zip(lists, their_scores, strict=True)
                     if EOS in ids]
            compared += len(ended)
            assert [h.ids for h in hypotheses[: len(ended)]] == [ids for ids, _ in ended]
            assert [h.score for h in hypotheses[: len(ended)]] == pytest.approx([s for _, s in ended], abs=1e-4)
    assert compared >= 20
