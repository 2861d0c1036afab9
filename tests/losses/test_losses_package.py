"""The losses can be used without the rest of rlssl."""

import subprocess
import sys


def test_losses_import_only_torch() -> None:
    # Examples of what must not be imported: the simulators, the framework, our own layers.
    code = (
        "import sys, rlssl.losses;"
        "print([m for m in ('ray', 'gymnasium', 'rlssl.networks', 'rlssl.registry')"
        " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
