import pytest
import torch
from torch import Tensor, nn

from seq2seq.encoder_decoder import (
    BagEncoder,
    Decoder,
    Embedding,
    Encoder,
    EncoderDecoder,
    Memory,
    Step,
    WindowDecoder,
    greedy_search,
)
from seq2seq.sequences import Batch, Vocab, collate

SRC, TGT = 11, 13  # vocabulary sizes


def model_of(positions: int = 17, window: int = 3, seed: int = 0) -> EncoderDecoder:
    torch.manual_seed(seed)
    encoder = BagEncoder(SRC, width=5, hidden_size=7, positions=positions)
    return EncoderDecoder(encoder, WindowDecoder(TGT, width=5, hidden_size=9, memory_size=7, window=window))


def pairs_of(count: int = 7, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    rng = torch.Generator().manual_seed(seed)

    def ids(most: int, size: int) -> list[int]:
        length = int(torch.randint(0, most, (1,), generator=rng))
        return torch.randint(4, size, (length,), generator=rng).tolist()

    return [(ids(6, SRC), ids(8, TGT)) for _ in range(count)]


@pytest.mark.parametrize("positions", [0, 17])
def test_padding_changes_nothing(positions):
    model, pairs = model_of(positions), pairs_of()
    together = collate(pairs)
    with torch.no_grad():
        logits = model(together)
        for row, pair in enumerate(pairs):
            alone = collate([pair])
            torch.testing.assert_close(logits[row : row + 1, : alone.tgt.shape[1] - 1], model(alone))
        memory = model.encoder(together.src, together.src_padding)
    assert (memory.states[together.src_padding] == 0).all() and together.src_padding.any()


@pytest.mark.parametrize("window", [1, 3, 5])
def test_all_steps_at_once_equal_one_by_one(window):
    model, batch = model_of(window=window), collate(pairs_of())
    memory = model.encoder(batch.src, batch.src_padding)
    torch.testing.assert_close(model.decoder(batch.tgt, memory), Decoder.forward(model.decoder, batch.tgt, memory))


def test_no_score_depends_on_a_later_token():
    model, batch = model_of(), collate(pairs_of())
    memory = model.encoder(batch.src, batch.src_padding)
    before = model.decoder(batch.tgt, memory)
    for t in range(1, batch.tgt.shape[1]):
        changed = batch.tgt.clone()
        changed[:, t:] = (changed[:, t:] + 1) % TGT
        after = model.decoder(changed, memory)
        assert torch.equal(before[:, :t], after[:, :t]) and not torch.equal(before[:, t], after[:, t])


def test_no_gradient_from_a_later_token():
    model, batch, seen = model_of(), collate(pairs_of()), []
    model.decoder.embedding.register_forward_hook(lambda _, __, out: seen.append(out.retain_grad() or out))
    memory = model.encoder(batch.src, batch.src_padding)
    state, logits = model.decoder.init_state(memory), []
    for token in batch.tgt.unbind(dim=1):
        scores, state, _ = model.decoder.step(token, state)
        logits.append(scores)
    logits[2].sum().backward()
    assert seen[2].grad.abs().sum() > 0 and all(vectors.grad is None for vectors in seen[3:])


def test_a_score_depends_on_the_embeddings_of_its_window_alone():
    model, batch = model_of(window=3), collate([([5], [])])
    row = torch.arange(4, 12)[None]
    model.decoder(row, model.encoder(batch.src, batch.src_padding))[:, 3].sum().backward()
    assert model.decoder.embedding.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [5, 6, 7]


def test_the_window_is_as_long_as_it_says():
    model, batch = model_of(window=3), collate([([5], [4, 5, 6, 7, 8, 9])])
    memory = model.encoder(batch.src, batch.src_padding)
    changed = batch.tgt.clone()
    changed[:, 1] = 12
    differs = (model.decoder(batch.tgt, memory) != model.decoder(changed, memory)).any(dim=-1)[0]
    assert differs.tolist() == [False, True, True, True, False, False, False, False]


def test_a_bag_does_not_see_order_and_positions_do():
    one, other = collate([([4, 5, 6], [])]), collate([([6, 4, 5], [])])
    bag, placed = model_of(positions=0).encoder, model_of().encoder
    assert torch.allclose(bag(one.src, one.src_padding).summary, bag(other.src, other.src_padding).summary)
    assert not torch.allclose(placed(one.src, one.src_padding).summary, placed(other.src, other.src_padding).summary)


def test_greedy_search_runs_the_encoder_once_and_scores_what_it_writes():
    model, batch, calls = model_of(), collate(pairs_of()), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    found = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    assert len(calls) == 1
    tgt_in = torch.cat([torch.full((len(batch), 1), Vocab.bos), found.tokens[:, :-1]], dim=1)
    log_probs = model.decoder(tgt_in, model.encoder(batch.src, batch.src_padding)).log_softmax(dim=-1)
    ended = (found.tokens == Vocab.eos).cumsum(dim=1) - (found.tokens == Vocab.eos).long() > 0
    picked = log_probs.gather(-1, found.tokens[..., None]).squeeze(-1).masked_fill(ended, 0.0)
    torch.testing.assert_close(picked.sum(dim=1), found.scores)
    assert (found.tokens[ended] == Vocab.pad).all()


def test_greedy_search_does_not_depend_on_the_batch():
    model, pairs = model_of(), pairs_of()
    batch = collate(pairs)
    together = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    for row, pair in enumerate(pairs):
        alone = collate([pair])
        found = greedy_search(model, alone.src, alone.src_padding, max_len=9)
        length = found.tokens.shape[1]
        assert torch.equal(together.tokens[row, :length], found.tokens[0])
        assert (together.tokens[row, length:] == Vocab.pad).all()
        torch.testing.assert_close(together.scores[row], found.scores[0])


class Counting(Encoder):
    """Remembers the sum of the source ids less 3, with EOS for nothing."""

    def forward(self, src: Tensor, src_padding: Tensor) -> Memory:
        states = (src - 3).clamp(min=0).float()[..., None]
        return Memory(states, src_padding, states.sum(dim=1))


class Ticking(Decoder):
    """Writes symbol 4 that many times."""

    def init_state(self, memory: Memory) -> Tensor:
        return memory.summary

    def step(self, token: Tensor, state: Tensor):
        state = state - (token == 4).float()[:, None]
        logits = torch.full((len(token), 5), -torch.inf)
        logits[:, Vocab.eos], logits[:, 4] = 0.0, 2 * state[:, 0] - 1
        return Step(logits, state)


def test_output_length_is_the_models_own():
    model = EncoderDecoder(Counting(), Ticking())
    batch = collate([([6], []), ([4, 4, 4], []), ([], []), ([5, 5, 5], [])])
    found = greedy_search(model, batch.src, batch.src_padding)
    assert (found.tokens == 4).sum(dim=1).tolist() == [3, 3, 0, 6]
    assert found.tokens.tolist()[2] == [Vocab.eos] + [Vocab.pad] * 6
    sigmoid = torch.tensor([5.0, 3.0, 1.0, 1.0]).sigmoid().log().sum()
    torch.testing.assert_close(found.scores[0], sigmoid)
    assert greedy_search(model, batch.src, batch.src_padding, max_len=2).tokens.shape == (4, 2)


class Fixed(Decoder):
    """Gives the same scores at every step, one row of them for each source."""

    def __init__(self, *scores: list[float]):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def init_state(self, memory: Memory) -> None:
        return None

    def step(self, token: Tensor, state: None):
        return Step(self.scores[: len(token)], None, self.scores[: len(token), :3])


def one_row(*scores: float, max_len: int = 3):
    batch = collate([([4], [])])
    return greedy_search(EncoderDecoder(Counting(), Fixed([*scores])), batch.src, batch.src_padding, max_len)


@pytest.mark.parametrize("pad, bos", [(9.0, 1.0), (1.0, 9.0), (9.0, 9.0)])
def test_greedy_search_never_writes_pad_or_bos(pad, bos):
    scores = [pad, bos, 0.0, -1.0, 2.0]
    found = one_row(*scores)
    assert found.tokens.tolist() == [[4, 4, 4]]
    assert found.scores.item() == pytest.approx(3 * torch.tensor(scores).log_softmax(0)[4].item())


def test_greedy_search_may_write_unk():
    assert one_row(0.0, 0.0, 0.0, 1.0).tokens.tolist() == [[Vocab.unk] * 3]


@pytest.mark.parametrize("scores", [
    [0.0, 0.0, torch.nan, 1.0], [0.0, 0.0, torch.inf, 1.0], [1.0, 0.0, -torch.inf, -torch.inf], [-torch.inf] * 4,
], ids=str)
def test_a_search_without_probabilities_says_so(scores):
    with pytest.raises(ValueError, match="no token a probability"):
        one_row(*scores)


def test_a_finished_row_may_score_as_it_likes():
    class Spoilt(Ticking):
        def step(self, token, state):
            logits, state, _ = super().step(token, state)
            return Step(torch.where((token == Vocab.pad)[:, None], torch.nan, logits), state)

    batch = collate([([4], []), ([6], [])])
    found = greedy_search(EncoderDecoder(Counting(), Spoilt()), batch.src, batch.src_padding)
    assert found.tokens.tolist() == [[4, 2, 0, 0], [4, 4, 4, 2]] and found.scores.isfinite().all()


def test_a_search_stacks_its_weights_by_step():
    batch = collate([([4], []), ([5], [])])
    model = EncoderDecoder(Counting(), Fixed([0.1, 0.2, 0.3, 1.0, 0.0], [0.4, 0.5, 0.6, 1.0, 0.0]))
    found = greedy_search(model, batch.src, batch.src_padding, max_len=7)
    assert found.weights.shape == (2, 7, 3)
    torch.testing.assert_close(found.weights[1, 4], torch.tensor([0.4, 0.5, 0.6]))
    model = EncoderDecoder(Counting(), Ticking())
    assert greedy_search(model, batch.src, batch.src_padding).weights is None


def test_a_search_keeps_no_gradient_and_gives_the_mode_back():
    batch = collate([([4], [])])
    model = EncoderDecoder(Counting(), Fixed([0.0, 0.0, 0.0, 1.0]))
    found = greedy_search(model, batch.src, batch.src_padding, max_len=2)
    assert not found.scores.requires_grad and not found.weights.requires_grad and torch.is_grad_enabled()


class Interrupting(Ticking):
    def step(self, token: Tensor, state: Tensor):
        raise KeyboardInterrupt


def test_a_search_runs_in_eval_mode_and_leaves_every_part_as_it_was():
    seen = []

    class Watching(Ticking):
        def step(self, token, state):
            seen.append((self.training, self.dropout.training))
            return super().step(token, state)

    batch = collate([([4], [])])
    for kind in (Watching, Interrupting):
        for encoder, decoder, inside in ((True, True, False), (False, True, True), (True, False, True)):
            model = EncoderDecoder(Counting(), kind())
            model.decoder.dropout = nn.Dropout(0.5)
            parts = model.encoder, model.decoder, model.decoder.dropout
            for part, mode in zip(parts, (encoder, decoder, inside), strict=True):
                part.training = mode
            try:
                greedy_search(model, batch.src, batch.src_padding)
            except KeyboardInterrupt:
                assert kind is Interrupting
            assert model.training and [part.training for part in parts] == [encoder, decoder, inside]
    assert seen and not any(any(modes) for modes in seen)


def test_a_search_writes_fifty_tokens_at_most_unless_told():
    model, batch = EncoderDecoder(Counting(), Fixed([0.0, 0.0, 0.0, 1.0])), collate([([4], [])])
    assert greedy_search(model, batch.src, batch.src_padding).tokens.shape == (1, 50)
    assert greedy_search(model, batch.src, batch.src_padding, max_len=1).tokens.shape == (1, 1)


def test_ids_of_32_bits_are_ids():
    model, batch = model_of(), collate(pairs_of())
    short = Batch(batch.src.int(), batch.tgt.int(), batch.src_padding)
    assert torch.equal(model(short), model(batch))
    ours, theirs = (greedy_search(model, each.src, each.src_padding, max_len=5) for each in (short, batch))
    assert torch.equal(ours.tokens, theirs.tokens) and ours.tokens.dtype == torch.long


def test_a_memory_has_room_for_what_decoders_take():
    batch = collate([([4], [])])
    memory = model_of().encoder(batch.src, batch.src_padding)
    assert memory.last is None and memory._fields == ("states", "padding", "summary", "last")


def test_bad_input_says_what_is_wrong():
    model, batch = model_of(positions=3), collate([([4, 5], [4])])
    memory = model.encoder(batch.src, batch.src_padding)
    longer = collate([([4, 5, 6], [4])])
    with pytest.raises(ValueError, match="4 symbols, but positions=3"):
        model(longer)
    with pytest.raises(ValueError, match="do not go with a memory of 1 sources"):
        model.decoder(torch.ones(2, 3, dtype=torch.long), memory)
    with pytest.raises(ValueError, match="at least one token"):
        model.decoder(torch.ones(1, 0, dtype=torch.long), memory)
    with pytest.raises(ValueError, match="no summary"):
        model.decoder.init_state(memory._replace(summary=None))
    with pytest.raises(ValueError, match="width 7; the memory has a summary of width 2"):
        model.decoder.init_state(memory._replace(summary=torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="vocabulary has 11"):
        model(collate([([11], [4])]))
    with pytest.raises(ValueError, match="empty"):
        greedy_search(model, torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="max_len"):
        greedy_search(model, batch.src, batch.src_padding, max_len=0)
    with pytest.raises(ValueError, match="window must be at least 1, not 0"):
        WindowDecoder(TGT, window=0)


def test_embedding_equals_torchs():
    ours, theirs = Embedding(5, 3), nn.Embedding(5, 3)
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(ours(ids), theirs(ids)) and ours(ids[:, :0]).shape == (2, 0, 3)


@pytest.mark.parametrize(("make", "names"), [
    (lambda **sizes: Embedding(**{"num_embeddings": 3, "embedding_dim": 5} | sizes),
     ["num_embeddings", "embedding_dim"]),
    (lambda **sizes: BagEncoder(**{"vocab_size": 3} | sizes), ["vocab_size", "width", "hidden_size"]),
    (lambda **sizes: WindowDecoder(**{"vocab_size": 3} | sizes),
     ["vocab_size", "width", "hidden_size", "memory_size", "window"]),
])  # fmt: skip
def test_sizes_are_whole_numbers_from_one(make, names):
    for name in names:
        for size in (0, -1):
            with pytest.raises(ValueError, match=f"must be at least 1, not {size}"):
                make(**{name: size})
        with pytest.raises(TypeError, match="'float' object"):
            make(**{name: 2.5})
        make(**{name: 1})


def test_target_ids_are_ids_in_every_decoder():
    model, batch = model_of(), collate([([4, 5], [4])])
    memory = model.encoder(batch.src, batch.src_padding)
    for ids in (batch.tgt.float(), batch.tgt > 0):
        with pytest.raises(ValueError, match="whole numbers"):
            model.decoder(ids, memory)


def test_positions_below_zero_are_refused():
    with pytest.raises(ValueError, match="positions=-1"):
        BagEncoder(SRC, positions=-1)


@pytest.mark.parametrize("positions", [0, 4])
def test_the_summary_is_the_mean_of_tanh_of_an_affine_map(positions):
    """c = the mean of tanh(W (e(x_t) + p_t) + b), symbol by symbol."""
    encoder, src = model_of(positions).encoder, [5, 9, 2]
    places = torch.zeros(4, 5) if encoder.position is None else encoder.position.weight
    W, b = encoder.hidden.weight, encoder.hidden.bias
    states = [torch.tanh(W @ (encoder.embedding.weight[x] + places[t]) + b) for t, x in enumerate(src)]
    memory = encoder(torch.tensor([src]), torch.zeros(1, 3, dtype=torch.bool))
    torch.testing.assert_close(memory.states[0], torch.stack(states))
    torch.testing.assert_close(memory.summary[0], sum(states) / 3)


def test_a_decoder_of_steps_alone_checks_its_targets():
    memory = Memory(torch.zeros(2, 3, 1), torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 1))
    for tgt_in in (torch.ones(3, 4, dtype=torch.long), torch.ones(2, 0, dtype=torch.long)):
        with pytest.raises(ValueError, match="one row of at least one token"):
            Ticking()(tgt_in, memory)
