"""Objects below a place on an object store: put, get, list, delete, each within a bounded time."""

import contextlib
import functools
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow.fs as fs

from rlssl.errors import ResourceError
from rlssl.system.stores.places import Place

#: Seconds until a connection must stand, and without a byte after which a request is repeated.
CONNECT_S, SILENCE_S = 5.0, 8.0
#: Times that a request is made. A server that does not answer costs about half a minute.
ATTEMPTS = 3

_CHUNK_BYTES = 2**23

#: Words of an error -> what is wrong, and what to do.
_REASONS = {
    "NO_SUCH_BUCKET": "there is no bucket '{bucket}'; create it, or give another one",
    "not found": "there is no bucket '{bucket}'; create it, or give another one",
    "ACCESS_DENIED": "no rights there; ask for the rights to list, read, write and delete objects",
    "INVALID_ACCESS_KEY_ID": "the server does not know the access key; set AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong; set AWS_SECRET_ACCESS_KEY",
    "No response body": "no rights there; ask for the rights to list, read, write and delete",
    "HTTP response code: 403": "no rights there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NETWORK_CONNECTION": "the server does not answer; look at its address and at the network",
}


@dataclass(frozen=True)
class ObjectInfo:
    """What a list says about an object: bytes, and the time of the last change by the server."""

    size: int
    mtime: float


class Objects:
    """The objects below a place. Names are relative to it.

    Every method raises ``OSError`` if the server does not answer in time or refuses.

    Args:
        place: The place.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @functools.cached_property
    def _fs(self) -> Any:
        return open_store(self.place)

    def put(self, name: str, data: bytes) -> None:
        """Writes an object; readers see the whole old content or the whole new content."""
        with self._fs.open_output_stream(self._path(name)) as stream:
            stream.write(data)

    def put_file(self, name: str, path: Path) -> None:
        """Writes an object from a file, in parts.

        Raises:
            FileNotFoundError: If the file does not exist.
        """
        with path.open("rb") as file, self._fs.open_output_stream(self._path(name)) as stream:
            while chunk := file.read(_CHUNK_BYTES):
                stream.write(chunk)

    def get(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        try:
            with self._fs.open_input_stream(self._path(name)) as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def get_file(self, name: str, path: Path) -> None:
        """Writes the content of an object into a file.

        Raises:
            FileNotFoundError: If there is no such object.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.fetching")
        try:
            with (
                self._fs.open_input_stream(self._path(name)) as stream,
                temporary.open("wb") as file,
            ):
                while chunk := stream.read(_CHUNK_BYTES):
                    file.write(chunk)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def listing(self, name: str = "") -> dict[str, ObjectInfo]:
        """All objects below a name, in order of their names."""
        root = self._path(name)
        selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
        found = {
            info.path[len(self.place.path) + 1 :]: ObjectInfo(
                info.size, info.mtime.timestamp() if info.mtime is not None else 0.0
            )
            for info in self._fs.get_file_info(selector)
            if info.type == fs.FileType.File
        }
        return dict(sorted(found.items()))

    def folders(self, name: str = "") -> list[str]:
        """The names directly below a name that have objects below them."""
        selector = fs.FileSelector(self._path(name), allow_not_found=True)
        infos = self._fs.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def require_bucket(self) -> None:
        """Raises if there is no such bucket, which otherwise looks like an empty one."""
        if self._fs.get_file_info(self.place.bucket).type == fs.FileType.NotFound:
            raise FileNotFoundError(f"NO_SUCH_BUCKET: {self.place.bucket}")

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name, or objects below it."""
        found: bool = self._fs.get_file_info(self._path(name)).type != fs.FileType.NotFound
        return found

    def info(self, name: str) -> ObjectInfo | None:
        """What a list would say about one object; None if there is none."""
        found = self._fs.get_file_info(self._path(name))
        if found.type != fs.FileType.File:
            return None
        return ObjectInfo(found.size, found.mtime.timestamp())

    def delete(self, name: str) -> None:
        """Deletes an object, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._path(name))

    def delete_all(self, name: str) -> None:
        """Deletes all objects below a name, if there are any."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.place.path}/{name}" if name else self.place.path


@functools.lru_cache(maxsize=8)
def _store(scheme: str, query: str, endpoint: str, bucket: str) -> Any:
    given = dict(parse_qsl(query))
    server = urlsplit(endpoint) if endpoint else None
    where = {"endpoint_override": server.netloc, "scheme": server.scheme} if server else {}
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=SILENCE_S * ATTEMPTS), **where)
    region = (
        given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    )
    if region is None and server is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region or "us-east-1",
        connect_timeout=CONNECT_S,
        request_timeout=SILENCE_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        # A small object is one request.
        allow_delayed_open=True,
        **where,
    )


def open_store(place: Place) -> Any:
    """The file system of pyarrow for a place; a process opens each store once.

    Raises:
        OSError: If the bucket's region is not known and cannot be found.
    """
    return _store(place.scheme, place.query, place.endpoint, place.bucket)


def why(place: Place, error: OSError) -> str:
    """What an error of a store means, in one line.

    Example:
        >>> why(Place("s3", "lab/results"), OSError("AWS Error NO_SUCH_BUCKET during PutObject"))
        "there is no bucket 'lab'; create it, or give another one"
    """
    words = " ".join(str(error).split())
    for sign, reason in _REASONS.items():
        if sign.lower() in words.lower():
            return reason.format(bucket=place.bucket)
    return words[:200]


def require_rights(place: Place) -> None:
    """Writes, lists, reads and deletes an object of a few bytes.

    Raises:
        ResourceError: If one of these is not possible; names the storage, the reason and the fix.
    """
    objects, folder = Objects(place), f".writable-{uuid.uuid4().hex}"
    name = f"{folder}/probe"
    with refused(place):
        objects.put(name, b"rlssl")
        if objects.get(name) != b"rlssl" or name not in objects.listing(folder):
            raise OSError("an object that was just written cannot be read")
        objects.delete(name)


@contextlib.contextmanager
def refused(place: Place, key: str = "storage") -> Iterator[None]:
    """Turns errors of a store into a ``ResourceError`` that names the key, the value and the fix.

    Args:
        place: Where something is read or written.
        key: What the user gave, for messages.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{key} '{place.uri}': {why(place, error)}.") from error
