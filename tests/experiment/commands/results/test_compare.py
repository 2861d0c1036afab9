"""`rlssl compare`: exit code 0 whatever comes out, and every wrong word is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlssl.cli import main
from tests.analysis.comparison.finished_runs import write_run, write_trial

POINTS = [{"training.lr": 0.1}, {"training.lr": 0.2}]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A sweep of two points and three seeds, and a run on another environment."""
    sweep = write_run(tmp_path / "sweep", POINTS)
    for index, point in enumerate(POINTS):
        for seed in range(3):
            write_trial(sweep, seed, [10.0 * index + seed] * 20, point=point)
    other = write_run(tmp_path / "other", seeds=[0])
    write_trial(other, 0, [-200.0] * 20, spec={"env": {"id": "Pendulum-v1"}})
    return tmp_path


def run(storage: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["compare", *words, "--storage", str(storage)])


def test_two_points_are_compared_by_label_and_index(storage: Path) -> None:
    result = run(storage, "sweep:lr=0.2", "sweep:0")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("A (sweep:lr=0.2) is better by 10.0 than B (sweep:lr=0.1): ")
    for words in ("P(A better than B)", "training.lr", "env steps/s", "curves: return", "caution:"):
        assert words in result.stdout


def test_json_is_all_of_standard_output(storage: Path) -> None:
    result = run(storage, "sweep:0", "sweep:1", "--json")
    found = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(word))
    assert result.exit_code == 0
    assert found["difference"]["value"] == -10.0
    assert found["difference"]["method"] == "Welch t"
    assert found["probability_of_improvement"]["value"] == 0.0


def test_unlike_protocols_are_shown_and_nothing_is_computed(storage: Path) -> None:
    result = run(storage, "sweep:0", "other")
    assert result.exit_code == 0
    assert "environment: CartPole-v1 and Pendulum-v1" in result.stdout
    assert "-200" in result.stdout and "A - B" not in result.stdout
    found = json.loads(run(storage, "sweep:0", "other", "--json").stdout)
    assert found["difference"] is None and found["unlike_protocols"]


def test_a_picture_is_saved(storage: Path) -> None:
    picture = storage / "curves.svg"
    result = run(storage, "sweep:0", "sweep:1", "--out", str(picture))
    assert result.exit_code == 0, result.output
    assert "A: sweep:lr=0.1" in picture.read_text()
    assert result.stdout.strip().endswith(str(picture))


def test_a_picture_that_cannot_be_written_is_said_in_a_line(storage: Path) -> None:
    picture = storage / "curves.svg"
    picture.mkdir()
    result = run(storage, "sweep:0", "sweep:1", "--out", str(picture))
    assert result.exit_code == 3
    assert f"cannot write {picture}: is a directory; write it elsewhere" in result.stderr


def test_unlike_environments_have_no_common_axis(storage: Path) -> None:
    picture = storage / "curves.svg"
    result = run(storage, "sweep:0", "other", "--out", str(picture))
    assert "curves: not shown on one axis, because the environments are unlike." in result.stdout
    assert {picture.read_text().count(f'id="axes_{number}"') for number in (1, 2)} == {1}
    run(storage, "sweep:0", "sweep:1", "--out", str(picture))
    assert 'id="axes_2"' not in picture.read_text()
    assert json.loads(run(storage, "sweep:0", "other", "--json").stdout)["curves"] is None


def test_without_matplotlib_a_picture_is_refused_in_a_line(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(storage, "sweep:0", "sweep:1", "--out", str(storage / "curves.svg"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: learning curves need matplotlib: pip install 'rlssl[report]'"
    ]


def test_a_trial_is_a_side_with_one_seed(storage: Path) -> None:
    trial = next((storage / "sweep").glob("lr=0.1-seed0*"))
    result = run(storage, str(trial), "sweep:1")
    assert result.exit_code == 0, result.output
    assert "1 seed" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "other"], "sweep has 2 points, and points are never averaged; name one"),
        (["sweep:7", "other"], "sweep has no point '7'"),
        (["swep:0", "other"], "no run 'swep'"),
        (["other", "other", "--metric", "env_stepz"], "did you mean 'env_steps'?"),
        (["other", "other", "--mode", "min"], "--mode is about --metric"),
        (["other", "other", "--out", "a.gif"], "must end in .png, .svg, .pdf"),
        (["other", "other", "--out", "no/such/a.png"], "there is no folder"),
    ],
)
def test_wrong_words_are_named(storage: Path, words: list[str], message: str) -> None:
    result = run(storage, *words)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert result.stdout == ""


@pytest.mark.slow
@pytest.mark.ci
def test_it_loads_neither_ray_nor_torch(storage: Path) -> None:
    code = (
        "import sys; from rlssl.experiment.commands.results.compare import compare_runs; "
        f"compare_runs('sweep:0', 'sweep:1', storage={str(storage)!r}); "
        "print({'ray', 'torch'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "set()", result.stderr
