"""What must hold of the RNN encoder and decoder, whatever their weights. Coprime sizes, so no axis can be swapped."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seq2seq.decoding import reorder
from seq2seq.encoder_decoder import Decoder, Encoder, EncoderDecoder, Memory, Step, greedy_search
from seq2seq.kit.corpora import Example
from seq2seq.kit.training import train_step
from seq2seq.rnn import (
    CELLS,
    GROUPS,
    RNNDecoder,
    RNNEncoder,
    after_gold,
    context_model,
    edits_by_length,
    error_by_length,
    group_of,
    interval,
    kept,
    summarise,
    transduce,
    vocabularies,
)
from seq2seq.sequences import Batch, Vocab, collate

V_SRC, V_TGT, WIDTH, D = 11, 13, 3, 10
ENCODERS = [
    {"cell": cell, "bidirectional": both, "summary": summary, "layers": layers}
    for cell, both, summary, layers in itertools.product(CELLS, (False, True), ("last", "mean", "max"), (1, 3))
]
DECODERS = [
    {"cell": cell, "context": context, "layers": layers}
    for cell, context, layers in itertools.product(CELLS, ("every step", "initial"), (1, 3))
]


def named(options: dict) -> str:
    return "-".join(str(value) for value in options.values())


def some_batch(seed: int = 0) -> Batch:
    """Five pairs of different lengths, one of them with an empty source."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [(7, 3), (0, 5), (4, 1), (2, 6), (5, 2)]
    draw = lambda n, size: torch.randint(4, size, (n,), generator=generator).tolist()  # noqa: E731
    return collate([(draw(s, V_SRC), draw(t, V_TGT)) for s, t in lengths])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("options", ENCODERS, ids=named)
def test_a_row_does_not_feel_its_neighbours(options):
    encoder, batch = RNNEncoder(V_SRC, WIDTH, D, **options).eval(), some_batch()
    together = encoder(batch.src, batch.src_padding)
    for row, padding in enumerate(batch.src_padding):
        length = int((~padding).sum())
        alone = encoder(batch.src[row : row + 1, :length], batch.src_padding[row : row + 1, :length])
        torch.testing.assert_close(together.states[row, :length], alone.states[0])
        torch.testing.assert_close(together.summary[row], alone.summary[0])
        assert (together.states[row, length:] == 0).all()


@pytest.mark.parametrize("options", ENCODERS, ids=named)
def test_a_row_of_padding_gives_zeros_and_no_gradient(options):
    encoder = RNNEncoder(V_SRC, WIDTH, D, **options)
    src = torch.tensor([[0, 0, 0], [5, 7, 2]])
    memory = encoder(src, src == Vocab.pad)
    assert (memory.summary[0] == 0).all() and (memory.states[0] == 0).all()
    memory.summary[0].sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in encoder.parameters())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 3])
