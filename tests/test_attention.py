"""What must hold of the attentions and of the decoder that asks. Coprime sizes, so no axis can be swapped."""

import inspect
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq import attention as chapter
from seq2seq.attention import (
    COMPARED,
    LENGTHS,
    LONG,
    LONG_BEAM,
    SCORES,
    AdditiveAttention,
    Attention,
    AttentionDecoder,
    DotProductAttention,
    GeneralAttention,
    LocationAttention,
    attention_model,
    attention_of,
    attention_study,
    halved,
    long_beam_study,
    long_model,
    long_study,
    long_trained,
    masked_softmax,
    score_study,
)
from seq2seq.bottleneck import VARIANTS
from seq2seq.decoding import beam_search, each, reorder, rescore
from seq2seq.encoder_decoder import Decoder, EncoderDecoder, Memory, greedy_search
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Splits
from seq2seq.kit.records import digits, words_of
from seq2seq.kit.training import train_step
from seq2seq.rnn import RNNDecoder, RNNEncoder, context_model
from seq2seq.sequence_labelling import nearest
from seq2seq.sequences import Batch, Vocab, batches, collate
from seq2seq.teacher_forcing import transduce

V_SRC, V_TGT, WIDTH, D, S, B = 11, 13, 3, 10, 7, 5
LENGTHS_OF_ROWS = torch.tensor([7, 3, 1, 5, 2])
PADDING = torch.arange(S) >= LENGTHS_OF_ROWS[:, None]                 # (B, S)


def attentions() -> dict[str, Attention]:
    """One of each kind, queries and states of D."""
    return {"additive": AdditiveAttention(D, D, 11), "dot": DotProductAttention(), "luong": DotProductAttention(False),
            "general": GeneralAttention(D, D), "location": LocationAttention(D, 9)}


KINDS = list(attentions())


def decoder_with(kind: str, layers: int = 1, dropout: float = 0.0) -> AttentionDecoder:
    return AttentionDecoder(V_TGT, WIDTH, D, layers, dropout, attention=attentions()[kind])


def some_memory(padding: torch.Tensor = PADDING, layers: int = 1) -> Memory:
    rows, size = padding.shape
    states = torch.randn(rows, size, D).masked_fill(padding[..., None], 0.0)
    return Memory(states, padding, torch.randn(rows, D), (torch.randn(rows, layers, D),))


def some_batch() -> Batch:
    lengths = [(7, 3), (0, 5), (4, 1), (2, 6), (5, 2)]
    draw = lambda n, size: torch.randint(4, size, (n,)).tolist()  # noqa: E731
    return collate([(draw(s, V_SRC), draw(t, V_TGT)) for s, t in lengths])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_softmax_over_the_symbols_alone():
    scores = torch.randn(B, S)
    weights = masked_softmax(scores, PADDING)
    for row, length in enumerate(LENGTHS_OF_ROWS):
        torch.testing.assert_close(weights[row, :length], scores[row, :length].softmax(dim=0))
        assert (weights[row, length:] == 0).all()
    far = masked_softmax(scores - 1e4, PADDING)                        # however low the scores are
    torch.testing.assert_close(far, weights, atol=1e-3, rtol=0)
    half = masked_softmax(scores.half(), PADDING)
    torch.testing.assert_close(half.float(), weights, atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_a_distribution_over_symbols_and_the_context_is_their_mixture(kind):
    attention, memory, query = attentions()[kind], some_memory(), torch.randn(B, D)
    context, weights = attention(query, memory.states, memory.padding)
    assert context.shape == (B, D) and weights.shape == (B, S)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(B))
    assert (weights >= 0).all() and (weights[PADDING] == 0).all() and (weights[~PADDING] > 0).all()
    by_hand = torch.stack([sum(w * h for w, h in zip(ws, hs, strict=True))
                           for ws, hs in zip(weights, memory.states, strict=True)])
    torch.testing.assert_close(context, by_hand)
    kept = attention(query, memory.states, memory.padding, attention.keys(memory.states))
    torch.testing.assert_close(kept, (context, weights))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    attention, memory, query = attentions()[kind], some_memory(), torch.randn(B, D)
    context, weights = attention(query, memory.states, memory.padding)
    for row, length in enumerate(LENGTHS_OF_ROWS):
        alone = attention(query[row : row + 1], memory.states[row : row + 1, :length], PADDING[row : row + 1, :length])
        torch.testing.assert_close(context[row : row + 1], alone[0])
        torch.testing.assert_close(weights[row : row + 1, :length], alone[1])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_gets_no_gradient_and_a_row_of_nothing_else_gives_none(kind):
    attention, query = attentions()[kind], torch.randn(B, D, requires_grad=True)
    padding = PADDING.clone()
    padding[1] = True
    states = torch.randn(B, S, D, requires_grad=True)                  # not zeros: nothing may be read there
    context, weights = attention(query, states, padding)
    assert (context[1] == 0).all() and (weights[1] == 0).all()
    (context.square().sum() + weights.square().sum()).backward()
    assert (states.grad[padding] == 0).all() and (query.grad[1] == 0).all()
    assert states.grad[~padding].abs().sum() > 0
    assert all(g.isfinite().all() for g in (states.grad, query.grad, *(p.grad for p in attention.parameters())))
    alone = attentions()[kind]
    alone(query[1:2], states[1:2], padding[1:2])[0].sum().backward()
    assert all((p.grad == 0).all() for p in alone.parameters())


