"""The lab's tools: scores by third of a word, intervals, published weights, BLEU, and what the studies train on."""

import inspect

import numpy as np
import pytest
import torch

from seq2seq import bottleneck
from seq2seq.bottleneck import (
    LEARNING_RATES,
    PUBLISHED,
    TAGGER,
    TRANSLATION,
    VARIANTS,
    bleu,
    difference,
    digits,
    looked_up,
    pronunciation_study,
    published_model,
    published_study,
    scores,
    shares,
    tagged,
    tagger_study,
    thirds,
    translation_model,
    translation_study,
    without_stress,
    words_on_record,
)
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.records import Study, plain, words_of
from seq2seq.rnn import GROUPS, interval, transduce
from seq2seq.sequence_labelling import SILENT, Tagger, tag_loss
from seq2seq.sequences import Batch, Vocab, collate, training_batches


def words(*pairs: str) -> list[Example]:
    """"ab XY|Z" -> an example with two targets."""
    split = (pair.split() for pair in pairs)
    return [Example(tuple(s), tuple(tuple(t) for t in targets.split("|"))) for s, targets in split]


def test_thirds_count_what_is_missed_in_each_part_of_the_right_words():
    examples = words("abcdefg UVWXYZ", "abcdefg UVWXYZU", "abcdefg UVWXY", "abcdefg UVWXYZ|U", "abcdefghijkl UVWXYZ")
    right = [[False] * 2 + [True] * 4, [True] * 3 + [False] * 4, [False] * 5, [False] * 6, [True] * 6]
    found = thirds(right, examples)
    assert list(found) == ["6–8", "12+"]                   # five phonemes, or two listed: not counted
    assert found["6–8"].tolist() == [[[2, 0, 0], [2, 2, 2]], [[0, 2, 2], [3, 2, 2]]]
    assert shares(found["6–8"]).tolist() == [2 / 5, 2 / 4, 2 / 4]
    drawn = found["6–8"][np.array([[0, 0], [1, 1]])]        # two draws of two words
    assert shares(drawn).tolist() == [[1, 0, 0], [0, 1, 1]]


def test_scores_of_a_small_test_split():
    examples = words("abcdefg UVWXYZ", "ab XY|Z")
    found = scores([list("UVWXY"), list("Z")], [list("UVWXYX"), list("XX")], examples)
    assert found["per"] == 1 / 7 and found["wer"] == 1 / 2
    assert found["by_length"] == {"1–5": 0.0, "6–8": 1 / 6}
    assert found["edits"] == "10" and found["lengths"] == "61"
    assert found["thirds"] == {"6–8": [[0, 0, 0.5], [0, 0, 0.5]]}
    own = scores([list("UVWXY"), list("Z")], None, examples)
    assert own["thirds"] == {"6–8": [[0, 0, 0.5]]}


def test_marks_may_be_numbers():
    word = Example(tuple("abcdef"), (tuple("ABCDEF"),))
    marks = [True, False, True, True, False, False]
    [as_truth], [as_numbers] = (thirds([row], [word]).values() for row in (marks, [*map(int, marks)]))
    assert np.array_equal(as_truth, as_numbers) and as_truth[0, 0].tolist() == [1, 0, 2]


@pytest.mark.parametrize("written", ["le chat", ["le", 5], [4, 5], [["le"], ["chat"]], torch.tensor([4, 5])])
def test_bleu_is_of_lists_of_tokens(written):
    example = Example(("a", "cat"), (("le", "chat"), ("un", "chat")))
    with pytest.raises(ValueError, match=r"must be a list of tokens|cannot be scored"):
        bleu([written], [example])
    with pytest.raises(ValueError, match="no reference"):
        bleu([["le"]], [Example(("a",), ((),))])


def test_digits_come_back_one_for_each_number():
    numbers = [0, 9, 10, 35, 36, 99]
    assert [int(digit, 36) for digit in digits(numbers)] == [0, 9, 10, 35, 35, 35]
    results = [{"edits": digits([1, 0, 12]), "lengths": digits([5, 6, 30])}, {"edits": "021", "lengths": "56u"}]
    assert words_of(results).tolist() == [[1, 10], [2, 12], [13, 60]]


