"""As much of a W&B server as `wandb sync` needs: keeps the history lines of every run."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

HISTORY = "wandb-history.jsonl"


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    history: ClassVar[dict[str, list[dict[str, Any]]]]
    groups: ClassVar[dict[str, str]]

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[-2], json.loads(body))
            self._answer({})
        elif self.path.endswith("/graphql"):
            asked = json.loads(body)
            self._answer({"data": self._data(asked["query"], asked.get("variables") or {})})
        else:  # telemetry
            self._answer({})

    def _stream(self, run: str, sent: dict[str, Any]) -> None:
        """Lines replace those from their offset on, as on the real server."""
        part = (sent.get("files") or {}).get(HISTORY)
        if part:
            lines = self.history.setdefault(run, [])
            lines[part["offset"] :] = [json.loads(line) for line in part["content"]]

    def _data(self, query: str, asked: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "pisa", "entity": {"id": "e", "name": "me"}}
        run = asked.get("name") or ""
        if "RunResumeStatus" in query:
            lines = self.history.get(run)
            counts = {"historyLineCount": len(lines or []), "logLineCount": 0, "eventsLineCount": 0}
            bucket = {"id": "b", "name": run, "displayName": run, "config": "{}", "tags": []}
            bucket |= {"summaryMetrics": "{}", "eventsTail": "[]", "wandbConfig": "{}", **counts}
            bucket["historyTail"] = json.dumps([json.dumps((lines or [{}])[-1])])
            return {"model": {**project, "bucket": bucket if lines else None}}
        if "upsertBucket" in query:
            self.groups.setdefault(run, asked["groupName"])
            known = len(self.history.get(run, []))
            bucket = {"id": "b", "name": run, "displayName": run, "project": project}
            bucket |= {"description": None, "config": None, "sweepName": None}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": known}}}
        if "CreateRunFiles" in query:
            host, port = self.server.server_address[:2]
            address = f"http://{host!s}:{port}/file"
            files = [{"name": name, "uploadUrl": address} for name in asked["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        viewer = {"id": "u", "entity": "me", "username": "me", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        return None


@contextmanager
def wandb_server() -> Iterator[tuple[str, type[Server]]]:
    """Its address, and the class that holds what was sent."""
    state = {"history": {}, "groups": {}}
    handler: type[Server] = type("Handler", (Server,), state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
