"""The talks that have to be downloaded, and the translators that learn from them, on a small file of the same form."""

import hashlib
import json
import random
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import requests
import torch

from seq2seq.attention import attention_model
from seq2seq.kit import corpora, translators
from seq2seq.kit.corpora import DamagedCorpus, MissingCorpus
from seq2seq.kit.corpora.talks import NAMES, SHA256, URL, download

PAIRS = [("Thank you.", "谢谢。"), ("Thank you.", "谢谢你。"), ("Thank you.", "谢谢。"),
         ("I don't know why", "我不知道为什么"), ("", "空"),
         ("Nothing here", ""), ("One two three.", "一"), ("Too long " * 51, "太长" * 51)]  # fmt: skip


def written(folder: Path, pairs: list[tuple[str, str]], names: tuple[str, str] = NAMES) -> str:
    """A zip as OPUS has it -> its checksum."""
    folder.mkdir(exist_ok=True)
    path = folder / "en-zh_cn.txt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "TED2020")
        for name, lines in zip(names, zip(*pairs, strict=True), strict=True):
            archive.writestr(name, "".join(line + "\n" for line in lines))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_file_becomes_words_and_characters(tmp_path):
    found = corpora.talks(tmp_path, written(tmp_path, PAIRS))
    examples = {e.source: e.targets for part in found for e in part}
    assert examples == {
        ("thank", "you", "."): (("谢", "谢", "。"), ("谢", "谢", "你", "。")),
        ("i", "don't", "know", "why"): (tuple("我不知道为什么"),),
        ("one", "two", "three", "."): (("一",),),
    }


def test_a_pair_is_left_out_that_is_long_or_of_unlike_lengths(tmp_path):
    pairs = [("a " * 100, "字" * 100), ("b " * 101, "字" * 101), ("c", "字" * 5), ("d", "字" * 6), ("e e", "字" * 8)]
    found = corpora.talks(tmp_path, written(tmp_path, pairs))
    assert {e.source[0] for part in found for e in part} == {"a", "c", "e"}


def test_no_sentence_is_in_two_splits(tmp_path):
    pairs = [(f"Sentence {'a' * (i % 90)} {i}", "句子" * 2) for i in range(400)]
    found = corpora.talks(tmp_path, written(tmp_path, pairs + pairs))
    assert sum(map(len, found)) == 400 and len({e.source for part in found for e in part}) == 400
    assert all(len(part) > 4 for part in found)


def test_another_file_is_refused(tmp_path):
    written(tmp_path, PAIRS)
    with pytest.raises(DamagedCorpus, match=rf"SHA-256 is \w{{64}}, not {SHA256}\. Delete it"):
        corpora.talks(tmp_path)
    with pytest.raises(DamagedCorpus, match=r"does not hold TED2020\.en-zh_cn\.en"):
        corpora.talks(tmp_path, written(tmp_path, PAIRS, ("a", "b")))
    (tmp_path / "en-zh_cn.txt.zip").write_bytes(b"no zip")
    with pytest.raises(DamagedCorpus, match="does not hold"):
        corpora.talks(tmp_path, hashlib.sha256(b"no zip").hexdigest())


def test_lines_that_do_not_go_together_are_refused(tmp_path):
    path = tmp_path / "en-zh_cn.txt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(NAMES[0], "a\nb\n")
        archive.writestr(NAMES[1], "一\n")
    with pytest.raises(DamagedCorpus, match="2 English lines and 1 Chinese"):
        corpora.talks(tmp_path, hashlib.sha256(path.read_bytes()).hexdigest())


class Answer:
    def __init__(self, parts: list[bytes], error: Exception | None = None):
        self.parts, self.error = parts, error

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def raise_for_status(self) -> None:
        pass

    def iter_content(self, size: int):
        yield from self.parts
        if self.error:
            raise self.error


