"""Standard output gets only JSON, whatever prints: Python, C, or other processes."""

import json
import subprocess
import sys

import click
import pytest

from rlssl.cli import main

NOISE = """
import atexit, ctypes, os, subprocess, sys
from rlssl.system.json_output import only_json, write_json
with only_json():
    print("from Python")
    print("from the first stdout", file=sys.__stdout__)
    os.write(1, b"from a system call\\n")
    ctypes.CDLL(None).puts(b"from C, buffered until the exit")
    subprocess.run(["echo", "from a child"])
    write_json({"score": 1})
    atexit.register(print, "at the exit")
print("after the command")
"""


def test_noise_goes_to_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"score": 1}
    for words in ("from Python", "from the first", "system call", "from C", "a child", "the exit"):
        assert words in done.stderr


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_with_json_keeps_standard_output_for_it(name: str) -> None:
    for option in main.commands[name].params:
        if isinstance(option, click.Option) and "--json" in option.opts:
            assert getattr(option.callback, "__name__", "") == "_keep_stdout"
