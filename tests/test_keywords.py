"""Emoji with keywords: what is kept, what is left out, and that kin stay on one side."""

import gzip
import hashlib
import importlib
import io
import json
import tarfile
from collections import Counter

import keywords as tool
import numpy as np
import pytest

from seq2seq.kit.corpora import DamagedCorpus, draw, keywords

module = importlib.import_module("seq2seq.kit.corpora.keywords")
DARK = "\U0001f3ff"


def test_every_keyword_is_one_of_enough_training_pictures() -> None:
    for least in (10, 30):
        splits = keywords(least)
        count = Counter(word for e in splits.train for word in e.keywords)
        whole = Counter(word for e in module._every().train for word in e.keywords)
        assert count == {word: n for word, n in whole.items() if n >= least} != {}
        for e in (e for part in splits for e in part):
            assert e.keywords and len(set(e.keywords)) == len(e.keywords) and set(e.keywords) <= set(count)
            assert e.pixels.shape == (32, 32, 3) and e.pixels.dtype == np.uint8 and (e.pixels < 255).any()
    assert keywords(1).train[0].keywords[0].count("_")                 # its name, which is one picture's alone


def test_keywords_are_those_of_the_file_in_its_order() -> None:
    listed = json.loads(gzip.decompress(module.PATH.read_bytes()))
    assert len(listed) == 1914
    every = [e for part in module._every() for e in part]
    assert len(every) + sum(map(module.is_flag, listed)) == 1914
    assert all(list(e.keywords) == list(dict.fromkeys(listed[e.symbol])) for e in every)
    for e in (e for part in keywords() for e in part):
        assert list(e.keywords) == [word for word in dict.fromkeys(listed[e.symbol]) if word in e.keywords]
    assert {"fruit", "food"} <= set(next(e for e in every if e.symbol == "🍉").keywords)


def test_flags_of_countries_are_left_out_and_no_others() -> None:
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert all(map(module.is_flag, ("🇫🇷", "🇺🇳", england)))
    assert not any(map(module.is_flag, ("🏳️", "🏴‍☠️", "🏁", "🅰️", "🚩")))
    symbols = {e.symbol for part in keywords(1) for e in part}
    assert "🏳️" in symbols and "🏴‍☠️" in symbols and not any(map(module.is_flag, symbols))
    assert "flag" not in {word for part in keywords() for e in part for word in e.keywords}


def test_one_subject_is_one_whoever_it_is() -> None:
    same = [("👨‍⚖️", "👩‍⚖️", "🧑‍⚖️"), ("🏄", "🏄‍♂️", "🏄‍♀️"), ("👍", "👍" + DARK), ("👦", "👧", "🧒"), ("👨‍👦", "👩‍👧")]
    for group in same:
        assert len({module.subject(symbol) for symbol in group}) == 1
    assert len({module.subject(group[0]) for group in same}) == len(same)


def test_kin_are_in_one_split() -> None:
    splits, where = keywords(1), {}
    for name, part in splits._asdict().items():
        assert part
        for e in part:
            assert where.setdefault(module.subject(e.symbol), name) == name
    clocks = {chr(code) for code in range(0x1F550, 0x1F568)}
    assert sum(bool(clocks & {e.symbol for e in part}) for part in splits) == 1
    pixels = [np.stack([e.pixels for e in part]).reshape(len(part), -1).astype(float) / 255 for part in splits]
    for i, one in enumerate(pixels):
        for other in pixels[:i]:
            squares = (one**2).mean(axis=1)[:, None] + (other**2).mean(axis=1) - 2 * one @ other.T / one.shape[1]
            assert np.sqrt(squares.min()) > module.AKIN - 1e-3
    assert 0.15 < len(splits.test) / sum(map(len, splits)) < 0.27 and len(splits.validation) > 100


def test_a_family_goes_where_its_first_emoji_says() -> None:
    parts = Counter(module.part_of(chr(code)) for code in range(0x4E00, 0x4E00 + 3000))
    assert 0.17 < parts["test"] / 3000 < 0.23 and 0.08 < parts["validation"] / 3000 < 0.12
    found = {e.symbol: name for name, part in keywords(1)._asdict().items() for e in part}
    assert all(found[symbol] == module.part_of("🏄") for symbol in ("🏄", "🏄‍♂️", "🏄‍♀️"))


def test_an_emoji_that_asks_for_colours_is_drawn() -> None:
    every = {e.symbol: e for part in keywords(1) for e in part}
    assert module.drawable("✈️") == "✈" and module.drawable("🐙") == "🐙"
    assert (every["✈️"].pixels == draw(["✈"])[0]).all()


def test_a_list_of_a_reader_is_the_readers_own() -> None:
    keywords().train.clear()
    assert keywords().train


def test_a_damaged_file_and_a_count_that_makes_no_sense(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="least=0"):
        keywords(0)
    path = tmp_path / "keywords.json.gz"
    monkeypatch.setattr(module, "PATH", path)
    for content in (None, b"no gzip", gzip.compress(b"no json"), gzip.compress(b"[1]")):
        if content is not None:
            path.write_bytes(content)
        module._every.cache_clear()
        with pytest.raises(DamagedCorpus, match="missing or damaged"):
            module._every()
    module._every.cache_clear()


def test_the_tool_writes_what_the_loader_reads_and_takes_no_other_archive(tmp_path) -> None:
    archive, path = tmp_path / "package.tgz", tmp_path / "keywords.json.gz"
    with tarfile.open(archive, "w:gz") as package:
        for name, content in ((tool.FILE, '{"🐙": ["octopus", "sea"]}'.encode()), (tool.LICENSE, b"MIT")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    with pytest.raises(SystemExit, match="SHA-256"):
        tool.write(archive, path)
    tool.write(archive, path, hashlib.sha256(archive.read_bytes()).hexdigest())
    assert json.loads(gzip.decompress(path.read_bytes())) == {"🐙": ["octopus", "sea"]}
    assert path.with_name("keywords-LICENSE.txt").read_bytes() == b"MIT"