def test_masking_equals_packing(cell, layers):
    encoder, batch = RNNEncoder(V_SRC, WIDTH, D, layers, cell=cell, bidirectional=True), some_batch()
    reference = CELLS[cell](WIDTH, D // 2, layers, bidirectional=True, batch_first=True)
    reference.load_state_dict({
        name.replace("l0", f"l{layer}") + suffix: weight
        for suffix, readers in (("", encoder.forwards), ("_reverse", encoder.backwards))
        for layer, reader in enumerate(readers)
        for name, weight in reader.named_parameters()
    })
    lengths = (~batch.src_padding).sum(dim=1)
    packed = pack_padded_sequence(encoder.embedding(batch.src), lengths, batch_first=True, enforce_sorted=False)
    outputs, hidden = reference(packed)
    states, _ = pad_packed_sequence(outputs, batch_first=True)
    memory = encoder(batch.src, batch.src_padding)
    torch.testing.assert_close(memory.states, states)
    kinds = hidden if cell == "lstm" else (hidden,)
    assert len(memory.last) == len(kinds)
    for ours, theirs in zip(memory.last, kinds, strict=True):                # (layers * 2, B, D/2)
        both = theirs.unflatten(0, (layers, 2)).permute(2, 0, 1, 3).flatten(2)
        torch.testing.assert_close(ours, both)                               # (B, layers, D)
    torch.testing.assert_close(memory.summary, memory.last[0][:, -1])


def test_the_encoder_of_d2l():
    d2l = pytest.importorskip("d2l.torch")
    ours, theirs = RNNEncoder(V_SRC, WIDTH, 7, layers=2), d2l.Seq2SeqEncoder(V_SRC, WIDTH, 7, 2)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    theirs.rnn.rnn.load_state_dict({
        name.replace("l0", f"l{layer}"): weight
        for layer, reader in enumerate(ours.forwards) for name, weight in reader.named_parameters()
    })
    src = torch.randint(4, V_SRC, (5, 3))
    outputs, state = theirs(src)
    memory = ours(src, src == Vocab.pad)
    torch.testing.assert_close(memory.states, outputs.transpose(0, 1))
    torch.testing.assert_close(memory.summary, state[-1])
    decoder, tgt_in = RNNDecoder(V_TGT, WIDTH, 7, 2), torch.randint(4, V_TGT, (5, 4))
    inputs = torch.cat([decoder.embedding(tgt_in), state[-1][:, None].expand(-1, 4, -1)], dim=-1)
    outputs, _ = decoder.rnn(inputs, state)                                    # each layer from its own
    torch.testing.assert_close(decoder(tgt_in, memory), decoder.output(outputs))


@pytest.mark.parametrize("options", DECODERS, ids=named)
def test_step_equals_forward(options):
    decoder, batch = RNNDecoder(V_TGT, WIDTH, D, **options).eval(), some_batch()
    memory = Memory(torch.randn(5, 8, D), batch.src_padding, torch.randn(5, D))
    tgt_in = batch.tgt[:, :-1]
    torch.testing.assert_close(decoder(tgt_in, memory), Decoder.forward(decoder, tgt_in, memory))


@pytest.mark.parametrize("options", DECODERS, ids=named)
def test_later_tokens_do_not_reach_back(options):
    decoder = RNNDecoder(V_TGT, WIDTH, D, **options).eval()
    memory = Memory(torch.randn(2, 3, D), torch.zeros(2, 3, dtype=torch.bool), torch.randn(2, D))
    tokens = torch.randint(4, V_TGT, (2, 7))
    logits = decoder(tokens, memory)
    changed = tokens.clone()
    changed[:, 4] = 4 + (tokens[:, 4] - 3) % (V_TGT - 4)
    assert torch.equal(logits[:, :4], decoder(changed, memory)[:, :4])
    assert not torch.equal(logits[:, 4:], decoder(changed, memory)[:, 4:])
    embedded = []
    decoder.embedding.register_forward_hook(lambda *call: embedded.append(call[-1]) or call[-1].retain_grad())
    decoder(tokens, memory)[:, 3].sum().backward()
    assert (embedded[0].grad[:, 4:] == 0).all() and (embedded[0].grad[:, :4] != 0).any()


@pytest.mark.parametrize("context", ["every step", "initial"])
def test_only_every_step_hears_the_context_again(context):
    """From one and the same state, another context changes the next step only if it is concatenated."""
    decoder = RNNDecoder(V_TGT, WIDTH, D, context=context).eval()
    memory = Memory(torch.randn(1, 3, D), torch.zeros(1, 3, dtype=torch.bool), torch.randn(1, D))
    state = decoder.init_state(memory)
    other = decoder.step(torch.tensor([5]), state._replace(context=torch.randn(1, D)))
    same = torch.equal(decoder.step(torch.tensor([5]), state).logits, other.logits)
    assert same == (context == "initial")


@pytest.mark.parametrize("cell", CELLS)
def test_reordering_a_state_reorders_its_future(cell):
    decoder = RNNDecoder(V_TGT, WIDTH, D, 2, cell=cell).eval()
    memory = Memory(torch.randn(5, 3, D), torch.zeros(5, 3, dtype=torch.bool), torch.randn(5, D))
    token = torch.randint(4, V_TGT, (5,))
    state = decoder.step(token, decoder.init_state(memory)).state
    index = torch.tensor([3, 0, 3])
    picked = decoder.step(token[index], reorder(state, index)).logits
    torch.testing.assert_close(picked, decoder.step(token, state).logits[index])


@pytest.mark.parametrize("padding_at_the_end", [0, 2])
def test_summaries_of_a_row_that_can_be_read(padding_at_the_end):
    states = torch.tensor([[[1.0, 2.0], [-3.0, 4.0], [5.0, -1.0]] + [[0.0, 0.0]] * padding_at_the_end])
    padding = torch.arange(3 + padding_at_the_end)[None] >= 3
    expected = {("last", False): [5, -1], ("last", True): [5, 2], ("mean", False): [1, 5 / 3], ("max", False): [5, 4]}
    for (how, both), value in expected.items():
        torch.testing.assert_close(summarise(states, padding, how, both), torch.tensor([value], dtype=torch.float))


def test_max_pooling_of_negative_states_ignores_the_zeros_of_padding():
    states, padding = torch.tensor([[[-1.0], [0.0]]]), torch.tensor([[False, True]])
    assert summarise(states, padding, "max", False).item() == -1.0


@pytest.mark.parametrize("options", [o for o in DECODERS if o["cell"] != "lstm"], ids=named)
def test_every_model_trains_on_the_meta_device(options):
    """But for an LSTM's encoder, which packs: that needs the rows' lengths."""
    encoder = RNNEncoder(V_SRC, WIDTH, D, options["layers"], 0.1, cell=options["cell"], bidirectional=True)
    model = EncoderDecoder(encoder, RNNDecoder(V_TGT, WIDTH, D, dropout=0.1, **options)).to("meta")
    loss = train_step(model, some_batch().to("meta"), torch.optim.Adam(model.parameters()))
    assert loss.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.parameters())


