"""Where a run is on an object store, and where its local copy is.

The local copy of ``s3://bucket/results/ppo`` is ``<cache>/stores/s3/bucket/results/ppo``. Processes
work in the local copy only; `rlssl.experiment.remote` sends its files to the store, and fetches
them from there. This module imports only the standard library.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from rlssl.errors import SpecError, did_you_mean

#: The object stores that pyarrow opens.
SCHEMES = ("s3", "gs")

#: What may follow ``?`` in a URI.
QUERY_KEYS = ("endpoint_override", "scheme", "region")

#: Environment variables with the address of a server that speaks S3, the first one that is set.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

#: The file that marks the local copy of a store.
_STORE_FILE = "store.json"


@dataclass(frozen=True)
class Place:
    """A path on an object store.

    Attributes:
        scheme: One of `SCHEMES`.
        path: The bucket and the key: ``bucket/results/ppo-CartPole-v1``.
        query: What follows ``?`` in its URI: the address of the server, for example.
    """

    scheme: str
    path: str
    query: str = ""

    @property
    def uri(self) -> str:
        """The URI of this place.

        Example:
            >>> Place("s3", "bucket/results", "region=eu-west-1").uri
            's3://bucket/results?region=eu-west-1'
        """
        return f"{self.scheme}://{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.path.partition("/")[0]

    @property
    def endpoint(self) -> str:
        """The address of the server; "" for the server of AWS or Google."""
        given = dict(parse_qsl(self.query))
        if address := given.get("endpoint_override"):
            return f"{given.get('scheme', 'https')}://{address}"
        if self.scheme != "s3":
            return ""
        return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")

    @property
    def folder(self) -> Path:
        """The local copy."""
        return self._store_folder() / self.path

    def child(self, name: str) -> "Place":
        """A place below this one."""
        return replace(self, path=f"{self.path}/{name}")

    @property
    def parent(self) -> "Place":
        """The place above this one."""
        return replace(self, path=self.path.rpartition("/")[0])

    def create_folder(self) -> Path:
        """Creates the local copy's folder, so that `place_of_folder` knows it; returns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        marker = self._store_folder() / _STORE_FILE
        if not marker.is_file():
            known = {"scheme": self.scheme, "query": self.query, "endpoint": self.endpoint}
            temporary = marker.with_name(f".{marker.name}.{os.getpid()}")
            temporary.write_text(json.dumps(known))
            temporary.replace(marker)
        return self.folder

    def _store_folder(self) -> Path:
        server = f"{self.endpoint}?{self.query}".strip("?")
        suffix = f"-{hashlib.sha256(server.encode()).hexdigest()[:8]}" if server else ""
        return cache_root() / "stores" / f"{self.scheme}{suffix}"


def cache_root() -> Path:
    """The folder of local copies: RLSSL_CACHE, or ``rlssl`` in the user's cache folder."""
    given = os.environ.get("RLSSL_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(user) / "rlssl").resolve()


def is_uri(text: str | Path) -> bool:
    """Whether a storage or a run is given as a URI.

    Example:
        >>> is_uri("s3://bucket/results"), is_uri("./results")
        (True, False)
    """
    return "://" in str(text)


def parse_place(uri: str, key: str = "storage") -> Place | None:
    """Reads a URI; None for a folder and for ``file://``.

    Args:
        uri: A URI or a folder.
        key: What the user gave, for messages.

    Raises:
        SpecError: If the scheme is unknown, the bucket is missing, or the URI holds a key.

    Example:
        >>> parse_place("s3://bucket/results/").path
        'bucket/results'
        >>> parse_place("./results") is None
        True
        >>> parse_place("s4://bucket/results")
        Traceback (most recent call last):
        rlssl.errors.SpecError: storage 's4://bucket/results': unknown scheme 's4'. Give \
s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH or a folder.
    """
    if not is_uri(uri) or uri.startswith("file://"):
        return None
    parts = urlsplit(uri)
    forms = "Give s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH or a folder."
    if parts.scheme not in SCHEMES:
        raise SpecError(f"{key} '{uri}': unknown scheme '{parts.scheme}'. {forms}")
    if "@" in parts.netloc:
        raise SpecError(
            f"{key}: the URI holds an access key (not shown here); leave it out, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment."
        )
    unknown = [name for name, _ in parse_qsl(parts.query) if name not in QUERY_KEYS]
    if unknown:
        guess = did_you_mean(unknown[0], QUERY_KEYS) or "."
        known = ", ".join(QUERY_KEYS)
        raise SpecError(f"{key} '{uri}': unknown option '{unknown[0]}'{guess} Known: {known}.")
    names = [name for name in parts.path.split("/") if name]
    if not parts.netloc or {".", ".."} & {parts.netloc, *names}:
        raise SpecError(f"{key} '{uri}': it names no bucket. {forms}")
    return Place(parts.scheme, "/".join([parts.netloc, *names]), parts.query)


def local_folder(storage: str | Path, key: str = "storage") -> Path:
    """The folder in which processes work: of a folder itself, of a URI its local copy.

    Args:
        storage: A folder, ``file://`` or a URI of an object store.
        key: What the user gave, for messages.

    Raises:
        SpecError: If the URI cannot be used.

    Example:
        >>> str(local_folder("file:///data/results"))
        '/data/results'
    """
    text = str(storage)
    place = parse_place(text, key)
    if place is not None:
        return place.folder
    if text.startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise SpecError(f"{key} '{text}': write three slashes: file:///PATH.")
        return Path(parts.path)
    return Path(text).expanduser()


def place_of_folder(folder: Path) -> Place | None:
    """The place whose local copy a folder is; None for all other folders.

    Raises:
        SpecError: If the copy is of a server that the environment no longer names.
    """
    folder = Path(os.path.abspath(folder))
    for above in folder.parents:
        marker = above / _STORE_FILE
        if above.parent.name == "stores" and marker.is_file():
            known = json.loads(marker.read_text())
            path = folder.relative_to(above).as_posix()
            place = Place(known["scheme"], path, known["query"])
            if place.endpoint != known["endpoint"]:
                raise SpecError(
                    f"{folder} is the local copy of {place.uri} at {known['endpoint'] or 'AWS'}; "
                    f"set AWS_ENDPOINT_URL to '{known['endpoint']}'."
                )
            return place
    return None
