"""A small web server on this machine that speaks byte ranges; the fixture is in conftest.py."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

REPOSITORY = "nyu-visionx/pisa-experiments"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Served(http.server.BaseHTTPRequestHandler):
    """Serves ``files`` with byte ranges; closes early once for each path in ``broken``."""

    files: dict[str, bytes]
    broken: set[str]
    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        if self.path not in self.files:
            self.send_error(404)
            return
        content = self.files[self.path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.path in self.broken:
            self.broken.remove(self.path)
            content = content[: start + (len(content) - start) // 2]
        self.wfile.write(content[start:])

    def log_message(self, *arguments: object) -> None:
        return None


@contextmanager
def serving() -> Iterator[tuple[str, type[Served]]]:
    """The server's address, and its handler."""
    handler = type("Handler", (Served,), {"files": {}, "broken": set(), "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


def serve_repository(
    handler: type[Served], files: Mapping[str, bytes], revision: str = "main"
) -> None:
    """The authors' repository, with the paths that the Hugging Face hub has."""
    api = f"/api/datasets/{REPOSITORY}"
    info = {"sha": COMMIT, "cardData": {"license": "cc-by-4.0"}}
    handler.files[f"{api}/revision/{revision}"] = json.dumps(info).encode()
    for folder in ("pisabench", "training_data", "checkpoints"):
        entries = [{"type": "directory", "path": folder}] + [
            {"type": "file", "path": path, "size": len(content)}
            | ({"lfs": {"oid": hashlib.sha256(content).hexdigest()}} if len(content) > 20 else {})
            for path, content in files.items()
            if path.startswith(f"{folder}/")
        ]
        handler.files[f"{api}/tree/{COMMIT}/{folder}?recursive=true"] = json.dumps(entries).encode()
    for path, content in files.items():
        handler.files[f"/datasets/{REPOSITORY}/resolve/{COMMIT}/{path}"] = content
