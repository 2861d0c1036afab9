"""episodes.csv holds each episode once, also after a trial went back to a checkpoint."""

from pathlib import Path

from rlssl.experiment.tuning.callbacks import start_episodes_file


def test_rows_after_the_checkpoint_and_incomplete_rows_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text("env_steps,return,length,success\n100,1.0,5,nan\n250,2.0,6,1.0\n300,3.")
    start_episodes_file(path, keep_until=200)
    assert path.read_text().splitlines() == ["env_steps,return,length,success", "100,1.0,5,nan"]


def test_new_file_has_the_header(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    start_episodes_file(path, keep_until=0)
    assert path.read_text().splitlines() == ["env_steps,return,length,success"]
