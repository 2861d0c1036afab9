"""Tells secrets by the name of their key, and by the form of their text."""

import re

_SECRET_KEY = re.compile(
    r"^(token|auth)$"
    r"|(^|_)(password|passwd|passphrase|secret|credentials?)$"
    r"|(^|_)(api|access|private|secret|account|encryption)_?key$"
    r"|(^|_)(auth|access|api|bearer|refresh|session|hf|hub|github|gitlab|wandb)_?token$"
)
_PASSWORD_IN_URL = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def is_secret_key(key: str) -> bool:
    """Whether the name of a key says that its value is a secret.

    Example:
        >>> is_secret_key("accessToken"), is_secret_key("num_tokens")
        (True, False)
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
    return _SECRET_KEY.search(words) is not None


def holds_password(text: str) -> bool:
    """Whether a text holds a URL with a password.

    Example:
        >>> holds_password("s3://me:pass@host/runs"), holds_password("s3://host/runs")
        (True, False)
    """
    return _PASSWORD_IN_URL.search(text) is not None