def test_additive_scores_are_those_of_the_equation():
    attention = AdditiveAttention(3, 5, 7)
    query, states = torch.randn(2, 3), torch.randn(2, 4, 5)
    scores = attention.score(query, attention.keys(states))
    W, U, v = attention.W.weight, attention.U.weight, attention.v.weight[0]
    for b, i in itertools.product(range(2), range(4)):
        torch.testing.assert_close(scores[b, i], v @ torch.tanh(W @ query[b] + U @ states[b, i]))
    assert sum(p.numel() for p in attention.parameters()) == 3 * 7 + 5 * 7 + 7


def test_luongs_scores_are_those_of_the_equations():
    query, states = torch.randn(2, 5), torch.randn(2, 4, 5)
    products = torch.stack([states[b] @ query[b] for b in range(2)])
    torch.testing.assert_close(DotProductAttention(scaled=False).score(query, states), products)
    torch.testing.assert_close(DotProductAttention().score(query, states), products / math.sqrt(5))
    general, asked = GeneralAttention(3, 5), torch.randn(2, 3)
    scores = general.score(asked, general.keys(states))
    for b, i in itertools.product(range(2), range(4)):
        torch.testing.assert_close(scores[b, i], asked[b] @ general.W.weight @ states[b, i])
    assert sum(p.numel() for p in general.parameters()) == 15
    location = LocationAttention(3, 6)
    torch.testing.assert_close(location.score(asked, states), (asked @ location.W.weight.T)[:, :4])
    assert sum(p.numel() for p in location.parameters()) == 18


def test_location_looks_nowhere_beyond_its_positions():
    location, query, states = LocationAttention(D, 4), torch.randn(B, D), torch.randn(B, S, D)
    weights = location(query, states, torch.zeros(B, S, dtype=torch.bool))[1]
    assert weights.shape == (B, S) and (weights[:, 4:] == 0).all() and (weights[:, :4] > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(B))
    other = location(query, torch.randn(B, S, D), torch.zeros(B, S, dtype=torch.bool))[1]
    torch.testing.assert_close(weights, other)                        # by position alone


