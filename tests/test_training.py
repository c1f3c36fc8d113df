"""Training in the kit: the loop with all its promises, its checkpoints, and picking rows out of a state."""

import dataclasses
import random
from collections import OrderedDict, defaultdict
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from test_encoder_decoder import model_of, pairs_of
from torch import Tensor, nn

from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import device_of, training
from seq2seq.kit.checkpoint import Checkpoint
from seq2seq.kit.search import evaluating, reorder
from seq2seq.kit.training import rate_at, train, train_step
from seq2seq.rnn import RNNDecoder, RNNEncoder
from seq2seq.sequences import Batch, collate, training_batches
from seq2seq.teacher_forcing import cross_entropy


def test_rate_rises_and_falls():
    rates = [rate_at(step, steps=50, warmup=10) for step in range(51)]
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rates[10:] == pytest.approx([1 - k / 40 for k in range(41)])
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
    seen = []
    monkeypatch.setattr(training, "train_step", lambda *given: seen.append(given) or torch.tensor(1.0))
    train(model_of(), some_batches(2), 2)
    (_, _, optimizer, loss, clip), _ = seen
    assert loss is cross_entropy and clip == 1.0 and isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 5e-3


@pytest.mark.parametrize("until, expected", [(None, 5), (3, 3), (0, 0), (5, 5), (9, 5)])
def test_what_a_history_holds(until, expected):
    batches = some_batches(5)
    history = train(model_of(), batches, 5, until=until)
    assert len(history.losses) == expected and all(type(loss) is float for loss in history.losses)
    gold = sum(len(set(map(tuple, (batch.tgt[:, 1:] != 0).nonzero().tolist()))) for batch in batches[:expected])
    assert history.tokens == gold and history.seconds >= 0
    assert expected == 0 or history.seconds > 0


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


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_evaluating_gives_every_part_its_mode_back(error):
    model = fresh()
    model.decoder.dropout.eval()
    before = modes(model)
    try:
        with evaluating(model):
            assert not any(modes(model))
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert modes(model) == before


# losses that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_training_stops_at_the_first_step_that_is_not_finite(tmp_path, monkeypatch, bad, where):
    model, calls, path = model_of(), count(1), tmp_path / "run.pt"
    monkeypatch.setattr(training, "SAVE_EVERY", 3)

    def breaks_at_step_6(model, batch):
        value = cross_entropy(model, batch)
        if next(calls) < 6:
            return value
        return value + bad

    if where == "gradient":    # the loss itself is finite: sqrt's slope at 0 is not
        def breaks_at_step_6(model, batch):
            value = cross_entropy(model, batch)
            return value if next(calls) < 6 else value + (0 * model.decoder.output.bias.sum()).sqrt()

    with pytest.raises(ValueError, match="stopped at step 6: the loss is"):
        train(model, some_batches(9), 9, loss=breaks_at_step_6, checkpoint=path)
    saved = torch.load(path)
    assert len(saved["extra"]["losses"]) == 3
    assert all(weights.isfinite().all() for weights in model.parameters())
    five = model_of()
    train(five, some_batches(9), 9, until=5)
    assert all(torch.equal(a, b) for a, b in zip(five.parameters(), model.parameters(), strict=True))


# states


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


def test_stopping_earlier_than_the_file_trains_nothing(tmp_path):
    model = model_of()
    train(model, some_batches(9), **OPTIONS, until=6, checkpoint=tmp_path / "run.pt")
    assert len(train(model, some_batches(9), **OPTIONS, until=4, checkpoint=tmp_path / "run.pt").losses) == 6


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


