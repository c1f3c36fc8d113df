"""Training in the kit: the loop with all its promises, its checkpoints, and picking rows out of a state."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from test_encoder_decoder import model_of, pairs_of
from torch import Tensor, nn

from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit.checkpoint import Checkpoint
from seq2seq.kit.search import reorder
from seq2seq.kit.training import rate_at, train, train_step
from seq2seq.rnn import RNNDecoder, RNNEncoder
from seq2seq.sequences import collate, training_batches


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


def test_batches_that_run_out_say_so():
    with pytest.raises(ValueError, match="ran out after 1 of 2"):
        train(model_of(), [collate(pairs_of())], steps=2)


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


# checkpoints

PAIRS = [([4 + i % 5] * (i % 3), [4 + i % 7] * (1 + i % 4)) for i in range(11)]


def fresh(hidden_size: int = 14) -> EncoderDecoder:
    torch.manual_seed(0)
    sizes = {"width": 5, "hidden_size": hidden_size, "layers": 2, "dropout": 0.3, "cell": "lstm"}
    return EncoderDecoder(RNNEncoder(11, **sizes, bidirectional=True), RNNDecoder(13, **sizes))


class Killed(Exception):
    """Somebody pulls the plug."""


def run(path: Path | None = None, killed_at: int | None = None) -> tuple[list[float], dict]:
    def batches():
        for step, batch in enumerate(training_batches(PAIRS, 3, seed=5)):
            if step == killed_at:
                raise Killed
            yield batch

    model = fresh()
    history = train(model, batches(), 230, warmup=7, checkpoint=path)
    return history.losses, {name: value.clone() for name, value in model.state_dict().items()}


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    path = tmp_path / "new" / "run.pt"
    with pytest.raises(Killed):
        run(path, killed_at=217)
    torch.manual_seed(99)    # whatever happened in between
    losses, weights = run(path)
    expected, as_expected = run()
    assert losses == expected and len(losses) == 230       # dropout drew the same masks
    assert all(torch.equal(weights[name], as_expected[name]) for name in weights)
    assert run(path, killed_at=230)[0] == expected         # finished: nothing is left to train
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_no_file_yet_resumes_nothing(tmp_path):
    assert Checkpoint(tmp_path / "none.pt", model=fresh()).resume() == {}


def test_a_checkpoint_restores_every_part_and_what_was_beside_them(tmp_path):
    layer, other = nn.Linear(3, 5), nn.Linear(3, 5)
    Checkpoint(tmp_path / "a.pt", layer=layer).save(losses=[1.5, 0.5], tokens=7)
    assert Checkpoint(str(tmp_path / "a.pt"), layer=other).resume() == {"losses": [1.5, 0.5], "tokens": 7}
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer.bias, other.bias)


def test_a_save_that_is_cut_off_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    saver = Checkpoint(tmp_path / "a.pt", layer=nn.Linear(3, 5))
    saver.save(step=1)

    def cut_off(state, path):
        path.write_bytes(b"half of")
        raise Killed

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(Killed):
        saver.save(step=2)
    assert saver.resume() == {"step": 1}


@pytest.mark.parametrize("how", ["empty", "half", "text", "a list", "no generator", "other sizes", "other parts"])
def test_a_damaged_or_foreign_checkpoint_says_what_to_do(tmp_path, how):
    path = tmp_path / "run.pt"
    model = fresh()
    Checkpoint(path, model=model).save(losses=[1.0])
    whole, saved = path.read_bytes(), torch.load(path)
    if how in ("empty", "half", "text"):
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"not a checkpoint"}[how])
    if how in ("a list", "no generator"):
        torch.save([1, 2] if how == "a list" else {"parts": saved["parts"], "extra": {}}, path)
    if how == "other sizes":
        model = fresh(hidden_size=22)
    parts = {"model": model} | ({"optimizer": torch.optim.Adam(model.parameters())} if how == "other parts" else {})
    with pytest.raises(ValueError, match=r"run\.pt is damaged or was written for other settings; delete it to train"):
        Checkpoint(path, **parts).resume()


def test_the_random_generators_of_gpus_are_kept_too(tmp_path, monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([3, 5], dtype=torch.uint8)])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    saver = Checkpoint(tmp_path / "a.pt", layer=nn.Linear(3, 5))
    saver.save()
    saver.resume()
    assert [state.tolist() for state in restored] == [[3, 5]]