def test_the_attentions_of_d2l_and_of_torch():
    d2l = pytest.importorskip("d2l.torch")
    memory, query = some_memory(), torch.randn(B, D)
    ours, theirs = AdditiveAttention(D, D, 11), d2l.AdditiveAttention(11, dropout=0)
    arguments = query[:, None], memory.states, memory.states, LENGTHS_OF_ROWS
    theirs(*arguments)
    for name, layer in {"W_q": ours.W, "W_k": ours.U, "w_v": ours.v}.items():
        getattr(theirs, name).load_state_dict(layer.state_dict())
    context, weights = ours(query, memory.states, PADDING)
    torch.testing.assert_close(context, theirs(*arguments)[:, 0])
    torch.testing.assert_close(weights, theirs.attention_weights[:, 0])
    dot, theirs = DotProductAttention()(query, memory.states, PADDING), d2l.DotProductAttention(dropout=0)
    torch.testing.assert_close(dot[0], theirs(*arguments)[:, 0])
    torch.testing.assert_close(dot[1], theirs.attention_weights[:, 0])
    torchs = F.scaled_dot_product_attention(
        query[:, None], memory.states, memory.states, attn_mask=~PADDING[:, None])[:, 0]
    torch.testing.assert_close(dot[0], torchs)


def gru_by_hand(decoder: AttentionDecoder, tgt_in: torch.Tensor, memory: Memory) -> torch.Tensor:
    """Bahdanau's recurrence written out: s_{t-1} asks, c_t and y_{t-1} go in; one layer."""
    cell = nn.GRUCell(WIDTH + D, D)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in decoder.rnn.named_parameters()})
    s, logits = memory.last[0][:, 0], []
    for y in decoder.embedding(tgt_in).unbind(dim=1):
        c, _ = decoder.attention(s, memory.states, memory.padding)
        s = cell(torch.cat([y, c], dim=-1), s)
        logits.append(decoder.output(s))
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_recurrence_is_bahdanaus(kind):
    decoder, memory, tgt_in = decoder_with(kind), some_memory(), torch.randint(4, V_TGT, (B, 6))
    torch.testing.assert_close(decoder(tgt_in, memory), gru_by_hand(decoder, tgt_in, memory))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_step_equals_forward(kind, layers):
    decoder, memory = decoder_with(kind, layers, dropout=0.5).eval(), some_memory(layers=layers)
    tgt_in = torch.randint(4, V_TGT, (B, 6))
    torch.testing.assert_close(decoder(tgt_in, memory), Decoder.forward(decoder, tgt_in, memory))


def test_the_decoder_of_d2l_asks_with_the_upper_layer():
    """d2l's Seq2SeqAttentionDecoder is not in its package; its loop is this one (section 11.4.2)."""
    decoder, memory = decoder_with("additive", layers=2), some_memory(layers=2)
    tgt_in = torch.randint(4, V_TGT, (B, 4))
    hidden, outputs = memory.last[0].transpose(0, 1).contiguous(), []
    for x in decoder.embedding(tgt_in).unbind(dim=1):
        context, _ = decoder.attention(hidden[-1], memory.states, memory.padding)
        out, hidden = decoder.rnn(torch.cat([x, context], dim=-1)[:, None], hidden)
        outputs.append(out)
    torch.testing.assert_close(decoder(tgt_in, memory), decoder.output(torch.cat(outputs, dim=1)))


def test_a_step_reports_where_it_looked():
    decoder, memory = decoder_with("additive"), some_memory()
    state = decoder.init_state(memory)
    first = decoder.step(torch.full((B,), Vocab.bos), state)
    expected = decoder.attention(memory.last[0][:, -1], memory.states, memory.padding)[1]
    torch.testing.assert_close(first.weights, expected)                # asked by s_0, not by s_1
    second = decoder.step(torch.full((B,), 5), first.state)
    torch.testing.assert_close(
        second.weights, decoder.attention(first.state.hidden[:, -1], memory.states, memory.padding)[1])
    assert not torch.allclose(first.weights, second.weights)
    assert first.logits.shape == (B, V_TGT) and first.state.hidden.shape == (B, 1, D)


