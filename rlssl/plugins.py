"""Plug-ins: modules that register something when they are imported, in every process."""

import functools
import importlib
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlssl.errors import PluginError, SpecError, did_you_mean

#: The entry-point group under which installed packages name their plug-in modules.
ENTRY_POINT_GROUP = "rlssl.plugins"

# Entry points are read once per process. Registrations of plug-ins are marked while plug-ins load,
# because other processes get them by loading the same plug-ins.
_entry_points_loaded = False
_plugins_loading = 0
# Top-level packages of the plug-ins that this process has imported, or has failed to import.
_packages: set[str] = set()

#: A line of a traceback that names a file.
_FRAME = re.compile(r'File "([^"<>]+)", line (\d+)')
#: Files of Python and of installed packages.
_INSTALLED = re.compile(r"/(site|dist)-packages/|/lib/python3\.\d+/")


def plugins_are_loading() -> bool:
    """Whether a plug-in is being imported; other processes import it too."""
    return _plugins_loading > 0


def add_to_import_path(folders: Iterable[str]) -> None:
    """Makes the modules in some folders importable, here and in the processes started after this.

    The folders are appended to the import path: a user's tree.py must not shadow the package tree.

    Args:
        folders: Absolute paths.
    """
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)
        if folder not in inherited:
            inherited.append(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(inherited)


def resolve(reference: str) -> Any:
    """Imports the object that a ``"module:attribute"`` string names.

    Raises:
        SpecError: The string has no colon.
        PluginError: The module cannot be imported (the error is quoted), or it has no such
            attribute.

    Example:
        >>> resolve("math:sqrt")(9.0)
        3.0
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise SpecError(f"{reference!r} must have the form 'module:attribute'.")
    module = _import(module_name, f"{reference!r}")
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        guess = did_you_mean(attribute, vars(module)) or "."
        raise PluginError(f"module {module_name!r} has no {attribute!r}{guess}") from error


def _import(module_name: str, wanted_by: str) -> Any:
    """Imports a module; any error in it becomes a PluginError that quotes it."""
    if module_name not in sys.modules:
        # The finders' caches do not contain modules written after the interpreter started.
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script without a guard exits when imported
        reason = with_line(f"{type(error).__name__}: {error}", error)
        raise PluginError(f"cannot import {module_name!r} for {wanted_by}: {reason}") from error


def with_line(words: str, error: BaseException | str) -> str:
    """Appends the line of a plug-in or of a user's script in which an error was raised.

    This is the last line in the traceback that is in no file of rlssl, of Python or of an installed
    package. Installed plug-ins count as plug-ins.

    Args:
        words: The message.
        error: The error, or its traceback as text, as another process sends it.

    Returns:
        ``words`` alone if no line is a user's, or if ``words`` already name the line.

    Example:
        >>> with_line("KeyError: 1", 'File "/home/me/my_env.py", line 12, in step')
        'KeyError: 1 (/home/me/my_env.py, line 12)'
        >>> with_line("KeyError: 1", 'File "/usr/lib/python3.11/random.py", line 3, in choice')
        'KeyError: 1'
    """
    lines = _lines_in_text(error) if isinstance(error, str) else _lines_of(error)
    own = [(path, line) for path, line in lines if _is_of_user(path)]
    where = f"({own[-1][0]}, line {own[-1][1]})" if own else ""
    return words if where in words else f"{words} {where}"


def _lines_in_text(text: str) -> Iterator[tuple[str, int]]:
    for path, line in _FRAME.findall(text):
        yield path, int(line)


def _lines_of(error: BaseException) -> Iterator[tuple[str, int]]:
    """The files and lines of an error and its causes, the innermost cause first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _lines_of(cause)
    # An error of another process has that process's traceback as its message.
    yield from _lines_in_text(str(error))
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, line
    if isinstance(error, SyntaxError) and error.filename is not None:
        yield error.filename, error.lineno or 1


def _is_of_user(path: str) -> bool:
    name = Path(path)
    if name.suffix != ".py" or name.is_relative_to(Path(__file__).parent):
        return False
    if not _INSTALLED.search(name.as_posix()):
        return True
    return bool({*name.parts, name.stem} & _packages)


def _import_plugin(module_name: str, wanted_by: str) -> None:
    _packages.add(module_name.partition(".")[0])
    _import(module_name, wanted_by)


def load_plugins(names: Iterable[str] = ()) -> None:
    """Imports the plug-ins: the installed ones by their entry points, then the named modules.

    A plug-in registers something when it is imported. A second call imports nothing twice.

    Args:
        names: Modules on the path, as under ``plugins:`` in a spec.

    Raises:
        PluginError: A plug-in cannot be imported. The message names the module and the reason.
    """
    global _entry_points_loaded, _plugins_loading
    _plugins_loading += 1
    try:
        if not _entry_points_loaded:
            # Set first, because a plug-in may look up an environment while it is imported.
            _entry_points_loaded = True
            try:
                for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
                    _import_plugin(
                        point.module, f"entry point {point.name!r} of {ENTRY_POINT_GROUP}"
                    )
            except PluginError:
                _entry_points_loaded = False
                raise
        for name in names:
            _load_named_plugin(name)
    finally:
        _plugins_loading -= 1


def user_packages() -> set[str]:
    """Top-level packages of the plug-ins that this process has imported, without rlssl's own."""
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    own = [point for point in points if point.dist is not None and point.dist.name == "rlssl"]
    return _packages - {point.module.partition(".")[0] for point in own}


def _load_named_plugin(name: str) -> None:
    try:
        _import_plugin(name, f"plugins: {name}")
    except PluginError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise
        raise PluginError(
            f"plugins: no module {name!r} on the path; install it, or run from (or keep the spec "
            "in) the folder that holds it. A module is named without '.py' and with dots for '/'."
        ) from cause