def test_a_difference_is_that_of_the_rates_and_its_interval_is_paired():
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 9, size=400)
    hard = np.stack([rng.integers(0, 3, size=400), lengths], axis=1)
    harder = hard + np.array([1, 0])                                 # one more edit in every word
    gap, low, high = difference(harder, hard)
    assert gap == pytest.approx(400 / lengths.sum()) and 0 < low <= gap <= high
    assert high - low < 0.5 * (interval(hard)[1] - interval(hard)[0])   # words are drawn in pairs
    assert difference(hard, harder)[0] == -gap
    assert difference(hard, hard) == (0.0, 0.0, 0.0)
    assert difference(harder, hard, draws=7) != difference(harder, hard, draws=8)


def test_words_on_record_are_summed_over_the_seeds_of_one_setting():
    total = words_on_record(VARIANTS, {})
    one = [VARIANTS.row({"seed": seed})["result"] for seed in VARIANTS.seeds]
    assert total.shape == (len(corpora.pronunciations().test), 2)
    assert total[7].tolist() == [sum(int(r[k][7], 36) for r in one) for k in ("edits", "lengths")]
    edits, lengths = total.sum(axis=0)
    assert edits / lengths == pytest.approx(np.mean([r["per"] for r in one]), abs=1e-3)


@pytest.mark.parametrize("study", [VARIANTS, LEARNING_RATES, PUBLISHED, TAGGER, TRANSLATION], ids=lambda s: s.name)
def test_the_whole_plan_is_on_record_and_nothing_else(study):
    on_record = [row["settings"] for row in study.rows()]
    assert len(on_record) == len(study.plan()) and all(plain(settings) in on_record for settings in study.plan())


def test_every_symbol_has_its_own_published_row():
    """Unknown letters and the symbols that no output shows, too."""
    published = corpora.g2p_weights()
    model, letters, phones = published_model()
    said = ["<pad>", "<s>", "</s>", "<unk>", *phones.symbols[4:]]
    written = ["<pad>", None, "</s>", "<unk>", *letters.symbols[4:]]          # no letter of theirs begins a word
    for embedding, name, symbols, theirs in (
        (model.encoder.embedding, "enc_emb", written, published.graphemes),
        (model.decoder.embedding, "dec_emb", said, published.phonemes),
    ):
        assert len(symbols) == len(embedding.weight) and set(theirs) <= set(symbols)
        for ours, symbol in zip(embedding.weight, symbols, strict=True):
            if symbol is not None:
                np.testing.assert_array_equal(ours.detach().numpy(), published.arrays[name][theirs.index(symbol)])


def test_published_weights_are_those_of_an_independent_pass():
    """Every logit of two words, EOS's included, and all rows of both embeddings."""
    published = corpora.g2p_weights()
    array = {name: torch.from_numpy(value) for name, value in published.arrays.items()}
    model, letters, phones = published_model()
    assert letters.symbols[4:] == list(published.graphemes[3:]) and phones.symbols[4:] == list(published.phonemes[4:])
    for word in ("photograph", "sequence"):
        h = torch.zeros(256)
        cells = {side: torch.nn.GRUCell(256, 256) for side in ("enc", "dec")}
        for side, cell in cells.items():
            names = ("w_ih", "w_hh", "b_ih", "b_hh")
            cell.load_state_dict({f"{'weight' if n[0] == 'w' else 'bias'}{n[1:]}": array[f"{side}_{n}"] for n in names})
        for letter in (*word, "</s>"):
            h = cells["enc"](array["enc_emb"][published.graphemes.index(letter)], h)
        batch = collate([(letters.encode(word), [])])
        state = model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
        torch.testing.assert_close(state.hidden[0, 0], h)
        token, theirs = Vocab.bos, published.phonemes.index("<s>")
        for _ in range(20):
            h = cells["dec"](array["dec_emb"][theirs], h)
            logits, state, _ = model.decoder.step(torch.tensor([token]), state)
            expected = dict(zip(published.phonemes, array["fc_w"] @ h + array["fc_b"], strict=True))
            ours = dict(zip(["<pad>", "<s>", "</s>", "<unk>", *phones.symbols[4:]], logits[0], strict=True))
            for phone, logit in ours.items():
                torch.testing.assert_close(logit, expected[phone], atol=1e-4, rtol=1e-4)
            token = int(logits.argmax())
            if token == Vocab.eos:
                break
            theirs = published.phonemes.index(phones.symbols[token])
        assert token == Vocab.eos