def test_training_learns():
    batch = some_batch()
    model = EncoderDecoder(RNNEncoder(V_SRC, 16, 32), RNNDecoder(V_TGT, 16, 32))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = [train_step(model, batch, optimizer).item() for _ in range(120)]
    assert losses[-1] < 0.05 < losses[0]
    found = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    gold = nn.functional.pad(batch.tgt[:, 1:], (0, found.tokens.shape[1] - batch.tgt.shape[1] + 1))
    assert torch.equal(found.tokens, gold)


def test_bad_input_is_told_what_is_wrong():
    with pytest.raises(ValueError, match="even"):
        RNNEncoder(V_SRC, WIDTH, 7, bidirectional=True)
    with pytest.raises(ValueError, match="'gru'"):
        RNNEncoder(V_SRC, WIDTH, D, cell="GRU")
    with pytest.raises(ValueError, match="'mean'"):
        RNNEncoder(V_SRC, WIDTH, D, summary="average")
    with pytest.raises(ValueError, match="'initial'"):
        RNNDecoder(V_TGT, WIDTH, D, context="once")
    encoder, decoder = RNNEncoder(V_SRC, WIDTH, D), RNNDecoder(V_TGT, WIDTH, D)
    src = torch.tensor([[4, 2]])
    padding = src == Vocab.pad
    with pytest.raises(ValueError, match="empty"):
        encoder(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="boolean"):
        encoder(src, padding.float())
    with pytest.raises(ValueError, match="boolean and of shape"):
        encoder(src, padding[:, :1])
    with pytest.raises(ValueError, match="vocabulary has 11"):
        encoder(src + 9, padding)
    memory = encoder(src, padding)
    with pytest.raises(ValueError, match="one row"):
        decoder(torch.tensor([[1, 4], [1, 4]]), memory)
    with pytest.raises(ValueError, match="vocabulary has 13"):
        decoder(torch.tensor([[1, 13]]), memory)
    with pytest.raises(ValueError, match="width 20"):
        RNNDecoder(V_TGT, WIDTH, 20)(torch.tensor([[1]]), memory)
    with pytest.raises(ValueError, match="no summary"):
        decoder.init_state(memory._replace(summary=None))


