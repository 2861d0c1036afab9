"""`rlssl record`: videos of the policies of runs."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.commands.evaluate import evaluate
from rlssl.experiment.commands.watching.record import MOST_PANELS, record, titles_of
from rlssl.run_files import MANIFEST
from tests.experiment.command_line import rlssl
from tests.video.policies import saved

CART: dict[str, Any] = {"id": "CartPole-v1"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_record_has_the_return_of_an_evaluation(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = str(saved(folder / "cart", CART))
    evaluate(policy, episodes=2, seed=7, as_json=True)
    expected = json.loads(capsys.readouterr().out)[0]["episodes"]
    assert record([policy], episodes=2, seed=7, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [it["score"] for it in found["policies"][0]["episodes"]] == [
        it["score"] for it in expected
    ]
    (path,) = found["videos"]
    assert path == str(folder / "cart-seed7.mp4")
    frames = iio.imread(path)
    assert frames.shape == (found["num_frames"], found["height"], found["width"], 3)


def test_several_policies_are_side_by_side_also_as_a_gif(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = [
        str(saved(folder / "cart", CART)),
        str(saved(folder / "pole", {"id": "Pendulum-v1"}, 1)),
    ]
    record(policies, out=folder / "both.mp4", gif=True, max_episode_steps=9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cart: return ") and lines[0].endswith("length 9, seed 0")
    assert lines[1].startswith("pole: return -") and lines[1].endswith("length 9, seed 0")
    assert lines[2:] == [str(folder / "both.mp4"), str(folder / "both.gif")]
    # CartPole's frame is 400 x 600, Pendulum's 500 x 500.
    assert iio.imread(folder / "both.mp4").shape[1:] == (44 + 500, 600 + 4 + 600, 3)


def test_a_gif_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(saved(folder / "cart", CART))
    record([policy], out=folder / "a.gif", gif=True, max_episode_steps=3)
    assert capsys.readouterr().out.splitlines()[1:] == [str(folder / "a.gif")]
    assert sorted(path.name for path in folder.iterdir()) == ["a.gif", "cart"]


def test_an_environment_without_pictures_is_refused(folder: Path) -> None:
    policy = str(saved(folder / "cue", {"id": "memory/cue"}))
    with pytest.raises(SpecError, match="environment 'memory/cue' does not render"):
        record([policy])
    assert [path.name for path in folder.iterdir()] == ["cue"]


def test_too_many_policies_are_listed(folder: Path) -> None:
    policy = saved(folder / "cart", CART)
    with pytest.raises(SpecError, match=rf"{MOST_PANELS + 1} policies, and at most {MOST_PANELS}"):
        record([str(policy)] * (MOST_PANELS + 1))


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["none"], 2, "no run 'none'"),
        (["cart", "--out", "a.avi"], 2, "a.avi: a video ends in .mp4 or .gif."),
        (["cart", "--out", "file/a.mp4"], 3, "file"),
        (["cart", "--out", "/proc/a.mp4"], 3, "error: cannot write /proc/a.mp4: "),
    ],
)
def test_errors_are_one_line_and_leave_no_file(
    folder: Path, words: list[str], code: int, expected: str
) -> None:
    saved(folder / "cart", CART)
    (folder / "file").write_text("")
    done = CliRunner().invoke(main, ["record", *words])
    assert done.exit_code == code
    assert expected in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["cart", "file"]


def trial(run: Path, name: str, label: str, seed: int) -> Path:
    policy = run / name / "checkpoint_000001" / "policy"
    policy.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    content = {"point": {"x": 1} if label else {}, "seed": seed, "variant_label": label}
    (run / name / "trial.json").write_text(json.dumps(content))
    return policy


def test_titles_say_what_differs(folder: Path) -> None:
    one, two = trial(folder / "ppo", "a", "lr=0.1", 0), trial(folder / "ppo", "b", "lr=0.2", 0)
    other = trial(folder / "sac", "a", "", 3)
    assert titles_of([one]) == ["ppo"]
    assert titles_of([one, two]) == ["lr=0.1, seed 0", "lr=0.2, seed 0"]
    assert titles_of([one, other]) == ["ppo, lr=0.1, seed 0", "sac, seed 3"]
    later = one.parents[1] / "checkpoint_000002" / "policy"
    later.mkdir(parents=True)
    assert titles_of([one, later]) == ["checkpoint_000001", "checkpoint_000002"]


def run_of(folder: Path, *trials: str) -> Path:
    """A run whose trials have a policy each; of other ones there is only `trial.json`."""
    folder.mkdir()
    content: dict[str, Any] = {"python_path": [], "registered_by_script": []}
    (folder / "run.json").write_text(json.dumps(content))
    for seed, kind in enumerate(trials):
        trial = folder / f"trial{seed}"
        trial.mkdir()
        described = {"point": {}, "seed": seed, "variant_label": ""}
        (trial / "trial.json").write_text(json.dumps(described))
        if kind == "failed":
            (trial / "error.txt").write_text("ValueError: broken")
        if kind == "trained":
            checkpoint = trial / "checkpoint_000001"
            checkpoint.mkdir()
            saved(checkpoint / "policy", CART, seed)
            manifest = json.dumps({"env_steps": 100, "files": {}})
            (checkpoint / MANIFEST).write_text(manifest)
    return folder


def test_trials_without_a_checkpoint_are_named_and_the_others_recorded(folder: Path) -> None:
    run_of(folder / "lr", "trained", "failed", "waiting", "trained")
    words = ["record", "lr", "--storage", str(folder), "--max-episode-steps", "3"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    begun = [line.split(":")[0] for line in done.stdout.splitlines()[:-1]]
    assert begun == ["seed 0", "seed 3"]
    left_out = [line for line in done.stderr.splitlines() if line.startswith("Left out: ")]
    assert left_out == [
        f"Left out: {folder}/lr/trial1 has no valid checkpoint: it failed before its first one; "
        "see error.txt there.",
        f"Left out: {folder}/lr/trial2 has no valid checkpoint: it has no result yet.",
    ]


def test_evaluate_leaves_out_the_same_trials(folder: Path) -> None:
    run_of(folder / "lr", "trained", "failed", "waiting", "trained")
    words = ["evaluate", "lr", "--storage", str(folder), "--episodes", "1", "--json"]
    done = CliRunner().invoke(main, [*words, "--max-episode-steps", "3"])
    assert done.exit_code == 0, done.output
    policies = [Path(report["policy"]).parts[-3] for report in json.loads(done.stdout)]
    assert policies == ["trial0", "trial3"]
    left_out = [line for line in done.stderr.splitlines() if line.startswith("Left out: ")]
    assert [Path(line.split()[2]).name for line in left_out] == ["trial1", "trial2"]


def test_a_run_without_any_checkpoint_is_refused_with_the_reason(folder: Path) -> None:
    run_of(folder / "lr", "failed", "failed")
    done = CliRunner().invoke(main, ["record", "lr", "--storage", str(folder)])
    assert done.exit_code == 2
    assert done.stderr.count("it failed before its first one") == 2
    assert "every_env_steps" not in done.stderr


@pytest.mark.slow
@pytest.mark.ci
def test_a_sweep_that_was_trained_is_recorded(folder: Path) -> None:
    spec = """
name: lr
algorithm: ppo
env: CartPole-v1
seeds: [0, 1]
training: {train_batch_size_per_learner: 500, num_epochs: 1}
stop: {env_steps: 1000}
storage: runs
"""
    (folder / "lr.yaml").write_text(spec)
    rlssl("sweep", "lr.yaml", cwd=folder)
    printed, _ = rlssl("record", "lr", "--storage", "runs", "--seed", "4", cwd=folder)
    evaluated, _ = rlssl(
        "evaluate", "lr", "--storage", "runs", "--seed", "4", "--episodes", "1", cwd=folder
    )
    lines = printed.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["seed 0", "seed 1"]
    assert [float(line.split("return ")[1].split(",")[0]) for line in lines[:2]] == [
        float(line.split()[1].rstrip(","))
        for line in evaluated.splitlines()
        if line.startswith("return")
    ]
    assert iio.imread(lines[2]).shape[1:] == (444, 1204, 3)
