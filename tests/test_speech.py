"""From sound to text: frames and Whisper against another implementation, search, recognisers, the optional extras."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seq2seq import speech
from seq2seq.decoding import beam_search
from seq2seq.kit import corpora, train, widgets
from seq2seq.kit.corpora import speech as extras
from seq2seq.nonautoregressive import ctc_loss
from seq2seq.sequences import Vocab, collate
from seq2seq.teacher_forcing import cross_entropy

transformers = pytest.importorskip("transformers")
ROOT = Path(__file__).parents[1]
SIZES = {"width": 24, "heads": 3, "layers": 2, "bands": 80, "frames": 50, "positions": 20, "vocab": 31}


def theirs(seed: int = 0):
    """A small Whisper of transformers with random weights."""
    torch.manual_seed(seed)
    S = SIZES
    config = transformers.WhisperConfig(
        vocab_size=S["vocab"], num_mel_bins=S["bands"], d_model=S["width"], encoder_layers=S["layers"],
        decoder_layers=S["layers"], encoder_attention_heads=S["heads"], decoder_attention_heads=S["heads"],
        encoder_ffn_dim=4 * S["width"], decoder_ffn_dim=4 * S["width"], max_source_positions=S["frames"],
        max_target_positions=S["positions"], pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        init_std=0.3, attn_implementation="eager",
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for name, weights in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(weights, mean="norm.weight" in name, std=0.3)
    return model


def published(model) -> dict[str, np.ndarray]:
    """The weights of a Whisper of transformers by CTranslate2's names."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found = {"encoder/num_heads": np.array(model.config.encoder_attention_heads)}

    def put(there, *names):
        kinds = ("gamma", "beta") if there.endswith("norm") else ("weight", "bias")
        for kind, mine in zip(kinds, ("weight", "bias"), strict=True):
            zero = np.zeros(model.config.d_model, "f4")           # keys have no bias there
            found[f"{there}/{kind}"] = np.concatenate([state.get(f"{name}.{mine}", zero) for name in names])

    for half in ("encoder", "decoder"):
        for i in range(SIZES["layers"]):
            there, here = f"{half}/layer_{i}", f"model.{half}.layers.{i}"
            put(f"{there}/self_attention/linear_0", *(f"{here}.self_attn.{x}_proj" for x in "qkv"))
            put(f"{there}/self_attention/linear_1", f"{here}.self_attn.out_proj")
            put(f"{there}/self_attention/layer_norm", f"{here}.self_attn_layer_norm")
            if half == "decoder":
                put(f"{there}/attention/linear_0", f"{here}.encoder_attn.q_proj")
                put(f"{there}/attention/linear_1", *(f"{here}.encoder_attn.{x}_proj" for x in "kv"))
                put(f"{there}/attention/linear_2", f"{here}.encoder_attn.out_proj")
                put(f"{there}/attention/layer_norm", f"{here}.encoder_attn_layer_norm")
            put(f"{there}/ffn/layer_norm", f"{here}.final_layer_norm")
            put(f"{there}/ffn/linear_0", f"{here}.fc1")
            put(f"{there}/ffn/linear_1", f"{here}.fc2")
        put(f"{half}/layer_norm", f"model.{half}.layer_norm")
        found[f"{half}/position_encodings/encodings"] = state[f"model.{half}.embed_positions.weight"]
    for conv in ("conv1", "conv2"):
        put(f"encoder/{conv}", f"model.encoder.{conv}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return found


NAMES = ["endoftext", "startoftranscript", "en", "fr", "translate", "transcribe", "notimestamps", "0.00"]


def small(model) -> speech.Listener:
    tokens = [chr(ord("a") + i) for i in range(SIZES["vocab"] - len(NAMES))] + [f"<|{name}|>" for name in NAMES]
    weights = corpora.WhisperWeights(published(model), tokens, [5, 7], [3, tokens.index("<|endoftext|>")], [[1, 2]])
    return speech.whisper_from(weights, window=SIZES["frames"] * 2 * speech.HOP / speech.RATE)


@pytest.fixture(scope="module")
def pair():
    model = theirs()
    return model, small(model)


def sounds(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.1, size=n).astype("f4") for n in lengths]


