"""Write the keywords of emoji from the npm package emojilib (run only for a new version; 4.0.3 is kept).

    npm pack emojilib@4.0.3
    python tools/keywords.py emojilib-4.0.3.tgz

writes `seq2seq/kit/corpora/keywords.json.gz`, emoji -> its keywords in the package's order and spelling, and the
package's licence beside it. npm is no part of the book's environment, and so the book keeps a copy.
"""

import gzip
import hashlib
import json
import sys
import tarfile
from pathlib import Path

from seq2seq.kit.corpora.keywords import PATH

SHA256 = "7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303"
FILE, LICENSE = "package/dist/emoji-en-US.json", "package/LICENSE"


def write(archive: Path, path: Path = PATH, sha256: str = SHA256) -> dict[str, list[str]]:
    """The package's file -> the corpus at `path`, the licence beside it. Raises SystemExit for another file."""
    if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != sha256:
        sys.exit(f"{archive} is not emojilib 4.0.3: its SHA-256 is {found}")
    with tarfile.open(archive) as package:
        corpus = json.load(package.extractfile(FILE))
        license_ = package.extractfile(LICENSE).read()
    compact = json.dumps(corpus, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(compact.encode(), mtime=0))
    path.with_name("keywords-LICENSE.txt").write_bytes(license_)
    return corpus


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpus = write(Path(sys.argv[1]))
    print(f"{len(corpus):,} emoji, {sum(map(len, corpus.values())):,} keywords, {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
