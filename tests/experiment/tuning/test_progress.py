"""A running training: a bar on a terminal of 80 columns, else a line a minute."""

import math
from typing import Any

import pytest
from rich.console import Console

from rlssl.experiment.tuning import callbacks
from rlssl.experiment.tuning.callbacks import ProgressBar, progress_words

RESULT = {"env_steps_at_start": 0, "time_since_restore": 10.0, "episode_return_mean": 0.5}


def test_a_line_a_minute_makes_ten_lines_in_ten_minutes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    bar = ProgressBar(600_000)
    bar.setup()
    show: Any = bar.on_trial_result
    for second in range(600):  # a result a second
        now = 1000.0 + second
        result = {**RESULT, "env_steps": 1000 * (second + 1), "time_since_restore": second + 1.0}
        show(0, [], None, result)
    bar.on_experiment_end([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[:2] == [
        "1,000 of 600,000 env steps, 1,000/s, return 0.500, 9 min 59 s left",
        "61,000 of 600,000 env steps, 1,000/s, return 0.500, 8 min 59 s left",
    ]


@pytest.mark.parametrize("score", [-12345.678, math.nan, 0.0])
def test_the_bar_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], score: float
) -> None:
    console = Console(force_terminal=True, width=80, no_color=True)
    monkeypatch.setattr(callbacks, "Console", lambda: console)
    total = 50_000_000
    result = {**RESULT, "env_steps": 12_345_678, "time_since_restore": 1000.0}
    result["episode_return_mean"] = score
    bar = ProgressBar(total)
    bar.setup()
    show: Any = bar.on_trial_result
    show(0, [], None, result)
    bar.on_experiment_end([])
    words = f"12,345,678 env steps, {progress_words(result, total)}"
    assert len(" 25% ━━━━━━━━━━ " + words) <= 80
    assert words in capsys.readouterr().out  # neither cut nor wrapped
