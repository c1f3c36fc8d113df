"""The chapter on detection: a set has no order, a matching costs least, a score counts a thing once."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from seq2seq import detection
from seq2seq.captioning import ink, sheet
from seq2seq.detection import (
    DETECTORS,
    TOKENS,
    Answers,
    Detector,
    GlobalEncoder,
    Scene,
    SceneBatch,
    SceneEncoder,
    SequenceLoss,
    SetDecoder,
    SetLoss,
    Thing,
    area,
    as_batch,
    as_things,
    as_tokens,
    average_precision,
    by_components,
    corners,
    detection_study,
    draw_scene,
    draw_scenes,
    exactly,
    find_at_once,
    find_in_sequence,
    generalized_iou,
    hits,
    in_order,
    iou,
    matched,
    matched_greedily,
    scene_batches,
    scores_of,
    sequence_detector,
    set_detector,
    share_found,
    stamps,
    touching,
)
from seq2seq.encoder_decoder import Memory
from seq2seq.kit import corpora, seed_everything, train
from seq2seq.kit.corpora import DamagedCorpus
from seq2seq.sequences import Vocab

DIGITS = corpora.digits()


def some_boxes(count: int, seed: int = 0) -> torch.Tensor:
    """Boxes (count, 4) as left, top, right, bottom."""
    low, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([low, low + size / 2 + 0.01], dim=1)


def some_things(rng: random.Random, count: int, digits: int = 3) -> list[Thing]:
    return [Thing(rng.randrange(digits), (x := rng.randint(0, 9), y := rng.randint(0, 9), x + rng.randint(2, 9),
                                          y + rng.randint(2, 9)), rng.random()) for _ in range(count)]  # fmt: skip


# Digits and scenes


def test_digits_are_whole_and_no_image_is_in_two_splits() -> None:
    parts = [{d.pixels.tobytes() for d in part} for part in DIGITS]
    assert sum(map(len, DIGITS)) == 1797 and not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
    assert all({d.label for d in part} == set(range(10)) for part in DIGITS)
    assert all(d.pixels.shape == (8, 8) and d.pixels.dtype == np.uint8 and d.pixels.max() <= 16 for d in DIGITS.train)
    corpora.digits().train.clear()
    assert len(corpora.digits().train) == len(DIGITS.train)


@pytest.mark.parametrize("content", [b"", b"no gzip", None])
def test_a_damaged_file_of_digits_says_so(content, tmp_path, monkeypatch) -> None:
    import importlib

    module = importlib.import_module("seq2seq.kit.corpora.digits")
    path = tmp_path / "digits.csv.gz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(module, "PATH", path)
    module._digits.cache_clear()
    try:
        with pytest.raises(DamagedCorpus, match="install"):
            corpora.digits()
    finally:
        module._digits.cache_clear()


def test_a_scene_is_its_digits_pasted_where_its_boxes_say() -> None:
    pool = stamps(DIGITS.test[:20])
    for seed in range(30):
        scene = draw_scene(pool, random.Random(seed), edge=37)
        dark = 1 - scene.pixels[..., 0] / 255
        assert scene.pixels.shape == (37, 37, 3) and 1 <= len(scene.things) <= 5
        outside = np.ones((37, 37), bool)
        for digit, (x, y, right, bottom), _ in scene.things:
            assert 0 <= x < right <= 37 and 0 <= y < bottom <= 37 and digit in range(10)
            outside[y:bottom, x:right] = False
            cut = dark[y:bottom, x:right]
            assert any(s.digit == digit and s.ink.shape == cut.shape and (cut >= s.ink - 0.01).all() for s in pool)
        assert not dark[outside].any()
        pairs = itertools.combinations([t.box for t in scene.things], 2)
        assert all(iou(a, b) <= 0.1 for a, b in pairs)


def test_scenes_are_the_same_for_the_same_seed_and_have_the_asked_count() -> None:
    first, again, other = (draw_scenes(DIGITS.test, 4, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.pixels, b.pixels) and a.things == b.things for a, b in zip(first, again, strict=True))
    assert [s.things for s in first] != [s.things for s in other]
    assert len(draw_scene(stamps(DIGITS.test), random.Random(0), edge=90, count=7).things) == 7


def test_stamps_are_cut_to_their_ink() -> None:
    for stamp in stamps(DIGITS.test[:9], (8, 13)):
        assert stamp.ink.shape[0] in (8, 13) and stamp.ink.min() >= 0 and stamp.ink.max() <= 1
        assert all(edge.any() for edge in (stamp.ink[0], stamp.ink[-1], stamp.ink[:, 0], stamp.ink[:, -1]))


def test_touching_is_a_gap_of_less_than_a_pixel() -> None:
    def scene(*boxes):
        return Scene(np.zeros((9, 9, 3), np.uint8), [Thing(1, b) for b in boxes])

    assert touching(scene((0, 0, 2, 2), (2, 0, 4, 2))) and touching(scene((0, 0, 3, 3), (2, 2, 5, 5)))
    assert touching(scene((0, 0, 2, 2), (6, 6, 7, 7), (0, 2, 2, 4)))
    assert not touching(scene((0, 0, 2, 2), (3, 0, 5, 2))) and not touching(scene((0, 0, 2, 2)))
    assert not touching(scene((0, 0, 2, 2), (0, 3, 2, 5)))


# Boxes


def test_iou_is_a_count_of_pixels() -> None:
    rng = random.Random(0)
    for _ in range(100):
        a, b = (t.box for t in some_things(rng, 2))
        grids = []
        for x, y, right, bottom in (a, b):
            grid = np.zeros((20, 20), bool)
            grid[y:bottom, x:right] = True
            grids.append(grid)
        expected = (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()
        assert iou(a, b) == pytest.approx(expected) == iou(b, a)


def test_generalized_iou_equals_torchvisions() -> None:
    from torchvision.ops import generalized_box_iou

    a, b = some_boxes(7), some_boxes(5, seed=1)
    found = generalized_iou(a[:, None], b[None])
    torch.testing.assert_close(found, generalized_box_iou(a, b))
    assert found.min() < 0 < found.max()


def test_corners_and_centres_are_the_same_box() -> None:
    boxes = torch.tensor([[0.5, 0.4, 0.2, 0.6]])
    torch.testing.assert_close(corners(boxes), torch.tensor([[0.4, 0.1, 0.6, 0.7]]))


# Matchings


@pytest.mark.parametrize("queries, things", [(3, 3), (5, 3), (4, 1), (3, 0)])
def test_the_matching_equals_brute_force(queries: int, things: int) -> None:
    rng = np.random.default_rng(queries)
    for _ in range(30):
        cost = rng.normal(size=(queries, things))
        best = min(itertools.permutations(range(queries), things), key=lambda p: cost[list(p), range(things)].sum())
        assert matched(cost).tolist() == list(best)


def test_greedy_takes_the_cheapest_pair_first_and_no_query_twice() -> None:
    assert matched_greedily(np.array([[1, 2, 9], [2, 6, 9], [9, 8, 3]])).tolist() == [0, 1, 2]
    assert matched(np.array([[1, 2, 9], [2, 6, 9], [9, 8, 3]])).tolist() == [1, 0, 2]
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost = rng.normal(size=(5, 3))
        chosen = matched_greedily(cost)
        assert len(set(chosen)) == 3
        query, thing = np.unravel_index(cost.argmin(), cost.shape)
        assert chosen[thing] == query


# Scores


def slow_average_precision(found, truth, threshold) -> float:
    """By the definition: for each of 101 recalls all cuts of the list are tried."""
    areas = []
    for digit in {t.digit for there in truth for t in there}:
        pool = sorted(((one.score, i, one) for i, mine in enumerate(found) for one in mine if one.digit == digit),
                      key=lambda entry: -entry[0])  # fmt: skip
        total = sum(t.digit == digit for there in truth for t in there)
        taken, right = set(), []
        for _, i, one in pool:
            free = [(j, t) for j, t in enumerate(truth[i]) if t.digit == digit and (i, j) not in taken]
            pairs = [(iou(one.box, t.box), -j) for j, t in free]
            best, j = max(pairs, default=(0.0, 0))
            if best >= threshold:
                taken.add((i, -j))
            right.append(best >= threshold)
        points = []
        for percent in range(101):
            cuts = [sum(right[:k]) / k for k in range(1, len(right) + 1) if 100 * sum(right[:k]) >= percent * total]
            points.append(max(cuts, default=0.0))
        areas.append(sum(points) / 101)
    return sum(areas) / len(areas)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_average_precision_equals_its_definition(threshold: float) -> None:
    rng = random.Random(3)
    for _ in range(20):
        truth = [some_things(rng, rng.randint(0, 4)) for _ in range(5)]
        found = [[t._replace(box=tuple(e + rng.randint(-1, 1) for e in t.box), score=rng.random())
                  for t in there if rng.random() < 0.8] + some_things(rng, 2) for there in truth]  # fmt: skip
        expected = slow_average_precision(found, truth, threshold)
        assert average_precision(found, truth, threshold) == pytest.approx(expected)


def test_a_perfect_answer_scores_one_and_none_scores_nothing() -> None:
    truth = [some_things(random.Random(i), 3) for i in range(4)]
    assert average_precision(truth, truth) == 1 == exactly(truth, truth, 0.0)
    nothing = [[] for _ in truth]
    assert average_precision(nothing, truth) == 0 == exactly(nothing, truth, 0.0)
    with pytest.raises(ValueError, match="nothing"):
        average_precision(nothing, nothing)
    with pytest.raises(ValueError, match="once"):
        area([True, True], 1)


def test_a_thing_found_twice_is_right_once_whichever_order_they_come_in() -> None:
    there = [Thing(4, (0, 0, 8, 8)), Thing(5, (0, 0, 8, 8))]
    twice = [Thing(4, (0, 1, 8, 8), 0.5), Thing(4, (0, 0, 8, 8), 0.9)]
    assert hits(twice, there) == [True, False] == hits(twice[::-1], there)
    assert hits([Thing(3, (0, 0, 8, 8))], there) == [False]
    assert exactly([[*there, twice[0]]], [there], 0.0) == 0 and exactly([[*there, twice[0]]], [there], 0.6) == 1


def test_the_share_found_counts_things_not_answers() -> None:
    there = [[Thing(4, (0, 0, 8, 8)), Thing(5, (9, 0, 17, 8))], [Thing(4, (0, 0, 8, 8))]]
    found = [[Thing(4, (0, 1, 8, 8), 0.9), Thing(4, (0, 0, 8, 8), 0.9), Thing(5, (9, 0, 17, 8), 0.3)],
             [Thing(7, (0, 0, 8, 8), 0.9), Thing(4, (5, 5, 13, 13), 0.9)]]  # fmt: skip
    assert share_found(found, there, 0.0) == pytest.approx(2 / 3) == share_found(found, there, 0.3)
    assert share_found(found, there, 0.5) == pytest.approx(1 / 3) and share_found(found, there, 0.91) == 0
    assert share_found(there, there, 1.0) == 1


def test_halves_are_scored_apart() -> None:
    scenes = draw_scenes(DIGITS.test, 60)
    found = [list(s.things) if touching(s) else [] for s in scenes]
    result = scores_of(found, scenes)
    assert result["touching"] == 1 and result["apart"] == 0
    assert 0 < result["ap50"] < 1 and result["ap"] == pytest.approx(result["ap50"])


# The baseline


def test_connected_ink_finds_digits_that_lie_apart() -> None:
    pool = stamps(DIGITS.train[:50], (11,))
    paper = np.zeros((32, 40), np.float32)
    for i, at in enumerate((2, 22)):
        shape = pool[i].ink.shape
        paper[5 : 5 + shape[0], at : at + shape[1]] = pool[i].ink
    pixels = np.repeat(np.uint8(255 - 255 * paper)[..., None], 3, axis=2)
    [found] = by_components([pixels], DIGITS.train[:50])
    assert [t.digit for t in sorted(found, key=lambda t: t.box[0])] == [pool[0].digit, pool[1].digit]
    assert by_components([np.full((9, 9, 3), 255, np.uint8)], DIGITS.train[:50]) == [[]]


# The same set as a sequence


def test_a_set_survives_being_written_and_any_order_is_the_same_set() -> None:
    rng = random.Random(0)
    for scene in draw_scenes(DIGITS.test, 20):
        for order in ("reading", "random"):
            things = in_order(scene.things, order, rng)
            tokens = TOKENS.decode(TOKENS.encode(as_tokens(things)))
            assert as_things(tokens) == things and sorted(things) == sorted(scene.things)
        tops = [t.box[1::-1] for t in in_order(scene.things, "reading")]
        assert tops == sorted(tops)
    with pytest.raises(ValueError):
        in_order([], "backwards")


def test_what_is_no_box_is_left_out() -> None:
    good = ["3", "4", "12", "11", "digit 7"]
    assert as_things(good, [0.1, 0.2, 0.3, 0.4, 0.5]) == [Thing(7, (4, 3, 11, 12), 0.5)]
    for bad in (["3", "4", "3", "11", "digit 7"], ["3", "4", "12", "4", "digit 7"], ["3", "4", "12", "11", "9"],
                ["3", "digit 1", "12", "11", "digit 7"], good[:4]):  # fmt: skip
        assert as_things(bad) == []
        assert as_things(good + bad) == as_things(good)


def test_random_order_is_every_order() -> None:
    rng, things = random.Random(0), some_things(random.Random(1), 3)
    orders = {tuple(in_order(things, "random", rng)) for _ in range(200)}
    assert len(orders) == 6


# Batches and the loss


def a_batch() -> SceneBatch:
    return as_batch(draw_scenes(DIGITS.test, 5), "reading")


def test_a_batch_holds_the_same_set_twice() -> None:
    scenes = draw_scenes(DIGITS.test, 7, seed=4)
    batch = as_batch(scenes, "random", random.Random(0))
    for row, scene in enumerate(scenes):
        assert torch.equal(batch.src[row], ink(scene.pixels))
        many = len(scene.things)
        assert (batch.digits[row, many:] == -1).all()
        boxes = 32 * corners(batch.boxes[row, :many])
        there = [Thing(int(d), tuple(map(round, b))) for d, b in zip(batch.digits[row], boxes.tolist(), strict=False)]
        assert there == scene.things
        assert sorted(as_things(TOKENS.decode(batch.tgt[row, 1:].tolist()))) == sorted(scene.things)
    assert (batch.tgt[:, 0] == Vocab.bos).all() and len(batch) == 7


def test_boxes_are_shares_of_their_own_picture() -> None:
    wide = Scene(np.full((20, 40, 3), 255, np.uint8), [Thing(3, (10, 5, 20, 15))])
    batch = as_batch([wide, *draw_scenes(DIGITS.test, 1)])
    assert batch.boxes[0, 0].tolist() == pytest.approx([15 / 40, 10 / 20, 10 / 40, 10 / 20])
    assert batch.src.shape == (2, 3, 32, 40) and batch.src_padding[0, 20:].all()


def test_an_edge_beyond_the_tokens_is_refused_by_name() -> None:
    wide = Scene(np.full((20, 40, 3), 255, np.uint8), [Thing(3, (30, 5, 39, 15))])
    with pytest.raises(KeyError, match="39"):
        as_batch([wide], "reading")


def test_on_empty_paper_no_two_states_are_alike_and_each_is_normed() -> None:
    encoder = SceneEncoder(16).eval()
    states = encoder(*sheet([torch.zeros(3, 44, 44)])).states[0].unflatten(0, (11, 11))[2:9, 2:9].flatten(0, 1)
    assert len({tuple(row) for row in states.tolist()}) == 49
    torch.testing.assert_close(states.mean(dim=-1), torch.zeros(49), atol=1e-5, rtol=0)


def far_changes(alone: bool) -> torch.Tensor:
    """By how much each place of a sheet of 44 x 44 pixels changes with ink in its top left corner: (11, 11)."""
    seed_everything(0)
    encoder = GlobalEncoder(16, 4, 2, alone=alone).eval()
    empty, marked = torch.zeros(3, 44, 44), torch.zeros(3, 44, 44)
    marked[:, :5, :5] = 1.0
    states = encoder(*sheet([empty, marked])).states
    return (states[1] - states[0]).abs().amax(dim=-1).view(11, 11)


def test_places_look_around_or_see_themselves_with_the_same_parameters() -> None:
    around, alone = far_changes(False), far_changes(True)
    assert around.min() > 1e-4, "every place has seen the corner"
    assert alone[:3, :3].max() > 1e-2 and alone[6:].max() < 1e-5 > alone[:, 6:].max()
    shapes = [{k: v.shape for k, v in GlobalEncoder(16, alone=a).state_dict().items()} for a in (False, True)]
    assert shapes[0] == shapes[1] and len(shapes[0]) > len(SceneEncoder(16).state_dict())
    with pytest.raises(ValueError, match="layers"):
        GlobalEncoder(16, layers=0)


@pytest.mark.parametrize("alone", [False, True])
def test_places_that_look_around_do_not_see_padding(alone: bool) -> None:
    seed_everything(0)
    encoder = GlobalEncoder(16, alone=alone).eval()
    small, large = (ink(np.random.default_rng(e).integers(0, 256, (e, e + 4, 3), np.uint8)) for e in (20, 36))
    together, single = encoder(*sheet([small, large])), encoder(*sheet([small]))
    there = ~together.padding[0]
    torch.testing.assert_close(together.states[0][there], single.states[0], atol=1e-5, rtol=1e-5)
    assert not together.states[0][~there].any() and there.sum() == 5 * 6
    torch.testing.assert_close(together.summary[0], single.summary[0], atol=1e-5, rtol=1e-5)
    norms = single.states[0].mean(dim=-1)
    torch.testing.assert_close(norms, torch.zeros_like(norms), atol=1e-5, rtol=0)


def test_batches_are_checked_and_are_the_same_scenes_in_every_order() -> None:
    reading, mixed = (next(scene_batches(DIGITS.train[:9], 4, seed=2, order=o)) for o in ("reading", "random"))
    assert torch.equal(reading.src, mixed.src) and not torch.equal(reading.tgt, mixed.tgt)
    unordered = next(scene_batches(DIGITS.train[:9], 4, seed=2))
    assert torch.equal(unordered.boxes, mixed.boxes) and unordered.tgt.tolist() == [[Vocab.bos, Vocab.eos]] * 4
    batch = a_batch()
    with pytest.raises(ValueError, match="do not go with"):
        SceneBatch(batch.src, batch.tgt, batch.src_padding, batch.digits[:3], batch.boxes)
    with pytest.raises(ValueError, match="do not go with"):
        SceneBatch(batch.src, batch.tgt, batch.src_padding, batch.digits, batch.boxes[..., :2])
    for wrong in ({"digits": [], "batch_size": 2}, {"digits": DIGITS.train, "batch_size": 0}):
        with pytest.raises(ValueError, match="batch_size"):
            next(scene_batches(**wrong))


def answers_of(batch: SceneBatch, queries: int = 7, wrong: float = 0.0) -> Answers:
    """The right answers, thing j by query Q - 1 - j, and no object by the others."""
    B, N = batch.digits.shape
    logits = torch.full((B, queries, 11), -20.0)
    logits[..., 10] = 20.0
    boxes = torch.full((B, queries, 4), 0.3)
    for row, j in itertools.product(range(B), range(N)):
        if batch.digits[row, j] >= 0:
            logits[row, -1 - j] = -20.0
            logits[row, -1 - j, batch.digits[row, j]] = 20.0
            boxes[row, -1 - j] = batch.boxes[row, j] + wrong
    return Answers(logits, boxes)


def test_the_right_answers_in_any_order_cost_nothing() -> None:
    batch = a_batch()
    for matching in ("hungarian", "greedy"):
        loss = SetLoss(matching=matching)
        logits, boxes = answers_of(batch)
        assert loss.of(Answers(logits, boxes), batch).item() == pytest.approx(0, abs=1e-5)
        order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
        assert loss.of(Answers(logits[:, order], boxes[:, order]), batch).item() == pytest.approx(0, abs=1e-5)
        assert loss.of(answers_of(batch, wrong=0.05), batch) > 0.5


def test_the_loss_does_not_ask_who_answered_nor_in_what_order_things_are_listed() -> None:
    batch, loss = a_batch(), SetLoss()
    generator = torch.Generator().manual_seed(0)
    logits, boxes = torch.randn(5, 7, 11, generator=generator), torch.rand(5, 7, 4, generator=generator)
    value = loss.of(Answers(logits, boxes), batch)
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(loss.of(Answers(logits[:, order], boxes[:, order]), batch), value)
    turned = SceneBatch(batch.src, batch.tgt, batch.src_padding, batch.digits.flip(1), batch.boxes.flip(1))
    full = (batch.digits >= 0).all(dim=1)
    assert full.any()
    rows = [t[full] for t in (batch.src, batch.tgt, batch.src_padding, batch.digits, batch.boxes)]
    back = [t[full] for t in (turned.src, turned.tgt, turned.src_padding, turned.digits, turned.boxes)]
    some = Answers(logits[full], boxes[full])
    torch.testing.assert_close(loss.of(some, SceneBatch(*rows)), loss.of(some, SceneBatch(*back)))


def test_the_pairs_cost_least_of_all_orders() -> None:
    from torchvision.ops import generalized_box_iou

    generator, batch = torch.Generator().manual_seed(0), as_batch(draw_scenes(DIGITS.test, 8, seed=5))
    for label in (0.5, 4.0):
        logits = 2 * torch.randn(8, 6, 11, generator=generator)
        boxes = 0.1 + 0.3 * torch.rand(8, 6, 4, generator=generator)
        found = SetLoss(label=label).pairs(logits, boxes, batch)
        for row in range(8):
            many = int((batch.digits[row] >= 0).sum())
            there, p = batch.boxes[row, :many], logits[row].softmax(dim=-1)
            cost = 5 * torch.cdist(boxes[row], there, p=1) - label * p[:, batch.digits[row, :many]]
            cost = cost - 2 * generalized_box_iou(corners(boxes[row]), corners(there))
            best = min(itertools.permutations(range(6), many), key=lambda q: cost[list(q), range(many)].sum())
            mine = found[:, found[0] == row]
            assert mine[1][mine[2].argsort()].tolist() == list(best)


def test_the_loss_by_hand_for_one_thing_and_two_queries() -> None:
    scene = Scene(np.full((20, 20, 3), 255, np.uint8), [Thing(6, (4, 4, 12, 14))])
    batch = as_batch([scene], "reading")
    logits = torch.zeros(1, 2, 11)
    boxes = torch.tensor([[[0.9, 0.9, 0.1, 0.1], [0.4, 0.5, 0.4, 0.5]]])     # the second is off by .05 in y
    shifted, there = corners(boxes[0, 1]), corners(batch.boxes[0, 0])
    expected = 5 * 0.05 + 2 * (1 - generalized_iou(shifted, there)) + 3.0 * np.log(11)
    found = SetLoss(no_object=0.2, label=3.0).of(Answers(logits, boxes), batch)
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32))


def test_the_weight_of_no_object_is_that_of_the_unmatched() -> None:
    batch = a_batch()
    logits, boxes = answers_of(batch)
    logits[:, 0] = 0.0
    logits[:, 0, 3] = 5.0             # the first query of each picture, unmatched, sees a digit
    losses = [SetLoss(no_object=w, label=1.0).of(Answers(logits, boxes), batch).item() for w in (0.01, 0.1, 1.0)]
    assert losses[0] < losses[1] < losses[2]


def test_the_sequences_loss_is_the_weighted_mean_of_its_tokens() -> None:
    batch = a_batch()

    class Fixed(nn.Module):
        def forward(self, batch):
            generator = torch.Generator().manual_seed(0)
            return torch.randn(*batch.tgt[:, 1:].shape, len(TOKENS), generator=generator)

    logp = Fixed()(batch).log_softmax(dim=-1)
    total, weight = 0.0, 0.0
    for row, targets in enumerate(batch.tgt[:, 1:].tolist()):
        for t, token in enumerate(targets):
            if token != Vocab.pad:
                w = 4.0 if TOKENS.symbols[token].startswith("digit") else 1.0
                total, weight = total - w * logp[row, t, token].item(), weight + w
    assert SequenceLoss(4.0)(Fixed(), batch).item() == pytest.approx(total / weight, rel=1e-4)


# Models


def test_queries_answer_whoever_stands_beside_them_in_the_batch() -> None:
    seed_everything(0)
    model = set_detector().eval()
    pictures = [s.pixels for s in draw_scenes(DIGITS.test, 3)] + [np.full((21, 45, 3), 200, np.uint8)]
    together = find_at_once(model, pictures)
    for picture, found in zip(pictures, together, strict=True):
        [alone] = find_at_once(model, [picture])
        for a, b in zip(alone, found, strict=True):
            assert a.digit == b.digit and a.score == pytest.approx(b.score, abs=1e-4)
            assert a.box == pytest.approx(b.box, abs=1e-2)


def test_answers_move_with_their_queries() -> None:
    seed_everything(0)
    decoder = SetDecoder(classes=4, width=12, heads=3, layers=2, queries=5).eval()
    memory = Memory(torch.randn(3, 7, 12), torch.zeros(3, 7, dtype=torch.bool))
    before = decoder(memory)
    assert len(before) == 2 and before[0].logits.shape == (3, 5, 5) and before[0].boxes.shape == (3, 5, 4)
    order = torch.tensor([3, 0, 4, 2, 1])
    decoder.queries.data = decoder.queries.data[order]
    torch.testing.assert_close(decoder(memory)[-1].boxes, before[-1].boxes[:, order])
    assert all(((a.boxes > 0) & (a.boxes < 1)).all() for a in before)
    with pytest.raises(ValueError):
        SetDecoder(queries=0)


def test_what_is_padding_in_the_memory_is_not_seen() -> None:
    seed_everything(0)
    decoder = SetDecoder(classes=4, width=12, heads=3, queries=5).eval()
    states, padding = torch.randn(2, 7, 12), torch.zeros(2, 7, dtype=torch.bool)
    padding[:, 5:] = True
    dirty = states.clone()
    dirty[:, 5:] = 9.0
    for a, b in zip(decoder(Memory(states, padding)), decoder(Memory(dirty, padding)), strict=True):
        torch.testing.assert_close(a.boxes, b.boxes)
    torch.testing.assert_close(decoder(Memory(states[:, :5], padding[:, :5]))[-1].boxes, a.boxes)


@pytest.mark.parametrize("name", DETECTORS)
def test_gradients_reach_everything_and_are_finite(name: str) -> None:
    seed_everything(0)
    options, sequence = dict(DETECTORS[name]), "sequence" in name
    encoder = options.pop("encoder", None)
    model = sequence_detector(16) if sequence else set_detector(16)
    if encoder is not None:
        model.encoder = GlobalEncoder(16, **encoder)
    loss = SequenceLoss() if sequence else SetLoss(**options)
    loss(model, a_batch()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_set_of_three_scenes_is_learned_by_heart() -> None:
    seed_everything(0)
    model = Detector(SceneEncoder(24), SetDecoder(10, 24, 4, 1, queries=6))
    scenes = draw_scenes(DIGITS.train, 3, seed=1)
    batch = as_batch(scenes, "reading")
    history = train(model, itertools.repeat(batch), 150, loss=SetLoss(), lr=5e-3, warmup=10)
    assert history.losses[-1] < history.losses[0] / 4
    found = find_at_once(model, [s.pixels for s in scenes])
    assert average_precision(found, [s.things for s in scenes]) > 0.8


def test_scores_of_a_sequence_are_its_digits_probabilities_and_the_mode_is_left_alone() -> None:
    seed_everything(0)
    model = sequence_detector(16)
    pictures = [s.pixels for s in draw_scenes(DIGITS.train, 3)]
    scenes = draw_scenes(DIGITS.train, 3)
    batch = as_batch(scenes, "reading")
    train(model, itertools.repeat(batch), 120, loss=SequenceLoss(), lr=5e-3, warmup=10)
    found = find_in_sequence(model, pictures)
    again = find_in_sequence(model, pictures, batch_size=2)
    for a, b in zip(itertools.chain(*found), itertools.chain(*again), strict=True):
        assert a[:2] == b[:2] and a.score == pytest.approx(b.score, abs=1e-4)
    assert model.training
    assert any(found) and all(0 < thing.score <= 1 for mine in found for thing in mine)


def test_a_study_of_each_system_begins_and_asks_for_scenes_of_test_digits() -> None:
    for name in DETECTORS:
        losses = detection_study(system=name, batch_size=3, until=1)["losses"]
        assert len(losses) == 1 and np.isfinite(losses).all()
    with pytest.raises(ValueError):
        detection_study(system="yolo")
    assert detection.DETECTED.seeds == (0, 1, 2)
    src, padding = sheet([ink(s.pixels) for s in draw_scenes(DIGITS.test, 2)])
    assert src.shape == (2, 3, 32, 32) and not padding.any()