def test_the_numpy_reference_says_what_the_model_says():
    """In its own numbering, step by step to the first end; with a limit, no further."""
    published = corpora.g2p_weights()
    model, letters, phones = published_model()
    for word in ("photograph", "sequence"):
        logits = published.logits(word)
        assert logits.shape[1] == len(published.phonemes)
        said = [published.phonemes[i] for i in logits.argmax(axis=1)]
        assert [*transduce(model, [word], letters, phones)[0], "</s>"] == said
        assert len(published.logits(word, limit=3)) == 3
        assert np.array_equal(published.logits(word, limit=3), logits[:3])


def test_the_published_score_is_on_test_words_without_stress():
    result = published_study()
    assert result == PUBLISHED.results({})[0] | {"losses": []}
    assert len(result["edits"]) == len(corpora.pronunciations().test)
    assert without_stress(["AE1", "T", "UW"]) == ["AE", "T", "UW"]
    own, gold = result["thirds"]["6–8"]
    assert max(own + gold) < 0.1                             # stress would make most vowels wrong


def test_bleu_is_over_the_whole_test_set_and_takes_any_listed_translation():
    examples = [Example(("a",), (tuple("QRST"), tuple("XYZW"))), Example(("b",), (tuple("ABCDE"),))]
    assert bleu([list("XYZW"), list("ABCDE")], examples) == pytest.approx(100)
    assert bleu([list("XYZW"), list("ABCDX")], examples) < 90
    dot = [Example(("a",), (("Q", "R", "S", "T", "."),))]
    assert bleu([["Q", "R", "S", "T."]], dot) < 90            # tokens as they are: "T." is none of them
    with pytest.raises(ValueError, match="1 outputs cannot be scored against 2"):
        bleu([list("XYZW")], examples)
    with pytest.raises(ValueError, match="0 outputs"):
        bleu([], [])


@pytest.fixture
def tiny(monkeypatch):
    """Corpora of a few words."""
    train = words("ab XY", "ba YX", "abab XYXY", "bb YY", "aaaaaaa XXXXXXX", "bab YXY", "aabb XXYY")
    splits = Splits(train, words("ab XY", "aab XXY"), words("ba YX", "abbbbbb XYYYYYY", "ab XY"))
    stressed = lambda stress=False: splits                     # noqa: E731
    monkeypatch.setattr(corpora, "pronunciations", stressed)
    monkeypatch.setattr(corpora, "messages", lambda language, max_words: splits)
    bottleneck.labelled.cache_clear()
    yield splits
    bottleneck.labelled.cache_clear()


@pytest.fixture
def trained(monkeypatch):
    """What `train` was given: its pairs, its keyword arguments, in place of a training."""
    seen = []

    def batches_of(pairs, batch_size, seed=0):
        yield from training_batches(pairs, 3, seed)

    def train(model, stream, steps, *, until=None, **options):
        batch = next(stream)
        seen.append({"model": model, "batch": batch, "steps": steps, "until": until, **options})
        torch.manual_seed(1)
        return type("History", (), {"losses": [1.0] * (until or steps)})()

    monkeypatch.setattr(bottleneck, "train", train)
    monkeypatch.setattr(bottleneck, "training_batches", batches_of)
    return seen


def test_a_study_checks_its_split_before_it_trains(tiny, trained):
    with pytest.raises(ValueError, match="'dev' is none of 'validation', 'test'"):
        pronunciation_study(split="dev")
    assert not trained


