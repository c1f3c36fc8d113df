"""A training's last state in one file: whole or not at all, and nothing but what can be read back safely."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import Killed, fresh
from torch import nn

from seq2seq.kit.checkpoint import Checkpoint, drawn_apart, generators, restore


class Unknown:
    """Something that a checkpoint does not know."""


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
        torch.save([1, 2] if how == "a list" else {name: saved[name] for name in ("parts", "settings", "extra")}, path)
    if how == "no state":      # found out last, when all parts are loaded
        saved["generators"]["torch"] = saved["generators"]["torch"][:7]
        torch.save(saved, path)
        torch.nn.init.zeros_(model.decoder.output.bias)
    if how == "other sizes":
        model = fresh(hidden_size=22)
    parts = {"model": model} | ({"optimizer": torch.optim.Adam(model.parameters())} if how == "other parts" else {})
    before, drawn = [weights.clone() for weights in model.parameters()], random.getstate()
    with pytest.raises(ValueError, match=r"run\.pt (is damaged|was written by).*other settings.*delete it to train"):
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


@pytest.mark.parametrize(("written", "read", "told"), [
    ({}, {"lr": 1}, "lr None, not 1"), ({"lr": 1}, {}, "lr 1, not None"), ({"lr": 1, "seed": 2}, {"lr": 1}, "seed 2"),
])
def test_a_setting_that_one_of_two_runs_does_not_have_is_a_difference(tmp_path, written, read, told):
    Checkpoint(tmp_path / "run.pt", written, model=fresh()).save()
    with pytest.raises(ValueError, match=f"other settings .*{told}"):
        Checkpoint(tmp_path / "run.pt", read, model=fresh()).resume()


def test_parts_of_another_kind_or_number_are_refused_by_name(tmp_path):
    model, path = fresh(), tmp_path / "run.pt"
    adam, sgd = torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), lr=0.1)
    Checkpoint(path, model=model, optimizer=adam).save()
    before = sgd.state_dict()
    with pytest.raises(ValueError, match="class of optimizer 'Adam', not 'SGD'"):
        Checkpoint(path, model=model, optimizer=sgd).resume()
    assert sgd.state_dict() == before
    more = {"model": model, "optimizer": adam, "more": adam}
    for parts, told in (({"model": model}, "'Adam', not None"), (more, "class of more")):
        with pytest.raises(ValueError, match=told):
            Checkpoint(path, **parts).resume()


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


@pytest.mark.parametrize("value", [np.arange(3), {1}, Path("x"), Unknown()], ids=["array", "set", "path", "unknown"])
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


def test_other_settings_are_refused_by_name_and_the_same_go_on(tmp_path):
    path, settings = tmp_path / "new" / "folder" / "a.pt", {"lr": 0.1, "steps": 5}
    Checkpoint(path, settings, layer=nn.Linear(3, 5)).save(step=1)
    assert Checkpoint(path, dict(settings), layer=nn.Linear(3, 5)).resume() == {"step": 1}
    layer = nn.Linear(3, 5)
    before = layer.weight.clone()
    with pytest.raises(ValueError, match=r"other settings \(lr 0\.1, not 0\.2\)"):
        Checkpoint(path, settings | {"lr": 0.2}, layer=layer).resume()
    assert torch.equal(layer.weight, before)


def draws():
    """Batches that draw from all three global generators."""
    while True:
        yield random.random(), np.random.rand(), torch.rand(()).item()


def test_what_batches_draw_goes_on_apart_from_what_is_drawn_outside():
    start = generators()
    stream = drawn_apart(draws(), start)
    found = [next(stream)]
    outside = next(draws())
    found.append(next(stream))
    restore(start)
    own = draws()
    assert found == [next(own), next(own)] and found[0] != found[1]
    assert outside == found[0]                 # outside, nothing had been drawn
    assert list(drawn_apart([1, 2], start)) == [1, 2]
