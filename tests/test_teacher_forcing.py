import math

import pytest
import torch
from test_encoder_decoder import TGT, model_of, pairs_of
from test_training import some_batches
from torch import nn

from seq2seq import teacher_forcing
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.training import train, train_step
from seq2seq.sequences import Batch, Vocab, collate, training_batches
from seq2seq.teacher_forcing import MEMORIES, build, cross_entropy, learn, memory_study


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


def test_empty_and_fully_padded_sources_give_numbers():
    model = model_of()
    batch = Batch(torch.tensor([[2, 0, 0], [0, 0, 0]]), torch.tensor([[1, 2], [1, 2]]),
                  torch.tensor([[False, True, True], [True, True, True]]))
    memory = model.encoder(batch.src, batch.src_padding)
    assert (memory.summary[1] == 0).all()
    cross_entropy(model, batch).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


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



def test_runs_on_the_meta_device():
    model = model_of().to("meta")
    batch = collate(pairs_of()).to("meta")
    value = train_step(model, batch, torch.optim.Adam(model.parameters()))
    assert value.device.type == "meta" and value.shape == ()


def with_targets(batch, tgt):
    """The batch with other targets, past the door that refuses targets of padding alone."""
    batch.tgt = tgt
    return batch


def test_a_batch_with_nothing_to_learn_is_refused():
    for tgt in (torch.tensor([[1, 0], [1, 0]]), torch.tensor([[1], [1]])):
        with pytest.raises(ValueError, match="no target has a token after BOS"):
            cross_entropy(model_of(), with_targets(collate([([4], [5]), ([4], [5])]), tgt))


def test_one_row_without_a_target_counts_for_nothing():
    pairs = pairs_of()
    batch, more = collate(pairs), collate([*pairs, pairs[0]])
    more = with_targets(more, torch.cat([batch.tgt, torch.zeros_like(batch.tgt[:1])]))
    torch.testing.assert_close(cross_entropy(model_of(), more), cross_entropy(model_of(), batch))


def test_targets_of_32_bits_are_targets():
    batch = collate(pairs_of())
    short = Batch(batch.src, batch.tgt.int(), batch.src_padding)
    assert torch.equal(cross_entropy(model_of(), short), cross_entropy(model_of(), batch))


def test_the_pages_loop_is_adam_on_the_cross_entropy():
    """Step by step by hand; gradients of a step past are gone."""
    ours, theirs = model_of(), model_of()
    batches = some_batches(4)
    optimizer, losses = torch.optim.Adam(theirs.parameters(), lr=0.02), []
    for batch in batches[:3]:
        for weights in theirs.parameters():
            weights.grad = None
        value = cross_entropy(theirs, batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert learn(ours, batches, 3, lr=0.02) == pytest.approx(losses)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    first = learn(model_of(), batches, 1, loss=lambda model, batch: 3 * cross_entropy(model, batch))
    assert first == pytest.approx([3 * losses[0]])


@pytest.mark.parametrize("steps", [None, 2.5, "3"])
def test_steps_are_a_whole_number(steps):
    batch = collate([([4], [5])])
    with pytest.raises(TypeError):
        learn(nn.Linear(1, 1), iter([batch]), steps, loss=lambda model, _: model.weight.sum())


def test_the_loops_default_rate(monkeypatch):
    rates = []
    real = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, lr: rates.append(lr) or real(weights, lr=lr))
    learn(model_of(), [collate(pairs_of())], 1)
    assert rates == [3e-3]


def test_the_loop_trains_where_the_device_is(monkeypatch):
    went = []
    monkeypatch.setattr(Batch, "to", lambda self, device: went.append(device) or self)
    monkeypatch.setattr(teacher_forcing, "device", lambda: torch.device("meta"))
    learn(model_of(), some_batches(2), 2)
    assert went == [torch.device("meta")] * 2


def test_two_windows_of_one_size():
    letters, phonemes = (Vocab(map(str, range(n))) for n in (29, 39))
    sizes = [sum(p.numel() for p in build(letters, phonemes, **setting).parameters()) for setting in MEMORIES.settings]
    bag, places, wider, matched = sizes
    assert places - bag == 40 * 64 and wider - places == 5 * 64 * 256
    assert abs(matched / places - 1) < 0.005
    first, again, other = (build(letters, phonemes, seed).decoder.output.weight for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_memory_study_trains_on_training_words_and_scores_validation_words(monkeypatch):
    def words(*pairs):
        return [Example(tuple(s), (tuple(t),)) for s, t in (pair.split() for pair in pairs)]

    splits = Splits(words("ab XY", "ba YX", "abab XYXY"), words("abba XYYX", "babababaab YXYXYXYXYX"), words("a Z"))
    monkeypatch.setattr(corpora, "pronunciations", lambda: splits)
    seen, asked = [], []
    monkeypatch.setattr(teacher_forcing, "training_batches", lambda pairs, size, seed: seen.append(
        (pairs, seed)) or iter([collate(pairs)] * 9))
    monkeypatch.setattr(teacher_forcing, "transduce", lambda model, sources, *_: asked.append(
        ["".join(s) for s in sources]) or [("X", "Y", "Y", "X")] * len(sources))
    result = memory_study(steps=2, seed=5, positions=12, window=2)
    assert [len(pair[0]) for pair in seen[0][0]] == [2, 2, 4] and seen[0][1] == 5 and len(result["losses"]) == 2
    assert asked == [["abba", "babababaab"], ["abba"], ["babababaab"]]
    assert result["short"] == 0 < result["validation"] < result["long"]
    assert set(memory_study(steps=2, until=1)) == {"losses"}
    assert memory_study(until=1, seed=5, positions=12, window=2)["losses"] == result["losses"][:1]
