"""What a trial leaves: every metric once, over env steps, with ascending steps after a restart."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import StorageContext
from ray.tune.result import DONE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rlssl.experiment.spec import load_spec, resolved_dict
from rlssl.experiment.spec.effective import effective_of
from rlssl.experiment.tuning.loggers import ProgressTable, ResultsFile, TensorBoard, trial_loggers
from rlssl.experiment.tuning.trial_config import SEED_KEY, SPEC_KEY

SPEC = load_spec({"algorithm": "ppo", "env": "CartPole-v1", "seed": 3, "auxiliary": {"icm": {}}})


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A trial of Tune, whose folder is below ``tmp_path``."""
    storage = StorageContext(str(tmp_path), "run", trial_dir_name="trial")
    Path(storage.trial_fs_path).mkdir(parents=True)
    config = {SPEC_KEY: resolved_dict(SPEC), SEED_KEY: 3}
    return Trial("ppo", stub=True, config=config, trial_id="t1", storage=storage)


def folder_of(trial: Trial) -> Path:
    return Path(trial.storage.trial_fs_path)


def result(env_steps: int, **more: Any) -> dict[str, Any]:
    return {"env_steps": env_steps, "episode_return_mean": float(env_steps), "pid": 7} | more


def run_process(trial: Trial, results: Sequence[dict[str, Any]]) -> None:
    """One process of a driver, which is killed behind its last result."""
    callbacks = trial_loggers(SPEC)
    for callback in callbacks:
        callback.on_trial_start(0, [trial], trial)
    for each in results:
        for callback in callbacks:
            callback.on_trial_result(0, [trial], trial, each)


def table(trial: Trial) -> list[dict[str, str]]:
    with (folder_of(trial) / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(trial: Trial) -> EventAccumulator:
    found = EventAccumulator(str(folder_of(trial)), purge_orphaned_data=False)
    return found.Reload()


def points(trial: Trial, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(trial).Scalars(tag)]


def test_the_table_has_every_column_that_ever_appears(trial: Trial) -> None:
    late = {"evaluation": {"episode_return_mean": 9.5}}
    run_process(trial, [result(10), result(20), result(30, **late), result(40)])
    rows = table(trial)
    assert [row["env_steps"] for row in rows] == ["10", "20", "30", "40"]
    column = [row["evaluation/episode_return_mean"] for row in rows]
    assert column == ["", "", "9.5", ""]


def test_a_restart_repeats_no_row_and_no_event(trial: Trial) -> None:
    run_process(trial, [result(10), result(20), result(30), result(40)])
    # The newest checkpoint was at 20. The new steps fall between the old ones.
    after = [result(steps, env_steps_at_start=20) for steps in (25, 35, 45)]
    run_process(trial, after)
    steps = [10, 20, 25, 35, 45]
    assert [int(row["env_steps"]) for row in table(trial)] == steps
    expected = [(step, float(step)) for step in steps]
    assert points(trial, "episode_return_mean") == expected
    # A second restart, also of a process that never gave a result.
    run_process(trial, [])
    run_process(trial, [result(30, env_steps_at_start=25)])
    assert points(trial, "episode_return_mean") == [*expected[:3], (30, 30.0)]
    assert [int(row["env_steps"]) for row in table(trial)] == [10, 20, 25, 30]


def test_metrics_have_the_names_of_the_docs_and_appear_once(trial: Trial) -> None:
    aux = {"icm": {"inverse": 0.5}}
    learner = {"policy_loss": 1.0, "aux": aux}
    run_process(
        trial,
        [
            result(
                10,
                aux=aux,
                success_rate=math.nan,
                learners={"default_policy": learner, "faults": {"nonfinite_updates": 0}},
                faults={"nonfinite_updates": 0},
                config={"seed": 3},
                training_iteration=1,
            )
        ],
    )
    assert set(events(trial).Tags()["scalars"]) == {
        "env_steps",
        "episode_return_mean",
        "aux/icm/inverse",
        "learners/default_policy/policy_loss",
        "faults/nonfinite_updates",
    }


def test_the_settings_as_used_are_hyper_parameters_and_in_the_files(trial: Trial) -> None:
    run_process(trial, [result(10, effective=effective_of(SPEC)), result(20)])
    content = events(trial).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = HParamsPluginData.FromString(content).session_start_info.hparams
    assert shown["training.gamma"].number_value == 0.99
    assert shown["auxiliary.icm.forward_weight"].number_value == 0.2
    assert shown["seed"].number_value == 3
    parameters = json.loads((folder_of(trial) / "params.json").read_text())
    assert parameters["effective"]["training"]["gamma"] == 0.99
    assert load_spec(folder_of(trial) / "spec.yaml", ["stop.env_steps=1"]).seed == 3
    # A restart keeps them until its own first result.
    run_process(trial, [])
    assert "gamma: 0.99" in (folder_of(trial) / "spec.yaml").read_text()
    rows = [json.loads(line) for line in (folder_of(trial) / "result.json").open()]
    assert [set(row) for row in rows] == [{"env_steps", "episode_return_mean", "pid"}] * 2


def test_what_a_kill_left_in_the_middle_of_a_write_is_dropped(trial: Trial) -> None:
    run_process(trial, [result(10), result(20)])
    (event_file,) = folder_of(trial).glob("events.out.tfevents.*")
    for path in (event_file, folder_of(trial) / "progress.csv", folder_of(trial) / "result.json"):
        path.write_bytes(path.read_bytes()[:-3])
    run_process(trial, [result(30, env_steps_at_start=20)])
    assert [step for step, _ in points(trial, "episode_return_mean")] == [10, 30]
    assert [int(row["env_steps"]) for row in table(trial)] == [10, 30]
    lines = (folder_of(trial) / "result.json").read_text().splitlines()
    assert [json.loads(line)["env_steps"] for line in lines] == [10, 30]


def test_repeated_env_steps_replace_the_row(trial: Trial) -> None:
    run_process(trial, [result(10), result(10, episode_return_mean=2.0), result(20)])
    assert points(trial, "episode_return_mean") == [(10, 2.0), (20, 20.0)]
    assert [row["episode_return_mean"] for row in table(trial)] == ["2.0", "20.0"]


def test_the_end_of_a_trial_is_shown(trial: Trial) -> None:
    (board,) = (one for one in trial_loggers(SPEC) if isinstance(one, TensorBoard))
    board.on_trial_result(0, [trial], trial, result(10, **{DONE: True}))
    board.on_trial_error(0, [trial], trial)
    content = events(trial).SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    assert HParamsPluginData.FromString(content).session_end_info.status == 2  # failure


def test_without_tracking_there_are_no_event_files(trial: Trial) -> None:
    spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1", "tracking": []})
    for callback in trial_loggers(spec):
        if isinstance(callback, TensorBoard | ProgressTable | ResultsFile):
            callback.on_trial_result(0, [trial], trial, result(10))
    assert not list(folder_of(trial).glob("events*"))
    assert (folder_of(trial) / "progress.csv").is_file()
