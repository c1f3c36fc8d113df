"""Training in the kit: the loop with all its promises, its checkpoints, and picking rows out of a state."""

import itertools
import random
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_encoder_decoder import model_of, pairs_of
from torch import nn

from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import device_of, training
from seq2seq.kit.checkpoint import Checkpoint
from seq2seq.kit.training import rate_at, train, train_step
from seq2seq.rnn import RNNDecoder, RNNEncoder
from seq2seq.sequences import Batch, collate, training_batches
from seq2seq.teacher_forcing import cross_entropy


def test_rate_rises_and_falls():
    rates = [rate_at(step, steps=50, warmup=10) for step in range(51)]
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rates[10:] == pytest.approx([1 - k / 40 for k in range(41)])
    assert rate_at(1, steps=2, warmup=1) == 1.0    # the last step after a rise is a whole one
    assert rate_at(0, steps=5, warmup=0) == 1.0 and rate_at(2, steps=3, warmup=9) == pytest.approx(1 / 3)


def test_training_learns():
    model, pairs = model_of(), pairs_of(23)
    history = train(model, training_batches(pairs, 5), steps=150, lr=1e-2, warmup=10)
    assert sum(history.losses[-10:]) < 0.7 * sum(history.losses[:10])


def some_batches(steps: int) -> list[Batch]:
    return [batch for _, batch in zip(range(steps), training_batches(pairs_of(23), 5), strict=False)]


