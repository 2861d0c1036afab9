"""`import rlssl` and `rlssl --help` are fast; public names are imported on first use."""

import json
import subprocess
import sys
import time

import pytest

import rlssl

# Importing any of these packages takes longer than the whole time limit, or almost as long.
HEAVY = {"gymnasium", "matplotlib", "numpy", "pydantic", "ray", "torch"}

IMPORT = "import rlssl, rlssl.registry"
HELP = "from rlssl.cli import main; main(['--help'], standalone_mode=False)"


@pytest.mark.parametrize("code", [IMPORT, HELP])
def test_it_takes_less_than_a_second(code: str) -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return time.perf_counter() - begin

    # The best of three, because the machine may be busy with something else.
    assert min(seconds() for _ in range(3)) < 1.0


@pytest.mark.parametrize("code", [IMPORT, HELP])
def test_nothing_heavy_is_imported(code: str) -> None:
    report = f"{code}\nimport json, sys\nprint()\nprint(json.dumps(list(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", report], check=True, capture_output=True, text=True
    )
    modules = json.loads(result.stdout.splitlines()[-1])
    assert HEAVY & {name.split(".")[0] for name in modules} == set()


def test_rllib_does_not_import_the_tasks_of_dm_control_until_they_are_used() -> None:
    code = """
import sys
import rlssl, rlssl.algorithms.ppo.ppo
print("dm_control.suite.cartpole" in sys.modules)
from dm_control import suite
print(suite.load("cartpole", "swingup").action_spec().shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.splitlines() == ["False", "(1,)"]


@pytest.mark.parametrize("name", rlssl.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(rlssl, name) is not None
    assert name in dir(rlssl)


def test_an_unknown_algorithm_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = rlssl.DreamerConfig
    assert str(caught.value) == (
        "module 'rlssl' has no attribute 'DreamerConfig'; available algorithms: A3CConfig, "
        "BCConfig, DAggerConfig, DDPGConfig, IQLConfig, PPOConfig, RainbowConfig, SACConfig."
    )
    with pytest.raises(AttributeError, match=r"has no attribute 'replya'$"):
        _ = rlssl.replya


#: What each command prints first, off a terminal; the imports that take seconds come later.
FIRST_LINES = {
    "train ppo CartPole-v1": "Preparing ppo on CartPole-v1.",
    "sweep quickstart": "Preparing the sweep quickstart.",
    "resume old": "Preparing to continue old.",
    "evaluate old": "Preparing to evaluate old.",
    "evaluate old --json": "Preparing to evaluate old.",
    "export old": "Preparing to export old.",
    "matrix": "Preparing the matrix matrix.",
    "doctor": "Checking this machine; this takes up to 20 seconds.",
    "init mine": "Writing a new experiment to mine.",
    "schema": "Reading the registries; this takes some seconds.",
    "doctor --json": "Checking this machine; this takes up to 20 seconds.",
    "summary old": "Reading old.",
    "watch old": "Reading old.",
    "inspect quickstart": "Reading quickstart.",
    "runs --storage /nowhere": "There are no runs below /nowhere.",
    "train --help": "Usage: -c train [OPTIONS] ALGO ENV",
    "list presets": "a3c_atari                    of algorithm a3c: --preset a3c_atari",
    "list sweeps": "a3c_atari",
}

AT_THE_FIRST_LINE = """
import json, os, sys
class Terminal:
    encoding, line = "utf-8", ""
    def write(self, text):
        self.line += text
        if "\\n" in self.line:
            packages = sorted({name.split(".")[0] for name in sys.modules})
            os.write(1, json.dumps([self.line.splitlines()[0], packages]).encode())
            os._exit(0)
    def flush(self): pass
    def isatty(self): return False
sys.stdout = sys.stderr = Terminal()
from rlssl.cli import main
main(sys.argv[1].split())
"""


@pytest.mark.parametrize("command", FIRST_LINES)
def test_nothing_heavy_is_imported_before_the_first_line(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", AT_THE_FIRST_LINE, command], check=True, capture_output=True
    )
    line, modules = json.loads(result.stdout)
    assert line == FIRST_LINES[command]
    assert HEAVY & set(modules) == set()


def test_the_summary_of_a_run_imports_neither_torch_nor_ray() -> None:
    code = """
import sys
import rlssl.experiment.commands.summary
print(sorted({"torch", "ray", "matplotlib"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"
