"""JSON for people and programs, and a standard output for it alone."""

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

#: Escaped in readable JSON: what UTF-8 cannot hold (undecodable bytes of file names), and what
#: cannot be seen or ends a line for some readers.
_ESCAPED = re.compile("[\ud800-\udfff\x7f-\x9f\u2028\u2029]")

# Where JSON goes while standard output is kept for it.
_kept: TextIO | None = None


@contextlib.contextmanager
def only_json() -> Iterator[None]:
    """Inside this context, standard output gets nothing but `write_json`.

    Environments, suites in C and child processes print what they like; all of it goes to standard
    error. In a command of its own process this lasts until the process ends, because some libraries
    print at the exit. If a program has replaced ``sys.stdout``, only Python's output is redirected,
    and the replacement is put back at the end.
    """
    global _kept
    before = sys.stdout
    is_own_process = before is sys.__stdout__
    if is_own_process:
        before.flush()
        _kept = os.fdopen(os.dup(before.fileno()), "w", encoding="utf-8")
        os.dup2(2, before.fileno())
    else:
        _kept = before
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if not is_own_process:
            _kept, sys.stdout = None, before


def readable_json(value: Any, **options: Any) -> str:
    r"""JSON in which letters stand as they are, so that names in other languages can be read.

    Still escaped are bytes of file names that are no text, control characters and line separators.

    Args:
        value: The value.
        **options: Of ``json.dumps``.

    Example:
        >>> print(readable_json(["été", "\udce9"]))
        ["été", "\udce9"]
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(value: Any) -> None:
    """Writes a value as indented JSON to standard output.

    JSON has no NaN and no infinity: instead of numbers that are not finite, there is null.

    Example:
        >>> write_json([1, math.nan])
        [
         1,
         null
        ]
    """
    out = sys.stdout if _kept is None else _kept
    out.write(readable_json(_finite(value), indent=1, allow_nan=False) + "\n")
    out.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
