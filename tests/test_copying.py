"""The mixture against a dictionary, the vocabularies, the decoders step by step, coverage by loops, the corpora."""

import math
import random

import pytest
import torch
from torch.nn import functional as F

from seq2seq.attention import attention_of
from seq2seq.copying import (
    DECODERS,
    FLOOR,
    CopyLoss,
    CopyVocab,
    copied_log_probs,
    copy_model,
    copy_pairs,
    copy_transduce,
    coverage_loss,
    exact,
    gate_by_kind,
    gated,
    generating,
    introductions,
    made_up,
    mixture,
    names_vocab,
    overlap,
    repeated,
)
from seq2seq.decoding import Trained, beam_search, each, rescore
from seq2seq.encoder_decoder import greedy_search
from seq2seq.kit import corpora, seed_everything, train
from seq2seq.kit.corpora import Example
from seq2seq.kit.corpora.installed import DOCUMENTED, words_of
from seq2seq.sequences import Batch, Vocab, batches, collate, training_batches

SHARED = Vocab(["hello", "my", "name", "is", ",", "."])
WORDS = CopyVocab(SHARED, SHARED, places=3)
APART = CopyVocab(Vocab("1234"), Vocab("abcde"), places=3)
SOURCES = ["my name is zorana .", "name zorana is kibor kibor", "hello", "my my zorana lugat seppa vimto ."]


def by_dictionary(generated, copied, ids):
    """The mixture, slowly: word's id -> probability."""
    p = dict(enumerate(generated))
    for share, i in zip(copied, ids, strict=True):
        p[i] = p.get(i, 0.0) + share
    return p


def model_of(system, words=WORDS, seed=0):
    seed_everything(seed)
    return copy_model(words, system, width=3, hidden_size=10)


def batch_of(words=WORDS, sources=SOURCES, targets=None):
    targets = targets or ["hello zorana ,", "kibor is hello kibor", "hello", "seppa"]
    examples = [Example(tuple(s.split()), (tuple(t.split()),)) for s, t in zip(sources, targets, strict=True)]
    return collate(copy_pairs(examples, words))


# --- the mixture ---


@pytest.mark.parametrize("seed", range(30))
def test_the_mixture_is_the_dictionarys(seed):
    rng = random.Random(seed)
    V, S, more = rng.randint(1, 11), rng.randint(1, 9), rng.randint(0, 7)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(V, generator=generator)
    scores = torch.randn(S, generator=generator)
    padding = torch.arange(S) >= rng.randint(1, S)
    ids = torch.randint(V + more, (S,), generator=generator)       # repeated words, words of no vocabulary
    weights = scores.masked_fill(padding, -torch.inf).softmax(0)
    z = torch.randn((), generator=generator)
    log_g, log_copy = gated(z)
    found = mixture(logits.log_softmax(0) + log_g, weights.log() + log_copy, ids, V + more).exp()
    g = z.sigmoid()
    expected = by_dictionary((g * logits.softmax(0)).tolist(), ((1 - g) * weights).tolist(), ids.tolist())
    for i in range(V + more):
        assert found[i].item() == pytest.approx(expected.get(i, 0.0), abs=1e-6)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_batches_and_steps_are_each_by_itself():
    log_generated, log_copied = torch.randn(3, 5, 7), torch.randn(3, 5, 4)
    ids = torch.randint(11, (3, 5, 4))
    together = mixture(log_generated, log_copied, ids, 11)
    for b in range(3):
        for t in range(5):
            alone = mixture(log_generated[b, t], log_copied[b, t], ids[b, t], 11)
            assert torch.allclose(together[b, t], alone, atol=1e-6)


@pytest.mark.parametrize("z, gold", [(math.inf, 0), (-math.inf, 0), (math.inf, 4), (-math.inf, 4), (200.0, 4),
                                     (-200.0, 0), (0.0, 5), (math.inf, 5), (-math.inf, 5)])