def test_a_study_trains_on_training_words_and_scores_both_splits(tiny, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(bottleneck, "transduce", lambda model, sources, *_, **__: asked.append(list(sources)) or [
        ["X", "Y"] for _ in sources])
    result = pronunciation_study(steps=5, lr=0.25, seed=3, hidden_size=6, width=3)
    assert trained[0]["steps"] == 5 and trained[0]["lr"] == 0.25
    rows = {tuple(row) for row in trained[0]["batch"].src.tolist()}
    pairs = {tuple(bottleneck.vocabularies(tiny.train)[0].encode(e.source)) for e in tiny.train}
    assert {tuple(i for i in row if i > 3) for row in rows} <= pairs
    assert asked == [[e.source for e in tiny.validation], [e.source for e in tiny.test]]
    assert result["validation"] == 1 / 5 and result["wer"] == 2 / 3 and len(result["edits"]) == 3
    assert "weights" not in result and len(result["losses"]) == 5


@pytest.mark.parametrize("study", [pronunciation_study, tagger_study, translation_study])
def test_a_study_has_its_words_and_its_symbols_from_the_training_split(study, tiny, trained, monkeypatch):
    monkeypatch.setattr(bottleneck.random.Random, "sample", lambda self, population, k: list(population))
    tiny.validation[:], tiny.test[:] = words("ccc VV", "ccc VV"), words("def UT", "def UT")    # of 1 letter, and of 3
    study(until=1)
    model, batch = trained[0]["model"], trained[0]["batch"]
    reader = model.forwards if isinstance(model, Tagger) else model.encoder
    assert reader.embedding.num_embeddings == len([*Vocab.special, "a", "b"])
    assert not (batch.src == Vocab.unk).any() and not (batch.tgt == Vocab.unk).any()


@pytest.mark.parametrize("study", [tagger_study, translation_study])
def test_a_study_is_scored_on_the_test_split(study, tiny, trained, monkeypatch):
    monkeypatch.setattr(bottleneck.random.Random, "sample", lambda self, population, k: list(population))
    gold, asked = [list(e.target) for e in tiny.test], []
    monkeypatch.setattr(bottleneck, "tagged", lambda _, given, *__: asked.extend(e.source for e in given) or gold)
    monkeypatch.setattr(bottleneck, "transduce", lambda _, given, *__, **___: asked.extend(given) or gold)
    result = study(steps=2)
    assert asked == [e.source for e in tiny.test]
    assert (result["per"], result["wer"]) == (0, 0) if study is tagger_study else result["bleu"] == pytest.approx(100)


def test_learning_rates_are_chosen_without_test_words(tiny, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(bottleneck, "transduce", lambda model, sources, *_, **__: asked.append(list(sources)) or [
        ["X", "Y"] for _ in sources])
    result = pronunciation_study(steps=5, split="validation", hidden_size=6, width=3)
    assert asked == [[e.source for e in tiny.validation]] and set(result) == {"losses", "validation"}
    assert all(setting["split"] == "validation" for setting in LEARNING_RATES.settings)


def test_the_weights_kept_are_those_of_the_first_seed_of_the_plain_variant(tiny, trained):
    assert "weights" in pronunciation_study(steps=2)
    assert "weights" not in pronunciation_study(steps=2, seed=1)
    assert "weights" not in pronunciation_study(steps=2, context="initial")
    assert "weights" in translation_study(steps=2)
    assert "weights" not in translation_study(steps=2, seed=1)


@pytest.mark.parametrize("study", [pronunciation_study, tagger_study, translation_study])
def test_a_seed_decides_the_model_and_the_order(study, tiny, trained, monkeypatch):
    monkeypatch.setattr(bottleneck.random.Random, "sample", lambda self, population, k: list(population))
    for seed in (0, 0, 1):
        study(steps=9, seed=seed, until=2)
    first, again, other = trained
    weights = [torch.cat([p.flatten() for p in run["model"].parameters()]) for run in trained]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(first["batch"].src, again["batch"].src) and first["steps"] == 9 and first["until"] == 2
    assert first["batch"].src.tolist() != other["batch"].src.tolist()


def test_the_tagger_is_trained_as_the_variants_are_on_words_that_fit(tiny, trained, monkeypatch):
    monkeypatch.setattr(bottleneck.random.Random, "sample", lambda self, population, k: list(population))
    tiny.train.extend(words("b XYX"))                        # more phonemes than letters
    pronunciation_study(until=1)
    tagger_study(until=1)
    as_variants, tagger = trained
    assert tagger["loss"] is tag_loss and tagger["lr"] == as_variants["lr"] and tagger["steps"] == as_variants["steps"]
    assert len(bottleneck.labelled()[2]) == len(tiny.train) - 1


@pytest.mark.parametrize("study", [pronunciation_study, tagger_study, translation_study])
def test_a_study_trains_on_the_device_there_is(study, tiny, trained, monkeypatch):
    monkeypatch.setattr(bottleneck.random.Random, "sample", lambda self, population, k: list(population))
    monkeypatch.setattr(bottleneck, "device", lambda: torch.device("meta"))
    study(until=1)
    assert {weights.device.type for weights in trained[0]["model"].parameters()} == {"meta"}


def test_a_variant_reaches_the_model(tiny, trained):
    pronunciation_study(until=1, cell="lstm", context="initial", bidirectional=False, summary="mean", layers=3)
    model = trained[0]["model"]
    assert model.decoder.lstm and not model.decoder.every_step and model.decoder.layers == 3
    assert not model.encoder.backwards and model.encoder.summary == "mean" and len(model.encoder.forwards) == 3


def test_the_tagger_learns_to_label_and_leaves_silence_out(monkeypatch):
    letters, tags = Vocab("ab"), Vocab([SILENT, "X"])
    model = Tagger(len(letters), len(tags), 8, 12)
    label = {"a": SILENT, "b": "X"}
    pairs = [(letters.encode(s), tags.encode(map(label.get, s))) for s in ("ab", "bba", "aab", "a")]
    batch = collate(pairs)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = tag_loss(model, batch)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    model.register_forward_pre_hook(lambda model, _: modes.append((model.training, torch.is_grad_enabled())))
    modes = []
    assert tagged(model, words("abab XX", "aa X", "b X"), letters, tags) == [["X", "X"], [], ["X"]]
    assert modes == [(False, False)] and model.training      # off inside, then as it was
    went = []
    monkeypatch.setattr(Batch, "to", lambda self, device: went.append(device) or self)
    assert tagged(model, words("b X"), letters, tags) == [["X"]] and went == [torch.device("cpu")]


def test_studies_are_what_the_page_says():
    assert all(isinstance(study, Study) and study.name.startswith("bottleneck-")
               for study in (VARIANTS, LEARNING_RATES, PUBLISHED, TAGGER, TRANSLATION))
    default = inspect.signature(pronunciation_study).parameters["lr"].default
    for cell in ("rnn", "gru", "lstm"):
        tried = {s["lr"]: LEARNING_RATES.mean(s, "validation") for s in LEARNING_RATES.settings if s["cell"] == cell}
        used = {s.get("lr", default) for s in VARIANTS.settings if s.get("cell", "gru") == cell}
        assert used == {min(tried, key=tried.get)} and not used & {min(tried), max(tried)}
    letters, phones = (Vocab(map(str, range(n))) for n in (29, 39))
    sizes = [sum(p.numel() for p in bottleneck.context_model(letters, phones, **s).parameters())
             for s in ({}, {"context": "initial", "hidden_size": 314}, {"cell": "lstm", "hidden_size": 216})]
    assert max(sizes) / min(sizes) < 1.005
    assert translation_model(letters, phones).encoder.dropout.p == 0.3
    assert list(VARIANTS.results({})[0]["by_length"]) == list(GROUPS)


def test_the_most_similar_message_is_looked_up():
    known = [Example(tuple(x.split()), (tuple(y.split()),))
             for x, y in (("a b c", "1"), ("b a", "2"), ("a b d e", "3"))]  # fmt: skip
    for e in known:
        assert looked_up(e.source, known) == list(e.target)
    assert looked_up(["b", "a", "a"], known) == ["2"]      # neither order nor repetition counts
    assert looked_up(["a", "d", "e"], known) == ["3"]      # three of four; of "b a" one of four
    assert looked_up(["z"], known) == ["1"]                # the first of equals
    with pytest.raises(ValueError, match="training split"):
        looked_up(["a"], [])
