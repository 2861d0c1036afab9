"""The comments above the fields of a class, which say what the fields mean."""

import ast
import inspect
import textwrap


def field_comments(of: type) -> dict[str, str]:
    """Field -> the comment lines right above it, as one text; base classes count, too.

    Args:
        of: A class with annotated fields, such as a dataclass or a pydantic model.

    Returns:
        The fields that have a comment. None is written as null, as in YAML.

    Example:
        >>> from rlssl.auxiliary.bonus_options import BonusConfig
        >>> field_comments(BonusConfig)["stream_gamma"]
        'Own stream: discount per agent step; in [0, 1].'
    """
    found: dict[str, str] = {}
    for one in reversed(of.__mro__):
        if one.__module__ != "builtins":
            found |= _of_one(one)
    return found


def _of_one(of: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(of))
    except (OSError, TypeError):  # written in C, or typed into an interpreter
        return {}
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement in definition.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if comment := _above(lines, statement.lineno - 1):
            found[statement.target.id] = comment.replace("None", "null")
    return found


def _above(lines: list[str], index: int) -> str:
    """The comment lines that end right above a line."""
    comment: list[str] = []
    while index > 0 and (line := lines[index - 1].strip()).startswith("#"):
        comment.insert(0, line.lstrip("#: "))
        index -= 1
    return " ".join(comment)