def test_transduce_keeps_the_order_and_takes_empty_and_unknown_sources():
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = context_model(letters, phones, WIDTH, D)
    sources = ["gabe", "", "a", "xyz", "badge", "cab"]
    together = transduce(model, sources, letters, phones, max_len=7, batch_size=2)
    alone = [transduce(model, [source], letters, phones, max_len=7)[0] for source in sources]
    assert together == alone and len(together) == len(sources)
    assert transduce(model, [], letters, phones) == []


def test_vocabularies_and_scores():
    examples = [Example(("a", "b"), (("X",), ("Y", "X"))), Example(("b", "c"), (("Z", "X"),))]
    sources, targets = vocabularies(examples)
    assert sources.symbols[4:] == ["a", "b", "c"] and targets.symbols[4:] == ["X", "Y", "Z"]
    assert vocabularies(examples, min_count=2)[0].symbols[4:] == ["b"]
    assert vocabularies(iter(examples))[1].symbols == targets.symbols       # a generator is read once
    assert [v.symbols for v in vocabularies(examples[::-1])] == [sources.symbols, targets.symbols]    # in any order
    assert error_by_length([["Y", "X"], ["Z"]], examples) == {"1–5": 0.25}      # 1 edit, 2 + 2 reference symbols


def test_every_length_has_a_group_and_no_word_is_dropped():
    bounds = [(0, "1–5"), (5, "1–5"), (6, "6–8"), (8, "6–8"), (9, "9–11"), (11, "9–11"), (12, "12+"), (120, "12+")]
    assert [group_of(length) for length, _ in bounds] == [name for _, name in bounds] and len(GROUPS) == 4
    examples = [Example(("a",) * length, (("X", "Y"), ("X",))) for length, _ in bounds]
    edits = edits_by_length([["X"] if length % 2 else ["Z", "Y"] for length, _ in bounds], examples)
    assert {name: rows.tolist() for name, rows in edits.items()} == {
        "1–5": [[1, 2], [0, 1]], "6–8": [[1, 2]] * 2, "9–11": [[0, 1]] * 2, "12+": [[1, 2]] * 2}
    assert list(edits) == list(GROUPS)
    with pytest.raises(ValueError, match="zip"):
        edits_by_length([["X"]], examples)


def test_an_interval_holds_the_rate_and_narrows_with_more_words():
    rng = np.random.default_rng(3)
    few = np.stack([rng.integers(0, 3, size=50), rng.integers(3, 9, size=50)], axis=1)
    many = np.concatenate([few] * 20)
    rate = few[:, 0].sum() / few[:, 1].sum()
    (low, high), (lower, higher) = interval(few), interval(many)
    assert low < lower < rate < higher < high and 3 < (high - low) / (higher - lower) < 6
    assert interval(np.array([[2, 4]] * 9)) == (0.5, 0.5)
    means = [(r[:, 0] / 10).mean() for r in few[rng.integers(50, size=(4000, 50))]]      # lengths all 10
    low, high = interval(np.stack([few[:, 0], np.full(50, 10)], axis=1), draws=4000)
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.004)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.004)


def test_kept_are_gold_symbols_that_a_shortest_edit_leaves_alone():
    gold = list("ABCDE")
    assert kept(list("ABCDE"), gold) == [True] * 5
    assert kept(list("XABCDE"), gold) == [True] * 5          # one too many shifts nothing
    assert kept(list("ABXDE"), gold) == [True, True, False, True, True]
    assert kept(list("ABDE"), gold) == [True, True, False, True, True]
    assert kept([], gold) == [False] * 5 and kept(list("AB"), []) == []


