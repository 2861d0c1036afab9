"""What `rlssl resume` prints about the trials before it starts Ray."""

from pathlib import Path

import pytest

from rlssl.experiment.commands.resume import say_where_trials_stand
from tests.experiment.checkpoints.test_checkpoint import write_checkpoint


@pytest.mark.parametrize("count", [2, 36])
def test_checkpoints_of_many_trials_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    for number in range(count):
        trial = tmp_path / f"t{number:02}"
        trial.mkdir()
        (trial / "trial.json").touch()
        if number > 0:  # the first has none yet
            write_checkpoint(trial / "checkpoint_000000", 100 * number)
    say_where_trials_stand(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    if count == 36:
        assert lines == ["35 of 36 trials have a checkpoint, after 100 to 3,500 env steps."]
    else:
        assert lines == [
            "t00 has no checkpoint yet and starts from the beginning.",
            "Continuing after 100 env steps from",
            str(tmp_path / "t01" / "checkpoint_000000"),
        ]