def test_no_gate_and_no_zero_makes_a_gradient_infinite(z, gold):
    gate = torch.tensor(z, requires_grad=True)
    logits = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)     # V = 3; 4 can be copied alone, 5 not at all
    scores = torch.tensor([0.5, 0.1], requires_grad=True)
    log_g, log_copy = gated(gate)
    log_p = mixture(logits.log_softmax(0) + log_g, scores.log_softmax(0) + log_copy, torch.tensor([4, 4]), 6)
    assert log_p.isfinite().all() and log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    F.cross_entropy(log_p[None], torch.tensor([gold])).backward()
    assert all(x.grad.isfinite().all() for x in (gate, logits, scores))


def test_gates_of_exactly_0_and_1_leave_one_way_alone():
    logits, scores, ids = torch.randn(3), torch.randn(4), torch.tensor([3, 0, 3, 4])
    for z, g in ((math.inf, 1.0), (-math.inf, 0.0)):
        log_g, log_copy = gated(torch.tensor(z))
        p = mixture(logits.log_softmax(0) + log_g, scores.log_softmax(0) + log_copy, ids, 6).exp()
        own = F.pad(logits.softmax(0), (0, 3))
        other = torch.zeros(6).scatter_add(0, ids, scores.softmax(0))
        assert torch.allclose(p, g * own + (1 - g) * other, atol=1e-6)
        assert p[5] == 0 and (g == 0 or (p[3:] == 0).all())


def test_a_gate_that_is_sure_and_wrong_gets_its_whole_gradient():
    z = torch.tensor(200.0, requires_grad=True)                    # sigmoid(-200) is 0 in single precision
    log_g, log_copy = gated(z)
    mixture(torch.zeros(1) + log_g, torch.zeros(1) + log_copy, torch.tensor([1]), 2)[1].backward()
    assert z.grad.item() == pytest.approx(-1.0)


