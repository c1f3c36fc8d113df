"""Serve the built book on this machine: `python tools/site_server.py [--port 8000]`.

Texts are sent compressed and with a day's cache, as GitHub Pages and its like do, so that a measurement made here
tells something about the real site.
"""

from __future__ import annotations

import argparse
import gzip
import threading
from contextlib import contextmanager
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import yaml

SITE = Path(__file__).resolve().parent.parent / "_build/html"
CONFIG = yaml.safe_load((SITE.parents[1] / "_config.yml").read_text("utf-8"))
PREFIX = urlsplit(CONFIG["html"]["baseurl"]).path
TEXTS = {".html", ".css", ".js", ".svg", ".json", ".ipynb", ".txt", ".xml"}


@lru_cache(maxsize=512)
def compressed(path: Path, modified: float) -> bytes:
    return gzip.compress(path.read_bytes(), 6)


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() and self.path.endswith("/") else path
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (accepts and path.is_file() and path.suffix in TEXTS):
            return super().do_GET()
        body = compressed(path, path.stat().st_mtime)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def translate_path(self, path: str) -> str:
        """The site stands at the root and, as on its public host, at the path of its public address."""
        return super().translate_path(path.removeprefix(PREFIX.rstrip("/")) or "/")

    def send_error(self, code: int, *args: object, **kwargs: object) -> None:
        lost = Path(self.directory) / "404.html"
        if code != 404 or not lost.is_file():
            return super().send_error(code, *args, **kwargs)
        body = lost.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(site: Path = SITE):
    """Serve `site` on a free port while the block runs; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    if not (SITE / "index.html").is_file():
        raise SystemExit("There is no built site yet: run `make book` first.")
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(SITE)))
    print(f"http://127.0.0.1:{port}/  (Ctrl+C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
