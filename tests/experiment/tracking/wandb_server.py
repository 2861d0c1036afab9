"""A server that understands what ``wandb sync`` sends, and keeps the history of each run."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Id of a run -> its rows, each at the line that the client gave it.
Histories = dict[str, dict[int, dict[str, Any]]]


@contextmanager
def wandb_server() -> Iterator[tuple[str, Histories]]:
    """The address of a running server, and what it has received."""
    histories: Histories = {}
    handler = type("Handler", (_Handler,), {"histories": histories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", histories
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    histories: Histories

    def handle(self) -> None:
        """Serves a connection, which the client may cut."""
        with suppress(ConnectionResetError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_PUT(self) -> None:
        """Takes a file, as metadata; keeps none."""
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        """Takes rows of the history (file_stream), answers a question (graphql), or thanks."""
        body = self._body()
        if self.path.endswith("/file_stream"):
            self._keep(json.loads(body).get("files", {}).get("wandb-history.jsonl"))
            self._answer({})
        elif self.path.endswith("/graphql"):
            asked = json.loads(body)
            self._answer({"data": self._data(asked["query"], asked.get("variables") or {})})
        else:
            self._answer({})

    def _keep(self, rows: dict[str, Any] | None) -> None:
        if rows is not None:
            history = self.histories.setdefault(self.path.split("/")[-2], {})
            lines = enumerate(rows["content"], rows["offset"])
            history.update({number: json.loads(line) for number, line in lines})

    def _data(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": self._bucket(given["name"]), "inserted": True}}
        if "historyLineCount" in query:
            return {"model": {**_PROJECT, "bucket": self._bucket(given["name"])}}
        if "createRunFiles" in query:
            url = f"http://{self.headers['Host']}/file"
            files = [{"name": name, "uploadUrl": url} for name in given["files"]]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any]:
        history = self.histories.get(name, {})
        last = [json.dumps(history[max(history)])] if history else []
        return {
            **{"id": name, "name": name, "displayName": name, "project": _PROJECT},
            **{"config": "{}", "wandbConfig": "{}", "summaryMetrics": "{}", "tags": []},
            **{"historyLineCount": len(history), "historyTail": json.dumps(last)},
            **{"eventsLineCount": 0, "eventsTail": "[]", "logLineCount": 0},
        }

    def _body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_packed = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(content) if is_packed else content

    def _answer(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


_PROJECT = {"id": "project", "name": "rlssl", "entity": {"id": "entity", "name": "me"}}
