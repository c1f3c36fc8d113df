import math
from typing import NamedTuple

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
    cross_entropy,
    greedy_search,
    rate_at,
    reorder,
    train,
    train_step,
)
from seq2seq.sequences import Batch, Vocab, collate, training_batches

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


def test_halves_share_no_parameter_and_all_of_them_learn():
    model = model_of()
    assert not {id(p) for p in model.encoder.parameters()} & {id(p) for p in model.decoder.parameters()}
    cross_entropy(model, collate(pairs_of(23))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_cross_entropy_is_the_mean_over_gold_tokens():
    model, batch = model_of(), collate(pairs_of())
    log_probs, total, count = model(batch).log_softmax(dim=-1), 0.0, 0
    for row in range(len(batch)):
        for t, gold in enumerate(batch.tgt[row, 1:].tolist()):
            if gold != Vocab.pad:
                total, count = total - log_probs[row, t, gold].item(), count + 1
    assert cross_entropy(model, batch).item() == pytest.approx(total / count, rel=1e-5)


def test_untrained_model_knows_nothing():
    model = model_of()
    nn.init.zeros_(model.decoder.output.weight)
    nn.init.zeros_(model.decoder.output.bias)
    assert cross_entropy(model, collate(pairs_of())).item() == pytest.approx(math.log(TGT))


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


def test_greedy_search_leaves_the_mode_as_it_was():
    model, batch = model_of(), collate(pairs_of())
    for mode in (True, False):
        model.train(mode)
        greedy_search(model, batch.src, batch.src_padding, max_len=3)
        assert model.training is mode


class Pair(NamedTuple):
    a: Tensor
    b: object


def test_reorder_keeps_the_state_in_its_shape():
    x = torch.arange(15).view(3, 5)
    index = torch.tensor([2, 0, 0, 1])
    state = {"pair": Pair(x, None), "list": [x, (x, x[:, 0])], "step": 3}
    picked = reorder(state, index)
    assert isinstance(picked["pair"], Pair) and picked["pair"].b is None and isinstance(picked["list"], list)
    assert torch.equal(picked["pair"].a, x[index]) and torch.equal(picked["list"][1][1], x[index, 0])
    assert picked["step"] == 3


def test_reordered_rows_go_on_as_they_would_have():
    model, batch = model_of(), collate(pairs_of())
    _, state, _ = model.decoder.step(
        batch.tgt[:, 0], model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    )
    index = torch.tensor([4, 4, 0])
    whole, part = model.decoder.step(batch.tgt[:, 1], state), reorder(state, index)
    torch.testing.assert_close(model.decoder.step(batch.tgt[index, 1], part).logits, whole.logits[index])


def test_rate_rises_and_falls():
    rates = [rate_at(step, steps=50, warmup=10) for step in range(51)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == 1.0 and rates[50] == 0.0
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(0, steps=5, warmup=0) == 1.0


def test_training_learns():
    model, pairs = model_of(), pairs_of(23)
    history = train(model, training_batches(pairs, 5), steps=150, lr=1e-2, warmup=10)
    assert len(history.losses) == 150 and history.tokens > 0 and history.seconds > 0
    assert sum(history.losses[-10:]) < 0.7 * sum(history.losses[:10])


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    pairs = pairs_of(23)
    whole, resumed, path = model_of(), model_of(seed=5), tmp_path / "run.pt"
    straight = train(whole, training_batches(pairs, 5), steps=17, warmup=3)
    first = train(model_of(), training_batches(pairs, 5), steps=17, warmup=3, until=7, checkpoint=path)
    second = train(resumed, training_batches(pairs, 5), steps=17, warmup=3, checkpoint=path)
    assert first.losses == straight.losses[:7] and second.losses == straight.losses
    assert second.tokens == straight.tokens
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_clipping_limits_the_gradient():
    model, batch = model_of(), collate(pairs_of())
    train_step(model, batch, torch.optim.SGD(model.parameters(), lr=0.0), clip=0.01)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_empty_and_fully_padded_sources_give_numbers():
    model = model_of()
    batch = Batch(torch.tensor([[2, 0, 0], [0, 0, 0]]), torch.tensor([[1, 2], [1, 2]]),
                  torch.tensor([[False, True, True], [True, True, True]]))
    memory = model.encoder(batch.src, batch.src_padding)
    assert (memory.summary[1] == 0).all()
    cross_entropy(model, batch).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_runs_on_the_meta_device():
    model = model_of().to("meta")
    batch = collate(pairs_of()).to("meta")
    value = train_step(model, batch, torch.optim.Adam(model.parameters()))
    assert value.device.type == "meta" and value.shape == ()


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
    with pytest.raises(ValueError, match="window=0"):
        WindowDecoder(TGT, window=0)
    with pytest.raises(ValueError, match="ran out after 1 of 2"):
        train(model, [batch], steps=2)


def test_embedding_equals_torchs():
    ours, theirs = Embedding(5, 3), nn.Embedding(5, 3)
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(ours(ids), theirs(ids)) and ours(ids[:, :0]).shape == (2, 0, 3)


def test_a_target_that_was_not_shifted_is_easy():
    """The bug the chapter plants: fed y_t and asked for y_t, a model learns to repeat."""
    def unshifted(model, batch):
        logits = model.decoder(batch.tgt[:, 1:], model.encoder(batch.src, batch.src_padding))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch.tgt[:, 1:].flatten(), ignore_index=0)

    pairs = pairs_of(23)
    options = {"steps": 150, "lr": 1e-2, "warmup": 10}
    wrong = train(model_of(), training_batches(pairs, 5), loss=unshifted, **options)
    right = train(model_of(), training_batches(pairs, 5), **options)
    assert sum(wrong.losses[-10:]) < 0.4 * sum(right.losses[-10:])


def test_the_target_is_shifted_by_one():
    model, seen = model_of(), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = collate([([4], [5, 6]), ([4], [7])])
    logits = model(batch)
    assert seen[0].tolist() == [[1, 5, 6], [1, 7, 2]] and logits.shape == (2, 3, TGT)
    gold = torch.tensor([[5, 6, 2], [7, 2, 0]])
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), gold, ignore_index=0)
    torch.testing.assert_close(cross_entropy(model, batch), expected)
