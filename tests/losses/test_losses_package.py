"""The losses stay usable by themselves."""

import subprocess
import sys


def test_losses_import_torch_alone() -> None:
    # gymnasium stands for every simulator, ray for the framework, networks for our own layers.
    code = (
        "import sys, rlssl.losses;"
        "print([m for m in ('ray', 'gymnasium', 'rlssl.networks', 'rlssl.registry')"
        " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
