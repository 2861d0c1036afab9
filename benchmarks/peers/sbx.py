"""The updates of SBX (Stable-Baselines in JAX), which runs in an environment of its own.

SBX needs JAX, and its dependencies are not those of rlssl. `make bench` installs it in .venv-sbx.
The contestant's process starts that environment's Python, which makes the updates.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.harness.contests import UnavailableError

#: The environment: where `make bench` installs it, or what SBX_ENVIRONMENT says.
ENVIRONMENT = Path(
    os.environ.get("SBX_ENVIRONMENT", Path(__file__).resolve().parents[2] / ".venv-sbx")
)
PACKAGES = ("sbx-rl", "jax", "jaxlib", "flax", "optax")

#: Updates between two messages: a message takes about 0.05 ms, an update several milliseconds.
UPDATES = 10


def updates(settings: Mapping[str, Any]) -> Callable[[], int]:
    """A function that makes `UPDATES` updates in SBX's process and returns their number.

    Args:
        settings: See `sbx_process`.

    Raises:
        UnavailableError: If SBX is not installed.
        RuntimeError: If its process ended; its output says why.
    """
    python = ENVIRONMENT / "bin" / "python"
    if not versions():
        raise UnavailableError("not installed: make bench")
    program = Path(__file__).with_name("sbx_process.py")
    # -P: not from this folder, where `import sbx` would find this module.
    command = [str(python), "-P", str(program), json.dumps(settings)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None and process.stdout is not None
    to_sbx, from_sbx = process.stdin, process.stdout

    def wait() -> None:
        if not from_sbx.readline():
            raise RuntimeError(f"SBX's process ended with code {process.wait()}.")

    def update() -> int:
        to_sbx.write(f"{UPDATES}\n")
        wait()
        return UPDATES

    wait()
    return update


def versions() -> dict[str, str]:
    """The versions in SBX's environment; empty if SBX is not installed there."""
    folders = [str(folder) for folder in ENVIRONMENT.glob("lib/python*/site-packages")]
    found = {
        name: one.version for name in PACKAGES for one in distributions(name=name, path=folders)
    }
    return found if "sbx-rl" in found else {}
