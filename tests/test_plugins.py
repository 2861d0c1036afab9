"""Errors of plug-ins name the plug-in's file and line, and what they print harms no output."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.cli import main
from rlssl.environments.building import make_env
from rlssl.environments.env_check import EnvSpaces, preflight
from rlssl.errors import PluginError, PreflightError, SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.plugins import load_plugins, resolve, with_line
from rlssl.policy import Policy, _build_module
from rlssl.registry import AUXILIARY_LOSSES, ENCODERS, ENVIRONMENTS
from rlssl.rollouts.faults import Fault
from tests.experiment.command_line import restored_import_path

LAB = """
import gymnasium as gym, numpy as np, rlssl
from rlssl.auxiliary import AuxiliaryLoss
print("import")
class Env(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    def __init__(self, fails_at=0):
        self.fails_at, self.steps = fails_at, 0
        print("init")
    def reset(self, *, seed=None, options=None):
        print("reset")
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.steps += 1
        print("step")
        if self.steps == self.fails_at:
            np.linalg.inv(np.zeros((2, 2)))  # line 17; the error passes files of numpy
        return np.zeros(3, np.float32), 0.0, False, False, {}

class Loss(AuxiliaryLoss):
    reads = frozenset({"obs"})
    def __init__(self, config, **parts):
        super().__init__(config, **parts)
        self.head = parts["decoder"]  # line 24

def encoder(observation_space):
    raise RuntimeError("no weights")  # line 27

rlssl.register_env("lines/Env", Env)
rlssl.register_auxiliary_loss("lines_loss", Loss)
rlssl.register_encoder("lines_encoder", encoder)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a plug-in whose parts fail."""
    path = tmp_path / "lab_of_lines.py"
    path.write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    load_plugins()  # the built-in environments stay registered
    with ExitStack() as undone:
        undone.enter_context(restored_import_path())
        for table in (ENVIRONMENTS, AUXILIARY_LOSSES, ENCODERS):
            undone.enter_context(table.undone_afterwards())
        sys.path.append(str(tmp_path))
        yield path
    sys.modules.pop(path.stem, None)


def spec_with(**more: Any) -> dict[str, Any]:
    env = {"id": "lines/Env"}
    return {"algorithm": "ppo", "env": env, "plugins": ["lab_of_lines"], **more}


def evaluate(folder: Path, env: dict[str, Any], *options: str) -> Result:
    """Evaluates an untrained policy in an environment of the plug-in."""
    spaces: tuple[gym.Space, gym.Space] = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    config = PPOConfig()
    config.adapt_to(EnvSpaces(*spaces))
    settings = {
        "algorithm": "ppo",
        "model": config.get_default_rl_module_spec().model_config,
        "observation_space": spaces[0],
        "action_space": spaces[1],
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": env,
    }
    Policy(_build_module(settings), settings).save(folder / "policy")
    limits = ("--episodes", "1", "--max-episode-steps", "20")
    arguments = ["evaluate", "policy", *limits, "--plugin", "lab_of_lines", *options]
    return CliRunner().invoke(main, arguments)


def test_an_error_in_a_step_names_the_line_of_the_environment(lab: Path) -> None:
    load_plugins([lab.stem])
    words = f"failed in step(): LinAlgError: Singular matrix ({lab}, line 17)"
    env = {"id": "lines/Env", "fails_at": 2}
    with pytest.raises(PreflightError) as caught:
        preflight(env)
    assert str(caught.value) == f"environment 'lines/Env' {words}"
    with pytest.raises(np.linalg.LinAlgError) as raised:
        broken = make_env({"id": "lines/Env", "fails_at": 1})
        broken.step(0)
    assert Fault("step", raised.value).message("lines/Env", 30.0).endswith(words)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"auxiliary": {"lines_loss": {}}}, "KeyError: 'decoder' ({lab}, line 24)"),
        ({"model": {"encoder": "lines_encoder"}}, "RuntimeError: no weights ({lab}, line 27)"),
    ],
)
def test_a_part_that_cannot_be_built_names_its_line(
    lab: Path, part: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check_trial(load_spec(spec_with(**part)))
    assert str(caught.value).endswith(words.format(lab=lab))


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.linalg.inv(np.zeros((2, 2)))\n",
        "import json\njson.loads('{')\n",
        "x = 1\ndef f(:\n",
    ],
)
def test_an_error_at_the_import_names_the_line_of_the_plugin_not_of_a_package(
    lab: Path, code: str
) -> None:
    path = lab.with_name(f"broken_plugin_{len(code)}.py")
    path.write_text(code)
    for arguments in (["doctor"], ["train", "ppo", "CartPole-v1"], ["evaluate", "policy"]):
        result = CliRunner().invoke(main, [*arguments, "--plugin", path.stem])
        assert result.exit_code == 2
        assert result.stderr.endswith(f"({path}, line 2)\n")
    with pytest.raises(PluginError):
        load_plugins([path.stem])


def test_the_traceback_of_another_process_tells_the_line() -> None:
    text = """ray::SpecTrainable.train() (pid=7, ip=10.0.0.1)
  File "/home/me/my_losses.py", line 28, in losses
  File "/usr/lib/python3.11/random.py", line 3, in choice
  File "/opt/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 5, in _call
  File "python/ray/_raylet.pyx", line 1883, in ray._raylet.execute_task
KeyError: 'rewards'"""
    assert with_line("KeyError: 1", text) == "KeyError: 1 (/home/me/my_losses.py, line 28)"
    named = "KeyError: 1 (/home/me/my_losses.py, line 28); slot 0"
    assert with_line(named, text) == named


def test_installed_plugins_have_lines_but_libraries_that_a_reference_names_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "lib" / "python3.11" / "site-packages"
    monkeypatch.syspath_prepend(installed)
    lines = []
    for name in ("plugin_of_a_wheel", "library_of_a_wheel"):
        path = installed / name / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text("answer = 42")
        lines.append(f'File "{path}", line 3, in losses')
    load_plugins(["plugin_of_a_wheel"])
    assert resolve("library_of_a_wheel:answer") == 42
    of_plugin, of_library = lines
    own = 'File "/home/me/my_losses.py", line 28, in losses'
    assert with_line("E", f"{own}\n{of_library}") == "E (/home/me/my_losses.py, line 28)"
    assert with_line("E", of_library) == "E"
    assert with_line("E", f"{own}\n{of_plugin}").endswith("/plugin_of_a_wheel/__init__.py, line 3)")


def test_an_evaluation_ends_with_the_line_of_the_environment(lab: Path) -> None:
    # The preflight makes three steps, so the error is one of the evaluation itself.
    result = evaluate(lab.parent, {"id": "lines/Env", "fails_at": 9})
    assert result.exit_code == 1
    assert result.exception is not None
    # Python prints the note as the last line, below the traceback.
    (note,) = result.exception.__notes__
    assert note == f"error: LinAlgError: Singular matrix ({lab}, line 17)"


def test_an_evaluation_prints_json_although_the_environment_prints(lab: Path) -> None:
    result = evaluate(lab.parent, {"id": "lines/Env"}, "--json")
    assert result.exit_code == 0, result.stderr
    # Its episodes have no success. NaN would be no JSON.
    (found,) = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(word))
    assert len(found["episodes"]) == 1 and found["success_rate"] is None
    assert {"import", "init", "reset", "step"} <= set(result.stderr.splitlines())
