"""The command line: parses options, calls ``rlssl.experiment``, prints.

Commands import heavy modules themselves, so that ``rlssl --help`` is fast. Each module imported
here adds its commands to ``main``; ``rlssl --help`` lists them in the order of these imports.
"""

from rlssl.cli.group import main

from rlssl.cli import (  # isort: skip
    running,
    collecting,
    pretraining,
    results,
    watching,
    checking,
    beginning,
    datasets,
)

__all__ = [
    "beginning",
    "checking",
    "collecting",
    "datasets",
    "main",
    "pretraining",
    "results",
    "running",
    "watching",
]
