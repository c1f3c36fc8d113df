import math

import pytest
import torch
from test_encoder_decoder import TGT, model_of, pairs_of
from torch import nn

from seq2seq.kit.training import train, train_step
from seq2seq.sequences import Batch, Vocab, collate, training_batches
from seq2seq.teacher_forcing import cross_entropy


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
