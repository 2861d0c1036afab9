"""A running sweep: a table that fits the terminal, or a line a minute."""

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from rich.console import Console

from rlssl.experiment.tuning import live_table
from rlssl.experiment.tuning.live_table import SweepProgress
from rlssl.experiment.tuning.searchers import write_points

POINTS = [{"training.lr": 0.1}, {"training.lr": 0.2}]


def trials(folder: Path, *states: tuple[int, str, int, float]) -> list[Any]:
    """Trials of points with seeds; each state is point, status, env steps and score."""
    made = []
    for number, (index, status, env_steps, score) in enumerate(states):
        result = {"env_steps": env_steps, "episode_return_mean": score} if env_steps else {}
        made.append(
            SimpleNamespace(
                trial_id=str(number),
                status=status,
                last_result=result,
                config={**POINTS[index], "seed": number},
                storage=SimpleNamespace(experiment_fs_path=str(folder)),
            )
        )
    return made


def test_line_has_counts_time_left_and_the_best_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = 0.0
    monkeypatch.setattr(live_table.time, "monotonic", lambda: second)
    write_points(tmp_path, POINTS, search_seed=0)
    progress = SweepProgress(4, 1000, "ASHA by episode_return_mean at 500 env steps")
    progress.setup()
    progress.on_step_end(1, trials(tmp_path, (0, Trial.RUNNING, 0, 0.0)))
    assert capsys.readouterr().out == ""
    second = 60.0
    now = trials(
        tmp_path,
        (0, Trial.TERMINATED, 1000, 2.0),
        (0, Trial.RUNNING, 500, 4.0),
        (1, Trial.ERROR, 100, math.nan),
        (1, Trial.PENDING, 0, 0.0),
    )
    progress.on_step_end(2, now)
    # 1000 + 500 + 1000 (failed: nothing is left) of 4000 env steps in 60 s: 1500 more take 36 s.
    assert capsys.readouterr().out == (
        "1 of 4 trials finished, 1 running, 1 failed; 62% of the env steps, 36 s left. "
        "ASHA by episode_return_mean at 500 env steps. Best: lr=0.1, return 3.00.\n"
    )
    second = 61.0
    progress.on_step_end(3, now)
    assert capsys.readouterr().out == ""


def test_a_sweep_of_ten_minutes_prints_nine_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(live_table.time, "monotonic", lambda: now)
    write_points(tmp_path, POINTS, search_seed=0)
    progress = SweepProgress(4, 1200)
    progress.setup()
    for second in range(600):  # Tune calls the hook all the time
        now = float(second)
        running = [(index, Trial.RUNNING, second, 1.0) for index in (0, 0, 1, 1)]
        progress.on_step_end(second, trials(tmp_path, *running))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    # 4 x 60 of 4 x 1200 env steps in 60 s: 19 times as many take 19 min.
    assert lines[0] == (
        "0 of 4 trials finished, 4 running; 5% of the env steps, 19 min 0 s left. "
        "Best: lr=0.1, return 1.00."
    )


def test_table_is_shown_on_a_terminal_and_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(force_terminal=True, width=80, height=20)
    monkeypatch.setattr(live_table, "Console", lambda: console)
    progress = SweepProgress(1, 1000)
    progress.setup()
    now = trials(tmp_path, (1, Trial.RUNNING, 500, 4.0))
    progress.on_step_end(1, now)
    printed = capsys.readouterr().out
    assert "lr=0.2" in printed and "0 of 1 trials finished, 1 running" in printed
    restored = pickle.loads(pickle.dumps(progress))  # Tune saves callbacks with the experiment
    assert restored.num_trials == 1
    progress.on_experiment_end(now)
    assert "\x1b[?25h" in capsys.readouterr().out  # the cursor is back
