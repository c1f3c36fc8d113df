"""What searches share: a model that is left as it was found, and rows picked out of a state."""

import dataclasses
from collections import OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from test_encoder_decoder import model_of, pairs_of
from test_training import fresh, modes
from torch import Tensor

from seq2seq.kit.search import evaluating, reorder
from seq2seq.sequences import collate


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
