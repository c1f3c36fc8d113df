"""The prose of Python's documentation."""

import gzip
import json

import pytest

from seq2seq.kit.corpora import DamagedCorpus, prose
from seq2seq.kit.corpora.base import split_of


def module():
    import importlib

    return importlib.import_module("seq2seq.kit.corpora.prose")


def test_every_word_is_among_the_most_frequent():
    texts = prose(words=1500)
    words = {token for part in texts for e in part for token in e.target}
    assert 1400 < len(words) <= 1500 and {"the", ".", "is"} <= words
    assert all(e.source == () and len(e.targets) == 1 and len(e.target) >= 8 for part in texts for e in part)
    assert len(texts.train) > 20 * len(texts.test) / 2 > 0


def test_documents_are_split_by_how_they_begin():
    texts = prose(shortest=12)
    for name, part in texts._asdict().items():
        assert part and all(split_of(" ".join(e.target[:12])) == name for e in part)


def test_what_is_kept_of_a_document(tmp_path, monkeypatch):
    path = tmp_path / "prose.json.gz"
    path.write_bytes(gzip.compress(json.dumps([
        ["The cat (a cat) sat. The dog's dog sat.", "The cat sat."], ["The cat sat."], ["The dog."],
    ]).encode()))
    monkeypatch.setattr(module(), "PATH", path)
    texts = prose(words=8, shortest=5)      # the . cat sat dog ( a ), and no "dog's"
    [kept] = [e.target for part in texts for e in part]
    assert " ".join(kept) == "the cat ( a cat ) sat . the cat sat ."


def test_a_list_of_a_reader_is_the_readers_own():
    prose().train.clear()
    assert prose().train


def test_a_damaged_file_and_sizes_that_make_no_sense(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="words=0"):
        prose(words=0)
    with pytest.raises(ValueError, match="shortest=0"):
        prose(shortest=0)
    for content in (None, b"no gzip", gzip.compress(b"no json")):
        path = tmp_path / "prose.json.gz"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(module(), "PATH", path)
        module()._prose.cache_clear()
        with pytest.raises(DamagedCorpus, match="missing or damaged"):
            prose()
    module()._prose.cache_clear()