def test_after_gold_is_what_the_model_says_next():
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = context_model(letters, phones, WIDTH, D, dropout=0.5).train()
    examples = [Example(tuple("bad"), (tuple("AHC"), tuple("B"))), Example(tuple("g"), (tuple("DA"),)),
                Example(tuple("cafe"), (tuple("FEBAC"),))]
    guesses = after_gold(model, examples, letters, phones, batch_size=2)
    assert model.training and after_gold(model, examples, letters, phones) == guesses     # dropout off, then on again
    gradients = []
    model.register_forward_pre_hook(lambda *_: gradients.append(torch.is_grad_enabled()))
    after_gold(model, examples, letters, phones)
    assert gradients == [False]
    assert [len(g) for g in guesses] == [3, 2, 5]
    with torch.no_grad():
        for e, guessed in zip(examples, guesses, strict=True):
            batch = collate([(letters.encode(e.source), phones.encode(e.target))])
            state, token = model.eval().decoder.init_state(model.encoder(batch.src, batch.src_padding)), Vocab.bos
            for symbol, guess in zip(e.target, guessed, strict=True):
                logits, state, _ = model.decoder.step(torch.tensor([token]), state)
                assert phones.symbols[int(logits.argmax())] == guess
                token = phones.ids[symbol]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_dropout_is_on_in_training_between_layers_too_and_off_outside(half, cell):
    """With probability 1 everything that dropout touches is gone; what is left shows where it acts."""
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = context_model(letters, phones, WIDTH, D, 3, dropout=0.5, cell=cell)
    batch = some_batch()
    batch = Batch(batch.src.clamp(max=10), batch.tgt.clamp(max=12), batch.src_padding)
    for other in (model.encoder, model.decoder):
        other.eval()
    calm = model(batch)
    torch.testing.assert_close(model(batch), calm)
    getattr(model, half).train()
    assert not torch.allclose(model(batch), calm)
    assert not torch.equal(model(batch), model(batch))
    found = [greedy_search(model, batch.src, batch.src_padding, max_len=7).scores for _ in range(2)]
    assert torch.equal(*found)                               # a search switches it off


def test_dropout_touches_the_input_of_every_layer_and_the_output():
    gone = {"dropout": 1.0, "layers": 3}
    src = torch.tensor([[4, 9, 2], [6, 8, 2]])
    padding = torch.zeros_like(src, dtype=torch.bool)
    encoder = RNNEncoder(V_SRC, WIDTH, D, **gone).train()
    seen = []
    for reader in encoder.forwards:
        reader.register_forward_pre_hook(lambda reader, inputs: seen.append(inputs[0]))
    encoder(src, padding)
    assert len(seen) == 3 and all((x == 0).all() for x in seen)
    decoder = RNNDecoder(V_TGT, WIDTH, D, **gone).train()
    assert decoder.rnn.dropout == 1.0 and RNNDecoder(V_TGT, WIDTH, D, dropout=0.5).rnn.dropout == 0.0
    assert RNNDecoder(V_TGT, WIDTH, D, 2, 0.5).rnn.dropout == 0.5            # between two layers is between layers
    fed = []
    decoder.rnn.register_forward_pre_hook(lambda reader, inputs: fed.append(inputs[0]))
    memory = Memory(torch.randn(2, 3, D), padding, torch.randn(2, D))
    logits = decoder(torch.tensor([[1, 5], [1, 7]]), memory)
    assert (fed[0][..., :WIDTH] == 0).all()
    torch.testing.assert_close(fed[0][..., WIDTH:], memory.summary[:, None].expand(-1, 2, -1))   # c is kept whole
    torch.testing.assert_close(logits, decoder.output.bias.expand(2, 2, -1))