def test_nothing_changes_but_the_context():
    """With weights that are given, an AttentionDecoder is an RNNDecoder that is handed that context."""
    class Fixed(Attention):
        def forward(self, query, states, padding, keys=None):
            return context, torch.zeros(padding.shape)

    context, memory = torch.randn(B, D), some_memory()
    ours = AttentionDecoder(V_TGT, WIDTH, D, attention=Fixed())
    theirs = RNNDecoder(V_TGT, WIDTH, D)
    theirs.load_state_dict(ours.state_dict())
    tgt_in = torch.randint(4, V_TGT, (B, 6))
    torch.testing.assert_close(ours(tgt_in, memory), theirs(tgt_in, memory._replace(summary=context)))


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_do_not_reach_back(kind):
    decoder, memory = decoder_with(kind).eval(), some_memory()
    tokens = torch.randint(4, V_TGT, (B, 7))
    changed = tokens.clone()
    changed[:, 4] = 4 + (tokens[:, 4] - 3) % (V_TGT - 4)
    logits, others = decoder(tokens, memory), decoder(changed, memory)
    assert torch.equal(logits[:, :4], others[:, :4]) and not torch.equal(logits[:, 4:], others[:, 4:])
    embedded = []
    decoder.embedding.register_forward_hook(lambda *call: embedded.append(call[-1]) or call[-1].retain_grad())
    decoder(tokens, memory)[:, 3].sum().backward()
    assert (embedded[0].grad[:, 4:] == 0).all() and (embedded[0].grad[:, :4] != 0).any()


@pytest.mark.parametrize("score", SCORES)
def test_a_row_does_not_feel_its_neighbours(score):
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = attention_model(letters, phones, WIDTH, D, attention=SCORES[score]).eval()
    batch = some_batch()
    together = model(batch)
    for row, (padding, target) in enumerate(zip(batch.src_padding, batch.tgt, strict=True)):
        length, columns = int((~padding).sum()), int((target != Vocab.pad).sum())
        alone = model(Batch(batch.src[row : row + 1, :length], batch.tgt[row : row + 1, :columns],
                            batch.src_padding[row : row + 1, :length]))
        torch.testing.assert_close(together[row, : columns - 1], alone[0])
    held = model.encoder(batch.src, batch.src_padding)
    states = held.states.detach().requires_grad_()
    model.decoder(batch.tgt[:, :-1], held._replace(states=states)).sum().backward()
    assert (states.grad[batch.src_padding] == 0).all() and states.grad.isfinite().all()


def test_a_row_of_padding_leaves_no_gradient_and_no_nan():
    model = EncoderDecoder(RNNEncoder(V_SRC, WIDTH, D, bidirectional=True), decoder_with("additive"))
    src = torch.tensor([[0, 0, 0], [5, 7, 2]])
    memory = model.encoder(src, src == Vocab.pad)
    logits = model.decoder(torch.tensor([[1, 5], [1, 6]]), memory)
    assert logits.isfinite().all()
    logits[0].sum().backward()
    assert all((p.grad is None or (p.grad == 0).all()) for p in model.encoder.parameters())
    assert all((p.grad is None or (p.grad == 0).all()) for p in model.decoder.attention.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_reordering_a_state_reorders_its_future(kind):
    decoder, memory, token = decoder_with(kind, layers=2).eval(), some_memory(layers=2), torch.randint(4, V_TGT, (B,))
    state = decoder.step(token, decoder.init_state(memory)).state
    index = torch.tensor([3, 0, 3])
    picked, whole = decoder.step(token[index], reorder(state, index)), decoder.step(token, state)
    torch.testing.assert_close(picked.logits, whole.logits[index])
    torch.testing.assert_close(picked.weights, whole.weights[index])


@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_trains_on_the_meta_device(kind):
    encoder = RNNEncoder(V_SRC, WIDTH, D, 1, 0.1, bidirectional=True)
    model = EncoderDecoder(encoder, decoder_with(kind, dropout=0.1)).to("meta")
    loss = train_step(model, some_batch().to("meta"), torch.optim.Adam(model.parameters()))
    assert loss.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.parameters())


