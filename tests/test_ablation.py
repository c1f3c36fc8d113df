"""What must hold of the switches, the wirings, the loss and the studies. Coprime sizes, so no axis can be swapped."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq import ablation as chapter
from seq2seq.ablation import (
    ARCHITECTURES,
    DEPTHS,
    EXCHANGES,
    LEFT_OUT,
    LONG_SIZES,
    PARTS,
    RATES,
    SEEDS,
    TRANSFORMER_LONG,
    TRANSFORMER_LONG_BEAM,
    WIRED,
    WIRINGS,
    LayeredEncoder,
    Unconnected,
    Unplaced,
    WiredDecoder,
    ablated,
    architecture,
    architecture_study,
    deep_model,
    depth_study,
    gradient_norms,
    inverse_root,
    long_reader,
    long_transformer,
    long_transformer_beam,
    long_transformer_study,
    nats,
    short_words,
    smoothed,
    word_scores,
)
from seq2seq.cached_decoding import FusedAttention
from seq2seq.decoding import beam_search, each, reorder
from seq2seq.encoder_decoder import Decoder, EncoderDecoder, greedy_search
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.records import digits
from seq2seq.kit.training import History, train_step
from seq2seq.sequence_labelling import nearest
from seq2seq.sequences import Batch, Vocab, collate
from seq2seq.teacher_forcing import cross_entropy
from seq2seq.transformer import (
    MultiHeadAttention,
    PositionalEncoding,
    Residual,
    TransformerDecoder,
    TransformerEncoder,
    TransformerEncoderLayer,
    transformer_model,
)

LETTERS, PHONES = Vocab("abcdefg"), Vocab("ABCDEFGHIJKLM")
D, H = 30, 5
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def some_batch() -> Batch:
    lengths = [(7, 3), (0, 5), (4, 1), (2, 6), (5, 2)]
    draw = lambda n, size: torch.randint(4, size, (n,)).tolist()  # noqa: E731
    return collate([(draw(s, len(LETTERS)), draw(t, len(PHONES))) for s, t in lengths])


def small(part: str | None = None, seed: int = 0, **options) -> EncoderDecoder:
    torch.manual_seed(seed)
    return ablated(transformer_model(LETTERS, PHONES, D, H, 2, **options), part).eval()


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# Taking parts out

@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("part", EXCHANGES)
def test_a_switch_changes_one_thing_and_no_weight(part, norm):
    whole, less = small(norm=norm), small(part, norm=norm)
    norms = 2 * D * (2 * 2 + 2 * 3 + 2 * (norm == "pre"))
    assert size(whole) - size(less) == (norms if part == "norm" else 0)
    ours = [p for name, p in less.named_parameters()]
    theirs = [p for name, p in whole.named_parameters() if part != "norm" or "norm" not in name]
    assert len(ours) == len(theirs) and all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    count = lambda model, kind: sum(isinstance(m, kind) for m in model.modules())  # noqa: E731
    kinds = {"residuals": Unconnected, "positions": Unplaced, "norm": nn.Identity}
    for name, kind in kinds.items():
        expected = {"residuals": 10, "positions": 2, "norm": 10 + 2 * (norm == "pre")}[name] if name == part else 0
        assert count(less, kind) - count(whole, kind) == expected
    scaled = {m.scaled for m in less.modules() if isinstance(m, FusedAttention)}
    assert scaled == {part != "scale"} and count(less, FusedAttention) == 6
    batch = some_batch()
    assert not torch.allclose(whole(batch), less(batch), atol=1e-3)


def test_nothing_taken_out_is_the_same_model():
    batch = some_batch()
    torch.manual_seed(0)
    plain = transformer_model(LETTERS, PHONES, D, H, 2).eval()
    close(small()(batch), plain(batch))
    with pytest.raises(ValueError, match="'heads' is none of 'residuals', 'norm'"):
        small("heads")


def test_without_residuals_a_part_replaces_its_input():
    x, pre = torch.randn(2, 3, D), Residual(D)
    post = Residual(D, norm="post")
    for around in (pre, post):
        around.norm.weight.data.normal_()
        around.norm.bias.data.normal_()
    f = nn.Linear(D, D)
    for around, expected in ((pre, f(pre.norm(x))), (post, post.norm(f(x)))):
        bare = Unconnected(around)
        close(bare.after(x, f(bare.before(x))), expected)


def test_without_positions_the_encoder_reads_a_bag():
    batch, order = collate([([4, 7, 5, 6], [5, 6])]), torch.tensor([2, 0, 3, 1, 4])
    shuffled = Batch(batch.src[:, order], batch.tgt, batch.src_padding)
    for part in (None, "positions"):
        model = small(part)
        assert torch.allclose(model(batch), model(shuffled), atol=1e-5) == (part == "positions")
    assert not any(isinstance(m, PositionalEncoding) for m in small("positions").modules())
    x = torch.randn(2, 3, D)
    assert torch.equal(Unplaced()(x, start=2), x)


def test_without_the_scale_scores_are_larger_by_the_root():
    batch, less, whole = some_batch(), small("scale"), small()
    for part in whole.modules():
        if isinstance(part, MultiHeadAttention):
            for p in part.W_q.parameters():
                p.data *= (D / H) ** 0.5
    close(less(batch), whole(batch))


def test_without_norm_nothing_is_normed():
    model = small("norm")
    assert not any(isinstance(m, nn.LayerNorm) for m in model.modules())
    layer, x = model.encoder.layers[0], torch.randn(2, 3, D)
    y = x + layer.attention(x, x, x)[0]
    close(layer(x), y + layer.feed_forward(y))


# The loss, the schedule, the gradients

@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs(smoothing):
    model, batch = small(), some_batch()
    ours = smoothed(smoothing)(model, batch)
    gold = batch.tgt[:, 1:].flatten()
    theirs = F.cross_entropy(model(batch).flatten(0, 1), gold, ignore_index=0, label_smoothing=smoothing)
    close(ours, theirs)
    for found, expected in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in (ours, theirs)),
                               strict=True):
        close(found, expected, atol=1e-5, rtol=1e-4)
    if smoothing == 0.0:
        close(ours, cross_entropy(model, batch))


def test_label_smoothing_is_known_by_its_share_and_wants_one():
    assert smoothed(0.1).__qualname__ != smoothed(0.2).__qualname__
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="from 0 up to below 1"):
            smoothed(wrong)
    model = small().to("meta")
    loss = train_step(model, some_batch().to("meta"), torch.optim.Adam(model.parameters()), smoothed(0.1))
    assert loss.device.type == "meta"


def test_the_rate_rises_in_a_line_and_falls_with_the_root():
    rate = [inverse_root(n, 512, 40) for n in range(1, 401)]
    assert max(rate) == rate[39] == pytest.approx((512 * 40) ** -0.5)
    assert rate[9] == pytest.approx(10 * rate[0]) and rate[19] == pytest.approx(20 * rate[0])
    assert rate[159] == pytest.approx(rate[39] / 2) and rate[359] == pytest.approx(rate[39] / 3)
    assert inverse_root(7, 128, 40) == pytest.approx(2 * inverse_root(7, 512, 40))


def test_gradient_norms_are_those_of_the_layers():
    model, batch = small(), some_batch()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = gradient_norms(model, batch)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    cross_entropy(model, batch).backward()
    for half, norms in found.items():
        layers = getattr(model, half).layers
        expected = [sum(p.grad.square().sum() for p in layer.parameters()).sqrt().item() for layer in layers]
        assert norms == pytest.approx(expected, rel=1e-4)
    assert set(found) == {"encoder", "decoder"}
    assert gradient_norms(model, batch)["decoder"] == pytest.approx(found["decoder"])       # and does not add up


# Wirings

def wired(wiring: str, layers: int = 3, decoder_layers: int = 3, norm: str = "pre") -> EncoderDecoder:
    encoder = LayeredEncoder(len(LETTERS), D, H, layers, norm=norm)
    decoder = WiredDecoder(len(PHONES), D, H, decoder_layers, encoder_layers=layers, wiring=wiring, norm=norm)
    model = EncoderDecoder(encoder, decoder).eval()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_layered_encoder_keeps_what_every_layer_left(norm):
    ours, batch = wired("last", norm=norm).encoder, some_batch()
    plain = TransformerEncoder(len(LETTERS), D, H, 3, norm=norm)
    plain.load_state_dict(ours.state_dict())
    plain.eval()
    memory = ours(batch.src, batch.src_padding)
    close(memory.states, plain(batch.src, batch.src_padding).states)
    assert len(memory.layers) == 3 and memory.layers[-1] is memory.states
    x, mask = plain.embed(batch.src), batch.src_padding[:, None, None]
    for layer, kept in zip(plain.layers, memory.layers, strict=True):
        x = layer(x, mask)
        close(kept[~batch.src_padding], plain.norm(x)[~batch.src_padding])
        assert (kept[batch.src_padding] == 0).all()


def test_the_last_layer_for_all_is_the_plain_transformer():
    ours, batch = wired("last"), some_batch()
    plain = EncoderDecoder(TransformerEncoder(len(LETTERS), D, H, 3), TransformerDecoder(len(PHONES), D, H, 3)).eval()
    plain.load_state_dict(ours.state_dict())
    close(ours(batch), plain(batch))


@pytest.mark.parametrize("layers, decoder_layers, read", [(3, 3, [0, 1, 2]), (6, 2, [2, 5]), (2, 6, [0, 0, 0, 1, 1, 1]),
                                                          (5, 3, [1, 3, 4]), (3, 1, [2]), (1, 2, [0, 0])])
def test_layers_of_the_same_depth(layers, decoder_layers, read):
    batch = some_batch()
    model = wired("same depth", layers, decoder_layers)
    memory = model.encoder(batch.src, batch.src_padding)
    found = model.decoder.sources(memory)
    assert [next(i for i, h in enumerate(memory.layers) if h is x) for x in found] == read
    assert read[-1] == layers - 1                                          # the upper decoder layer reads the last
    model.decoder.wiring = "both"
    for x, i in zip(model.decoder.sources(memory), read, strict=True):
        close(x, (memory.layers[i] + memory.layers[-1]) / 2)


def test_a_mixture_is_one_of_the_decoder_layers_own():
    model, batch = wired("mixture", 5, 2), some_batch()
    memory = model.encoder(batch.src, batch.src_padding)
    model.decoder.mixture.data.zero_()
    for x in model.decoder.sources(memory):
        close(x, sum(memory.layers) / 5)
    model.decoder.mixture.data = torch.tensor([[0.0, 99.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 99.0, 0.0]])
    first, second = model.decoder.sources(memory)
    close(first, memory.layers[1])
    close(second, memory.layers[3])
    fresh = WiredDecoder(len(PHONES), D, H, 2, encoder_layers=5, wiring="mixture")
    assert (fresh.mixture == 0).all() and size(fresh) - size(TransformerDecoder(len(PHONES), D, H, 2)) == 10


@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_wiring_steps_as_it_scores_and_feels_no_padding(wiring):
    model, batch = wired(wiring), some_batch()
    memory, tgt_in = model.encoder(batch.src, batch.src_padding), batch.tgt[:, :-1]
    logits = model.decoder(tgt_in, memory)
    close(logits, Decoder.forward(model.decoder, tgt_in, memory), atol=1e-4, rtol=1e-4)
    for row, padding in enumerate(batch.src_padding):
        length = int((~padding).sum())
        alone = model.encoder(batch.src[row : row + 1, :length], padding[None, :length])
        close(model.decoder(tgt_in[row : row + 1], alone)[0], logits[row], atol=1e-4, rtol=1e-4)
    state, index = model.decoder.init_state(memory), torch.tensor([3, 0, 3])
    state = model.decoder.step(tgt_in[:, 0], state).state
    picked = model.decoder.step(tgt_in[index, 1], reorder(state, index))
    close(picked.logits, model.decoder.step(tgt_in[:, 1], state).logits[index], atol=1e-4, rtol=1e-4)
    assert greedy_search(model, batch.src, batch.src_padding, max_len=4).tokens.shape[0] == len(batch.src)
    meta = wired(wiring).to("meta")
    train_step(meta, batch.to("meta"), torch.optim.Adam(meta.parameters()))
    with pytest.raises(ValueError, match="'nearest' is none of 'last', 'same depth'"):
        wired("nearest")


def test_every_argument_of_deep_model_arrives():
    model = deep_model(LETTERS, PHONES, D, H, 5, decoder_layers=2, norm="post", part="positions", wiring="mixture")
    assert len(model.encoder.layers) == 5 and len(model.decoder.layers) == 2
    assert model.decoder.mixture.shape == (2, 5) and not model.encoder.layers[0].around[0].pre
    assert isinstance(model.encoder.embed.position, Unplaced) and model.encoder.layers[0].attention.heads == H
    default = deep_model(LETTERS, PHONES)
    assert default.encoder.layers[0].attention.heads == 4 and default.decoder.output.in_features == 64
    assert type(default.decoder) is TransformerDecoder
    assert len(default.decoder.layers) == len(default.encoder.layers) == 6
    assert all(isinstance(m.attend, FusedAttention) for m in default.modules() if isinstance(m, MultiHeadAttention))
    one = deep_model(LETTERS, PHONES, layers=12, decoder_layers=1)
    assert size(one) < size(default) and len(one.decoder.layers) == 1


@pytest.mark.parametrize("width, heads", [(30, 5), (64, 4)])
def test_a_layers_parameters_by_hand(width, heads):
    assert size(TransformerEncoderLayer(width, heads)) == 12 * width**2 + 13 * width
    whole = transformer_model(LETTERS, PHONES, width, heads, 3, decoder_layers=2)
    rest = (len(LETTERS) + len(PHONES)) * width + len(PHONES) + 4 * width       # embeddings, output bias, last norms
    assert size(whole) == 3 * (12 * width**2 + 13 * width) + 2 * (16 * width**2 + 19 * width) + rest


# Scores and studies

def test_nats_weigh_every_token_alike_and_scores_are_word_by_word():
    model = small(dropout=0.5).train()
    pairs = [([4, 5], [6]), ([7, 8, 9, 10], [5, 6, 7, 8, 9]), ([5], [])]
    batch = collate(pairs)
    model.eval()
    expected = cross_entropy(model, batch).item()
    model.train()
    assert nats(model, pairs) == pytest.approx(expected, rel=1e-5) and model.training
    many = pairs * 100                                                     # more than one batch
    assert nats(model, many) == pytest.approx(expected, rel=1e-5)
    examples = [Example(("a",), (("A", "B"), ("C",))), Example(("b",), (("A", "B", "C", "D"),))]
    found = word_scores([["C"], ["A", "X", "D"]], examples)
    assert found == {"per": 2 / 5, "wer": 0.5, "edits": "02", "lengths": "14"}


def test_short_words_are_short():
    few = short_words(4)
    assert {len(e.source) for split in few for e in split} <= set(range(5)) and len(few.train) > 1000
    assert max(len(e.source) for e in short_words().train) == 6


@pytest.fixture
def few_words(monkeypatch):
    every = corpora.pronunciations()
    splits = Splits(every.train[:2000], every.validation[:40], every.test[:40])
    monkeypatch.setattr(chapter.corpora, "pronunciations", lambda: splits)
    return splits


def test_the_depth_study_scores_both_splits_and_passes_on_what_it_is_given(few_words, monkeypatch):
    found = depth_study(steps=2, seed=1, layers=1, width=8, heads=2)
    short = [e for e in few_words.test if len(e.source) <= 6]
    assert len(found["losses"]) == 2 and len(found["test"]["edits"]) == len(short)
    assert found["validation"] > 0 and found["nats"] > 0 and not {"per", "wer"} & found.keys()
    assert depth_study(steps=2, seed=1, layers=1, width=8, heads=2, until=1) == {"losses": found["losses"][:1]}
    assert depth_study(steps=2, seed=2, layers=1, width=8, heads=2, until=1)["losses"] != found["losses"][:1]
    smooth = depth_study(steps=2, seed=1, smoothing=0.3, layers=1, width=8, heads=2, until=1)["losses"]
    assert smooth != found["losses"][:1]
    how = []

    def noted(model, stream, steps, **options):
        how.append((steps, options))
        raise EOFError

    monkeypatch.setattr(chapter, "train", noted)
    for setting in ({}, {"lr": 1e-3, "warmup": 0}):
        with pytest.raises(EOFError):
            depth_study(**setting)
    assert how == [(400, {"loss": None, "lr": 3e-3, "warmup": 100, "until": None}),
                   (400, {"loss": None, "lr": 1e-3, "warmup": 0, "until": None})]


def test_architectures_are_of_one_size_and_trained_as_on_record():
    letters, phones = Vocab(map(str, range(29))), Vocab(map(str, range(39)))
    sizes = {name: size(architecture(name, letters, phones)) for name in ("one vector", "attention", "transformer")}
    assert max(sizes.values()) < 1.01 * min(sizes.values())
    with pytest.raises(ValueError, match="'rnn' is none of"):
        architecture("rnn", letters, phones)
    assert [s["name"] for s in ARCHITECTURES.settings[:3]] == list(sizes)


def test_the_architecture_study_looks_ten_times_and_disturbs_nothing(few_words, monkeypatch):
    monkeypatch.setattr(chapter, "architecture", lambda name, *vocabs: deep_model(*vocabs, 8, 2, 1))
    found = architecture_study(name="transformer", steps=20, seed=1)
    assert [look["step"] for look in found["looks"]] == list(range(2, 21, 2))
    seconds = [look["seconds"] for look in found["looks"]]
    assert seconds == sorted(seconds) and seconds[0] > 0 and len(found["edits"]) == 40
    assert found["validation"] == found["looks"][-1]["per"] and found["by_length"]
    alone = architecture_study(name="transformer", steps=20, seed=1, until=20)
    assert alone == {"losses": found["losses"]}                            # looking changes nothing
    validation = architecture_study(name="transformer", steps=2, split="validation")
    assert "per" not in validation and validation["looks"]
    with pytest.raises(ValueError, match="'train' is none of"):
        architecture_study(name="transformer", split="train")


def test_the_studies_ask_each_row_at_both_rates_and_each_wiring_three_times():
    assert len(PARTS.plan()) == len(LEFT_OUT) * len(RATES) and len(DEPTHS.plan()) == 3 * (len(WIRED) - 1)
    assert SEEDS.seeds == DEPTHS.seeds == (0, 1, 2) and {} in SEEDS.settings and {} not in DEPTHS.settings
    changed = [set(row) for row in LEFT_OUT.values()]
    assert changed[0] == set() and sum(len(c) > 1 for c in changed) == 1   # post-norm without warm-up alone changes two
    assert {row["part"] for row in LEFT_OUT.values() if "part" in row} == set(EXCHANGES)
    assert {row.get("wiring", "last") for row in WIRED.values()} == set(WIRINGS)


def test_the_long_study_keeps_what_validation_chooses_and_goes_on_after_a_kill(few_words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trained, scored = [], []
    monkeypatch.setattr(chapter, "long_transformer", lambda *vocabs, layers: deep_model(*vocabs, 8, 2, layers))

    def learn(model, stream, steps, *, loss, lr, warmup, until, checkpoint):
        assert (loss.__qualname__, lr, warmup, steps) == ("smoothed(0.1)", 3e-3, 1000, 20)
        assert len(next(stream)) == 8
        trained.append((until, checkpoint))
        with torch.no_grad():
            model.decoder.output.bias.fill_(float(until))
        return History([1.0 / n for n in range(1, until + 1)])

    def write(model, sources, *vocabs, **options):
        scored.append((len(sources), model.decoder.output.bias[0].item()))
        return [[str(model.decoder.output.bias[0].item())]] * len(sources)

    monkeypatch.setattr(chapter, "train", learn)
    monkeypatch.setattr(chapter, "transduce", write)
    monkeypatch.setattr(chapter, "error_rates", lambda said, gold: (abs(float(said[0][0]) - 14.0), 0.5))
    how = {"steps": 20, "batch_size": 8, "layers": 1}
    found = long_transformer_study(**how)
    assert [until for until, _ in trained] == list(range(2, 21, 2)) and len({path for _, path in trained}) == 1
    assert found["chosen"] == "after 14 steps" and found["weights"].decoder.output.bias[0] == 14
    assert found["validation"]["mean of the last three"] == (4.0, 0.5)         # 16, 18, 20
    assert len(found["validation"]) == 11 and len(found["losses"]) == 20
    assert scored[-1] == (len(few_words.test), 14.0) and {n for n, _ in scored[:-1]} == {len(few_words.validation)}
    assert len(found["edits"]) == len(few_words.test)
    trained.clear(), scored.clear()
    [last] = (tmp_path / "checkpoints").glob("*/after-20.pt")
    last.unlink()
    again = long_transformer_study(**how, split="validation")                 # a killed run goes on; no test word
    assert [until for until, _ in trained] == [20] and again["chosen"] == found["chosen"]
    assert {n for n, _ in scored} == {len(few_words.validation)} and not {"weights", "per"} & again.keys()
    long_transformer_study(**how, seed=1)                                      # another run: other snapshots
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert long_transformer_study(**how, until=3)["losses"] == [1.0, 1 / 2, 1 / 3]
    assert trained[-1] == (3, None)


def test_the_long_transformer_fits_its_file():
    letters, phones = Vocab(map(str, range(29))), Vocab(map(str, range(39)))
    model = long_transformer(letters, phones, **LONG_SIZES)
    assert 1.3e6 < size(model) < 2e6
    assert [len(half.layers) for half in (model.encoder, model.decoder)] == [3, 3]
    assert model.encoder.layers[0].around[0].pre
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert TRANSFORMER_LONG.seeds == (0,) and TRANSFORMER_LONG.settings == (LONG_SIZES,)
    assert TRANSFORMER_LONG_BEAM.name == TRANSFORMER_LONG.name + "-beam"


def test_the_weights_on_record_are_those_that_were_scored():
    best, some = long_reader(), corpora.pronunciations().test[::90]
    for width, [row] in ((1, TRANSFORMER_LONG.results(LONG_SIZES)), (5, TRANSFORMER_LONG_BEAM.results({}))):
        found = each(beam_search, best, [e.source for e in some], max_len=30, width=width)
        edits = [nearest(best.read(h.ids), e.targets)[0] for [h], e in zip(found, some, strict=True)]
        assert digits(edits) == row["edits"][::90]


def test_the_beam_searches_with_the_weights_of_the_long_model(monkeypatch):
    asked = []
    monkeypatch.setattr(chapter, "beam_scores", lambda model, until: asked.append((model, until)) or {"losses": []})
    assert long_transformer_beam(until=4) == {"losses": []}
    [(model, until)] = asked
    ours, theirs = long_reader().model.state_dict(), model.model.state_dict()
    assert until == 4 and all(torch.equal(value, theirs[name]) for name, value in ours.items())