def test_training_is_adam_with_clipping_and_the_schedule():
    """The same loop, written out."""
    model, ours = model_of(), model_of()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    losses, rates = [], [0.02 * rate_at(step, 9, 4) for step in range(9)]
    for rate, batch in zip(rates, some_batches(9), strict=True):
        value = cross_entropy(model, batch)
        losses.append(value.item())
        for weights in model.parameters():
            weights.grad = None
        value.backward()
        length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        for weights in model.parameters():
            weights.grad *= min(1.0, 0.07 / (length + 1e-6))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    history = train(ours, some_batches(9), 9, lr=0.02, warmup=4, clip=0.07)
    assert history.losses == pytest.approx(losses, rel=1e-5)
    for a, b in zip(model.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_defaults_are_those_that_the_docstring_names(monkeypatch):
    seen, rates = [], []

    def step(*given):
        seen.append(given)
        rates.append(given[2].param_groups[0]["lr"])
        return torch.tensor(1.0)

    monkeypatch.setattr(training, "train_step", step)
    train(model_of(), some_batches(2), 2)
    (_, _, optimizer, loss, clip), _ = seen
    assert loss is cross_entropy and clip == 1.0 and isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 5e-3 and rates == pytest.approx([5e-5, 1e-4])    # it rises over 100 steps


@pytest.mark.parametrize("until, expected", [(None, 5), (3, 3), (0, 0), (5, 5), (9, 5)])
def test_what_a_history_holds(until, expected):
    batches = some_batches(5)
    history = train(model_of(), batches, 5, until=until)
    assert len(history.losses) == expected and all(type(loss) is float for loss in history.losses)
    gold = sum(len(set(map(tuple, (batch.tgt[:, 1:] != 0).nonzero().tolist()))) for batch in batches[:expected])
    assert history.tokens == gold and (history.seconds > 0) == (expected > 0)


def test_a_loss_of_ones_own():
    model = model_of()
    history = train(model, some_batches(3), 3, loss=lambda model, batch: 2 * cross_entropy(model, batch), lr=1e-9)
    assert history.losses == pytest.approx([2 * cross_entropy(model, batch).item() for batch in some_batches(3)])


def test_batches_go_to_the_model(monkeypatch):
    went = []
    monkeypatch.setattr(Batch, "to", lambda self, device: went.append(device) or self)
    train(model_of(), some_batches(2), 2)
    assert went == [torch.device("cpu")] * 2


def test_training_holds_no_graph_of_steps_past():
    value = train_step(model_of(), collate(pairs_of()), torch.optim.SGD(model_of().parameters()))
    assert not value.requires_grad


def test_clipping_limits_the_gradient_and_leaves_short_ones():
    model, batch = model_of(), collate(pairs_of())

    def length(clip: float) -> float:
        train_step(model, batch, torch.optim.SGD(model.parameters(), lr=0.0), clip=clip)
        return torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()

    assert length(0.01) == pytest.approx(0.01, rel=1e-3)
    assert length(1e6) == pytest.approx(length(float("inf")))


def test_batches_that_run_out_say_so():
    with pytest.raises(ValueError, match="ran out after 1 of 2"):
        train(model_of(), some_batches(1), steps=2)


@pytest.mark.parametrize("options", [
    {"steps": -1}, {"lr": 0.0}, {"lr": -1e-3}, {"lr": float("nan")}, {"warmup": -1}, {"clip": -1.0}, {"clip": 0.0},
    {"clip": float("nan")}, {"until": -1},
], ids=str)
def test_settings_that_make_no_sense_are_refused_by_name(options):
    model = model_of()
    before = [weights.clone() for weights in model.parameters()]
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        train(model, some_batches(2), **{"steps": 2} | options)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_smallest_settings_that_make_sense_do_work():
    assert train(model_of(), some_batches(1), 1, warmup=0, until=0).losses == []
    assert len(train(model_of(), some_batches(1), 1, warmup=0, clip=1e-9, lr=1e-9).losses) == 1
    assert train(model_of(), [], 0).losses == []


def test_nothing_to_train():
    for model in (nn.Module(), model_of().requires_grad_(False)):
        with pytest.raises(ValueError, match="nothing to train"):
            train(model, some_batches(1), 1)


def test_frozen_weights_stay():
    model = model_of()
    model.encoder.requires_grad_(False)
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    train(model, some_batches(3), 3)
    for name, weights in model.named_parameters():
        assert torch.equal(weights, before[name]) is name.startswith("encoder.")


def test_the_device_of_a_model():
    assert device_of(nn.Module()) == torch.device("cpu")
    assert device_of(nn.Linear(2, 3, device="meta")) == torch.device("meta")
    buffer = nn.Module()
    buffer.register_buffer("mean", torch.zeros(2, device="meta"))
    assert device_of(buffer) == torch.device("meta")


# modes


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def test_a_part_in_eval_mode_keeps_it_in_training():
    model, during = fresh(), []
    model.encoder.eval()
    expected = modes(model)
    train(model, training_batches(PAIRS, 3), 2, loss=lambda m, b: during.append(modes(m)) or cross_entropy(m, b))
    assert during == [expected] * 2 and modes(model) == expected and len(set(expected)) == 2


def test_a_model_in_eval_mode_trains_with_dropout():
    model, during = fresh().eval(), []
    train(model, training_batches(PAIRS, 3), 1, loss=lambda m, b: during.append(modes(m)) or cross_entropy(m, b))
    assert all(during[0])


# losses that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("look_every, sound", [(1, 5), (2, 4), (4, 4), (20, 3)])
def test_training_stops_where_it_was_not_finite_with_the_weights_of_the_last_look(
    tmp_path, monkeypatch, bad, where, look_every, sound
):
    model, calls, path = model_of(), count(1), tmp_path / "run.pt"
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    monkeypatch.setattr(training, "LOOK_EVERY", look_every)

    def breaks_at_step_6(model, batch):
        value = cross_entropy(model, batch)
        if next(calls) < 6:
            return value
        return value + bad

    if where == "gradient":    # the loss itself is finite: sqrt's slope at 0 is not
        def breaks_at_step_6(model, batch):
            value = cross_entropy(model, batch)
            return value if next(calls) < 6 else value + (0 * model.decoder.output.bias.sum()).sqrt()

    with pytest.raises(ValueError, match=f"at step 6 the loss .* was not finite; .* those after step {sound} again"):
        train(model, some_batches(9), 9, loss=breaks_at_step_6, checkpoint=path)
    saved = torch.load(path)
    assert len(saved["extra"]["losses"]) == 3
    again = model_of()
    train(again, some_batches(9), 9, until=sound)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_looking_often_or_rarely_is_the_same_training(monkeypatch):
    def run(look_every: int) -> tuple[list[float], int, list[torch.Tensor]]:
        monkeypatch.setattr(training, "LOOK_EVERY", look_every)
        model = fresh()
        history = train(model, some_batches(9), 9)
        return history.losses, history.tokens, [weights.detach() for weights in model.parameters()]

    (often, tokens, weights), rarely = run(1), run(5)
    assert rarely[:2] == (often, tokens) and all(map(torch.equal, weights, rarely[2]))


def test_losses_are_read_rarely(monkeypatch):
    read, looks = torch.Tensor.tolist, []
    monkeypatch.setattr(training, "LOOK_EVERY", 4)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: looks.append(len(self)) or read(self))
    batches = some_batches(11)
    looks.clear()
    train(model_of(), batches, 11)
    assert looks == [4, 4, 3]


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


def test_every_two_hundred_steps_and_at_the_end(tmp_path, monkeypatch):
    saved, path = [], tmp_path / "run.pt"
    monkeypatch.setattr(training, "train_step", lambda *_: torch.tensor(1.0))
    monkeypatch.setattr(Checkpoint, "save", lambda self, **extra: saved.append(len(extra["losses"])))
    train(model_of(), [collate(pairs_of())] * 430, 430, checkpoint=path)
    assert saved == [200, 400, 430]


class Global:
    """Batches that draw from one of the global generators, an order for every pass and one more pair each time."""

    def __init__(self, name: str):
        self.draw = {
            "python": lambda: random.randrange(len(PAIRS)),
            "numpy": lambda: int(np.random.randint(len(PAIRS))),
            "torch": lambda: int(torch.randint(len(PAIRS), ())),
        }[name]

    def __iter__(self):
        first = self.draw()
        for turn in count():
            if turn % 4 == 0:
                first = self.draw()
            yield collate([PAIRS[(first + turn) % len(PAIRS)], PAIRS[self.draw()]])


