"""The comparison with other libraries: the same work for all, and a statistic that is right on known numbers."""

import builtins
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import book_benchmarks as drawn
import numpy as np
import peers
import pytest
import side_by_side
import torch
from side_by_side import TINY, Unequal, check_output, check_training, interleaved, operations

from seq2seq.sequences import Vocab

ROOT = Path(__file__).resolve().parents[1]
WORDS, GRU = TINY["words"], TINY["GRU"]


@pytest.fixture(scope="module")
def transformers():
    peers.quiet()
    return peers.peers(WORDS._replace(layers=2), "Transformer")


@pytest.fixture(scope="module")
def grus():
    return peers.peers(GRU._replace(layers=2), "GRU")


@pytest.mark.parametrize("kind", ["transformers", "grus"])
def test_all_have_the_size_the_loss_and_the_outputs_of_ours(kind, request):
    found, _ = request.getfixturevalue(kind)
    sizes = (WORDS if kind == "transformers" else GRU)._replace(layers=2)
    assert len(found) >= 3
    check_training(found, sizes, kind == "transformers")
    batch = peers.a_batch(sizes, 9, padded=kind == "transformers")
    asked = batch.src, batch.src_padding, sizes.length
    for peer in found:
        if peer.model:
            peer.model.eval()
    with torch.inference_mode():
        check_output({p.name: p.greedy(*asked) for p in found}, sizes, 9)
        beams = {p.name: p.beam(*asked, 5) for p in found if p.beam}
    check_output(beams, sizes, 9)
    assert len(beams) >= len(found) // 2 and len(beams["ours"].unique(dim=0)) > 1     # the source matters


def test_gradients_are_the_same_too(transformers):
    """One step of each from the same weights leaves each with the same loss."""
    found, _ = transformers
    sizes = WORDS._replace(layers=2)
    batch, after = peers.a_batch(sizes, 7, padded=True), {}
    for peer in found:
        if peer.loss:
            before = {name: weights.clone() for name, weights in peer.model.state_dict().items()}
            optimizer = torch.optim.SGD(peer.model.parameters(), lr=0.1)
            side_by_side.train_step(peer.model, batch, optimizer, lambda _, b, p=peer: p.loss(b))
            after[peer.name] = peer.loss(batch).item()
            peer.model.load_state_dict(before)
    with_bias = {name: loss for name, loss in after.items() if name not in ("transformers, Marian", "JoeyNMT")}
    assert len(with_bias) == 3
    for loss in with_bias.values():
        assert loss == pytest.approx(after["ours"], rel=1e-4)


def test_other_work_is_refused(transformers):
    found, _ = transformers
    sizes = WORDS._replace(layers=2)
    bigger, _ = peers.peers(sizes._replace(hidden=40), "Transformer")
    with pytest.raises(Unequal, match="parameters"):
        check_training([found[0], bigger[2]], sizes, True)
    other = torch_with_other_weights(sizes)
    with pytest.raises(Unequal, match="begins with the loss"):
        check_training([found[0], other], sizes, True)
    ids = torch.full((10, sizes.length), 7)
    check_output({"ours": ids, "a tie": torch.cat([ids[:9], ids[:1] + 1])}, sizes, 10)
    wrong = {"shorter": ids[:, 1:], "stops": ids.index_fill(1, torch.tensor([3]), Vocab.eos), "other": ids + 1}
    for name, outputs in wrong.items():
        with pytest.raises(Unequal, match=name):
            check_output({"ours": ids, name: outputs}, sizes, 10)
    with pytest.raises(Unequal, match="stops early"):
        check_output({"ours": wrong["stops"]}, sizes, 10)