def test_frames_are_the_reference_extractors():
    extract = transformers.WhisperFeatureExtractor()
    [x] = sounds(24_007)
    wanted = torch.tensor(extract(x, sampling_rate=speech.RATE)["input_features"])
    found = speech.log_mel(F.pad(torch.tensor(x)[None], (0, 480_000 - len(x))))
    assert found.shape == (1, 80, 3000)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_logits_are_those_of_transformers(pair):
    model, listener = pair
    src, padding = speech.clips_of(sounds(7001, 3003))
    tokens = torch.tensor([[4, 9, 11, 2 + 4, 14], [20, 5, 6, 7, 8]])     # published ids
    prompt = [i - speech.SHIFT for i in listener.model.decoder.prompt]
    bos = listener.id("notimestamps") - speech.SHIFT
    ids = torch.cat([torch.tensor([[*prompt, bos]] * 2), tokens], dim=1)
    with torch.no_grad():
        memory = listener.model.encoder(src, padding)
        frames = speech.log_mel(F.pad(src, (0, 2 * SIZES["frames"] * speech.HOP - src.shape[1])))
        there = model.model.encoder(frames).last_hidden_state
        assert torch.allclose(memory.states, there, atol=1e-4)
        wanted = model(frames, decoder_input_ids=ids).logits[:, len(prompt) :]
        ours = torch.cat([torch.full((2, 1), Vocab.bos), tokens + speech.SHIFT], dim=1)
        found = listener.model.decoder(ours, memory)
    assert torch.allclose(found[..., speech.SHIFT :], wanted, atol=1e-4)
    eos = listener.id("endoftext")
    assert torch.equal(found[..., Vocab.eos], found[..., eos])


def real() -> speech.Listener:
    try:
        return speech.whisper(15.0)
    except corpora.MissingCorpus as missing:
        pytest.skip(str(missing))


