"""Refuses secrets in specs, because every result is saved and shared together with its spec."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlssl.errors import SpecError
from rlssl.system.secrets import holds_password, is_secret_key

# A shorter value of a secret variable would match harmless text by accident.
_MIN_SECRET_LENGTH = 8


def refuse_secrets(document: Mapping[str, Any]) -> None:
    """Refuses text under a key such as ``api_key``, and the values of secret env variables.

    Raises:
        SpecError: If the document holds a secret; names the key, but does not show the value.
    """
    variables = {
        value: name
        for name, value in os.environ.items()
        if len(value) >= _MIN_SECRET_LENGTH and is_secret_key(name)
    }
    for path, text in _texts(document, ""):
        keys = re.split(r"[.\[\]]", path)
        if any(is_secret_key(key) for key in keys):
            raise _error(path, "looks like a secret")
        if text in variables:
            raise _error(path, f"holds the value of the environment variable {variables[text]}")
        if holds_password(text):
            raise _error(path, "holds a URL with a password")


def _error(path: str, reason: str) -> SpecError:
    return SpecError(
        f"{path} {reason} (not shown here), and specs are saved beside every result; leave it out. "
        "The code that needs it can read an environment variable."
    )


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every non-empty text in the document, with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
    elif isinstance(value, str) and value:
        yield path, value