@pytest.mark.parametrize("name", ["python", "numpy", "torch"])
def test_batches_may_draw_from_global_generators(tmp_path, name):
    def seed(value: int) -> None:
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)

    whole, cut, resumed, path = fresh(), fresh(), fresh(), tmp_path / "run.pt"
    seed(3)
    straight = train(whole, Global(name), 23, warmup=3)
    after = random.random(), np.random.rand(), torch.rand(())
    seed(3)
    train(cut, Global(name), 23, warmup=3, until=10, checkpoint=path)
    seed(8)     # another process
    continued = train(resumed, Global(name), 23, warmup=3, checkpoint=path)
    assert continued.losses == straight.losses and continued.tokens == straight.tokens
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert (random.random(), np.random.rand(), torch.rand(())) == after


def test_batches_that_draw_leave_dropout_as_it_was():
    drawn = train(fresh(), (torch.rand(7) is not None and batch for batch in some_batches(5)), 5)
    assert drawn.losses == train(fresh(), some_batches(5), 5).losses


OPTIONS = {"steps": 9, "lr": 1e-2, "warmup": 3, "clip": 0.5}


@pytest.mark.parametrize("changed", [{"steps": 10}, {"lr": 2e-2}, {"warmup": 4}, {"clip": 0.6}], ids=str)
def test_resuming_with_other_settings_is_refused_by_name(tmp_path, changed):
    path = tmp_path / "run.pt"
    train(model_of(), some_batches(9), **OPTIONS, checkpoint=path)
    (name, value), = changed.items()
    model = model_of()
    with pytest.raises(ValueError, match=rf"other settings \({name} {OPTIONS[name]}, not {value}\)"):
        train(model, some_batches(10), **OPTIONS | changed, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), model_of().parameters(), strict=True))


def test_resuming_with_another_model_or_loss_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    train(model_of(), some_batches(9), **OPTIONS, checkpoint=path)
    with pytest.raises(ValueError, match=r"\(first weights \(a model's seed\) '\w+', not '\w+'\)"):
        train(model_of(seed=5), some_batches(9), **OPTIONS, checkpoint=path)
    with pytest.raises(ValueError, match=r"loss 'cross_entropy', not .*twice"):
        def twice(model, batch):
            return 2 * cross_entropy(model, batch)
        train(model_of(), some_batches(9), **OPTIONS, loss=twice, checkpoint=path)
    half = model_of().half().float()
    with pytest.raises(ValueError, match="first weights"):
        train(half, some_batches(9), **OPTIONS, checkpoint=path)


def test_an_interrupted_cell_can_run_again_on_the_half_trained_model(tmp_path):
    model, path = fresh(), tmp_path / "run.pt"

    def interrupted():
        for step, batch in enumerate(training_batches(PAIRS, 3)):
            if step == 215:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train(model, interrupted(), 220, checkpoint=path)
    history = train(model, training_batches(PAIRS, 3), 220, checkpoint=path)
    whole = fresh()
    assert train(whole, training_batches(PAIRS, 3), 220).losses == history.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


def test_resuming_with_other_batches_is_refused(tmp_path):
    def pairs(shift=0):
        return [([4 + i % 7], [4 + (i + shift) % 5] * (1 + i % 3)) for i in range(11)]

    def run(batches, name="run.pt", until=None, model=None):
        torch.manual_seed(0)
        return train(model or fresh(), batches, 9, until=until, checkpoint=tmp_path / name).losses

    same = lambda: training_batches(pairs(), 2, seed=1)  # noqa: E731
    run(same(), until=4)
    consumed = same()
    list(itertools.islice(consumed, 4))
    for other in (training_batches(pairs(), 2, seed=2), training_batches(pairs(), 3, seed=1), consumed,
                  training_batches(pairs(shift=1), 2, seed=1)):
        model = fresh()
        with pytest.raises(ValueError, match="with other batches"):
            run(other, model=model)
        assert all(map(torch.equal, model.parameters(), fresh().parameters())), "as it came"
    assert run(same()) == run(same(), name="whole.pt")


def test_stopping_earlier_than_the_file_trains_nothing(tmp_path):
    model = model_of()
    train(model, some_batches(9), **OPTIONS, until=6, checkpoint=tmp_path / "run.pt")
    assert len(train(model, some_batches(9), **OPTIONS, until=4, checkpoint=tmp_path / "run.pt").losses) == 6


def test_a_resumed_training_counts_on(tmp_path, monkeypatch):
    """Its seconds are those of all its runs; its bar is as long as what is left, and tells the loss."""
    clock, bars, path = count(), [], tmp_path / "run.pt"
    progress = training.Progress
    monkeypatch.setattr(training, "LOOK_EVERY", 4)
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(training, "Progress", lambda *given, **more: bars.append(progress(*given, **more)) or bars[-1])
    first, second, third = (
        train(model_of(), some_batches(9), **OPTIONS, until=until, checkpoint=path) for until in (6, None, None))
    assert (first.seconds, second.seconds, third.seconds) == (2, 4, 4)     # one look after 4 steps, one at the end
    assert [(bar.label, bar.total) for bar in bars] == [("training", 6), ("training", 3), ("training", 0)]
    assert bars[1].text == f"loss {second.losses[-1]:.2f}"
