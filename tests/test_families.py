"""One class against eight of transformers', its loader against wrong files, its steps against the whole."""

import ast
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from seq2seq import families
from seq2seq.cached_decoding import fuse
from seq2seq.decoding import beam_search
from seq2seq.encoder_decoder import Decoder, greedy_search
from seq2seq.families import (
    BART,
    FAMILIES,
    OURS,
    T5,
    FamilyModel,
    Ids,
    PositionBias,
    Sizes,
    Switches,
    bucket,
    fill,
    load_family,
    position_rows,
    published,
    renamed,
    settings,
    streams_seen,
    writer,
)
from seq2seq.sequences import Vocab
from seq2seq.transformer import sinusoids, transformer_model

ROOT = Path(__file__).resolve().parents[1]
CLASSES = {
    "t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration", "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration", "marian": "MarianMTModel", "pegasus": "PegasusForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration", "prophetnet": "ProphetNetForConditionalGeneration"}  # fmt: skip
# width, heads, layers, hidden: of encoder and decoder; coprime, and an odd width too
SIZES = [
    {"D": 15, "H": (3, 5), "L": (2, 3), "hidden": (7, 11), "V": 29},
    {"D": 14, "H": (7, 2), "L": (3, 1), "hidden": (13, 5), "V": 31},
    {"D": 9, "H": (1, 3), "L": (1, 2), "hidden": (10, 3), "V": 19},
]  # fmt: skip
SMALL = Sizes(19, 14, (2, 7), (2, 3), (11, 13), rows=40, buckets=8, far=12)


@pytest.fixture(scope="module")
def hub():
    library = pytest.importorskip("transformers", reason="the reference, which a reader may not have")
    library.logging.set_verbosity_error()
    return library


def reference(hub, family, size=SIZES[0], seed=0, **options):
    """A random model of transformers', none of its numbers at where it starts."""
    D, (a, b), (m, n), (f, g), V = size.values()
    if family in ("t5", "mt5"):
        sizes = {"d_model": D, "d_kv": 4, "num_heads": a, "num_layers": m, "num_decoder_layers": n, "d_ff": f,
                 "relative_attention_num_buckets": 6, "relative_attention_max_distance": 9}  # fmt: skip
    elif family == "prophetnet":
        sizes = {"hidden_size": D, "num_encoder_attention_heads": a, "num_decoder_attention_heads": b,
                 "num_encoder_layers": m, "num_decoder_layers": n, "encoder_ffn_dim": f, "decoder_ffn_dim": g,
                 "max_position_embeddings": 30, "num_buckets": 6, "relative_max_distance": 9}  # fmt: skip
    else:
        sizes = {"d_model": D, "encoder_attention_heads": a, "decoder_attention_heads": b, "encoder_layers": m,
                 "decoder_layers": n, "encoder_ffn_dim": f, "decoder_ffn_dim": g,
                 "max_position_embeddings": 30}  # fmt: skip
    usual = {"mbart": {"scale_embedding": True, "decoder_start_token_id": 5},
             "pegasus": {"scale_embedding": True, "activation_function": "relu"},
             "marian": {"scale_embedding": True, "activation_function": "swish", "pad_token_id": V - 1,
                        "decoder_start_token_id": V - 1}}  # fmt: skip
    kind = getattr(hub, CLASSES[family])
    torch.manual_seed(seed)
    model = kind(kind.config_class(vocab_size=V, **sizes, **usual.get(family, {}) | options))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(0.2 * torch.randn_like(weights))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model.eval()


def ours_of(model, **other):
    switches, sizes, ids = settings(model.config.to_dict())
    return fill(FamilyModel(replace(switches, **other), sizes, ids), model.state_dict()).eval()


def some(V, T=6, seed=0):
    """Sources of 7, 4 and 1 symbols, and targets."""
    torch.manual_seed(seed)
    src, tgt = torch.randint(3, V - 1, (3, 7)), torch.randint(3, V - 1, (3, T))
    return src, torch.arange(7) >= torch.tensor([[7], [4], [1]]), tgt