def torch_with_other_weights(sizes):
    other = peers.TorchTransformer(sizes)
    return peers.Peer("torch", lambda batch: peers.cross_entropy(other, batch), model=other)


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    importing = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] in ("transformers", "joeynmt", "ctranslate2"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return importing(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    found, missing = peers.peers(WORDS, "Transformer")
    assert [p.name for p in found] == ["ours", "ours, fused attention", "torch.nn.Transformer"]
    assert list(missing) == ["transformers, Marian", "JoeyNMT", "CTranslate2"]
    assert all("not installed (No module named" in why for why in missing.values())


def test_everybody_takes_a_turn_and_nobody_is_always_first():
    calls = []
    jobs = {name: lambda name=name: calls.append(name) for name in "ABC"}
    times = interleaved(jobs, 0.0)
    assert {name: len(row) for name, row in times.items()} == dict.fromkeys("ABC", side_by_side.LEAST)
    assert "".join(calls) == "ABCBCACABABCBCA"
    assert len(interleaved(jobs, 60.0)["A"]) == side_by_side.MOST
    begun = time.perf_counter()
    taken = interleaved({"A": lambda: time.sleep(0.01), "B": lambda: None}, 0.0)
    assert 0.05 <= sum(taken["A"]) <= time.perf_counter() - begun and sum(taken["B"]) < 0.05    # each its own seconds


def test_sources_are_padded_and_targets_are_whole():
    batch = peers.a_batch(WORDS, 9, padded=True)
    ends = (batch.src == Vocab.eos).float().argmax(dim=1) + 1
    assert ((~batch.src_padding).sum(dim=1) == ends).all() and len(ends.unique()) > 1
    assert (batch.src[batch.src_padding] == Vocab.pad).all() and ends[0] == WORDS.length
    assert batch.tgt.shape == (9, 1 + WORDS.length) and (batch.tgt[:, -1] == Vocab.eos).all()
    assert (batch.tgt[:, 1:-1] > 3).all() and (batch.tgt[:, 0] == Vocab.bos).all()
    assert not peers.a_batch(GRU, 9, padded=False).src_padding.any()


def test_operations_are_counted_once():
    """A step costs its layers whatever came before, padding costs nothing, a training three times a reading."""
    one = operations(WORDS, "Transformer", "decoding", 1)
    assert one < operations(WORDS, "Transformer", "decoding", 5) < 5 * one          # some sources are shorter
    assert operations(WORDS, "Transformer", "decoding", 5) > 4 * one
    assert one < operations(WORDS, "Transformer", "decoding", 1, 5) < 5 * one       # the encoder reads once
    D, F, S, V = WORDS.width, WORDS.hidden, WORDS.length, WORDS.vocab
    encoder = 2 * S * (4 * D * D + 2 * D * F) + 4 * S * S * D
    decoder = sum(2 * (6 * D * D + 2 * D * F + D * V) + 4 * (t + S) * D for t in range(1, S + 1)) + 4 * S * D * D
    assert one == encoder + decoder
    sizes = GRU._replace(layers=2)
    weights = sum(p.numel() for name, p in peers.our_gru(sizes).named_parameters()
                  if p.dim() == 2 and "embedding" not in name)  # fmt: skip
    assert operations(sizes, "GRU", "decoding", 1) == 2 * sizes.length * weights
    step = 2 * sum(p.numel() for name, p in peers.our_gru(sizes).decoder.named_parameters()
                   if p.dim() == 2 and "embedding" not in name)  # fmt: skip
    more = operations(sizes, "GRU", "decoding", 1, 3) - operations(sizes, "GRU", "decoding", 1)
    assert more == 2 * (sizes.length - 1) * step        # a beam's first step is one row's
    assert operations(sizes, "GRU", "training", 3) == 18 * sizes.length * weights


FIGURE = {"what": "training", "count": 120, "operations": 600,
          "times": {"ours": [1.0, 2.0, 4.0, 1.0, 1.0], "theirs": [2.0, 2.0, 12.0, 1.5, 2.5],
                    "product": [1.0, 2.0, 4.0, 1.0, 1.0]}}  # fmt: skip


def test_ratios_are_of_neighbours():
    """2, 1, 3, 1.5, 2.5: a busy third round slows both, and counts as one round."""
    assert drawn.ratio(FIGURE, "theirs") == (2.0, 1.5, 2.5)
    assert drawn.ratio(FIGURE, "ours") == (1.0, 1.0, 1.0)
    assert drawn.rate(FIGURE, "ours") == 120 and drawn.rate(FIGURE, "theirs") == 60
    assert drawn.share(FIGURE, "ours", 1000) == 0.6 and drawn.share(FIGURE, "theirs", 1000) == pytest.approx(0.3)


def test_three_digits():
    numbers = {12345.0: "12,300", 1.234: "1.23", 9.999: "10.0", 0.0456: "0.0456", 99.96: "100"}
    assert {number: drawn.digits(number) for number in numbers} == numbers


def a_group(**more) -> dict:
    rest = [{**FIGURE, "what": what, "times": {**FIGURE["times"], "more": [1.0] * 5}} for what in drawn.COLUMNS][1:]
    return {"sizes": WORDS._asdict(), "parameters": 1234, "versions": {"torch": "2"}, "figures": [FIGURE, *rest],
            "missing": {"a & b": "not installed"}, "notes": {"theirs": "it keeps nothing"}} | more  # fmt: skip


def test_the_table_has_a_row_for_each_and_says_who_is_missing():
    rows = drawn.table(a_group(), 1000).split("<tr>")[1:]
    assert [row.count("<th") + row.count("<td>") for row in rows] == [6] * 5
    assert "<td>ours</td><td>120 a second, 60 %</td>" in rows[1]
    assert "<td>theirs</td><td><b>2.00</b> (1.50–2.50)<br>60.0 a second, 30 %</td>" in rows[2]
    assert "<td>more</td><td>–</td>" in rows[3] and "product" not in "".join(rows)
    assert "<td>a &amp; b</td><td>not installed</td>" in rows[4]
    told = drawn.described(a_group())
    assert told.startswith("1,234 parameters: 1 and 1 layers, 16 wide, 2 heads")
    assert told.endswith("theirs: it keeps nothing.")


def test_the_machine_is_told():
    made = {"machine": "Xeon, 2 cores", "threads": 1, "date": "2030-01-31", "seconds": 240.0, "load": 0.1,
            "product": 2e9}  # fmt: skip
    told = drawn.machine({"provenance": made, "groups": {"words": a_group()}})
    assert "Xeon, 2 cores, 1 thread, single precision, 2030-01-31" in told
    assert "2 billion operations a second" in told and told.endswith("torch 2.")


def test_the_command_runs(tmp_path):
    """Every figure of every group, at tiny sizes; nothing is written."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "OMP_NUM_THREADS": "1"}
    file = ROOT / "benchmarks/side_by_side.py"
    command = [sys.executable, file, "--tiny", "--seconds", "0", "--record", tmp_path / "x"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rounds") == 15 and done.stdout.count("d2l, Seq2Seq") == 3
    assert not (tmp_path / "x").exists()


def test_the_record_is_whole():
    if not drawn.RECORD.is_file():
        pytest.skip("no speeds are on record")
    record = json.loads((ROOT / drawn.RECORD).read_text("utf-8"))
    assert record["provenance"]["threads"] == 1 and record["provenance"]["product"] == 2 * side_by_side.SIDE**3
    for name, sizes in side_by_side.SIZES.items():
        group = record["groups"][name]
        assert group["sizes"] == sizes._asdict()
        assert {figure["what"] for figure in group["figures"]} == set(drawn.COLUMNS)
        for figure in group["figures"]:
            rounds = {len(times) for times in figure["times"].values()}
            assert len(rounds) == 1 and min(rounds) >= side_by_side.LEAST
            systems = figure["times"].keys() - {"product"}
            assert all(0 < drawn.share(figure, system, 2 * side_by_side.SIDE**3) < 1.5 for system in systems)
        assert np.isfinite([drawn.rate(figure, "ours") for figure in group["figures"]]).all()
