"""The errors that mean something to the command line: who is at fault decides the exit code."""

import difflib
from collections.abc import Iterable
from enum import IntEnum

#: Where results go, and names of runs are looked up, unless told.
DEFAULT_STORAGE = "./results"

#: A message fits on one screen of 80 columns and 24 lines, with the prompt above and below it.
_COLUMNS, _ROWS = 80, 20
#: The longest that one line may be: the key stands at its beginning, the fix at its end.
_MAX_LINE = 6 * _COLUMNS


class ExitCode(IntEnum):
    """What the command line ends with."""

    OK = 0
    TRIAL_FAILED = 1
    WRONG_SPEC = 2
    NO_RESOURCES = 3
    INTERRUPTED = 130


class SpecError(ValueError):
    """What the user asked for is wrong; nothing was started (exit code 2).

    The message names the key, the value and the fix, and is cut to one screen.
    """

    def __init__(self, message: object = "", *arguments: object) -> None:
        super().__init__(one_screen(str(message)), *arguments)


class UnknownNameError(SpecError, KeyError):
    """A name that no registry knows; the message suggests the closest ones."""

    # KeyError shows the repr of its argument, which would put the message in quotes.
    __str__ = Exception.__str__


class MissingExtraError(SpecError, ImportError):
    """An optional suite is not installed; the message names the extra that installs it."""


class PluginError(SpecError):
    """A plug-in, or an object named as ``module:attribute``, could not be loaded."""


class PreflightError(SpecError):
    """An environment failed before any actor started; the message repeats its own words."""


class ResourceError(RuntimeError):
    """The cluster, the storage or the resources do not suffice (exit code 3)."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_screen(str(message)))


class TrainingTimeoutError(RuntimeError):
    """The env steps stood still for longer than the watchdog allows (exit code 1)."""


class PeersLostError(ConnectionError):
    """The exchange between Learners failed, as it does when one of them dies."""


class EnvironmentFaultError(RuntimeError):
    """An environment failed too often to go on; its own words come first (exit code 1)."""


class NonFiniteUpdateError(RuntimeError):
    """Too many updates in a row had a gradient norm that is not finite (exit code 1)."""


#: Another try would end the same way, whatever these errors were caused by.
FINAL_ERRORS = (EnvironmentFaultError, NonFiniteUpdateError, SpecError, TrainingTimeoutError)


def one_screen(message: str) -> str:
    """Returns ``message`` cut to one screen, whatever a user's values hold.

    Long lines lose their middle, later lines their place; control characters and halves of
    surrogate pairs, which would upset a terminal or not print at all, are written as escapes.
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
    """Returns at most ``limit`` of the known names that resemble ``name``, best first.

    Letter case is ignored: ``minigrid-empty-5x5-v0`` finds ``MiniGrid-Empty-5x5-v0``.
    """
    if len(name) > _COLUMNS:
        return []  # no misspelt name, and comparing takes quadratic time
    by_lower = {other.lower(): other for other in known}
    return [by_lower[lower] for lower in difflib.get_close_matches(name.lower(), by_lower, limit)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'curl'?"`` to append to a message; ``""`` if nothing is close."""
    names = [repr(other) for other in closest(name, known)]
    if not names:
        return ""
    words = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"; did you mean {words}?"


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """How an error about an unknown ``word`` ends: with the closest known one, or all of them.

    Args:
        word: What was written.
        known: What could have been written.
        prefix: Put before the known words: ``training.``.
    """
    names = sorted(known)
    close = closest(word, names, limit=1)
    if close:
        return f"; did you mean '{prefix}{close[0]}'?"
    return f"; known: {', '.join(prefix + name for name in names) or 'none'}."


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """Returns the error for a name that is not known, to be raised by the caller.

    Args:
        kind: What was looked for, in words: ``"loss"``.
        name: What the user wrote.
        known: Every name that would have been right; searched for the closest.
        hint: A closing sentence, in place of the list of known names.
    """
    known = sorted(known)
    guess = did_you_mean(name, known) or "."
    closing = hint or f"Known: {', '.join(known) or 'none'}."
    return UnknownNameError(f"unknown {kind} {name!r}{guess} {closing}")