def theirs(model, src, padding, tgt, **options):
    mask = (~padding).long()
    return model(input_ids=src, attention_mask=mask, decoder_input_ids=tgt, use_cache=False, **options)


def logits(model, src, padding, tgt):
    return model.decoder(tgt, model.encoder(src, padding))


def close(a, b, atol=2e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


# The same numbers

@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", CLASSES)
def test_logits_and_gradients_are_those_of_transformers(hub, family, size):
    peer = reference(hub, family, size)
    mine = ours_of(peer)
    src, padding, tgt = some(size["V"])
    src = src.masked_fill(padding, mine.ids.pad)
    tgt[:, 0] = 5 if mine.ids.start is None else mine.ids.start
    expected, found = theirs(peer, src, padding, tgt).logits, logits(mine, src, padding, tgt)
    assert expected.std() > 0.1
    close(found, expected)
    gold = torch.randint(0, size["V"], tgt.shape)
    for value in (expected, found):
        F.cross_entropy(value.flatten(0, 1), gold.flatten()).backward()
    ours = dict(mine.named_parameters(remove_duplicate=False))
    compared = 0
    for name, weights in peer.named_parameters():
        if weights.grad is not None and renamed(name) in ours:
            grad = ours[renamed(name)].grad
            if name.endswith(("shared.weight", "word_embeddings.weight")):    # theirs gives padding's row none
                rows = [i for i in range(size["V"]) if i != mine.ids.pad]
                grad, expected = grad[rows], weights.grad[rows]
            else:
                expected = weights.grad
            if "position_embeddings" in name:
                grad, expected = grad[1:], expected[1:]
            close(grad, expected)
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("family", ["t5", "mt5", "bart", "prophetnet"])
def test_long_inputs_reach_the_last_buckets(hub, family):
    peer = reference(hub, family)
    mine = ours_of(peer)
    torch.manual_seed(1)
    src, tgt = torch.randint(3, 28, (2, 27)), torch.randint(3, 28, (2, 25))
    padding = torch.arange(27) >= torch.tensor([[27], [19]])
    close(logits(mine, src, padding, tgt), theirs(peer, src.masked_fill(padding, mine.ids.pad), padding, tgt).logits)


@pytest.mark.parametrize("gate", ["relu", "gated-gelu", "gated-silu", "gelu"])
def test_t5_with_and_without_a_gate_and_a_scale(hub, gate):
    for tied in (True, False):
        peer = reference(hub, "t5", feed_forward_proj=gate, tie_word_embeddings=tied)
        mine = ours_of(peer)
        assert mine.switches.gated == gate.startswith("gated") and mine.switches.scaled_output == tied
        src, padding, tgt = some(29)
        close(logits(mine, src, padding, tgt), theirs(peer, src.masked_fill(padding, 0), padding, tgt).logits)


@pytest.mark.parametrize("family", ["bart", "marian", "pegasus", "prophetnet"])
def test_the_configuration_has_the_last_word(hub, family):
    options = {"activation_function": "gelu_new"}
    if family != "prophetnet":
        options["scale_embedding"] = family == "bart"
    peer = reference(hub, family, **options)
    mine, (src, padding, tgt) = ours_of(peer), some(29)
    assert mine.switches != FAMILIES[family]
    close(logits(mine, src, padding, tgt), theirs(peer, src.masked_fill(padding, mine.ids.pad), padding, tgt).logits)


def test_marian_with_two_vocabularies(hub):
    peer = reference(hub, "marian", share_encoder_decoder_embeddings=False, decoder_vocab_size=23, pad_token_id=22,
                     decoder_start_token_id=22)  # fmt: skip
    mine = ours_of(peer)
    src, padding, tgt = some(22)
    found = logits(mine, src, padding, tgt)
    assert found.shape == (3, 6, 23) and mine.encoder.embed.embedding.num_embeddings == 29
    close(found, theirs(peer, src, padding, tgt).logits)


def test_embeddings_that_should_be_one_are_refused(hub):
    with pytest.raises(ValueError, match="differs"):
        ours_of(reference(hub, "bart", tie_word_embeddings=False))


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_all_of_prophetnets_streams(hub, streams):
    peer = reference(hub, "prophetnet", ngram=streams)
    mine = ours_of(peer)
    src, padding, tgt = some(29)
    expected = theirs(peer, src.masked_fill(padding, 0), padding, tgt)
    found, _, weights = mine.decoder.read(tgt, mine.decoder.init_state(mine.encoder(src, padding)))
    attention = theirs(peer, src.masked_fill(padding, 0), padding, tgt, output_attentions=True).cross_attentions[-1]
    close(weights, attention.softmax(-1)[:, :, 6:12])          # stream 0's; theirs are scores
    close(found[:, 0], expected.logits)
    assert found.shape[1] == streams
    if streams > 1:
        close(found[:, 1:], expected.logits_ngram)


def test_prophetnets_whole_contradicts_its_steps_and_ours_are_mended(hub):
    """If this fails at `contradiction`, transformers has mended it, and the chapter has to say so."""
    peer = reference(hub, "prophetnet", SIZES[0] | {"L": (3, 3)})
    as_theirs, mended = ours_of(peer), ours_of(peer, mixed=False)
    src, padding, tgt = some(29)
    memory = mended.encoder(src, padding)
    steps = Decoder.forward(mended.decoder, tgt, memory)
    mask, found, kept = (~padding).long(), [], {}
    read = peer.get_encoder()(input_ids=src.masked_fill(padding, 0), attention_mask=mask)
    for token in tgt.split(1, dim=1):                          # theirs, one symbol at a time, with what it keeps
        step = peer(encoder_outputs=read, attention_mask=mask, decoder_input_ids=token, use_cache=True, **kept)
        name = "cache" if "cache" in dict(step) else "past_key_values"
        kept = {name: step[name]}
        found.append(step.logits[:, 0])
    close(torch.stack(found, dim=1), steps)
    close(mended.decoder(tgt, memory), steps)
    close(Decoder.forward(as_theirs.decoder, tgt, memory), steps)
    contradiction = (theirs(peer, src.masked_fill(padding, 0), padding, tgt).logits - steps).abs().max()
    assert contradiction > 0.05


def test_without_switches_it_is_the_books_transformer():
    letters = Vocab("abcdefg")
    book = transformer_model(letters, letters, width=15, heads=3, layers=2, hidden_size=7).eval()
    same = FamilyModel(OURS, Sizes(len(letters), 15, (3, 3), (2, 2), (7, 7))).eval()
    same.load_state_dict(book.state_dict())
    src, padding, tgt = some(11)
    close(logits(same, src, padding, tgt), logits(book, src, padding, tgt))
    post = transformer_model(letters, letters, width=15, heads=3, layers=2, hidden_size=7, norm="post").eval()
    same = FamilyModel(replace(OURS, norm="post"), Sizes(len(letters), 15, (3, 3), (2, 2), (7, 7))).eval()
    same.load_state_dict(post.state_dict())
    close(logits(same, src, padding, tgt), logits(post, src, padding, tgt))


# Properties

def own(family, **other):
    torch.manual_seed(0)
    other = {"mixed": False} | other
    return FamilyModel(replace(FAMILIES[family], **other), SMALL).eval()


@pytest.mark.parametrize("family", CLASSES)
def test_steps_are_the_whole_padding_is_nothing_and_no_logit_sees_the_future(family):
    model = own(family)
    src, padding, tgt = some(19)
    memory = model.encoder(src, padding)
    whole = model.decoder(tgt, memory)
    assert (memory.states[padding] == 0).all()
    close(Decoder.forward(model.decoder, tgt, memory), whole)
    close(logits(model, src[1:2, :4], padding[1:2, :4], tgt[1:2]), whole[1:2])
    for t in range(1, 6):
        other = tgt.clone()
        other[:, t] = (tgt[:, t] + 1) % 19
        moved = (model.decoder(other, memory) - whole).abs().amax(dim=(0, 2))
        assert (moved[:t] < 1e-6).all() and moved[t] > 1e-4
    close(logits(fuse(own(family)), src, padding, tgt), whole)


@pytest.mark.parametrize("family", CLASSES)
def test_a_piece_and_then_steps(family):
    model = own(family)
    src, padding, tgt = some(19)
    memory = model.encoder(src, padding)
    whole = model.decoder(tgt, memory)
    mask = torch.ones(3, 3, dtype=torch.bool).triu(1)[None, None]
    found, state, _ = model.decoder.run(tgt[:, :3], model.decoder.init_state(memory), mask)
    pieces = [found]
    for token in tgt[:, 3:].unbind(1):
        step = model.decoder.step(token, state)
        state = step.state
        pieces.append(step.logits[:, None])
    close(torch.cat(pieces, dim=1), whole)


def test_no_stream_reads_another_nor_what_it_should_foretell():
    model = own("prophetnet", streams=3)
    src, padding, tgt = some(19)
    state = model.decoder.init_state(model.encoder(src, padding))
    before = model.decoder.read(tgt, state)[0]
    for t in range(1, 6):
        other = tgt.clone()
        other[:, t] = (tgt[:, t] + 1) % 19
        moved = (model.decoder.read(other, state)[0] - before).abs().amax(dim=(0, 3))     # (n, T)
        for i in range(3):                                     # stream i sees of the main stream up to t - i
            assert (moved[i, : t + i] < 1e-6).all()
            assert (moved[i, t + i :] > 1e-5).all()
    with torch.no_grad():
        model.decoder.ahead.weight[0] += torch.randn(14)                  # read by stream 1 alone
    moved = (model.decoder.read(tgt, state)[0] - before).abs().amax(dim=(0, 2, 3))
    assert moved[0] == 0 and moved[2] == 0 and moved[1] > 1e-3


def test_buckets_by_a_slow_reference():
    """Numbers by the definition, in Python: exact ones, then ranges that grow by one factor."""
    for buckets, far in ((8, 12), (32, 128), (6, 9), (10, 300)):
        exact = buckets // 2
        for distance in [*range(-3, 150), 500]:
            expected = max(0, distance)
            if distance >= exact:
                steps = math.log(distance / exact) / math.log(far / exact) * (buckets - exact)
                if abs(steps - round(steps)) < 1e-6:
                    continue                                    # on the border single precision decides
                expected = min(buckets - 1, exact + int(steps))
            assert bucket(torch.tensor(distance), buckets, far) == expected, (buckets, far, distance)


def test_biases_depend_on_the_distance_alone():
    for both in (True, False):
        bias = PositionBias(SMALL, 7, both_ways=both)
        with torch.no_grad():
            bias.table.weight.normal_()
        found = bias(0, 9)
        assert found.shape == (1, 7, 9, 9)
        close(found[..., 1:, 1:], found[..., :-1, :-1])
        close(bias(6, 9), found[..., 6:, :])
        ahead, behind = found[0, :, 0, 1], found[0, :, 1, 0]
        assert not torch.allclose(ahead, behind) and torch.equal(ahead, found[0, :, 0, 2]) == (not both)


def test_tables_of_sinusoids():
    for width in (8, 9):
        close(position_rows("pairs", 3, 9, width), sinusoids(9, width)[3:])
        halves = position_rows("halves", 3, 9, width)
        close(halves[:, : (width + 1) // 2], sinusoids(9, width)[3:, 0::2])
        close(halves[:, (width + 1) // 2 :], sinusoids(9, width)[3:, 1::2])
        waves = position_rows("m2m", 3, 9, width)
        close(waves[:, 0], torch.arange(3.0, 9).sin())
        close(waves[:, 3], (torch.arange(3.0, 9) / 10_000).sin())
        close(waves[:, 7], (torch.arange(3.0, 9) / 10_000).cos())
        assert width == 8 or (waves[:, 8] == 0).all()
    with pytest.raises(ValueError, match="pairs"):
        position_rows("spiral", 0, 3, 8)


def test_a_table_ends():
    model = own("bart")
    src, tgt = torch.full((1, 38), 4), torch.full((1, 39), 4)
    memory = model.encoder(src, torch.zeros(1, 38, dtype=torch.bool))
    with pytest.raises(ValueError, match="table of 40"):
        model.decoder(tgt, memory)
    with pytest.raises(ValueError, match="gelu"):
        FamilyModel(replace(BART, activation="tanh"), SMALL)


def count(switches, sizes):
    with torch.device("meta"):
        return sum(p.numel() for p in FamilyModel(switches, sizes).parameters())


def test_parameters_of_published_sizes():
    assert count(T5, Sizes(32128, 512, (8, 8), (6, 6), (2048, 2048), 64)) == 60_506_624
    assert count(BART, Sizes(50265, 768, (12, 12), (6, 6), (3072, 3072), rows=1026)) == 139_420_416
    assert count(FAMILIES["mt5"], Sizes(32128, 512, (6, 6), (8, 8), (1024, 1024), 64)) == 76_961_152


def test_configurations_as_they_are_published():
    """What the files of T5-small and of one of OPUS-MT's Marians say, as far as it matters."""
    switches, sizes, ids = settings({
        "d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "eos_token_id": 1,
        "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 8,
        "num_layers": 6, "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128})  # fmt: skip
    assert switches == T5 and ids == (0, 0, 1) and count(switches, sizes) == 60_506_624
    switches, sizes, ids = settings({
        "activation_function": "swish", "d_model": 512, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048,
        "decoder_layers": 6, "decoder_start_token_id": 58100, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
        "encoder_layers": 6, "eos_token_id": 0, "max_position_embeddings": 512, "model_type": "marian",
        "pad_token_id": 58100, "scale_embedding": True, "static_position_embeddings": True,
        "vocab_size": 58101})  # fmt: skip
    assert switches == FAMILIES["marian"] and ids == (58100, 58100, 0) and sizes.layers == (6, 6)


@pytest.mark.parametrize("family", CLASSES)
def test_it_has_as_many_parameters_as_theirs(hub, family):
    peer = reference(hub, family)
    mine = ours_of(peer)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in peer.parameters() if p.requires_grad)


def test_masks_of_streams():
    seen = streams_seen(2, 1, replace(FAMILIES["prophetnet"], streams=2), SMALL)
    assert seen.hidden.shape == seen.number.shape == (3, 5)
    keys = [[key for key, hidden in enumerate(row) if not hidden] for row in seen.hidden]
    assert keys == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]


# Their files

@pytest.fixture
def saved(hub, tmp_path):
    def save(family, **options):
        peer = reference(hub, family, **options)
        peer.save_pretrained(tmp_path, safe_serialization=True)
        return peer, tmp_path

    return save


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("family", CLASSES)
def test_a_saved_model_is_read(saved, family):
    peer, folder = saved(family)
    mine = load_family(folder)
    assert not mine.training and mine.ids.eos == peer.config.eos_token_id
    src, padding, tgt = some(29)
    close(logits(mine, src, padding, tgt), theirs(peer, src.masked_fill(padding, mine.ids.pad), padding, tgt).logits)


def test_a_model_in_several_files(hub, tmp_path):
    peer = reference(hub, "bart")
    peer.save_pretrained(tmp_path, safe_serialization=True, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    src, padding, tgt = some(29)
    close(logits(load_family(tmp_path), src, padding, tgt), theirs(peer, src, padding, tgt).logits)


@pytest.mark.parametrize("family", ["t5", "marian", "prophetnet"])
def test_a_tensor_too_few_or_too_many(saved, family):
    _, folder = saved(family)
    names = [name for name in load_file(folder / "model.safetensors") if "layer_norm" in name]
    change(folder, lambda tensors: tensors.pop(names[-1]))
    with pytest.raises(ValueError, match="has no"):
        load_family(folder)
    _, folder = saved(family)
    change(folder, lambda tensors: tensors.update({"model.encoder.another.weight": torch.ones(3)}))
    with pytest.raises(ValueError, match=r"another\.weight"):
        load_family(folder)
    _, folder = saved(family)
    change(folder, lambda tensors: tensors.update({names[0]: torch.ones(16)}))
    with pytest.raises(ValueError, match="shape"):
        load_family(folder)


def test_the_same_tensor_twice_has_to_be_the_same(saved):
    peer, folder = saved("t5")
    shared = peer.shared.weight.detach()
    never = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    old = {never: torch.ones(6, 3), "encoder.version": torch.ones(1), "lm_head.weight": shared.clone()}
    change(folder, lambda tensors: tensors.update(old))
    load_family(folder)
    change(folder, lambda tensors: tensors.update({"lm_head.weight": shared + 0.1}))
    with pytest.raises(ValueError, match=r"lm_head|shared"):
        load_family(folder)


def test_written_sinusoids_have_to_be_the_formulas(saved):
    _, folder = saved("marian")
    table = position_rows("halves", 0, 30, 15)
    names = [f"model.{half}.embed_positions.weight" for half in ("encoder", "decoder")]
    change(folder, lambda tensors: tensors.update({name: table.clone() for name in names}))
    load_family(folder)
    for wrong in (table.flip(0), table[:, :14], table[0]):
        change(folder, lambda tensors, wrong=wrong: tensors.update({names[1]: wrong.clone()}))
        with pytest.raises(ValueError, match="embed_positions"):
            load_family(folder)


def test_damaged_unknown_and_pickled(saved, tmp_path):
    _, folder = saved("bart")
    whole = (folder / "model.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 300):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            load_family(folder)
    (folder / "model.safetensors").write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "led"}))
    with pytest.raises(ValueError, match="'led' is none of t5"):
        load_family(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no config"):
        load_family(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch harmed'\ntR.")
    with pytest.raises(FileNotFoundError, match="pickle"):
        load_family(folder)
    assert not Path("harmed").exists()


@pytest.mark.parametrize("family", CLASSES)
def test_no_wrong_switch_leaves_everything_as_it_was(saved, family):
    """Every switch of a family is needed: without it the file is refused, or the logits are others."""
    _, folder = saved(family)
    right, (src, padding, tgt) = load_family(folder), some(29)
    expected, needed = logits(right, src, padding, tgt), 0
    for name in (field.name for field in fields(Switches)):
        if getattr(right.switches, name) == getattr(OURS, name) or name == "streams":
            continue
        needed += 1
        try:
            wrong = load_family(folder, **{name: getattr(OURS, name)})
        except ValueError:
            continue
        assert (logits(wrong, src, padding, tgt) - expected).abs().max() > 1e-2, name
    assert needed >= 3


# Writing

@pytest.mark.parametrize("family", ["t5", "bart", "marian", "m2m_100", "prophetnet"])
def test_searches_are_those_of_transformers(hub, family):
    peer = reference(hub, family, SIZES[0] | {"L": (2, 2)}, seed=1)
    eos, end = peer.config.eos_token_id, 0
    if hasattr(peer, "final_logits_bias"):
        peer.final_logits_bias[0, eos] += 3
    mine = ours_of(peer)
    src, padding, _ = some(29)
    for beams in (1, 3):
        options = {} if beams == 1 else {"early_stopping": "never", "num_return_sequences": beams}
        found = peer.generate(
            input_ids=src.masked_fill(padding, mine.ids.pad), attention_mask=(~padding).long(), num_beams=beams,
            decoder_start_token_id=mine.ids.start, max_new_tokens=9, do_sample=False, forced_eos_token_id=None,
            suppress_tokens=[mine.ids.pad], **options)[:, 1:]  # fmt: skip
        ours = writer(mine)
        if beams == 1:
            tokens = ours.decoder.theirs[greedy_search(ours, src, padding, 9).tokens]
            assert torch.equal(tokens, found)
            continue
        hypotheses = beam_search(ours, src, padding, 9, beams, alpha=1.0, n_best=beams)
        for row, texts in zip(hypotheses, found.view(3, beams, -1).tolist(), strict=True):
            ended = [ids[: ids.index(eos) + 1] for ids in texts if eos in ids]
            mine_ended = [ours.decoder.theirs[torch.tensor(h.ids)].tolist() for h in row]
            assert mine_ended[: len(ended)] == ended
            end += len(ended)
    assert end or family not in ("bart", "marian")


def test_a_language_is_written_first(hub):
    peer = reference(hub, "m2m_100", SIZES[0] | {"L": (2, 2)})
    mine, (src, padding, _) = ours_of(peer), some(29)
    found = peer.generate(
        input_ids=src.masked_fill(padding, 1), attention_mask=(~padding).long(), forced_bos_token_id=11,
        max_new_tokens=8, do_sample=False, suppress_tokens=[1])  # fmt: skip
    ours = writer(mine, 2, 11)
    tokens = ours.decoder.theirs[greedy_search(ours, src, padding, 7).tokens]
    assert torch.equal(tokens, found[:, 2:])
    memory = mine.encoder(src, padding)
    step = ours.decoder.step(torch.full((3,), Vocab.bos), ours.decoder.init_state(memory))
    whole = mine.decoder(torch.tensor([[2, 11]] * 3), memory)[:, -1]
    close(step.logits[:, Vocab.eos], whole[:, 2])
    close(step.logits[:, 3:], whole[:, [i for i in range(29) if i not in (1, 2)]])


def test_renumbered_probabilities_are_the_same():
    model = FamilyModel(replace(BART), SMALL, Ids(1, 2, 2)).eval()
    src, padding, _ = some(19)
    ours, memory = writer(model), model.encoder(src, padding)
    step = ours.decoder.step(torch.full((3,), Vocab.bos), ours.decoder.init_state(memory))
    expected = model.decoder.step(torch.full((3,), 2), model.decoder.init_state(memory)).logits.softmax(-1)
    found = step.logits.softmax(-1)
    assert (found[:, Vocab.bos] == 0).all() and found.shape == (3, 20)
    close(found[:, Vocab.eos], expected[:, 2])
    close(found[:, Vocab.pad], expected[:, 1])
    close(found.sum(-1), torch.ones(3))
    assert sorted(ours.decoder.theirs.tolist()) == sorted([2, *range(19)])
    with pytest.raises(ValueError, match="start symbol"):
        writer(FamilyModel(BART, SMALL, Ids(1, None, 2)))


# Without a connection, and without transformers

def test_no_connection_is_said_soon(monkeypatch):
    monkeypatch.setattr(families.socket, "create_connection", lambda *_: time.sleep(60))
    start = time.perf_counter()
    monkeypatch.setattr(families.reachable, "__defaults__", ("huggingface.co", 0.2))
    with pytest.raises(ConnectionError, match="does not answer"):
        published("google-t5/t5-small")
    assert time.perf_counter() - start < 5

    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(families.socket, "create_connection", refuse)
    with pytest.raises(ConnectionError, match="does not answer"):
        published("google-t5/t5-small")


def test_a_connection_that_breaks_is_said(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def broken(*_, **__):
        raise RuntimeError("half way")

    monkeypatch.setattr(families, "reachable", lambda: True)
    monkeypatch.setattr(hub, "snapshot_download", broken)
    with pytest.raises(ConnectionError, match="half way"):
        published("google-t5/t5-small")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConnectionError, match="pip install huggingface_hub"):
        published("google-t5/t5-small")


def test_the_page_runs_without_transformers_and_without_a_network():
    cells = json.loads((ROOT / "chapters/families.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    sources = [source for source in sources if "git+" not in source]                    # the install cell
    program = "\n\n".join(source for source in sources if not source.lstrip().startswith(("%", "!")))
    ast.parse(program)
    before = ("import socket, sys\nsys.modules['transformers'] = sys.modules['huggingface_hub'] = None\n"
              "def no(*_, **__): raise OSError('no network')\n"
              "socket.create_connection = socket.getaddrinfo = no\n")  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SEQ2SEQ_BUDGET": "smoke", "MPLBACKEND": "agg"}
    run = subprocess.run([sys.executable, "-c", before + program.replace("FETCH = budget", "FETCH = True or budget")],
                         capture_output=True, text=True, env=environment, timeout=200)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "transformers, which is not installed" in run.stdout and "does not answer" in run.stdout