@pytest.mark.parametrize("cell", CELLS)
def test_each_layer_starts_where_the_encoders_layer_ended(cell):
    encoder = RNNEncoder(V_SRC, WIDTH, D, 3, cell=cell, bidirectional=True)
    decoder, batch = RNNDecoder(V_TGT, WIDTH, D, 3, cell=cell), some_batch()
    memory = encoder(batch.src, batch.src_padding)
    state = decoder.init_state(memory)
    torch.testing.assert_close(state.hidden, memory.last[0])
    torch.testing.assert_close(state.context, memory.summary)
    assert (state.cell is None) == (cell != "lstm")
    if cell == "lstm":
        torch.testing.assert_close(state.cell, memory.last[1])
        assert (state.cell != 0).any() and not torch.equal(state.cell, state.hidden)
    alone = decoder.init_state(memory._replace(last=None))
    assert all(torch.equal(alone.hidden[:, layer], memory.summary) for layer in range(3))
    assert alone.cell is None or (alone.cell == 0).all()
    assert RNNEncoder(V_SRC, WIDTH, D, summary="mean")(batch.src, batch.src_padding).last is None


def test_last_states_that_do_not_fit_are_refused():
    src = torch.tensor([[4, 2]])
    padding = src == Vocab.pad
    two, lstm = RNNEncoder(V_SRC, WIDTH, D, 2), RNNEncoder(V_SRC, WIDTH, D, cell="lstm")
    with pytest.raises(ValueError, match="1 layers of 10 cannot start"):
        RNNDecoder(V_TGT, WIDTH, D).init_state(two(src, padding))
    with pytest.raises(ValueError, match="the same cell"):
        RNNDecoder(V_TGT, WIDTH, D).init_state(lstm(src, padding))       # its cell would be lost
    with pytest.raises(ValueError, match="the same cell"):
        RNNDecoder(V_TGT, WIDTH, D, cell="lstm").init_state(RNNEncoder(V_SRC, WIDTH, D)(src, padding))


@pytest.mark.parametrize("layers", [0, -1])
def test_a_half_without_layers_is_refused(layers):
    for half in (RNNEncoder, RNNDecoder):
        with pytest.raises(ValueError, match=f"layers must be at least 1, not {layers}"):
            half(V_SRC, WIDTH, D, layers)


def test_every_argument_of_context_model_reaches_both_halves():
    letters, phones = Vocab("abc"), Vocab("ABCDE")
    model = context_model(letters, phones, 5, 14, 3, 0.25, cell="lstm", bidirectional=False, summary="max",
                          context="initial")
    encoder, decoder = model.encoder, model.decoder
    assert encoder.embedding.weight.shape == (7, 5) and decoder.embedding.weight.shape == (9, 5)
    assert decoder.output.weight.shape == (9, 14) and decoder.rnn.input_size == 5
    assert len(encoder.forwards) == decoder.rnn.num_layers == 3 and not encoder.backwards
    assert encoder.dropout.p == decoder.dropout.p == decoder.rnn.dropout == 0.25
    assert isinstance(encoder.forwards[0], nn.LSTM) and isinstance(decoder.rnn, nn.LSTM) and encoder.summary == "max"
    assert encoder.forwards[1].hidden_size == 14 and not decoder.every_step
    default = context_model(letters, phones)
    sizes = [sum(p.numel() for p in half.parameters()) for half in (default.decoder.rnn, default)]
    assert sizes[0] == 3 * 256 * (128 + 256 + 256 + 2) and len(default.encoder.backwards) == 1
    assert default.encoder.summary == "last" and default.encoder.dropout.p == default.decoder.dropout.p == 0.0


class Echo(Encoder):
    """Remembers the last letter, without a parameter."""

    def forward(self, src, src_padding):
        return Memory(src[..., None].float(), src_padding, src[:, :1].float())


class Says(Decoder):
    """Writes the first symbol of its memory, then EOS."""

    def init_state(self, memory):
        return memory.summary[:, 0].long()

    def step(self, token, state):
        said = torch.where(token == Vocab.bos, state, Vocab.eos)
        return Step(nn.functional.one_hot(said, 9).float() * 50, state)


