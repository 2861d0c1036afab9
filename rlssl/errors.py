"""The errors that the command line handles; the kind of error decides the exit code."""

import difflib
from collections.abc import Iterable
from enum import IntEnum

#: Default folder for results, in which the names of runs are looked up.
DEFAULT_STORAGE = "./results"

#: A message fits on one screen of 80 columns and 24 lines, with the prompt above and below it.
_COLUMNS, _ROWS = 80, 20
#: Longest line, in characters. Only its middle is cut: the key is at the start, the fix at the end.
_MAX_LINE = 6 * _COLUMNS


class ExitCode(IntEnum):
    """Exit codes of the command line.

    Example:
        >>> int(ExitCode.WRONG_SPEC)
        2
    """

    OK = 0
    TRIAL_FAILED = 1
    WRONG_SPEC = 2
    NO_RESOURCES = 3
    INTERRUPTED = 130


class SpecError(ValueError):
    """The spec or a command is wrong; nothing was started (exit code 2).

    The message names the key, the value and the fix. It is cut to one screen.

    Example:
        >>> raise SpecError("env.size must be >= 1; got 0.")
        Traceback (most recent call last):
        rlssl.errors.SpecError: env.size must be >= 1; got 0.
    """

    def __init__(self, message: object = "", *arguments: object) -> None:
        super().__init__(one_screen(str(message)), *arguments)


class UnknownNameError(SpecError, KeyError):
    """A name is not registered; the message suggests similar names."""

    # KeyError shows the repr of its argument: the message would be in quotes.
    __str__ = Exception.__str__


class UndeclaredColumnError(SpecError, KeyError):
    """An auxiliary loss reads a column of the batch that it has not declared in ``reads``."""

    __str__ = Exception.__str__


class MissingExtraError(SpecError, ImportError):
    """An optional suite is not installed; the message names the extra that installs it."""


class PluginError(SpecError):
    """A plug-in, or an object named as ``module:attribute``, could not be loaded."""


class PreflightError(SpecError):
    """An environment failed before any actor started; the message quotes its error."""


class ResourceError(RuntimeError):
    """The cluster, the storage or the resources are not sufficient (exit code 3)."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_screen(str(message)))


class NodeError(RuntimeError):
    """A node of the cluster cannot run a trial, which is tried again.

    Args:
        message: Names the node and the defect.
        node_id: Ray's id of the node.
    """

    def __init__(self, message: str, node_id: str) -> None:
        super().__init__(message, node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        return str(self.args[0])


class NodeDrainedError(RuntimeError):
    """A node will be taken from the cluster; the trial has saved, and continues on another node."""


class TrainingTimeoutError(RuntimeError):
    """The number of env steps did not increase within ``watchdog_s`` (exit code 1)."""


class PeersLostError(ConnectionError):
    """The exchange between Learners failed, for example because one of them died."""


class EnvironmentFaultError(RuntimeError):
    """An environment failed too often; the message begins with its error (exit code 1)."""


class NonFiniteUpdateError(RuntimeError):
    """Too many consecutive updates had a gradient norm that is not finite (exit code 1)."""


#: Errors that a retry would only repeat, whatever their cause.
FINAL_ERRORS = (EnvironmentFaultError, NonFiniteUpdateError, SpecError, TrainingTimeoutError)


def one_screen(message: str) -> str:
    r"""Cuts a message to one screen of 80 columns, whatever a user's values contain.

    The middle of long lines and the lines after row 20 are removed. Control characters and lone
    surrogates are written as escapes, because a terminal may not print them.

    Example:
        >>> one_screen("a bell: \a")
        'a bell: \\x07'
        >>> len(one_screen("x" * 10_000)) <= 480
        True
    """
    rows = 0
    kept: list[str] = []
    lines = [_shortened(line) for line in _printable(message).split("\n")]
    for line in lines:
        rows += max(1, -(-len(line) // _COLUMNS))
        if rows > _ROWS:
            kept.append(f"... and {len(lines) - len(kept)} more lines.")
            break
        kept.append(line)
    return "\n".join(kept)


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in text.expandtabs(1)
    )


def _shortened(line: str) -> str:
    if len(line) <= _MAX_LINE:
        return line
    half = (_MAX_LINE - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


def closest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Returns at most ``limit`` of the known names that are similar to ``name``, best first.

    Upper and lower case are the same.

    Example:
        >>> closest("minigrid-empty-5x5", ["MiniGrid-Empty-5x5-v0", "CartPole-v1"])
        ['MiniGrid-Empty-5x5-v0']
    """
    if len(name) > _COLUMNS:
        return []  # too long for a misspelled name, and comparing takes quadratic time
    by_lower = {other.lower(): other for other in known}
    return [by_lower[lower] for lower in difflib.get_close_matches(name.lower(), by_lower, limit)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a suggestion to append to a message; ``""`` if no name is similar.

    Example:
        >>> did_you_mean("crul", ["curl", "icm"])
        "; did you mean 'curl'?"
    """
    names = [repr(other) for other in closest(name, known)]
    if not names:
        return ""
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"; did you mean {listed}?"


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns the end of an error about an unknown word: the most similar word, or all words.

    Args:
        word: The unknown word.
        known: The known words.
        prefix: Added before each known word: ``training.``.

    Example:
        >>> suggest("camer", ["size", "camera"])
        "; did you mean 'camera'?"
        >>> suggest("qqq", ["size", "camera"], prefix="env.")
        '; known: env.camera, env.size.'
    """
    names = sorted(known)
    close = closest(word, names, limit=1)
    if close:
        return f"; did you mean '{prefix}{close[0]}'?"
    return f"; known: {', '.join(prefix + name for name in names) or 'none'}."


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """Returns the error for an unknown name, for the caller to raise.

    Args:
        kind: The kind of name, in words: ``"loss"``.
        name: The name that the user wrote.
        known: All valid names; similar ones are suggested.
        hint: A last sentence, instead of the list of known names.

    Example:
        >>> print(unknown_name("loss", "crul", ["curl", "icm"]))
        unknown loss 'crul'; did you mean 'curl'? Known: curl, icm.
    """
    known = sorted(known)
    guess = did_you_mean(name, known) or "."
    closing = hint or f"Known: {', '.join(known) or 'none'}."
    return UnknownNameError(f"unknown {kind} {name!r}{guess} {closing}")
