"""Outgrowing one machine: shares, sums, launches of real processes that are really killed, checkpoints, shards."""

import os
import signal
import sys
import time
from itertools import islice, pairwise

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seq2seq import scaling
from seq2seq.kit import train, training
from seq2seq.kit.corpora import Example
from seq2seq.scaling import (
    RECIPE,
    accumulate,
    footprint,
    fresh,
    in_bfloat16,
    launch,
    mean_of_all,
    memory,
    read_keys,
    read_shards,
    ring,
    run,
    share,
    some_words,
    stream,
    struck,
    sum_seconds,
    summed,
    take_steps,
    write_shards,
)
from seq2seq.sequences import Vocab, collate
from seq2seq.teacher_forcing import cross_entropy

STEPS, EVERY, STRIKE = 12, 3, 8


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(training, "SAVE_EVERY", 200)   # which train_together sets


@pytest.fixture(scope="module")
def words():
    return some_words()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scaling")


@pytest.fixture(scope="module")
def launched(folder):
    """One launch of two processes for all that needs two; one of them is killed on the way."""
    with pytest.MonkeyPatch.context() as patch:   # a training of one process, killed on the way
        patch.setenv("SEQ2SEQ_DEVICE", "cpu")
        with pytest.raises(RuntimeError, match="ended with 1"):
            how = {"steps": STEPS, "folder": str(folder / "grown"), "every": EVERY, "kill": STRIKE}
            launch(1, {"grown": ("train_together", how)})
    examples = [Example(f"word{i}", (("AH", "B"),)) for i in range(110)]
    write_shards(examples, folder / "shards", per_shard=10)
    jobs = {
        "killed": ("train_together", {"steps": STEPS, "folder": str(folder / "run"), "every": EVERY, "kill": STRIKE}),
        "grown": ("train_together", {"steps": STEPS, "folder": str(folder / "grown"), "every": EVERY}),
        "right": ("train_together", {"steps": STEPS}),
        "wrong": ("train_together", {"steps": STEPS, "own": True}),
        "sharded": ("train_sharded", {"steps": 3, "more": 2, "folder": str(folder / "dcp")}),
        "read": ("read_keys", {"folder": str(folder / "shards"), "workers": 2, "epochs": 2}),
        "read alone": ("read_keys", {"folder": str(folder / "shards"), "workers": 0}),
        "sums": ("time_sums", {"sizes": [1, 1000], "times": 3}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQ2SEQ_DEVICE", "cpu")
        patch.setenv("OMP_NUM_THREADS", "1")
        return launch(2, jobs, restarts=1, timeout=240)


@pytest.fixture(scope="module")
def alone(words):
    pairs, *vocabularies = words
    return train(fresh(*vocabularies).double(), stream(pairs), STEPS, **RECIPE)


@pytest.fixture
def by_itself():
    """A group of one process, this one. Nothing is trained in it: DDP's work can outlive it and end the process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradient(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# --- two processes ---


def test_two_processes_have_the_curve_of_one(launched, alone) -> None:
    for found in launched:
        assert found["right"]["losses"] == pytest.approx(alone.losses, rel=1e-9)
        assert found["right"]["tokens"] == alone.tokens
        assert found["right"]["began"] == 0


def test_dividing_by_ones_own_tokens_is_another_training(launched, alone) -> None:
    wrong = launched[0]["wrong"]["losses"]
    assert wrong == launched[1]["wrong"]["losses"]
    assert wrong[0] == pytest.approx(alone.losses[0], rel=1e-9)   # no step has been taken
    assert max(abs(a - b) for a, b in zip(wrong, alone.losses, strict=True)) > 1e-3


def test_a_killed_process_costs_one_interval_at_most_and_changes_nothing(launched, folder) -> None:
    for found in launched:
        killed = found["killed"]
        assert killed["began"] == STRIKE // EVERY * EVERY   # in its second life
        assert 0 < STRIKE - killed["began"] <= EVERY
        assert len(killed["losses"]) == STEPS
        assert killed["losses"] == pytest.approx(found["right"]["losses"], rel=1e-9)
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["0.pt", "1.pt"]


def test_two_processes_go_on_where_one_was_stopped(launched, alone) -> None:
    for found in launched:
        assert found["grown"]["began"] == STRIKE // EVERY * EVERY
        assert found["grown"]["losses"] == pytest.approx(alone.losses, rel=1e-9)


def test_one_process_finds_that_two_have_finished(launched, folder) -> None:
    how = {"steps": STEPS, "folder": str(folder / "run"), "every": EVERY}
    found = launch(1, {"again": ("train_together", how)})[0]["again"]
    assert found["began"] == STEPS and found["losses"] == launched[0]["killed"]["losses"]


def test_weights_and_moments_are_shared_out(launched, words) -> None:
    whole = {found["sharded"]["whole"] for found in launched}
    assert len(whole) == 1
    for found in launched:
        assert found["sharded"]["kept"] / whole.copy().pop() == pytest.approx(0.5, abs=0.03)
    assert sum(found["sharded"]["kept"] for found in launched) == pytest.approx(whole.pop(), rel=1e-3)


def test_one_process_goes_on_from_the_shards_of_two(launched, folder, words) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    pairs, *vocabularies = words
    models = [fresh(*vocabularies) for _ in range(2)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=RECIPE["lr"]) for model in models]
    first = take_steps(models[0], optimizers[0], islice(stream(pairs), 3), cross_entropy)
    assert launched[0]["sharded"]["losses"][:3] == pytest.approx(first, rel=1e-5)
    weights, moments = get_state_dict(models[1], optimizers[1])
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=folder / "dcp", no_dist=True)
    set_state_dict(models[1], optimizers[1], model_state_dict=weights, optim_state_dict=state["optimizer"])
    assert {int(moments["step"]) for moments in optimizers[1].state.values()} == {3}
    for model, optimizer in zip(models, optimizers, strict=True):
        after = take_steps(model, optimizer, islice(stream(pairs), 3, 5), cross_entropy)
        assert launched[0]["sharded"]["losses"][3:] == pytest.approx(after, rel=1e-4)
    assert footprint(optimizers[0]) == {"kept": launched[0]["sharded"]["whole"]} | {
        "whole": launched[0]["sharded"]["whole"]}   # one process keeps everything


def test_every_word_is_read_once_by_one_process_and_one_worker(launched) -> None:
    everything = [f"{i:06}" for i in range(110)]
    for epoch in range(2):
        parts = [found["read"][epoch] for found in launched]
        assert sorted(parts[0] + parts[1]) == everything
        assert parts[0] and parts[1]
    assert launched[0]["read"][0] != launched[0]["read"][1]   # another order in the next epoch
    assert sorted(launched[0]["read alone"][0] + launched[1]["read alone"][0]) == everything
    assert set(launched[0]["sums"]) == {"1", "1000"} and min(launched[0]["sums"].values()) > 0


# --- launches that fail ---


def test_processes_that_fail_say_why(tmp_path) -> None:
    script = "import sys; print('[rank1]: ValueError: why'); print('and how torchrun saw it'); sys.exit(3)"
    with pytest.raises(RuntimeError, match=r"^the processes ended with 3:\n\[rank1\]: ValueError: why$"):
        run([sys.executable, "-c", script], tmp_path / "log", 60, dict(os.environ))


def test_a_command_that_hangs_is_stopped_with_its_children(tmp_path) -> None:
    script = "import subprocess, sys, time; print('begun', flush=True); time.sleep(60)"
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"were not done in 2 seconds:\nbegun"):
        run([sys.executable, "-c", script], tmp_path / "log", 2, dict(os.environ))
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("sizes", [{"processes": 0}, {"processes": 2, "timeout": 0}])
def test_a_launch_of_nothing_is_refused(sizes) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        launch(jobs={}, **sizes)


# --- shares and sums, in one process ---


def test_shares_are_the_batch(words) -> None:
    batch = next(stream(words[0]))
    for world in (1, 3, 5, len(batch)):
        shares = [share(batch, rank, world) for rank in range(world)]
        assert sum(map(len, shares)) == len(batch)
        rows = [row[row != Vocab.pad].tolist() for part in shares for row in part.src]
        assert rows == [row[row != Vocab.pad].tolist() for row in batch.src]
        rows = [row[row != Vocab.pad].tolist() for part in shares for row in part.tgt]
        assert rows == [row[row != Vocab.pad].tolist() for row in batch.tgt]
        assert all(torch.equal(part.src_padding, part.src == Vocab.pad) for part in shares)


def test_a_share_that_would_be_empty_is_refused() -> None:
    batch = collate([([4], [5]), ([6, 7], [8])])
    with pytest.raises(ValueError, match="2 rows cannot be shared by 3"):
        share(batch, 0, 3)
    with pytest.raises(ValueError, match="none has rank 2"):
        share(batch, 2, 2)
    with pytest.raises(ValueError, match="world"):
        share(batch, 0, 0)


def test_the_summed_loss_is_the_mean_times_tokens(words) -> None:
    pairs, *vocabularies = words
    model, batch = fresh(*vocabularies), collate(pairs[:7])
    total, tokens = summed(model, batch)
    assert tokens == sum(len(target) + 1 for _, target in pairs[:7])
    assert torch.allclose(total / tokens, cross_entropy(model, batch), rtol=1e-5)


def test_alone_in_its_group_the_mean_of_all_is_the_mean(words, by_itself) -> None:
    pairs, *vocabularies = words
    found = []
    for loss in (cross_entropy, mean_of_all, lambda m, b: mean_of_all(m, b, own=True)):
        model = fresh(*vocabularies)
        value = loss(model, collate(pairs[:7]))
        value.backward()
        found.append((value.item(), gradient(model)))
    for value, slope in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        assert torch.allclose(slope, found[0][1], atol=1e-6)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_accumulated_parts_have_the_gradient_of_the_batch(parts, words) -> None:
    pairs, *vocabularies = words
    batch = collate(sorted(pairs[:21], key=lambda pair: len(pair[0])))
    whole = fresh(*vocabularies).double()
    loss = cross_entropy(whole, batch)
    loss.backward()
    for own in (False, True):
        model = fresh(*vocabularies).double()
        assert torch.allclose(accumulate(model, batch, parts, own).double(), loss, rtol=1e-6)
        off = (gradient(model) - gradient(whole)).norm() / gradient(whole).norm()
        assert (off < 1e-12) == (not own or parts == 1)
    means = fresh(*vocabularies).double()
    for i in range(parts):
        (cross_entropy(means, share(batch, i, parts)) / parts).backward()
    assert torch.allclose(gradient(model), gradient(means), atol=1e-12)   # own: the mean of the parts' means


def test_a_large_batch_in_parts_trains_as_at_once(words) -> None:
    pairs, *vocabularies = words
    curves = []
    for parts in (1, 4):
        model, losses = fresh(*vocabularies), []
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for batch in islice(stream(pairs, 60), 6):
            optimizer.zero_grad()
            losses.append(accumulate(model, batch, parts).item())
            optimizer.step()
        curves.append(losses)
    assert curves[0] == pytest.approx(curves[1], rel=1e-5) and curves[0][-1] < curves[0][0]


def test_in_bfloat16_products_are_short_and_weights_are_not(words) -> None:
    pairs, *vocabularies = words
    model, batch, kinds = fresh(*vocabularies), collate(pairs[:7]), []
    model.encoder.layers[0].attention.W_q.register_forward_hook(lambda *call: kinds.append(call[-1].dtype))
    long, short = cross_entropy(model, batch), in_bfloat16(cross_entropy)(model, batch)
    assert kinds == [torch.float32, torch.bfloat16]
    short.backward()
    assert short.item() == pytest.approx(long.item(), rel=0.02) and short.item() != long.item()
    assert all(p.grad.dtype == p.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


# --- the ring and the arithmetic ---


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 5, 28])
def test_a_ring_sums_and_sends_to_neighbours_only(world, length) -> None:
    vectors = [torch.randn(length, dtype=torch.float64) for _ in range(world)]
    before = [[piece.clone() for piece in vector.tensor_split(world)] for vector in vectors]
    turns = 0
    for sent, rows in ring(vectors):
        turns += 1
        for rank, row in enumerate(rows):
            changed = [i for i, piece in enumerate(row) if not torch.equal(piece, before[rank][i])]
            assert set(changed) <= {sent[(rank - 1) % world]}
        before = rows
    assert turns == 2 * (world - 1)
    for row in before:
        assert torch.allclose(torch.cat(row), sum(vectors))


def test_a_ring_of_vectors_of_different_lengths_is_refused() -> None:
    for vectors in ([], [torch.ones(3), torch.ones(5)], [torch.ones(3, 5)]):
        with pytest.raises(ValueError, match="of one length"):
            next(ring(vectors))


def test_seconds_of_a_sum() -> None:
    assert sum_seconds(1e6, 1, 1e9, 1.0) == 0                           # nobody to talk to
    assert sum_seconds(1e6, 2, 1e6, 0.0) == 4                           # a vector there and back
    assert sum_seconds(1e6, 1000, 1e6, 0.0) == pytest.approx(8, rel=2e-3)
    assert sum_seconds(0, 5, 1e6, 0.5) == 4                             # 8 messages
    assert sum_seconds(1e6, 2, 1e6, 0.0, size=2) == 2


def test_memory_by_stage() -> None:
    assert [memory(1, 1, stage) for stage in range(4)] == [16] * 4
    assert [memory(7.5e9, 64, stage) / 1e9 for stage in range(4)] == pytest.approx(
        [120, 31.4, 16.6, 1.9], abs=0.06)   # Rajbhandari et al. (2020), figure 1
    with pytest.raises(ValueError, match="a stage is"):
        memory(1, 1, 4)


# --- dying, and shards ---


def test_only_the_last_process_is_killed_and_only_once(monkeypatch, by_itself) -> None:
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, how: killed.append((pid, how)))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert list(struck("abcd", 2)) == list("abcd") and not killed
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    seen = []
    for letter in struck("abcd", 2):
        seen.append((letter, len(killed)))
    assert seen == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert killed == [(os.getpid(), signal.SIGKILL)]
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert list(struck("abcd", 2)) == list("abcd") and len(killed) == 1


def test_checkpoints_are_those_of_process_0(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    (tmp_path / "1.pt").write_text("from a life that 0 does not remember")
    assert not scaling.agreed(tmp_path).exists()
    (tmp_path / "0.pt").write_text("step 200")
    assert scaling.agreed(tmp_path).read_text() == "step 200"
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    assert scaling.agreed(tmp_path) == tmp_path / "0.pt"
    assert scaling.agreed(tmp_path / "new" / "folder").parent.is_dir()


def test_shards_hold_the_words_and_are_shuffled(tmp_path) -> None:
    examples = [Example(word, (tuple(word.upper()),)) for word in ("cat", "dog", "bee", "ant", "owl", "fox", "elk")]
    write_shards(examples, tmp_path, per_shard=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"words-000{i}.tar" for i in range(4)]
    read = {word["__key__"]: word["json"] for word in read_shards(tmp_path)}
    assert [read[key] for key in sorted(read)] == [
        {"source": e.source, "target": list(e.target)} for e in examples]   # fmt: skip
    orders = read_keys(str(tmp_path), workers=0, epochs=8)
    assert all(sorted(order) == sorted(orders[0]) for order in orders) and len({*map(tuple, orders)}) > 4
    assert orders == read_keys(str(tmp_path), workers=0, epochs=8)   # the same in every process
    assert any(sorted(order) != order for order in orders)


def test_a_buffer_mixes_shards(tmp_path) -> None:
    write_shards([Example(f"w{i}", (("AH",),)) for i in range(60)], tmp_path, per_shard=10)

    def breaks(buffer):   # how often the next word is from another shard
        shards = [int(word["__key__"]) // 10 for word in read_shards(tmp_path, buffer=buffer)]
        return sum(a != b for a, b in pairwise(shards))

    assert breaks(1) == 5 and breaks(60) > 25


def test_too_few_shards_are_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"0 shards .* for 1 processes"):
        read_shards(tmp_path)
    write_shards([Example("cat", (("K",),))], tmp_path, per_shard=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"1 shards .* for 2 processes"):
        read_shards(tmp_path)
    with pytest.raises(ValueError, match="per_shard"):
        write_shards([], tmp_path, per_shard=0)


def test_steps_on_meta(words) -> None:
    pairs, *vocabularies = words
    model = fresh(*vocabularies).to("meta")
    total, _ = summed(model, collate(pairs[:5]).to("meta"))
    total.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