def test_logarithms_agree_with_the_naive_way_and_stay_where_it_is_minus_infinity():
    weights = torch.tensor([0.25, 0.75, 0.0])
    found = copied_log_probs(weights.log(), torch.tensor([1, 1, 2]), 4)
    assert torch.allclose(found.exp(), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert found[0] == FLOOR and found[3] == FLOOR


def test_a_position_of_minus_infinity_has_a_finite_gradient():
    scores = torch.tensor([0.0, -torch.inf], requires_grad=True)
    copied_log_probs(scores, torch.tensor([0, 1]), 3).sum().backward()
    assert scores.grad.isfinite().all()


def test_where_nothing_can_be_copied_there_is_the_floor():
    scores = torch.full((2,), -torch.inf, requires_grad=True)
    found = copied_log_probs(scores, torch.tensor([0, 1]), 3)
    found.sum().backward()
    assert found.isfinite().all() and (found.exp() == 0).all() and scores.grad.isfinite().all()
    for z in (math.inf, -math.inf):
        assert all(part.isfinite() for part in gated(torch.tensor(z)))


def test_the_mixtures_door():
    with pytest.raises(ValueError, match="do not fit"):
        mixture(torch.zeros(2, 5), torch.zeros(2, 3), torch.zeros(2, 3).long(), 4)
    with pytest.raises(ValueError, match="are not those"):
        mixture(torch.zeros(2, 5), torch.zeros(2, 3), torch.zeros(2, 4).long(), 7)
    with pytest.raises(ValueError, match="7 symbols"):
        mixture(torch.zeros(2, 5), torch.zeros(2, 3), torch.full((2, 3), 7), 7)


# --- vocabularies ---


def test_unknown_words_are_numbered_in_their_order_for_each_source():
    assert WORDS.encode(["name", "kibor", "is", "zorana", "kibor"]) == [6, 10, 7, 11, 10]
    assert WORDS.encode(["zorana"]) == [10]
    assert WORDS.encode(list("abcde")) == [10, 11, 12, Vocab.unk, Vocab.unk]     # three places
    assert len(WORDS.listed) == 10 and WORDS.size == 13


@pytest.mark.parametrize("words", [WORDS, APART, CopyVocab(Vocab("ab"), Vocab("bc"), places=2)])
def test_what_is_copied_is_read_again_as_it_was(words):
    source = [*words.src.ids, "new", "newer", *words.src.ids, "new"]
    copied = words.table()[words.encode(source)].tolist()
    assert words.decode(copied, source) == source
    assert words.encode_target(source, source) == copied


def test_a_target_word_that_the_source_lacks_is_unk_unless_listed():
    assert APART.encode_target(["a", "1", "2", "x"], ["1", "x"]) == [4, 9, Vocab.unk, 13]
    assert APART.decode([4, 9, 13, 14], ["1", "x"]) == ["a", "1", "x", "<unk>"]
    assert APART.decode([4, Vocab.eos, 9], ["1"]) == ["a"]
    with pytest.raises(IndexError, match="outside 16 extended"):
        APART.decode([16], ["1"])
    with pytest.raises(ValueError, match="places"):
        CopyVocab(SHARED, SHARED, -1)
    with pytest.raises(TypeError, match="'my name' is a text; split it"):
        WORDS.unknown("my name")


def test_special_symbols_keep_their_numbers():
    assert APART.table()[:4].tolist() == [Vocab.pad, Vocab.bos, Vocab.eos, Vocab.unk]
    assert len(APART.table()) == len(APART.src) + APART.places


# --- models ---


@pytest.mark.parametrize("system", DECODERS)
def test_step_by_step_is_all_at_once(system):
    model, batch = model_of(system).eval(), batch_of()
    if system == "attention":
        batch = batch_of(targets=["hello", "hello my", ", .", "is"])
    memory = model.encoder(batch.src, batch.src_padding)
    whole = model.decoder(batch.tgt[:, :-1], memory)
    state, found, weights = model.decoder.init_state(memory), [], []
    for token in batch.tgt[:, :-1].unbind(1):
        logits, state, looked = model.decoder.step(token, state)
        found.append(logits)
        weights.append(looked)
    assert torch.allclose(torch.stack(found, 1), whole, atol=1e-5)
    run = model.decoder.run(batch.tgt[:, :-1], memory)
    assert torch.allclose(torch.stack(weights, 1), run.weights, atol=1e-6)
    assert torch.allclose(state.coverage, run.weights.sum(1), atol=1e-5)        # the sum of all past attention


@pytest.mark.parametrize("system", DECODERS[1:])
@pytest.mark.parametrize("words", [WORDS, APART])
def test_probabilities_sum_to_one_and_padding_gets_none(system, words):
    sources = SOURCES if words is WORDS else ["1 2 x", "4 y y 3 1", "1", "9 8 2 2"]
    batch = batch_of(words, sources, ["a b", "c", "d 1", "e"])
    model = model_of(system, words)
    run = model.decoder.run(batch.tgt[:, :-1], model.encoder(batch.src, batch.src_padding))
    p = run.log_probs.exp()
    assert torch.allclose(p.sum(-1), torch.ones(p.shape[:2]), atol=1e-5)
    assert (run.weights.masked_select(batch.src_padding[:, None].expand_as(run.weights)) == 0).all()
    assert ((run.copied > 0) & (run.copied < 1)).all()
    empty = [b for b, s in enumerate(sources) if not words.unknown(s.split())]
    assert empty and (p[empty, :, len(words.listed):] == 0).all()


@pytest.mark.parametrize("system", DECODERS)
def test_a_row_does_not_depend_on_its_company(system):
    model, batch = model_of(system), batch_of()
    together = model(batch)
    for row in range(len(SOURCES)):
        length = int((~batch.src_padding[row]).sum())
        one = slice(row, row + 1)
        alone = model(Batch(batch.src[one, :length], batch.tgt[one], batch.src_padding[one, :length]))
        assert torch.allclose(alone[0], together[row], atol=1e-5)


@pytest.mark.parametrize("system", DECODERS[1:])
def test_a_copied_word_comes_in_again_as_unk(system):
    model = model_of(system)
    memory = model.encoder(*(lambda b: (b.src, b.src_padding))(batch_of(sources=["my hello ."], targets=["hello"])))
    rows = [model.decoder.run(torch.tensor([[Vocab.bos, i]]), memory).log_probs for i in (Vocab.unk, 10, 12)]
    assert torch.allclose(rows[0], rows[1]) and torch.allclose(rows[0], rows[2])
    other = model.decoder.run(torch.tensor([[Vocab.bos, 4]]), memory).log_probs
    assert not torch.allclose(rows[0][:, 1], other[:, 1])


def test_every_unknown_word_is_read_as_unk():
    encoder, nothing = model_of("pointer").encoder, torch.zeros(1, 4).bool()
    known, unknown = encoder(torch.tensor([[5, 3, 3, 2]]), nothing), encoder(torch.tensor([[5, 10, 12, 2]]), nothing)
    assert torch.equal(known.states, unknown.states) and unknown.ids.tolist() == [[5, 10, 12, 2]]


@pytest.mark.parametrize("system", DECODERS)
def test_a_row_of_nothing_but_padding_has_no_weights(system):
    model = model_of(system)
    src = torch.tensor([[5, 10, 2], [0, 0, 0]])
    run = model.decoder.run(torch.tensor([[1, 4], [1, 4]]), model.encoder(src, src == 0))
    assert (run.weights[1] == 0).all() and run.log_probs.isfinite().all()
    run.log_probs[:, :, 4].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_copynet_reads_where_the_last_word_stands():
    model = model_of("copynet")
    batch = batch_of(sources=["zorana kibor kibor"], targets=["hello"])
    memory = model.encoder(batch.src, batch.src_padding)
    state, _, _ = model.decoder.advance(torch.tensor([Vocab.bos]), model.decoder.init_state(memory))
    x = torch.zeros(1, 3)
    zeta = model.decoder.inputs(x, torch.tensor([11]), state)[:, -10:]
    shares = state.scores[0, 1:3].softmax(0)
    assert torch.allclose(zeta[0], shares @ memory.states[0, 1:3], atol=1e-5)
    assert torch.allclose(model.decoder.inputs(x, torch.tensor([10]), state)[:, -10:], memory.states[:, 0], atol=1e-5)
    assert (model.decoder.inputs(x, torch.tensor([4]), state)[:, -10:] == 0).all()   # not in the source


@pytest.mark.parametrize("system", DECODERS)
def test_gradients_are_finite_and_reach_every_weight(system):
    model = model_of(system)
    batch = batch_of() if system != "attention" else batch_of(targets=["hello my", "is", ", ,", "."])
    CopyLoss(1.0)(model, batch).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and (p.grad != 0).any(), name


def test_the_gate_learned_from_a_gold_word_that_only_copying_says():
    model, batch = model_of("pointer"), batch_of(sources=["zorana"], targets=["zorana"])
    F.cross_entropy(model(batch)[:, 0], batch.tgt[:, 1]).backward()
    assert model.decoder.gate.bias.grad.item() > 0                  # less generating


def test_attention_alone_has_no_extended_words():
    logits = model_of("attention")(batch_of(targets=["hello", "my", "is", "name"]))
    assert logits.shape[-1] == len(SHARED)


def test_searches_need_no_change():
    model = model_of("pointer")
    batch = batch_of()
    found = greedy_search(model, batch.src, batch.src_padding, max_len=6)
    assert found.weights.shape[:2] == found.tokens.shape and (found.tokens < WORDS.size).all()
    beams = beam_search(model, batch.src, batch.src_padding, max_len=6, width=3)
    sources = [WORDS.encode(s.split()) for s in SOURCES]
    for source, [h] in zip(sources, beams, strict=True):
        [log_probs] = rescore(model, [(source, h.ids)])
        assert log_probs == pytest.approx(h.log_probs, abs=1e-4)
    assert len(attention_of(model, [(sources[0], [10])])) == 1


def test_meta_and_doors():
    model, batch = model_of("coverage").to("meta"), batch_of()
    meta = Batch(batch.src.to("meta"), batch.tgt.to("meta"), batch.src_padding.to("meta"))
    assert model(meta).shape == (4, batch.tgt.shape[1] - 1, WORDS.size)
    model = model_of("pointer")
    with pytest.raises(ValueError, match="CopyEncoder"):
        model.decoder.init_state(model.encoder.reader(batch.src.clamp(max=9), batch.src_padding))
    with pytest.raises(ValueError, match="13 symbols"):
        model.encoder(batch.src + 5, batch.src_padding)
    with pytest.raises(ValueError, match="rows"):
        model.decoder.step(torch.tensor([1]), model.decoder.init_state(model.encoder(batch.src, batch.src_padding)))
    state = model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    with pytest.raises(ValueError, match="13 symbols"):            # an id that no word of any source has
        model.decoder.step(torch.full((4,), WORDS.size), state)
    with pytest.raises(ValueError, match="none of"):
        copy_model(WORDS, "transformer")


# --- losses and scores ---


@pytest.mark.parametrize("seed", range(5))
def test_coverage_loss_by_loops(seed):
    torch.manual_seed(seed)
    weights, lengths = torch.rand(3, 5, 7).softmax(-1), torch.tensor([5, 3, 1])
    padding = torch.arange(5) >= lengths[:, None]
    total = 0.0
    for b in range(3):
        for t in range(int(lengths[b])):
            for i in range(7):
                total += min(weights[b, t, i].item(), sum(weights[b, k, i].item() for k in range(t)))
    assert coverage_loss(weights, padding).item() == pytest.approx(total / 9, abs=1e-5)


def test_nan_is_not_hidden_by_the_floor():
    ids, own = torch.tensor([[1, 2]]), torch.zeros(1, 4)
    for log_copied in ([math.nan, 0.0], [0.0, math.nan], [math.nan] * 2):
        found = mixture(own, torch.tensor([log_copied]), ids, 4)
        assert found[0, 1:3].isnan().any()


def test_a_share_of_nothing_and_groups_of_no_words_are_refused():
    with pytest.raises(ValueError, match="no examples"):
        exact([], [])
    for n in (0, -1):
        with pytest.raises(ValueError, match="n must be at least 1"):
            repeated(["a", "b"], n)


def test_coverage_loss_is_zero_when_nothing_is_looked_at_twice():
    assert coverage_loss(torch.eye(5)[None], torch.zeros(1, 5).bool()) == 0
    with pytest.raises(ValueError, match="does not mask"):
        coverage_loss(torch.eye(5)[None], torch.zeros(1, 4).bool())


def test_the_loss_is_cross_entropy_until_coverage_starts():
    model, batch = model_of("coverage"), batch_of()
    plain, late, early = CopyLoss(), CopyLoss(1.0, start=1), CopyLoss(1.0)
    base = plain(model, batch)
    expected = F.cross_entropy(model(batch).flatten(0, 1), batch.tgt[:, 1:].flatten(), ignore_index=0)
    assert torch.allclose(base, expected) and torch.allclose(late(model, batch), base)
    assert late(model, batch) > base and early(model, batch) > base
    memory = model.encoder(batch.src, batch.src_padding)
    copied = model.decoder.run(batch.tgt[:, :-1], memory).copied[batch.tgt[:, 1:] != 0]
    assert [told[0] for told in plain.generated] == pytest.approx([1 - copied.mean().item()], abs=1e-5)


def test_generating_is_the_mean_over_tokens():
    model, batch = model_of("pointer"), batch_of()
    pairs = [([i for i in s.tolist() if i not in (0, 2)], [i for i in t.tolist() if i > 2])
             for s, t in zip(batch.src, batch.tgt, strict=True)]
    loss = CopyLoss()
    [whole] = batches(pairs, 9)
    loss(model, whole)
    assert generating(model, pairs, batch_size=3) == pytest.approx(loss.generated[0], abs=1e-5, nan_ok=True)


def test_the_gate_is_summed_by_what_could_have_said_each_token():
    V, size = 6, 11
    gold, ids = torch.randint(0, size, (3, 5)), torch.randint(4, size, (3, 7))
    gold[:, 0], gold[:, 1], ids[0, :3], gold[0, 2:] = 4, 10, torch.tensor([4, 5, 10]), torch.tensor([5, 3, 0])
    copied = torch.rand(3, 5)
    sums = {kind: [0.0, 0] for kind in ("all", "lacking", "both", "copied")}
    for b in range(3):
        for t in range(5):
            word, source = gold[b, t].item(), ids[b].tolist()
            if word == Vocab.pad:
                continue
            kind = "copied" if word >= V else "both" if word in source else "lacking"
            for name in ("all", kind):
                sums[name] = [sums[name][0] + 1 - copied[b, t].item(), sums[name][1] + 1]
    assert min(n for _, n in sums.values()) > 0
    found = gate_by_kind(copied, gold, ids, V)
    assert torch.allclose(found.T, torch.tensor(list(sums.values())), atol=1e-5)


def test_scores_of_texts():
    e = [Example(("a",), (("x",), ("y",))), Example(("b",), (("z",),))]
    assert exact([["y"], ["w"]], e) == 0.5
    assert overlap(["a", "b", "b"], ["b", "a", "c", "d"]) == pytest.approx(4 / 7) and overlap([], ["a"]) == 0
    assert repeated(["a", "b", "a", "b", "a"]) == [2, 4] and repeated(["a"]) == [0, 0]


def test_replacing_puts_in_the_word_that_was_looked_at_most():
    model, sources = model_of("attention"), [tuple(s.split()) for s in SOURCES]
    with torch.no_grad():
        model.decoder.output.bias[Vocab.unk] += 100                # says nothing but UNK
    plain = copy_transduce(model, sources, WORDS, 3)
    assert plain == [["<unk>"] * 3] * 4
    replaced = copy_transduce(model, sources, WORDS, 3, replace=True)
    found = each(lambda *a, **k: list(greedy_search(*a, **k).weights), Trained(model, WORDS, None), sources, max_len=3)
    for source, said, weights in zip(sources, replaced, found, strict=True):
        assert said == [([*source, ""])[i] for i in weights.argmax(-1).tolist()]


# --- the data ---


def test_names_never_seen_are_never_seen():
    said = introductions(500)
    train_words = {w for e in said["train"] for w in (*e.source, *e.target)}
    words = names_vocab(said["train"], 10)
    for e in said["unseen"]:
        new = [w for w in e.target if w not in train_words]
        assert len(new) == 2 and words.unknown(e.source) == [w for w in e.source if w in new]
        assert words.decode(words.encode_target(e.target, e.source), e.source) == list(e.target)
    assert introductions(500) == said and introductions(500, seed=1) != said
    assert len(set(made_up(50, random.Random(0), "a"))) == 50
    said = introductions()
    few = names_vocab(said["train"], 500)                          # a vocabulary of frames, without a name
    assert all(len([w for w in e.target if w not in few.tgt.ids]) == 2 for e in said["seen"])
    assert made_up(3, random.Random(0), "a") == ["kunoma", "nireta", "zovoba"]     # in every process


def test_a_pointer_says_unseen_names_after_a_short_training():
    said = introductions(400)
    words = names_vocab(said["train"], 12)
    seed_everything(0)
    model = copy_model(words, "pointer", 32, 64)
    losses = train(model, training_batches(copy_pairs(said["train"], words), 32), 30, lr=1e-2, loss=CopyLoss()).losses
    assert losses[-1] < 0.6 * losses[0]


def test_misspellings_are_split_by_the_right_word():
    splits = corpora.misspellings()
    assert sum(map(len, splits)) == 58_916
    right = [{e.target for e in part} for part in splits]
    assert not (right[0] & right[1] or right[0] & right[2] or right[1] & right[2])
    assert not any(e.source == e.target for part in splits for e in part)


def test_docstrings_are_a_body_and_its_line(monkeypatch):
    splits = corpora.docstrings(("numpy",))
    assert len(splits.train) > 100
    for e in splits.train:
        assert 3 <= len(e.target) <= 16 and 12 <= len(e.source) <= 60
    assert not {e.source for e in splits.train} & {e.source for e in splits.test}
    assert corpora.docstrings(("numpy",), longest=40, pinned=True) == corpora.docstrings(("numpy",), longest=40)
    monkeypatch.setitem(DOCUMENTED, "numpy", "1.0")
    with pytest.raises(corpora.MissingCorpus, match=r"pip install numpy==1\.0"):
        corpora.docstrings(("numpy",), pinned=True)
    assert words_of("Calls `np.sum` 2.5 times.") == ("calls", "`", "np.sum", "`", "2.5", "times", ".")
