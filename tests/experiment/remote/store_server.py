"""A real S3 server as a process on this machine, and a proxy that cuts its connections."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.fs as fs
import pytest

BUCKET = "lab"

#: Keys as a user has them in the environment.
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def set_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the server's keys into the environment, for the time of a test."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@dataclass
class StoreServer:
    """A server of moto, which holds objects in memory."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def fs(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            region="us-east-1",
            access_key="test",
            secret_key="test-secret",
            allow_bucket_creation=True,
        )

    def uri(self, path: str, port: int | None = None) -> str:
        """The URI of a path in the bucket, which names the server."""
        server = f"127.0.0.1:{port or self.port}"
        return f"s3://{BUCKET}/{path}?endpoint_override={server}&scheme=http"

    def names(self, path: str = "") -> list[str]:
        """The names of all objects below a path in the bucket."""
        root = f"{BUCKET}/{path}".rstrip("/")
        selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
        infos = self.fs.get_file_info(selector)
        return sorted(
            info.path.removeprefix(f"{BUCKET}/") for info in infos if info.type == fs.FileType.File
        )

    def read(self, name: str) -> bytes:
        with self.fs.open_input_stream(f"{BUCKET}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        with self.fs.open_output_stream(f"{BUCKET}/{name}") as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        self.fs.delete_file(f"{BUCKET}/{name}")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside this context, the server accepts connections and never answers."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def store_server(**environment: str) -> Iterator[StoreServer]:
    """Starts a server with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from moto.server import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    server = StoreServer(process, port)
    try:
        _wait_until_it_answers(server)
        server.fs.create_dir(BUCKET)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[StoreServer]:
    """A server for the tests of a module."""
    with store_server() as started:
        yield started


def _wait_until_it_answers(server: StoreServer) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{server.endpoint}/moto-api/", timeout=5).close()
            return
        except OSError:
            assert server.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


class CuttingProxy:
    """Forwards connections to a server, and cuts each one after a number of bytes.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Bytes from the client after which a connection is cut; None: never.
        self.limit: int | None = None
        self.num_cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            for source, target in ((client, server), (server, client)):
                arguments = (source, target, source is client)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if from_client and self.limit is not None and passed > self.limit:
                    self.num_cut += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
