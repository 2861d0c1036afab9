"""`rlssl runs`: the state of runs, from the files that they leave."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.experiment.commands.results.runs import describe_run, runs
from rlssl.experiment.lock import held
from rlssl.experiment.run_folders import last_result

SPEC: dict[str, Any] = {
    "name": "ppo",
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "auxiliary": {"icm": {}, "curl": None},
    "seeds": [0, 1, 2, 3],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "ppo"
    folder.mkdir()
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SPEC))
    note(folder, started=time.time() - 300, state="running")
    return folder


def note(run: Path, **content: Any) -> None:
    (run / "run.json").write_text(json.dumps(content))


def add_trial(run: Path, name: str, env_steps: int, score: float, *, done: bool) -> Path:
    trial = run / name
    trial.mkdir()
    (trial / "trial.json").write_text("{}")
    rows = [{"env_steps": 5, "episode_return_mean": 1.0, "done": False}]
    rows.append({"env_steps": env_steps, "episode_return_mean": score, "done": done})
    (trial / "result.json").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return trial


def state(run: Path) -> str:
    return describe_run(run, run.parent).state


def test_a_row_says_what_the_run_trains_and_how_far_it_is(run: Path) -> None:
    add_trial(run, "a", 100, 20.0, done=True)
    add_trial(run, "b", 50, 10.0, done=False)
    row = describe_run(run, run.parent)
    assert (row.name, row.algorithm, row.env) == ("ppo", "ppo", "CartPole-v1")
    assert (row.losses, row.seeds, row.trials) == (["icm"], [0, 1, 2, 3], 2)
    assert row.updates is None
    # 100 + 50 env steps; (20 + 10) / 2.
    assert (row.env_steps, row.last_return) == (150, 15.0)
    assert row.age_s == pytest.approx(300, abs=60)


def test_a_run_is_running_while_a_process_holds_its_lock(run: Path) -> None:
    add_trial(run, "a", 100, 20.0, done=False)
    with held(run):
        assert state(run) == "running"
    # Its process was killed: nobody noted how it ended.
    assert state(run) == "interrupted"


@pytest.mark.parametrize("noted", ["finished", "failed", "interrupted"])
def test_the_noted_end_of_a_run_is_its_state(run: Path, noted: str) -> None:
    note(run, state=noted)
    assert state(run) == noted


@pytest.mark.parametrize(
    ("done", "has_error", "expected"),
    [(True, False, "finished"), (False, False, "interrupted"), (False, True, "failed")],
)
def test_runs_of_earlier_versions_have_a_state_too(
    run: Path, done: bool, has_error: bool, expected: str
) -> None:
    note(run, is_sweep=False)
    trial = add_trial(run, "a", 100, 20.0, done=done)
    if has_error:
        (trial / "error.txt").write_text("RuntimeError")
    assert state(run) == expected


def test_searched_losses_algorithms_and_environments_are_named(run: Path) -> None:
    grid = {"auxiliary": {"grid": [{}, {"curl": {}}]}, "auxiliary.icm.coeff": {"uniform": [0, 1]}}
    grid["env.id"] = {"grid": ["CartPole-v1", "Acrobot-v1"]}
    (run / "sweep.yaml").write_text(yaml.safe_dump({**SPEC, "auxiliary": {}, "search": grid}))
    row = describe_run(run, run.parent)
    assert row.losses == ["curl", "icm"]
    assert row.env == "CartPole-v1 or Acrobot-v1"


def test_a_run_without_steps_counts_updates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"algorithm": "pretrain", "stop": {"updates": 60}, "seeds": [0]}
    (run / "sweep.yaml").write_text(yaml.safe_dump(spec))
    assert describe_run(run, run.parent).updates == 0
    for name, updates in (("a", 60), ("b", 20)):
        trial = add_trial(run, name, 0, 0.0, done=True)
        (trial / "result.json").write_text(json.dumps({"updates": updates, "done": True}) + "\n")
    row = describe_run(run, run.parent)
    assert (row.env_steps, row.updates, row.last_return) == (0, 80, None)
    runs(storage=str(run.parent))
    assert "80 updates" in capsys.readouterr().out
    runs(storage=str(run.parent), as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["updates"] == 80


def test_half_a_line_and_damaged_files_are_passed_over(run: Path) -> None:
    trial = add_trial(run, "a", 100, 20.0, done=False)
    with (trial / "result.json").open("ab") as file:
        file.write(b'{"env_steps": 200, "epi\xff')
    result = last_result(trial)
    assert result is not None and result["env_steps"] == 100
    (run / "sweep.yaml").write_text("- {")
    assert describe_run(run, run.parent).algorithm == "?"


def test_a_return_that_is_no_number_yet_is_left_out(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_trial(run, "a", 100, float("nan"), done=False)
    assert runs(storage=str(run.parent)) == 0
    cells = capsys.readouterr().out.splitlines()[1].split()
    assert cells == [
        "ppo",
        "interrupted",
        "ppo",
        "CartPole-v1",
        "icm",
        "0-3",
        "100",
        "-",
        "5",
        "min",
    ]
    runs(storage=str(run.parent), as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["last_return"] is None


def test_the_command_imports_nothing_heavy(run: Path) -> None:
    code = "import sys; from rlssl.cli import main; main(sys.argv[1:], standalone_mode=False)"
    code = code.replace("; main(", "\ntry:\n    main(") + "\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'ray'} & set(sys.modules), 'heavy'"
    command = [sys.executable, "-c", code, "runs", "--storage", str(run.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "ppo  interrupted" in done.stdout


def test_a_narrow_terminal_leaves_columns_out_instead_of_wrapping(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_trial(run, "a", 100, 20.0, done=True)
    widths = {}
    for width in (120, 60, 30):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
        assert runs(storage=str(run.parent)) == 0
        header, line = capsys.readouterr().out.splitlines()
        widths[width] = (len(header), len(line), header.split())
    assert widths[120][2][:5] == ["run", "state", "algorithm", "env", "losses"]
    assert max(widths[60][:2]) <= 60 and widths[60][2][:3] == ["run", "state", "losses"]
    # The rest is never left out.
    assert widths[30][2] == ["run", "state", "env", "steps", "return", "age"]
