"""Records how a result was made: versions, git commit, machine."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

#: Packages whose version may change a result.
_PACKAGES = (
    "rlssl",
    "ray",
    "torch",
    "gymnasium",
    "mujoco",
    "dm_control",
    "ale-py",
    "minigrid",
    "MinAtar",
    "gymnasium-robotics",
    "numpy",
)


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, git commit of the source tree (None if there is none), Python and machine."""
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        output = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.stdout.strip()