def test_dropout_touches_the_embedding_and_the_output_and_is_off_in_a_search():
    decoder, memory = decoder_with("additive", dropout=1.0).train(), some_memory()
    fed = []
    decoder.rnn.register_forward_pre_hook(lambda rnn, inputs: fed.append(inputs[0]))
    for logits in (decoder(torch.randint(4, V_TGT, (B, 2)), memory),
                   decoder.step(torch.randint(4, V_TGT, (B,)), decoder.init_state(memory)).logits[:, None]):
        torch.testing.assert_close(logits, decoder.output.bias.expand_as(logits))
    assert len(fed) == 3 and all((x[..., :WIDTH] == 0).all() and (x[..., WIDTH:] != 0).any() for x in fed)
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = attention_model(letters, phones, WIDTH, D, dropout=0.5).train()
    batch = some_batch()
    assert not torch.equal(model(batch), model(batch))
    found = [greedy_search(model, batch.src, batch.src_padding, max_len=7) for _ in range(2)]
    assert torch.equal(found[0].scores, found[1].scores) and found[0].weights.shape[::2] == (B, batch.src.shape[1])


def test_training_learns():
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model, batch = attention_model(letters, phones, 16, 32), some_batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = [train_step(model, batch, optimizer).item() for _ in range(120)]
    assert losses[-1] < 0.05 < losses[0]
    found = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    gold = F.pad(batch.tgt[:, 1:], (0, found.tokens.shape[1] - batch.tgt.shape[1] + 1))
    assert torch.equal(found.tokens, gold)


def test_every_argument_of_attention_model_reaches_both_halves():
    letters, phones = Vocab("abc"), Vocab("ABCDE")
    model = attention_model(letters, phones, 5, 14, 3, 0.25, attention=SCORES["general"])
    encoder, decoder = model.encoder, model.decoder
    assert encoder.embedding.weight.shape == (7, 5) and decoder.embedding.weight.shape == (9, 5)
    assert decoder.output.weight.shape == (9, 14) and decoder.rnn.input_size == 5 + 14
    assert len(encoder.forwards) == len(encoder.backwards) == decoder.rnn.num_layers == 3
    assert encoder.dropout.p == decoder.dropout.p == decoder.rnn.dropout == 0.25
    assert decoder.attention.W.weight.shape == (14, 14)
    default = attention_model(letters, phones)
    assert default.decoder.attention.W.weight.shape == (128, 256) and default.decoder.dropout.p == 0.0
    kinds = {name: type(build(6)) for name, build in SCORES.items()}
    assert kinds == {"additive": AdditiveAttention, "dot": DotProductAttention, "general": GeneralAttention,
                     "location": LocationAttention}
    assert SCORES["location"](6).W.weight.shape == (50, 6) and SCORES["dot"](6).scaled
    alone = AttentionDecoder(V_TGT)
    assert isinstance(alone.attention, AdditiveAttention) and alone.rnn.input_size == 128 + 256
    assert [w.weight.shape for w in (alone.attention.W, alone.attention.U)] == [(256, 256)] * 2


def test_bad_input_is_told_what_is_wrong():
    decoder, memory = decoder_with("additive"), some_memory()
    with pytest.raises(ValueError, match="2 tokens for a state of 5 rows"):
        decoder.step(torch.tensor([1, 1]), decoder.init_state(memory))
    with pytest.raises(ValueError, match="one row"):
        decoder(torch.tensor([[1, 4], [1, 4]]), memory)
    with pytest.raises(ValueError, match="no summary"):
        decoder.init_state(memory._replace(summary=None))
    with pytest.raises(NotImplementedError):
        Attention()(torch.randn(B, D), memory.states, memory.padding)
    with pytest.raises(TypeError, match="returns no weights"):
        attention_of(context_model(Vocab("ab"), Vocab("xy"), width=4, hidden_size=4), [([4], [4])])


