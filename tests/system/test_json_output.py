"""Standard output gets only JSON, whatever prints: Python, C, or other processes."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import rlssl
from rlssl.cli import main
from rlssl.system.json_output import readable_json

#: Modules whose JSON no person reads: messages between processes, files beside checkpoints, keys.
FOR_PROGRAMS = {
    "analysis/points.py",
    "analysis/report/search.py",
    "analysis/settings_difference.py",
    "data/description.py",
    "experiment/checkpoints/checkpoint.py",
    "experiment/checkpoints/inherit.py",
    "experiment/cluster/node_check.py",
    "experiment/commands/submit.py",
    "experiment/lock.py",
    "experiment/remote/uploads.py",
    "experiment/spec/dimension.py",
    "experiment/tracking/process.py",
    "experiment/tracking/worker.py",
    "experiment/tuning/schedulers/explore.py",
    "experiment/tuning/watchdog.py",
    "replay/buffer.py",
    "replay/saving.py",
    "system/annotations/types.py",
    "system/json_output.py",
    "system/stores/places.py",
}

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


def test_json_for_people_keeps_letters() -> None:
    root = Path(rlssl.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "json.dumps(" in path.read_text(encoding="utf-8")
    }
    assert found == FOR_PROGRAMS  # all others use `readable_json`


@pytest.mark.parametrize(
    "text", ["été", "größe", "長さ", "🙂", "a\u2028b", "\x85", "\udce9", "a\nb"]
)
def test_readable_json_is_one_line_of_utf_8_and_the_same_value(text: str) -> None:
    written = readable_json({text: [text]})
    assert len(written.encode().decode().splitlines()) == 1
    assert json.loads(written) == {text: [text]}
    assert (text in written) == text.isprintable()