def test_a_model_without_parameters_can_be_used():
    model, letters = EncoderDecoder(Echo(), Says()), Vocab("abcde")
    assert transduce(model, ["ace", "be"], letters, letters) == [["a"], ["b"]]
    assert after_gold(model, [Example(tuple("ce"), (tuple("c"),))], letters, letters) == [["c"]]


@pytest.mark.parametrize("kind", [list, iter, set, np.array, dict.fromkeys])
def test_transduce_takes_any_collection_of_sources(kind):
    model, letters = EncoderDecoder(Echo(), Says()), Vocab("abcde")
    assert sorted(transduce(model, kind(["ace", "be"]), letters, letters)) == [["a"], ["b"]]


def test_transduce_refuses_one_source_examples_and_ids():
    model, letters = EncoderDecoder(Echo(), Says()), Vocab("abcde")
    example = Example(tuple("ace"), (("K",),))
    for one in ("ace", tuple("ace"), example.source):
        with pytest.raises(ValueError, match="must be a list of sources"):
            transduce(model, one, letters, letters)
    for wrong in ([example], example, [[4, 5]], torch.tensor([[4, 5]])):
        with pytest.raises(TypeError, match="tokens are strings"):
            transduce(model, wrong, letters, letters)
    words = Vocab(["the", "cat"])
    with pytest.raises(TypeError, match="split it into tokens"):
        transduce(model, ["the cat"], words, letters)


def test_after_gold_takes_a_generator():
    model, letters = EncoderDecoder(Echo(), Says()), Vocab("abcde")
    examples = [Example(tuple(word), (tuple("d"),)) for word in ("ce", "ba")]
    assert after_gold(model, iter(examples), letters, letters) == [["c"], ["b"]]


@pytest.mark.parametrize("half", [RNNEncoder, RNNDecoder])
@pytest.mark.parametrize("name", ["vocab_size", "width", "hidden_size", "layers"])
def test_sizes_are_at_least_one(half, name):
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"must be at least 1, not {size}"):
            half(**{"vocab_size": V_SRC} | {name: size})


def test_transduce_uses_all_it_is_given():
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model = context_model(letters, phones, WIDTH, D, dropout=0.9).train()
    model.decoder.output.bias.data[:3] = -99.0                          # it never stops by itself
    assert [len(said) for said in transduce(model, ["a", "bad"], letters, phones, max_len=4)] == [4, 4]
    assert len(transduce(model, ["a"], letters, phones)[0]) == 50
    assert transduce(model, ["a", "cab"], letters, phones) == transduce(model, ["a", "cab"], letters, phones)
    sizes = []
    model.encoder.register_forward_pre_hook(lambda half, inputs: sizes.append(tuple(inputs[0].shape)))
    transduce(model, ["abc", "a", "ab", "ga", "b"], letters, phones, 3, batch_size=2)
    assert sizes == [(2, 2), (2, 3), (1, 4)]                                   # alike in length, EOS included
    for sources, batch_size in (("knight", 2), (["knight"], -1), (["knight"], 0)):
        with pytest.raises(ValueError, match="a list of sources"):
            transduce(model, sources, letters, phones, batch_size=batch_size)


def test_batches_go_where_the_model_is(monkeypatch):
    letters, phones = Vocab("abcdefg"), Vocab("ABCDEFGHI")
    model, went = context_model(letters, phones, WIDTH, D), []
    monkeypatch.setattr(Batch, "to", lambda self, device: went.append(device) or self)
    transduce(model, ["bad", "a"], letters, phones, batch_size=1)
    after_gold(model, [Example(("a",), (("A",),))], letters, phones)
    assert went == [torch.device("cpu")] * 3


def test_a_step_with_another_number_of_rows_is_refused():
    decoder = RNNDecoder(V_TGT, WIDTH, D)
    memory = Memory(torch.randn(3, 5, D), torch.zeros(3, 5, dtype=torch.bool), torch.randn(3, D))
    with pytest.raises(ValueError, match="2 tokens"):
        decoder.step(torch.tensor([1, 1]), decoder.init_state(memory))