def test_attention_of_gives_a_row_a_gold_token_and_a_column_a_symbol():
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = attention_model(letters, phones, WIDTH, D, dropout=0.5).train()
    pairs = [(letters.encode(s), phones.encode(t)) for s, t in [("bad", "AHC"), ("", "B"), ("fag", ""), ("g", "DAB")]]
    found = attention_of(model, pairs, batch_size=3)
    assert model.training and [tuple(w.shape) for w in found] == [(4, 4), (2, 1), (1, 4), (4, 2)]
    assert not any(w.requires_grad for w in found)
    with torch.no_grad():
        for weights, pair in zip(found, pairs, strict=True):
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))
            [batch] = batches([pair], 1)
            state = model.eval().decoder.init_state(model.encoder(batch.src, batch.src_padding))
            for row, token in zip(weights, batch.tgt[0, :-1], strict=True):
                step = model.decoder.step(token[None], state)
                state = step.state
                torch.testing.assert_close(row, step.weights[0])
    assert len(attention_of(model, pairs * 100)) == 400


@pytest.fixture
def few_words(monkeypatch):
    """A corpus of a few words, so that a study's run takes a second."""
    every = corpora.pronunciations()
    splits = Splits(every.train[:2000], every.validation[:40], every.test[:40])
    monkeypatch.setattr(chapter.corpora, "pronunciations", lambda: splits)
    return splits


def test_the_study_trains_as_the_study_of_one_vector_does(few_words, monkeypatch):
    from seq2seq import bottleneck

    how = {}
    for module in (chapter, bottleneck):
        def noted(model, stream, steps, *, module=module, **options):
            how[module.__name__] = (steps, options, next(iter(stream)).src.tolist())
            raise StopIteration
        monkeypatch.setattr(module, "train", noted)
    for study in (LENGTHS, VARIANTS):
        with pytest.raises((StopIteration, RuntimeError)):
            study.run(seed=2)
    ours, theirs = how.values()
    assert ours == theirs and ours[:2] == (1200, {"lr": 8e-3, "until": None})


def test_the_study_scores_both_ways_and_stops_where_it_is_told(few_words):
    found = attention_study(steps=2, seed=1, hidden_size=6, width=4)
    assert len(found["losses"]) == 2 and found["validation"] > 0 and found["per"] > 0 and len(found["edits"]) == 40
    assert all(len(parts) == 2 for parts in found["thirds"].values())        # its own output, and after gold
    assert attention_study(steps=2, seed=1, hidden_size=6, width=4, until=1)["losses"] == found["losses"][:1]
    again = attention_study(steps=2, seed=2, hidden_size=6, width=4, until=1)["losses"]
    assert again != found["losses"][:1]


def test_equal_parameters_are_equal():
    letters, phones = Vocab(map(str, range(29))), Vocab(map(str, range(39)))
    size = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    one = size(context_model(letters, phones))
    [same] = [s for s in LENGTHS.settings if s]
    gaps = {d: abs(size(attention_model(letters, phones, hidden_size=d)) - one) for d in range(236, 256, 2)}
    assert min(gaps, key=gaps.get) == same["hidden_size"] and gaps[same["hidden_size"]] < 0.01 * one


