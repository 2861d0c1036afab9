"""The command line: what it hands on, what it prints, and its exit codes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlssl.cli import main, parse_auxiliary
from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.registry import ALGORITHMS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; what a command puts on the import path is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "/already/there")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What train, sweep, resume and evaluate are called with, instead of running."""
    recorded: list[tuple[Any, dict[str, Any]]] = []

    def record(target: Any, **options: Any) -> int:
        recorded.append((target, options))
        return 1

    for name in ("train", "sweep", "resume", "evaluate"):
        monkeypatch.setattr(f"rlssl.experiment.commands.{name}.{name}", record)
    return recorded


def test_train_makes_a_spec_of_its_flags_and_exits_with_its_code(calls: list[Any]) -> None:
    result = run(
        *("train", "ppo", "CartPole-v1", "--aux", "icm:variant=burda,intrinsic_coeff=0.5"),
        *("--variant", "both", "--seed", "3", "--stop", "env_steps=1e5", "--env-runners", "2"),
        *("--stop", "episode_return_mean=475", "--set", "training.lr=[[0, 1e-3], [1e5, 0]]"),
        *("--storage", "there", "--name", "mine", "--from", "old", "--trust", "--address", "auto"),
    )
    assert result.exit_code == 1, result.output  # what train returned
    ((spec, options),) = calls
    assert (spec.algorithm, spec.env, spec.variant) == ("ppo", {"id": "CartPole-v1"}, "both")
    assert spec.auxiliary == {"icm": {"variant": "burda", "intrinsic_coeff": 0.5}}
    assert (spec.seed, spec.seeds) == (3, [3])
    assert spec.stop == {"env_steps": 100_000, "episode_return_mean": 475}
    assert spec.training["lr"] == [[0, 1e-3], [100_000, 0]]
    assert (spec.storage, spec.name, spec.resources.env_runners) == ("there", "mine", 2)
    assert options == {"warm_start": "old", "trusted": True, "address": "auto"}


def test_flags_that_are_not_given_leave_the_defaults(calls: list[Any]) -> None:
    run("train", "ppo", "CartPole-v1")
    ((spec, options),) = calls
    assert (spec.seeds, spec.storage, spec.name) == ([0], "./results", "ppo-CartPole-v1")
    assert (spec.stop, spec.resources.env_runners) == ({}, 0)
    assert options == {"warm_start": None, "trusted": False, "address": None}


def test_what_is_set_wins_over_what_a_flag_says(calls: list[Any]) -> None:
    run("train", "ppo", "CartPole-v1", "--seed", "1", "--set", "seed=2", "--set", "env.x=1")
    ((spec, _),) = calls
    assert (spec.seed, spec.seeds) == (2, [2])
    assert spec.env == {"id": "CartPole-v1", "x": 1}


def test_the_other_commands_hand_their_options_on(calls: list[Any], folder: Path) -> None:
    (folder / "s.yaml").write_text("{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10}}")
    run("sweep", "s.yaml", "--set", "seeds=[4, 5]", "--address", "auto")
    run("resume", "old", "--storage", "there")
    run("evaluate", "old", "--episodes", "7", "--env-runners", "2", "--seed", "9", "--json")
    (spec, options), resumed, evaluated = calls
    assert (spec.name, spec.seeds, options) == ("s", [4, 5], {"address": "auto"})
    assert resumed == ("old", {"storage": "there", "address": None, "trusted": False})
    assert evaluated == (
        "old",
        {
            "episodes": 7,
            "explore": False,
            "env_runners": 2,
            "seed": 9,
            "as_json": True,
            "probe": False,
            "max_episode_steps": None,
            "trusted": False,
            "storage": "./results",
        },
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aux", "imc"], "error: unknown loss 'imc'; did you mean 'icm'?"),
        (["--aux", "icm:coeff"], "error: --aux icm:coeff: 'coeff' is no KEY=VALUE; write --aux"),
        (
            ["--stop", "env_step=5"],
            "error: unknown stop metric 'env_step'; did you mean 'env_steps",
        ),
        (["--set", "trainning.lr=1"], "error: unknown key 'trainning' in the spec; did you mean"),
        (["--env-runners", "-1"], "error: resources.env_runners must be >= 0; got -1."),
    ],
)
def test_a_wrong_flag_ends_with_2_and_one_line_before_anything_starts(
    calls: list[Any], arguments: list[str], message: str
) -> None:
    result = run("train", "ppo", "CartPole-v1", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.output
    assert calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(SpecError("no."), 2), (ResourceError("no."), 3), (KeyboardInterrupt(), 130)],
)
def test_the_exit_code_says_whose_fault_it_was(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("rlssl.experiment.commands.resume.resume", fail)
    result = run("resume", "old")
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")


def test_a_bug_is_not_passed_off_as_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlssl.experiment.commands.resume.resume", lambda *_, **__: 1 // 0)
    result = run("resume", "old")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("command", ["record", "report"])
def test_commands_of_later_say_so_whatever_their_arguments(command: str) -> None:
    result = run(command, "RUN", "--fps", "3")
    assert result.exit_code == 2
    assert result.stderr == f"error: rlssl {command} is not available yet.\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("icm", ("icm", {})),
        ("icm:coeff=1e-1", ("icm", {"coeff": 0.1})),
        ("icm:a=1,b=x", ("icm", {"a": 1, "b": "x"})),
        ("icm:a=[1,2],b={c: 3, d: 4}", ("icm", {"a": [1, 2], "b": {"c": 3, "d": 4}})),
    ],
)
def test_losses_are_written_as_a_name_and_options(text: str, expected: Any) -> None:
    assert parse_auxiliary(text) == expected