def test_it_is_downloaded_once_whole_or_not_at_all(tmp_path, monkeypatch):
    checksum = written(tmp_path / "there", PAIRS)
    data, asked = (tmp_path / "there/en-zh_cn.txt.zip").read_bytes(), []
    monkeypatch.setenv("SEQ2SEQ_DATA", str(tmp_path / "here"))
    broken = Answer([data[:50]], requests.ConnectionError("cut"))
    monkeypatch.setattr(requests, "get", lambda url, **options: asked.append(url) or broken)
    with pytest.raises(MissingCorpus, match=r"that does not work here \(ConnectionError\).*SEQ2SEQ_DATA"):
        corpora.talks(sha256=checksum)
    assert list((tmp_path / "here").iterdir()) == []
    monkeypatch.setattr(requests, "get", lambda url, **options: asked.append(url) or Answer([data[:50], data[50:]]))
    for _ in range(2):
        assert len(corpora.talks(sha256=checksum).train) > 0
    assert asked == [URL, URL] and [p.name for p in (tmp_path / "here").iterdir()] == ["en-zh_cn.txt.zip"]


def test_without_a_connection_the_command_says_what_to_do(tmp_path, monkeypatch):
    def refused(url: str, **options: object) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", refused)
    with pytest.raises(MissingCorpus):
        download(tmp_path / "x.zip")
    monkeypatch.setenv("SEQ2SEQ_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["translators"])
    with pytest.raises(SystemExit, match="Fetch the file where there is a connection"):
        translators.main()


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Sentences whose characters follow from their words."""
    draw, words = random.Random(0), ["one", "two", "three", "four", "five", "six", "seven"]
    pairs = []
    for _ in range(600):
        picked = [draw.randrange(7) for _ in range(draw.randrange(2, 6))]
        pairs.append((" ".join(words[i] for i in picked), "".join("一二三四五六七"[i] for i in picked)))
    monkeypatch.setattr(corpora, "talks", partial(corpora.talks, tmp_path, written(tmp_path, pairs)))
    monkeypatch.setenv("SEQ2SEQ_BUDGET", "smoke")
    return tmp_path


def test_both_translators_train_are_scored_and_leave_their_numbers(data, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["translators", "--out", str(data / "out")])
    translators.main()
    for name, goal, hours in (("RNN", 14.6, 1), ("Transformer", 25.0, 3)):
        kept = json.loads((data / f"out/{name}.json").read_text())
        assert (kept["goal"], kept["most hours"], kept["steps"], kept["budget"]) == (goal, hours, 3, "smoke")
        assert 0 <= kept["bleu"] <= 100 and kept["scored"] == len(kept["examples"]) == 3 and kept["hours"] >= 0
        assert (data / f"out/{name}.pt").exists()
        assert f"{name}: {kept['bleu']} BLEU after" in capsys.readouterr().out or name == "Transformer"


def test_short_of_the_goal_the_full_budget_fails(data, monkeypatch):
    found = {"bleu": 14.0, "goal": 14.6, "hours": 0.5, "hours with search": 0.6, "most hours": 1}
    monkeypatch.setattr(translators, "trained", lambda name, splits, folder: found)
    monkeypatch.setattr(sys, "argv", ["translators", "RNN", "--out", str(data)])
    monkeypatch.setenv("SEQ2SEQ_BUDGET", "full")
    with pytest.raises(SystemExit, match="short of the goal: RNN"):
        translators.main()
    found |= {"bleu": 14.6}
    translators.main()
    found |= {"hours with search": 1.01}
    with pytest.raises(SystemExit, match="short of the goal"):
        translators.main()


def test_the_full_sizes_are_those_that_are_told(monkeypatch):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", "full")
    with torch.device("meta"):
        for name, least, most in (("RNN", 5e6, 20e6), ("Transformer", 40e6, 60e6)):
            model = translators.recipe(name).make(*[range(9000)] * 2)
            assert least < sum(weights.numel() for weights in model.parameters()) < most
    with pytest.raises(ValueError, match="no 'LSTM'"):
        translators.recipe("LSTM")


def test_a_translator_learns(data, monkeypatch):
    """A recipe at a small size, with as many steps as it takes."""
    small = translators.recipe("RNN")._replace(make=lambda *both: attention_model(*both, 16, 32), steps=200, lr=1e-2)
    monkeypatch.setattr(translators, "recipe", lambda name: small)
    monkeypatch.setattr(translators, "SENTENCES", 32)
    found = translators.trained("RNN", corpora.talks(), data)
    assert found["loss"] < 1.2 and found["bleu"] > 40