def test_the_long_study_keeps_what_validation_chooses(few_words, monkeypatch, tmp_path, tmp_path_factory):
    monkeypatch.chdir(tmp_path)
    trained, scored = [], []
    small = lambda letters, phones, dropout=0.0: attention_model(letters, phones, 4, 6)  # noqa: E731
    monkeypatch.setattr(chapter, "long_model", small)

    def learn(model, stream, steps, *, lr, until, checkpoint):
        trained.append((until, checkpoint))
        with torch.no_grad():
            model.decoder.output.bias.fill_(float(until))
        return chapter_history([1.0 / n for n in range(1, until + 1)])

    def write(model, sources, *vocabs, max_len):
        assert max_len == 30
        scored.append((len(sources), model.decoder.output.bias[0].item()))
        return [[str(model.decoder.output.bias[0].item())]] * len(sources)

    monkeypatch.setattr(chapter, "train", learn)
    monkeypatch.setattr(chapter, "transduce", write)
    monkeypatch.setattr(chapter, "error_rates", lambda said, gold: (abs(float(said[0][0]) - 12.0), 0.5))
    found = long_study(steps=16, seed=0)
    assert [until for until, _ in trained] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert len({path for _, path in trained}) == 1
    assert found["chosen"] == "after 12 steps" and found["weights"].decoder.output.bias[0] == 12
    assert found["validation"]["mean of the last three"] == (2.0, 0.5)          # 12, 14, 16
    assert len(found["validation"]) == 9 and len(found["losses"]) == 16
    assert found["training"] == [round(loss, 3) for loss in found["losses"]]
    assert scored[-1] == (len(few_words.test), 12.0) and {n for n, _ in scored[:-1]} == {len(few_words.validation)}
    trained.clear()
    again = long_study(steps=16, seed=0)                                       # a killed run goes on
    assert not trained and again["chosen"] == found["chosen"] and again["losses"] == found["losses"]
    assert long_study(steps=16, seed=0, until=3)["losses"] == [1.0, 1 / 2, 1 / 3] and trained == [(3, None)]
    trained.clear()
    monkeypatch.chdir(tmp_path_factory.mktemp("short"))
    assert long_study(steps=4)["chosen"] == "after 8 steps" and [n for n, _ in trained] == list(range(1, 9))


def chapter_history(losses):
    from seq2seq.kit.training import History

    return History(losses)


def test_the_long_model_fits_its_file_and_its_weights_are_what_is_kept():
    letters, phones = Vocab(map(str, range(29))), Vocab(map(str, range(39)))
    model = long_model(letters, phones)
    assert sum(p.numel() for p in model.parameters()) < 2e6
    assert len(model.encoder.forwards) == len(model.encoder.backwards) == 2 and model.decoder.layers == 1
    assert model.encoder.dropout.p == model.decoder.dropout.p == 0.1
    rounded = halved(model.state_dict())
    assert all(torch.equal(v, v.half().float()) for v in rounded.values())
    assert any(not torch.equal(v, rounded[k]) for k, v in model.state_dict().items())
    assert transduce(model, [["1"], ["2", "3"]], letters, phones, max_len=4)
    assert LONG.seeds == (0,) and inspect.signature(long_study).parameters["seed"].default == 0


def test_the_weights_on_record_are_those_that_were_scored():
    best, some = long_trained(), corpora.pronunciations().test[::90]
    for width, study in ((1, LONG), (5, LONG_BEAM)):
        found = each(beam_search, best, [e.source for e in some], max_len=30, width=width)
        edits = [nearest(best.read(h.ids), e.targets)[0] for [h], e in zip(found, some, strict=True)]
        assert digits(edits) == study.results({})[0]["edits"][::90]


def test_the_beam_of_the_long_model_has_width_five_and_says_how_probable_its_words_are(monkeypatch):
    every, widths = corpora.pronunciations(), []
    few = Splits(every.train, [], every.test[:9])
    monkeypatch.setattr(chapter.corpora, "pronunciations", lambda: few)
    searched = lambda *args, **how: widths.append(how) or each(*args, **how)  # noqa: E731
    monkeypatch.setattr(chapter, "each", searched)
    found = long_beam_study()
    assert widths == [{"max_len": 30, "width": 5}] and len(found["edits"]) == 9
    best = long_trained()
    outputs = [h for [h] in each(beam_search, best, [e.source for e in few.test], max_len=30, width=5)]
    pairs = [(best.vocab.encode(e.source), h.ids) for e, h in zip(few.test, outputs, strict=True)]
    assert found["losses"] == pytest.approx([-sum(row) for row in rescore(best.model, pairs)], abs=1e-4)
    assert found["per"] == pytest.approx(
        sum(nearest(best.read(h.ids), e.targets)[0] for h, e in zip(outputs, few.test, strict=True))
        / sum(nearest(best.read(h.ids), e.targets)[1] for h, e in zip(outputs, few.test, strict=True)))
    assert long_beam_study(until=4) == {"losses": pytest.approx(found["losses"][:4], abs=1e-4)}