def test_the_published_weights_are_taken_whole_and_give_the_published_logits():
    listener = real()
    arrays = corpora.whisper_weights().arrays
    assert sum(x.size for x in arrays.values() if x.ndim) - 18 * 512 == 72_593_920
    config = transformers.WhisperConfig(
        d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8,
        encoder_ffn_dim=2048, decoder_ffn_dim=2048,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.WhisperForConditionalGeneration(config)
    model.load_state_dict(as_theirs(arrays), strict=True, assign=True)
    model.eval()
    listener.model.encoder.window = 30.0                      # what their class insists on
    src, padding = speech.clips_of(sounds(48_000))
    frames = speech.log_mel(F.pad(src, (0, 480_000 - src.shape[1])))
    ids = torch.tensor([[50258, 50259, 50359, 50363, 440, 7590, 307, 50257]])
    with torch.no_grad():
        memory = listener.model.encoder(src, padding)
        found = listener.model.decoder(torch.cat([torch.tensor([[Vocab.bos]]), ids[:, 4:] + speech.SHIFT], 1), memory)
        there = model.model.encoder(frames)
        wanted = model(encoder_outputs=there, decoder_input_ids=ids).logits[:, 3:]
    assert torch.allclose(memory.states, there.last_hidden_state, atol=2e-3)      # of up to 24
    assert torch.allclose(found[..., speech.SHIFT :], wanted, atol=1e-4, rtol=0)


def as_theirs(arrays) -> dict[str, torch.Tensor]:
    """CTranslate2's names -> those of transformers, written apart from the chapter's own."""
    part = {"linear_0": "fc1", "linear_1": "fc2"}
    found = {}
    for name, value in arrays.items():
        if not value.ndim:
            continue
        value = torch.from_numpy(value.astype("f4"))
        names = name.replace("/", ".").replace("gamma", "weight").replace("beta", "bias")
        half, _, rest = names.partition(".")
        kind = rest.rpartition(".")[2]
        if rest.startswith("layer_") and not rest.startswith("layer_norm"):
            number, _, rest = rest.removeprefix("layer_").partition(".")
            base = f"model.{half}.layers.{number}"
            block, layer = rest.split(".")[:2]
            if block == "ffn":
                found[f"{base}.{part.get(layer, 'final_layer_norm')}.{kind}"] = value
                continue
            to = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
            stacked = {("self_attention", "linear_0"): "qkv", ("self_attention", "linear_1"): "o",
                       ("attention", "linear_0"): "q", ("attention", "linear_1"): "kv",
                       ("attention", "linear_2"): "o"}.get((block, layer))  # fmt: skip
            if stacked is None:
                found[f"{base}.{to}_layer_norm.{kind}"] = value
                continue
            for letter, piece in zip(stacked, value.chunk(len(stacked)), strict=True):
                if letter == "k" and kind == "bias":
                    assert not piece.any()
                    continue
                found[f"{base}.{to}.{'out_proj' if letter == 'o' else f'{letter}_proj'}.{kind}"] = piece
        elif "position" in rest:
            found[f"model.{half}.embed_positions.weight"] = value
        elif "embeddings" in rest:
            found["model.decoder.embed_tokens.weight"] = found["proj_out.weight"] = value
        else:
            found[f"model.{half}.{rest}"] = value
    return found


UNUSED = {    # prompts that the chapter does not use, and what their makers say that they say
    "vm-newpassword": "please enter your new password followed by the pound key",
    "vm-passchanged": "your passwords have been changed",
    "vm-msgsaved": "your message has been saved",
    "conf-getconfno": "please enter your conference number followed by the pound key",
    "vm-nobox": "you cannot reply to this message because the sender does not have a mailbox",
    "vm-goodbye": "goodbye",
}


def test_clips_that_the_chapter_does_not_use_are_heard():
    listener = real()
    assert not UNUSED.keys() & corpora.prompt_texts().keys()
    try:
        clips = [speech.at_16_kHz(corpora.recording(name)) for name in UNUSED]
    except corpora.MissingCorpus as missing:
        pytest.skip(str(missing))
    found = speech.hear(listener, clips)
    assert speech.word_error_rate([heard.text for heard in found], list(UNUSED.values())) < 0.1
    assert all(heard.ids[-1] == Vocab.eos for heard in found)


# Search and text


def test_steps_are_the_forward_pass_after_a_prompt_and_what_is_forbidden_is_not_written(pair):
    _, listener = pair
    decoder = listener.model.decoder
    src, padding = speech.clips_of(sounds(5001, 3003))
    with torch.no_grad():
        memory = listener.model.encoder(src, padding)
        tgt_in = torch.cat([torch.full((2, 1), Vocab.bos), torch.randint(4, 20, (2, 6))], dim=1)
        whole, state = decoder(tgt_in, memory), decoder.init_state(memory)
        for t, token in enumerate(tgt_in.unbind(dim=1)):
            logits, state, weights = decoder.step(token, state)
            allowed = [i for i in range(logits.shape[1]) if i not in decoder.never + decoder.not_first * (t == 0)]
            assert torch.allclose(logits[:, allowed], whole[:, t, allowed], atol=1e-4)
            assert (logits[:, decoder.never] == -torch.inf).all()
            assert (logits[:, decoder.not_first] == -torch.inf).all() == (t == 0)
            assert weights.shape == (2, SIZES["frames"])
    eos = listener.id("endoftext")
    assert {Vocab.unk, 5 + 4, 7 + 4} | set(range(eos, len(listener.tokens) + 4)) == set(decoder.never)
    assert set(decoder.not_first) == {3 + 4, Vocab.eos}


def test_another_prompt_gives_other_logits_and_positions_go_on_after_it(pair):
    _, listener = pair
    memory = listener.model.encoder(*speech.clips_of(sounds(3003)))
    tgt_in = torch.tensor([[Vocab.bos, 9]])
    try:
        found = [listener.told(*told).model.decoder(tgt_in, memory) for told in (("en",), ("fr",), ("fr", "translate"))]
    finally:
        listener.told("en")
    assert all(not torch.allclose(a, b) for a, b in pairwise(found))
    room = SIZES["positions"] - len(listener.model.decoder.prompt)
    listener.model.decoder(torch.full((1, room), 9), memory)
    with pytest.raises(ValueError, match="positions"):
        listener.model.decoder(torch.full((1, room + 1), 9), memory)


def test_one_beam_is_greedy_and_company_changes_nothing(pair):
    _, listener = pair
    clips = sounds(7001, 3003, 5005)
    greedy = speech.hear(listener, clips, max_len=9, batch_size=2)
    alone = [speech.hear(listener, [clip], max_len=9)[0] for clip in clips]
    beams = beam_search(listener.model, *speech.clips_of(clips), 9, 1)
    for one, other, [h] in zip(greedy, alone, beams, strict=True):
        assert one.ids == other.ids == h.ids and one.score == pytest.approx(h.score, abs=1e-3)
        assert one.text == listener.read(one.ids)
    wide = speech.hear(listener, clips, width=4, max_len=9)
    assert all(len(heard.ids) <= 9 for heard in wide)
    with pytest.raises(ValueError, match=r"1\.00 s is longer than the window, 1\.00 s"):
        speech.hear(listener, sounds(16_001))
    assert len(speech.hear(listener, sounds(16_000), max_len=2)) == 1


def test_a_window_cuts_and_fills_up(pair):
    _, listener = pair
    encoder, [x] = listener.model.encoder, sounds(20_000)
    size = round(encoder.window * speech.RATE)
    cut, whole = (encoder(*speech.clips_of([clip])).states for clip in (x[:size], x))
    filled = encoder(*speech.clips_of([np.pad(x[:3000], (0, size - 3000))])).states
    assert torch.equal(cut, whole) and cut.shape == (1, SIZES["frames"], SIZES["width"])
    src, padding = speech.clips_of([x[:3000], x[:5000]])
    assert torch.equal(encoder(src, padding).states, encoder(src + 9.0 * padding, padding).states)
    assert torch.allclose(encoder(*speech.clips_of([x[:3000]])).states, filled)


def test_what_is_left_over_or_missing_is_named():
    arrays = published(theirs())
    with pytest.raises(ValueError, match="encoder/extra"):
        speech.whisper_state(arrays | {"encoder/extra": np.ones(3)}, 1, 2)
    del arrays["encoder/conv1/bias"]
    with pytest.raises(KeyError, match="encoder/conv1/bias"):
        speech.whisper_state(arrays, 1, 2)


def test_bytes_become_text():
    alphabet = {byte: sign for sign, byte in corpora.spelled().items()}
    assert len(alphabet) == 256 and alphabet[ord(" ")] == "Ġ" and alphabet[ord("a")] == "a"
    assert all(sign.isprintable() for sign in alphabet.values()) and alphabet[173] == chr(323)     # a soft hyphen
    text = " « Où ? » 你好"
    raw = [alphabet[byte] for byte in text.encode()]
    tokens = [raw[0] + raw[1], *raw[2:], "<|endoftext|>", "<|en|>"]
    listener = speech.Listener(None, tokens)
    ids = range(4, len(raw) - 1 + 4)
    assert listener.read([*ids, Vocab.eos]) == text.strip() == listener.read([Vocab.bos, *ids, listener.id("en")])
    assert listener.read(list(ids)[:-1]).endswith("�")            # half a character


def test_word_error_rate_counts_words():
    assert speech.words_in("Press 10, “don’t”  STOP!") == ["press", "one", "zero", "don't", "stop"]
    cases = [(text, "a b c", edits) for text, edits in
             (("a b c", 0), ("a b", 1), ("a x c d", 2), ("", 3), ("c a b", 2))]  # fmt: skip
    for text, reference, edits in cases:
        assert speech.word_error_rate([text], [reference]) == edits / 3
    texts, references, edits = zip(*cases, strict=True)
    assert speech.word_error_rate(texts, references) == sum(edits) / 15


# Frames and recognisers


def test_filters_have_one_area_and_their_places():
    filters = speech.mel_filters(40)
    wanted = transformers.audio_utils.mel_filter_bank(201, 40, 0, 8000, speech.RATE, norm="slaney", mel_scale="slaney")
    assert torch.allclose(filters, torch.tensor(wanted.T, dtype=torch.float32), atol=1e-6)
    mels = torch.linspace(0, 45, 91, dtype=torch.float64)
    assert (speech.hertz(mels).diff() > 0).all() and speech.hertz(mels[30]).item() == pytest.approx(1000)


def test_a_rows_own_end_is_the_end_of_its_frames():
    torch.manual_seed(0)
    listen, frames = speech.Listen(5, 3, strides=(2, 2)), torch.randn(2, 5, 11)
    for n in (11, 10, 9, 1):
        there = listen(frames[..., :n])
        assert there.shape == (2, -(-n // 4), 3)
        assert torch.allclose(listen(frames[..., :n], torch.tensor([n, n])), there)
        filled = listen(frames.masked_fill(torch.arange(11) >= n, 0.0), torch.tensor([n, n]))
        assert torch.allclose(filled[:, : -(-n // 4)], there, atol=1e-6) and not filled[:, -(-n // 4) :].any()


def test_silence_and_loudness():
    quiet = speech.log_mel(torch.zeros(1, 3200))
    assert (quiet == quiet[0, 0, 0]).all() and quiet.shape == (1, 80, 20)
    [x] = sounds(3200)
    loud, soft = (speech.log_mel(torch.tensor(a * x)[None]) for a in (1.0, 0.1))
    assert torch.allclose(loud - soft, torch.tensor(0.5), atol=1e-3)          # two powers of ten, of four


def test_a_key_is_its_two_tones():
    for n, key in enumerate(speech.KEYS):
        sound = speech.press(key, np.random.default_rng(n))
        assert 1280 <= len(sound) < 3360 and np.abs(sound[-480:]).max() == 0
        power = np.abs(np.fft.rfft(sound[:800])) ** 2
        tones = {int(20 * i) for i in power.argsort()[-2:]}
        row, column = speech.ROWS[n // 3], speech.COLUMNS[n % 3]
        assert all(min(abs(tone - f) for f in (row, column)) <= 20 for tone in tones) and len(tones) == 2
    one, two = (speech.dialled(3, 4, 6, seed=7) for _ in range(2))
    assert all(4 <= len(a.target) <= 6 and a.target == b.target and (a.samples == b.samples).all()
               for a, b in zip(one, two, strict=True))  # fmt: skip
    assert set("".join("".join(r.target) for r in speech.dialled(60, 4, 8, seed=1))) == set(speech.KEYS)


@pytest.mark.parametrize("kind", ["attention", "CTC"])
def test_padding_changes_nothing_and_gradients_are_finite(kind):
    torch.manual_seed(0)
    vocab = Vocab(speech.KEYS)
    recordings = speech.dialled(3, 1, 5, seed=2)
    model = speech.recogniser(vocab, kind, hidden_size=14)
    together = speech.sound_batch(recordings, vocab)
    memory = model.encoder(together.src, together.src_padding)
    for i, recording in enumerate(recordings):
        one = speech.sound_batch([recording], vocab)
        alone = model.encoder(one.src, one.src_padding)
        S = -(-len(recording.samples) // 640)
        assert alone.states.shape == (1, S, 14) and not alone.padding.any()
        assert torch.allclose(memory.states[i, :S], alone.states[0], atol=1e-5)
        assert (memory.states[i, S:] == 0).all() and memory.padding[i, S:].all() and not memory.padding[i, :S].any()
        assert torch.allclose(memory.summary[i], alone.summary[0], atol=1e-5)
    loss = (ctc_loss if kind == "CTC" else cross_entropy)(model, together)
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())
    said = speech.recognise(model, recordings * 20, vocab)                     # more than one batch
    assert len(said) == 60 and said[:3] == said[-3:]
    batch = collate([([], vocab.encode(r.target)) for r in recordings])
    assert torch.equal(together.tgt, batch.tgt) and together.to("cpu").src.dtype == torch.float32


def test_a_recogniser_learns_to_tell_keys():
    torch.manual_seed(0)
    vocab = Vocab(speech.KEYS)
    recordings = speech.dialled(8, 3, 3, seed=3, noise=0.3)
    model = speech.recogniser(vocab, "CTC", hidden_size=64)
    train(model, speech.sound_batches(recordings, vocab, 8), 150, loss=ctc_loss, lr=1e-2, warmup=10)
    assert speech.recognise(model, recordings, vocab) == [list(r.target) for r in recordings]


def test_bad_input_is_named():
    vocab = Vocab(speech.KEYS)
    with pytest.raises(ValueError, match="attention"):
        speech.recogniser(vocab, "hidden Markov")
    recording = speech.dialled(1, 3, 3, seed=3)[0]
    batch = speech.sound_batch([recording], vocab)
    with pytest.raises(ValueError, match="whole numbers"):
        speech.SoundBatch(batch.src, batch.tgt.float(), batch.src_padding)
    with pytest.raises(ValueError, match="src_padding"):
        speech.SoundBatch(batch.src, batch.tgt, ~batch.src_padding)
    with pytest.raises(ValueError, match="label"):
        widgets.sound(recording.samples, speech.RATE, label=" ")


def test_a_sound_can_be_played():
    player = widgets.sound([0.0, 0.5, -1.0, 2.0], 8000, label="a <click>")
    html = player._repr_html_()
    assert 'aria-label="a &lt;click&gt;"' in html and "data:audio/wav;base64,UklGR" in html
    assert np.frombuffer(player.wav[44:], "<i2").tolist() == [0, 16384, -32767, 32767] and "click" in repr(player)


# The optional extras


def written(arrays: dict[str, np.ndarray]) -> bytes:
    """A file of CTranslate2 with these arrays."""
    text = lambda name: struct.pack("<H", len(name) + 1) + name.encode() + b"\0"  # noqa: E731
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, value in arrays.items():
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        kind = ["<f4", "|i1", "<i2", "<i4", "<f2"].index(value.dtype.str)
        out += struct.pack("<BI", kind, value.nbytes) + value.tobytes()
    return out + b"aliases"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A small Whisper in two packages, as PyPI has the real one, and nothing anywhere else."""
    arrays = {"a/weight": np.arange(6, dtype="f2").reshape(2, 3), "n": np.array(4, dtype="i1"), "b": np.ones(3, "f4")}
    raw = written(arrays)
    for i, part in enumerate((raw[:50], raw[50:]), 1):
        folder = tmp_path / f"small_whisper_{i}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
        (folder / f"part{i}").write_bytes(part)
    home = tmp_path / "small_whisper_1" / "data"
    (home / "config.json").write_text(json.dumps({key: [1, 2] for key in extras.KEPT}))
    (home / "vocabulary.txt").write_text("a\nb\x85c\n<|en|>\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SEQ2SEQ_WHISPER", raising=False)
    monkeypatch.setattr(extras, "HUB", tmp_path / "hub")
    monkeypatch.setattr(extras, "PUBLISHED", hashlib.sha256(raw).hexdigest())
    missing = (("no_such_package_1", "x"),) * 4 + ("0",)
    names = (("small_whisper_1", "part1"), ("small_whisper_2", "part2"),
             ("small_whisper_1", "config.json"), ("small_whisper_1", "vocabulary.txt"))  # fmt: skip
    monkeypatch.setattr(extras, "PLACES", (missing, (*names, extras.PUBLISHED)))
    extras._whisper.cache_clear()
    yield arrays, home, raw
    extras._whisper.cache_clear()


def test_weights_are_read_from_packages_that_are_never_imported(shipped):
    arrays, _, _ = shipped
    found = corpora.whisper_weights()
    assert found.arrays.keys() == arrays.keys() and found.tokens == ["a", "b\x85c", "<|en|>"]
    assert all(np.array_equal(found.arrays[k], v) and found.arrays[k].dtype == v.dtype for k, v in arrays.items())
    assert found.never == found.not_first == found.timing == [1, 2] and "small_whisper_1" not in sys.modules


def test_a_folder_that_is_named_is_the_only_one(shipped, monkeypatch, tmp_path):
    _, home, raw = shipped
    monkeypatch.setenv("SEQ2SEQ_WHISPER", str(tmp_path / "nothing"))
    with pytest.raises(corpora.MissingCorpus, match="nothing"):
        corpora.whisper_weights()
    monkeypatch.setenv("SEQ2SEQ_WHISPER", str(home))
    (home / "model.bin").write_bytes(raw)
    assert corpora.whisper_weights().never == [1, 2]


def test_a_damaged_file_is_refused(shipped):
    _, home, raw = shipped
    damaged = bytearray(raw[:50])
    damaged[-1] ^= 1
    (home / "part1").write_bytes(damaged)
    with pytest.raises(corpora.DamagedCorpus, match=r"SHA-256.*make extras"):
        corpora.whisper_weights()
    (home / "part1").unlink()
    with pytest.raises(corpora.DamagedCorpus, match=r"part1.*make extras"):
        corpora.whisper_weights()


def test_the_hubs_own_files_are_read_and_checked_too(shipped, monkeypatch, tmp_path):
    arrays, home, raw = shipped
    monkeypatch.setattr(extras, "PLACES", ())
    with pytest.raises(corpora.MissingCorpus, match="make extras"):
        corpora.whisper_weights()
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("config.json", "vocabulary.txt"):
        (hub / name).write_bytes((home / name).read_bytes())
    (hub / "model.bin").write_bytes(raw)
    assert corpora.whisper_weights().arrays.keys() == arrays.keys()
    extras._whisper.cache_clear()
    (hub / "model.bin").write_bytes(raw[:-1])
    with pytest.raises(corpora.DamagedCorpus, match="SHA-256"):
        corpora.whisper_weights()


def test_prompts_are_looked_for_checked_and_named(tmp_path, monkeypatch):
    texts = corpora.prompt_texts()
    assert len(texts) == 64 and all(speech.words_in(text) == text.replace("-", " ").split() for text in texts.values())
    monkeypatch.setenv("SEQ2SEQ_PROMPTS", str(tmp_path))
    with pytest.raises(corpora.MissingCorpus, match="make extras"):
        corpora.prompts()
    with pytest.raises(ValueError, match="'de'"):
        corpora.prompts("de")
    folder, seen = tmp_path / extras.VOICES["fr"], hashlib.sha256()
    for n, name in enumerate(texts):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            raw = np.full(5, 100 * n - 3200, "<i2").tobytes()
            file.writeframes(raw)
        seen.update(raw)
    with pytest.raises(corpora.DamagedCorpus, match="not those"):
        corpora.prompts("fr")
    monkeypatch.setitem(extras.RECORDINGS, "fr", seen.hexdigest())
    found = corpora.prompts("fr")
    assert [(p.name, p.text) for p in found] == list(texts.items())
    assert found[0].samples.tolist() == [-3200 / 32768] * 5 and found[1].samples.dtype == np.float32
    assert np.array_equal(corpora.recording(found[3].name, "fr"), found[3].samples)
    with pytest.raises(ValueError, match="has no 'no-such-name'"):
        corpora.recording("no-such-name", "fr")
    with pytest.raises(ValueError, match="'de'"):
        corpora.recording(found[3].name, "de")
    extras.prompts_in.cache_clear()
    path.write_bytes(b"RIFF")
    with pytest.raises(corpora.DamagedCorpus, match="cannot be read"):
        corpora.prompts("fr")


WITHOUT = """
import json, sys
import matplotlib
matplotlib.use("Agg")
names = {"__name__": "__main__"}
for cell in json.load(open("chapters/speech.ipynb"))["cells"][1:]:
    code = "".join(cell["source"])
    if cell["cell_type"] == "code" and not code.startswith("# @title Install"):
        exec(compile(code, "cell", "exec"), names)
print("clips", len(names["clips"]), "listener", names["listener"])
"""


def test_the_chapter_runs_without_the_extras_and_says_what_is_missing():
    hidden = {"SEQ2SEQ_PROMPTS": "/nothing", "SEQ2SEQ_WHISPER": "/nothing", "SEQ2SEQ_BUDGET": "smoke"}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | hidden, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("make extras") >= 2 and "clips 0 listener None" in done.stdout