def test_modules_beside_the_spec_and_in_the_current_folder_are_found_everywhere(
    folder: Path, calls: list[Any]
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "plugin_of_this_folder.py").touch()
    (folder / "elsewhere" / "plugin_beside_the_spec.py").touch()
    (folder / "elsewhere" / "s.yaml").write_text(
        "{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10},"
        " plugins: [plugin_of_this_folder, plugin_beside_the_spec]}"
    )
    result = run("sweep", "elsewhere/s.yaml")
    assert len(calls) == 1, result.output
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [
        "/already/there",
        str(folder),
        str(folder / "elsewhere"),
    ]
    assert sys.path[-2:] == [str(folder), str(folder / "elsewhere")]


def test_inspect_shows_the_resolved_spec_and_its_trials(folder: Path) -> None:
    (folder / "s.yaml").write_text(
        """
algorithm: ppo
env: CartPole-v1
search: {"auxiliary": {grid: [{}, {icm: {}}]}}
seeds: [0, 1, 2]
stop: {env_steps: 1e3}
"""
    )
    result = run("inspect", "s.yaml", "--set", "variant=both")
    assert result.exit_code == 0, result.output
    assert "training:\n  variant: both\n" in result.stdout
    (folder / "resolved.yaml").write_text(result.stdout)
    assert load_spec("resolved.yaml") == load_spec("s.yaml", ["variant=both"])
    assert result.stdout.endswith(
        "# 6 trials: points of the grid, each with seeds [0, 1, 2]\n"
        '#   {"auxiliary": {}}\n'
        '#   {"auxiliary": {"icm": {}}}\n'
    )


def test_inspect_can_try_the_environment(folder: Path) -> None:
    (folder / "s.yaml").write_text(
        "{algorithm: ppo, env: {id: CartPole-v1, wrong: 1}, stop: {env_steps: 10}}"
    )
    assert run("inspect", "s.yaml").exit_code == 0
    result = run("inspect", "s.yaml", "--preflight")
    assert result.exit_code == 2
    assert "unexpected keyword argument 'wrong'" in result.stderr
    (folder / "s.yaml").write_text("{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10}}")
    assert "actions: Discrete(2)" in run("inspect", "s.yaml", "--preflight").stdout


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("algorithms", name) for name in ALGORITHMS),
        *(("losses", name) for name in ("bisimulation", "curl", "deepmdp", "icm")),
        *(("encoders", "mlp"), ("envs", "memory/cue"), ("envs", "any gymnasium id")),
    ],
)
def test_what_is_registered_is_listed_for_people_and_programs(kind: str, name: str) -> None:
    assert any(line.startswith(name) for line in run("list", kind).stdout.splitlines())
    rows = json.loads(run("list", kind, "--json").stdout)
    assert name in [row["name"] for row in rows]


def test_sweeps_are_listed_and_a_wrong_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlssl.experiment.spec.yaml_reader.list_sweeps", lambda: ["quickstart"])
    assert run("list", "sweeps").stdout == "quickstart\n"
    assert run("list", "swepes").exit_code == 2


def test_a_path_is_printed_absolute_alone_on_its_line_however_long(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    long = Path("x" * 150, "export")
    monkeypatch.setattr("rlssl.experiment.commands.export.export", lambda run, **_: long)
    assert run("export", "old").stdout == f"{folder / long}\n"