def test_the_study_of_scores_changes_the_score_alone(few_words, monkeypatch):
    built, trained = [], []

    def small(letters, phones, *, attention):
        built.append(attention)
        return attention_model(letters, phones, 4, 6, attention=attention)

    def noted(model, stream, steps, **how):
        trained.append((steps, how, next(iter(stream)).src.tolist()))
        return chapter_history([2.0, 1.0])

    monkeypatch.setattr(chapter, "attention_model", small)
    original = chapter.train
    monkeypatch.setattr(chapter, "train", noted)
    for score in SCORES:
        found = score_study(score=score, seed=1)
        edits, lengths = words_of([found]).sum(axis=0)
        assert found["validation"] == edits / lengths > 0 and len(found["edits"]) == len(few_words.validation)
        assert found["losses"] == [2.0, 1.0] and not {"per", "wer"} & found.keys()      # no test word was seen
    assert built == list(SCORES.values()) and all(each == trained[0] for each in trained)
    assert trained[0][:2] == (350, {"lr": 8e-3, "until": None})
    monkeypatch.setattr(chapter, "train", original)
    first, again, other = (score_study(steps=2, seed=seed, until=1) for seed in (1, 1, 2))
    assert first == again != other and len(first["losses"]) == 1
    assert {s["score"] for s in COMPARED.settings} == set(SCORES)
    with pytest.raises(ValueError, match="'location'"):
        score_study(score="cosine")


@pytest.mark.parametrize("study", [attention_study, long_study, score_study])
def test_a_study_seeds_its_model_and_moves_it_to_the_device(study, few_words, monkeypatch):
    seen = []

    def noted(model, stream, steps, **how):
        seen.append((model.decoder.output.weight, next(iter(stream)).src))
        raise InterruptedError

    monkeypatch.setattr(chapter, "train", noted)
    for seed in (1, 1, 2):
        torch.rand(1)                                                  # whatever was drawn before
        with pytest.raises(InterruptedError):
            study(seed=seed, until=1)
    (first, batch), (again, same), (other, another) = seen
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(batch) == (512 if study is long_study else 128)
    assert torch.equal(batch, same) and not torch.equal(batch[:, :2], another[:, :2])
    monkeypatch.setattr(chapter, "device", lambda: torch.device("meta"))
    with pytest.raises(InterruptedError):
        study(until=1)
    assert seen[-1][0].is_meta


def test_the_long_model_is_moved_to_the_device(monkeypatch):
    monkeypatch.setattr(chapter, "device", lambda: torch.device("meta"))
    assert long_trained().model.decoder.output.weight.is_meta


@pytest.mark.parametrize("study", [LENGTHS, LONG, LONG_BEAM, COMPARED])
def test_what_is_on_record_is_what_is_planned(study):
    assert [row["settings"] for row in study.rows()] == study.plan()
    assert inspect.signature(study.run).parameters["seed"].default == study.seeds[0] == 0


def test_what_is_left_out_has_the_size_that_is_promised():
    decoder = AttentionDecoder(V_TGT, WIDTH, D)
    assert decoder.layers == 1 and decoder.dropout.p == 0
    assert [tuple(p.shape) for p in decoder.attention.parameters()] == [(D, D), (D, D), (1, D)]
    assert [tuple(p.shape) for p in SCORES["additive"](D).parameters()] == [(D // 2, D), (D // 2, D), (1, D // 2)]
    assert [tuple(p.shape) for p in SCORES["location"](D).parameters()] == [(50, D)]
    model = attention_model(Vocab("abc"), Vocab("AB"), WIDTH, D)
    assert len(model.encoder.forwards) == len(model.encoder.backwards) == 1
    assert model.encoder.dropout.p == model.decoder.dropout.p == 0
