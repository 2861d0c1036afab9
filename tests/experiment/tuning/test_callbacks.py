"""episodes.csv keeps one history, whatever a trial repeats."""

from pathlib import Path

from rlssl.experiment.tuning.callbacks import _rewrite


def test_rows_after_the_checkpoint_are_dropped_and_half_a_row_too(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text("env_steps,return,length,success\n100,1.0,5,nan\n250,2.0,6,1.0\n300,3.")
    _rewrite(path, keep_until=200)
    assert path.read_text().splitlines() == ["env_steps,return,length,success", "100,1.0,5,nan"]


def test_new_file_has_the_header(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    _rewrite(path, keep_until=0)
    assert path.read_text().splitlines() == ["env_steps,return,length,success"]
