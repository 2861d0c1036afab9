"""The command line: the arguments that it passes on, its output, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlssl.cli import main
from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.overrides import parse_loss
from rlssl.experiment.spec.yaml_reader import list_sweeps
from rlssl.registry import ALGORITHMS
from tests.experiment.command_line import restored_import_path

ReplaceCommand = Callable[[str, Callable[..., Any]], None]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; the import path is restored after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/already/there")
    with restored_import_path():
        yield tmp_path


@pytest.fixture
def replace_command(monkeypatch: pytest.MonkeyPatch) -> ReplaceCommand:
    """Replaces the function that a command calls."""

    def replace(name: str, function: Callable[..., Any]) -> None:
        monkeypatch.setattr(f"rlssl.experiment.commands.{name}.{name}", function)

    return replace


@pytest.fixture
def calls(replace_command: ReplaceCommand) -> list[tuple[Any, dict[str, Any]]]:
    """The arguments of each call of train, sweep, resume and evaluate, which do not run."""
    recorded: list[tuple[Any, dict[str, Any]]] = []

    def record(target: Any, **options: Any) -> int:
        recorded.append((target, options))
        return 1

    for name in ("train", "sweep", "resume", "evaluate"):
        replace_command(name, record)
    return recorded


def test_train_builds_a_spec_from_its_flags_and_exits_with_its_code(calls: list[Any]) -> None:
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
    assert (spec.model.from_, spec.model.load, spec.model.freeze) == ("old", "everything", None)
    assert options == {"trusted": True, "address": "auto"}


def test_encoder_of_another_run_is_taken_beside_settings_of_the_model(calls: list[Any]) -> None:
    model = ("--set", "model={encoder: mlp}")
    run("train", "ppo", "CartPole-v1", "--encoder", "a: b", "--freeze", *model)
    ((spec, _),) = calls
    assert (spec.model.from_, spec.model.load, spec.model.freeze) == ("a: b", None, True)
    assert spec.model.encoder == "mlp"
    run("train", "ppo", "CartPole-v1", "--from", "old", "--set", "model.load=policy")
    assert calls[-1][0].model.load == "policy"
    refused = run("train", "ppo", "CartPole-v1", "--from", "old", "--encoder", "old")
    assert refused.exit_code == 2 and "give one of them" in refused.stderr


def test_commands_wait_for_the_nodes_of_a_cluster(calls: list[Any], folder: Path) -> None:
    (folder / "s.yaml").write_text("{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10}}")
    for command in (["train", "ppo", "CartPole-v1"], ["sweep", "s.yaml"], ["resume", "old"]):
        # In any order.
        run(*command, "--wait-for-nodes", "--address", "auto")
        assert calls[-1][1]["wait_for_nodes"] is True and calls[-1][1]["address"] == "auto"
        refused = run(*command, "--wait-for-nodes")
        assert refused.exit_code == 2
        assert "--wait-for-nodes needs a cluster; add --address auto" in refused.stderr
    refused = run("sweep", "s.yaml", "--dry-run", "--wait-for-nodes", "--address", "auto")
    assert refused.exit_code == 2 and "leave out --wait-for-nodes" in refused.stderr
    assert len(calls) == 3


def test_missing_flags_leave_the_defaults(calls: list[Any]) -> None:
    run("train", "ppo", "CartPole-v1")
    ((spec, options),) = calls
    assert (spec.seeds, spec.storage, spec.name) == ([0], "./results", "ppo-CartPole-v1")
    assert (spec.stop, spec.resources.env_runners) == ({}, 0)
    assert options == {"trusted": False, "address": None}


def test_set_option_wins_over_a_flag(calls: list[Any]) -> None:
    run("train", "ppo", "CartPole-v1", "--seed", "1", "--set", "seed=2", "--set", "env.x=1")
    ((spec, _),) = calls
    assert (spec.seed, spec.seeds) == (2, [2])
    assert spec.env == {"id": "CartPole-v1", "x": 1}


def test_plugins_of_the_command_line_join_those_of_the_spec(calls: list[Any], folder: Path) -> None:
    (folder / "my_first.py").write_text("")
    (folder / "my_second.py").write_text("")
    text = "{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10}, plugins: [my_first]}"
    (folder / "s.yaml").write_text(text)
    run("sweep", "s.yaml", "--plugin", "my_second", "--plugin", "my_first")
    run("train", "ppo", "CartPole-v1", "--plugin", "my_second")
    (swept, _), (trained, _) = calls
    assert swept.plugins == ["my_first", "my_second"]
    assert trained.plugins == ["my_second"]


# The job of `submit` is a command, which imports its own plug-ins where it runs. `watch` only reads
# files, `init` writes a plug-in, and the commands of `data` need none.
@pytest.mark.parametrize("command", sorted({*main.commands} - {"submit", "watch", "init", "data"}))
def test_every_command_imports_the_plugins_that_it_is_given(command: str, folder: Path) -> None:
    needed = {"train": ["ppo", "CartPole-v1"], "list": ["envs"], "inspect": ["quickstart"]}
    needed["compare"] = ["run", "other"]
    needed["collect"] = ["run", "--episodes", "1", "--to", "data"]
    arguments = needed.get(
        command, [] if command in ("runs", "doctor", "matrix", "schema") else ["run"]
    )
    result = run(command, *arguments, "--plugin", "no_such_plugin")
    assert result.exit_code == 2
    assert "no module 'no_such_plugin' on the path" in result.stderr


def test_long_commands_print_a_line_before_they_import_anything(
    calls: list[Any], folder: Path
) -> None:
    assert run("train", "ppo", "CartPole-v1").stdout == "Preparing ppo on CartPole-v1.\n"
    assert run("resume", "old").stdout == "Preparing to continue old.\n"


def test_other_commands_pass_their_options_on(calls: list[Any], folder: Path) -> None:
    (folder / "s.yaml").write_text("{algorithm: ppo, env: CartPole-v1, stop: {env_steps: 10}}")
    run("sweep", "s.yaml", "--set", "seeds=[4, 5]", "--address", "auto")
    run("resume", "old", "--storage", "there")
    run("evaluate", "old", "--episodes", "7", "--env-runners", "2", "--seed", "9", "--json")
    (spec, options), resumed, evaluated = calls
    given = {"address": "auto", "trusted": False}
    assert (spec.name, spec.seeds, options) == ("s", [4, 5], given)
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
        (
            ["--aux", "icm:coeff"],
            "error: --aux icm:coeff: 'coeff' is not of the form KEY=VALUE; write --aux",
        ),
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
def test_exit_code_tells_the_kind_of_error(
    replace_command: ReplaceCommand, error: BaseException, code: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    replace_command("resume", fail)
    result = run("resume", "old")
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")


def test_bug_is_not_reported_as_an_error_of_the_user(replace_command: ReplaceCommand) -> None:
    replace_command("resume", lambda *_, **__: 1 // 0)
    result = run("resume", "old")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("command", ["replay", "trian"])
def test_unknown_command_gives_clicks_usual_error(command: str) -> None:
    result = run(command, "RUN", "--fps", "3")
    assert result.exit_code == 2
    assert f"Error: No such command '{command}'." in result.stderr
    assert command not in run("--help").stdout.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("icm", ("icm", {})),
        ("icm:coeff=1e-1", ("icm", {"coeff": 0.1})),
        ("icm:a=1,b=x", ("icm", {"a": 1, "b": "x"})),
        ("icm:a=[1,2],b={c: 3, d: 4}", ("icm", {"a": [1, 2], "b": {"c": 3, "d": 4}})),
    ],
)
def test_loss_is_read_as_its_name_and_options(text: str, expected: Any) -> None:
    assert parse_loss(text) == expected


def test_modules_beside_the_spec_and_in_the_current_folder_can_be_imported(
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


def test_inspect_shows_the_resolved_spec_and_its_points(folder: Path) -> None:
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
        "# resources, disk and time: rlssl sweep s.yaml --dry-run\n"
    )


def test_inspect_with_preflight_builds_the_environment(folder: Path) -> None:
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
def test_registered_names_are_listed_as_text_and_as_json(kind: str, name: str) -> None:
    assert any(line.startswith(name) for line in run("list", kind).stdout.splitlines())
    rows = json.loads(run("list", kind, "--json").stdout)
    assert name in [row["name"] for row in rows]


def test_sweeps_are_listed_and_a_wrong_kind_is_refused() -> None:
    names = run("list", "sweeps").stdout.splitlines()
    assert names == list_sweeps() and "quickstart" in names
    assert run("list", "swepes").exit_code == 2


def test_long_path_is_printed_absolute_on_a_line_of_its_own(
    replace_command: ReplaceCommand, folder: Path
) -> None:
    long = Path("x" * 150, "export")
    replace_command("export", lambda run, **_: long)
    assert run("export", "old").stdout == f"{folder / long}\n"


def test_a_reader_that_has_enough_ends_a_command_without_an_error() -> None:
    command = [sys.executable, "-m", "rlssl.cli", "runs", "--storage", "/nowhere"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()  # as `rlssl runs | head` does
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")  # click's own exit code