@pytest.mark.parametrize("how", [
    "empty", "half", "text", "a list", "no generator", "other sizes", "other parts", "no state",
])
def test_a_damaged_or_foreign_checkpoint_says_what_to_do(tmp_path, how):
    path = tmp_path / "run.pt"
    model = fresh()
    Checkpoint(path, model=model).save(losses=[1.0])
    whole, saved = path.read_bytes(), torch.load(path)
    if how in ("empty", "half", "text"):
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"not a checkpoint"}[how])
    if how in ("a list", "no generator"):
        torch.save([1, 2] if how == "a list" else {"parts": saved["parts"], "settings": {}, "extra": {}}, path)
    if how == "no state":      # found out last, when all parts are loaded
        saved["generators"]["torch"] = saved["generators"]["torch"][:7]
        torch.save(saved, path)
        torch.nn.init.zeros_(model.decoder.output.bias)
    if how == "other sizes":
        model = fresh(hidden_size=22)
    parts = {"model": model} | ({"optimizer": torch.optim.Adam(model.parameters())} if how == "other parts" else {})
    before, drawn = [weights.clone() for weights in model.parameters()], random.getstate()
    with pytest.raises(ValueError, match=r"run\.pt is damaged or was written for other settings; delete it to train"):
        Checkpoint(path, **parts).resume()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert random.getstate() == drawn


def test_a_refused_checkpoint_leaves_what_would_have_fitted(tmp_path):
    first = nn.ModuleList([nn.Linear(3, 5), nn.Linear(5, 7)])
    Checkpoint(tmp_path / "a.pt", layers=first).save()
    other = nn.ModuleList([nn.Linear(3, 5), nn.Linear(5, 11)])
    before = other[0].weight.clone()
    with pytest.raises(ValueError, match="damaged or was written for other settings"):
        Checkpoint(tmp_path / "a.pt", layers=other).resume()
    assert torch.equal(before, other[0].weight)


class Bomb:
    def __reduce__(self):
        return print, ("it went off",)


def test_a_checkpoint_runs_no_code_of_a_stranger(tmp_path, capsys):
    torch.save({"parts": {}, "settings": {}, "extra": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint(tmp_path / "a.pt").resume()
    assert "went off" not in capsys.readouterr().out


def test_numbers_of_numpy_come_back(tmp_path):
    kept = {"best": np.float64(0.5), "at": [np.int64(3), (np.float32(2), "s", None, True)], "by": {np.int32(4): 1.5}}
    Checkpoint(tmp_path / "a.pt").save(**kept)
    found = Checkpoint(tmp_path / "a.pt").resume()
    assert found == {"best": 0.5, "at": [3, (2.0, "s", None, True)], "by": {4: 1.5}}
    assert type(found["best"]) is float and type(found["at"][0]) is int


@pytest.mark.parametrize("value", [np.arange(3), {1}, Path("x"), Pair(torch.zeros(1), 1), Unknown()],
                         ids=lambda value: type(value).__name__)
def test_what_could_not_come_back_is_refused_by_name(tmp_path, value):
    saver = Checkpoint(tmp_path / "a.pt")
    with pytest.raises(TypeError, match=rf"best\[1\]\['x'\] is of type {type(value).__name__}"):
        saver.save(best=[1, {"x": value}])
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match=r"settings\['x'\]"):
        Checkpoint(tmp_path / "a.pt", {"x": value})


def test_a_home_folder_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Checkpoint("~/runs/a.pt").save(step=1)
    assert (tmp_path / "runs" / "a.pt").exists() and Checkpoint(tmp_path / "runs/a.pt").resume() == {"step": 1}
    with pytest.raises(ValueError, match="is a folder"):
        Checkpoint(tmp_path / "runs")


@pytest.mark.parametrize("here", [2, 1, 0])
def test_the_random_generators_of_gpus_are_kept_too(tmp_path, monkeypatch, here, recwarn):
    restored, states = {}, [torch.tensor([3, 5], dtype=torch.uint8), torch.tensor([7], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state.tolist()}))
    saver = Checkpoint(tmp_path / "a.pt", layer=nn.Linear(3, 5))
    saver.save(step=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    assert saver.resume() == {"step": 1}
    assert restored == dict(list({0: [3, 5], 1: [7]}.items())[:here])
    said = [f"written with 2 GPUs and this machine has {here}" in str(warning.message) for warning in recwarn]
    assert said == [True] * (here < 2)
