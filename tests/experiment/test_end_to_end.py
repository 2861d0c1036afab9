"""The command line with Ray: train, evaluate, export, kill, resume, sweep, plug-ins."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlssl.registry import ALGORITHMS, COUNTING_UPDATES
from tests.experiment.command_line import (
    only_trial,
    results,
    rlssl,
    wait_for_checkpoints,
    write_failing_env,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SMALL = [
    "--set",
    "training.train_batch_size_per_learner=512",
    "--set",
    "training.num_epochs=2",
]

#: A plug-in with an environment and a loss.
PLUGIN = """
import gymnasium as gym
import numpy as np
import rlssl
from ray.rllib.core.columns import Columns
from rlssl.auxiliary import AuxiliaryLoss


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.goal = config.get("goal", 3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return np.eye(4, dtype=np.float32)[0], {}

    def step(self, action):
        self.cell = min(3, max(0, self.cell + 2 * int(action) - 1))
        done = self.cell == self.goal
        obs = np.eye(4, dtype=np.float32)[self.cell]
        return obs, float(done), done, False, {"success": done}


@rlssl.register_auxiliary_loss("small_latents")
class SmallLatents(AuxiliaryLoss):
    reads = frozenset({Columns.OBS})

    def losses(self, batch):
        return {"square": self.encoder(batch[Columns.OBS]).square().mean(-1)}


rlssl.register_env("lab/Corridor", Corridor)
"""

#: A user's script that trains with RLlib's own Tuner.
TUNER_SCRIPT = """
import os

import gymnasium as gym
import numpy as np
import ray
from ray import tune

import rlssl


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        pass

    def reset(self, *, seed=None, options=None):
        self.cell = 0
        return np.eye(4, dtype=np.float32)[0], {}

    def step(self, action):
        self.cell = min(3, max(0, self.cell + 2 * int(action) - 1))
        done = self.cell == 3
        return np.eye(4, dtype=np.float32)[self.cell], float(done), done, False, {}


ray.init(num_cpus=3, include_dashboard=False)
rlssl.register_env("script/Corridor", Corridor)
config = (
    rlssl.PPOConfig()
    .environment("script/Corridor")
    .auxiliary(icm={"coeff": 1.0})
    .training(train_batch_size_per_learner=256, num_epochs=1)
    .env_runners(num_env_runners=2)
)
grid = tune.Tuner(
    config.algo_class,
    param_space=config,
    run_config=tune.RunConfig(
        stop={"env_steps": 500}, verbose=0, storage_path=os.getcwd()
    ),
).fit()
assert not grid.errors, grid.errors
metrics = grid[0].metrics
assert metrics["env_steps"] >= 500 and "inverse" in metrics["aux"]["icm"]
print("TRAINED", metrics["env_steps"])
"""


def evaluate(run: Path | str, cwd: Path, *more: str) -> list[float]:
    """Scores of ten episodes."""
    output, _ = rlssl("evaluate", str(run), "--episodes", "10", "--json", *more, cwd=cwd)
    return [episode["score"] for episode in json.loads(output)[0]["episodes"]]


def rows(trial: Path) -> list[dict[str, str]]:
    with (trial / "episodes.csv").open() as file:
        return list(csv.DictReader(file))


def test_scores_are_equal_after_export_and_with_any_number_of_runners(tmp_path: Path) -> None:
    rlssl("train", "ppo", "Pendulum-v1", "--stop", "env_steps=1000", *SMALL, cwd=tmp_path)
    trial = only_trial(tmp_path / "results" / "ppo-Pendulum-v1")
    expected = evaluate("ppo-Pendulum-v1", tmp_path)
    assert len(set(expected)) == 10
    assert evaluate(trial, tmp_path, "--env-runners", "1") == expected
    assert evaluate(trial, tmp_path, "--env-runners", "2") == expected
    exported = rlssl("export", str(trial), cwd=tmp_path)[0].splitlines()[-1]
    assert evaluate(exported, tmp_path) == expected
    assert by_hand(exported, "Pendulum-v1") == expected
    # Warm start with the same weights; learning rate 0 does not change them.
    command = ["train", "ppo", "Pendulum-v1", "--from", str(trial), "--name", "warm", *SMALL]
    rlssl(*command, "--stop", "env_steps=500", "--set", "training.lr=0.0", cwd=tmp_path)
    assert evaluate("warm", tmp_path) == expected


#: An environment and small settings for every algorithm.
SMALL_RUNS: dict[str, tuple[str, list[str]]] = {
    "a3c": (
        "CartPole-v1",
        ["--env-runners", "2", "--set", "training.agent_steps_per_iteration=500"],
    ),
    "ddpg": ("Pendulum-v1", ["--set", "training.learning_starts_agent_steps=700"]),
    "ppo": ("CartPole-v1", SMALL),
    "rainbow": ("CartPole-v1", ["--set", "training.learning_starts_agent_steps=700"]),
    "sac": ("Pendulum-v1", ["--set", "training.learning_starts_agent_steps=700"]),
    "iql": ("Pendulum-v1", ["--set", "training.learning_starts_agent_steps=700"]),
}


@pytest.mark.ci
@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS} - {*COUNTING_UPDATES}))
def test_every_algorithm_trains_with_two_losses_is_resumed_and_exported(
    algorithm: str, tmp_path: Path
) -> None:
    env, settings = SMALL_RUNS[algorithm]
    losses = ["--aux", "deepmdp", "--aux", "icm:intrinsic_coeff=0.01", "--name", "small"]
    rlssl("train", algorithm, env, "--stop", "env_steps=1000", *losses, *settings, cwd=tmp_path)
    trial = only_trial(tmp_path / "results" / "small")
    last = results(trial)[-1]
    assert last["env_steps"] >= 1000 and last["aux"]["deepmdp"]["transition"] > 0
    assert last["aux"]["latents"]["effective_rank"] >= 1
    used = yaml.safe_load((trial / "spec.yaml").read_text())["effective"]
    assert used["training"]["gamma"] == 0.99 and used["auxiliary"]["icm"]["coeff"] == 1.0
    assert used["model"]["encoder"] == "mlp"
    assert used["env_runners"]["double_buffering"] is False  # chosen by itself
    board = EventAccumulator(str(trial), purge_orphaned_data=False).Reload()
    assert board.Scalars("episode_return_mean")[-1].step == last["env_steps"]
    expected = evaluate(trial, tmp_path)
    exported = rlssl("export", str(trial), cwd=tmp_path)[0].splitlines()[-1]
    assert evaluate(exported, tmp_path) == expected
    assert "has finished" in rlssl("resume", "small", cwd=tmp_path)[0]


def by_hand(exported: str, env_id: str) -> list[float]:
    """Scores of ten episodes, with the code that a user writes around load_policy."""
    import gymnasium as gym

    import rlssl

    policy, env, scores = rlssl.load_policy(exported), gym.make(env_id), []
    for seed in range(10):
        policy.reset()
        observation, _ = env.reset(seed=seed)
        score, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            score, done = score + float(reward), terminated or truncated
        scores.append(score)
    return scores


def test_killed_run_resumes_with_its_counters_and_schedule(tmp_path: Path) -> None:
    schedule = "training.lr=[[0, 0.001], [40000, 0.0]]"
    # By default there is a checkpoint every 2,000 env steps, a tenth of the run.
    command = ["train", "ppo", "CartPole-v1", "--stop", "env_steps=20000", *SMALL]
    command += ["--set", schedule]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", *command], cwd=tmp_path, start_new_session=True
    )
    run = tmp_path / "results" / "ppo-CartPole-v1"
    wait_for_checkpoints(process, run, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    rlssl("resume", str(run), cwd=tmp_path)
    assert "has finished" in rlssl("resume", str(run), cwd=tmp_path)[0]
    trial = only_trial(run)
    log = results(trial)
    resumed = next(row for row in log if row["env_steps_at_start"] > 0)
    assert resumed["env_steps"] > resumed["env_steps_at_start"] >= 2000
    assert 20000 <= log[-1]["env_steps"] < 20000 + 600
    for row in log:
        # Half of the schedule's 40,000 env steps takes half of 0.001.
        lr = row["learners"]["default_policy"]["default_optimizer_learning_rate"]
        assert lr == pytest.approx(0.001 * (1 - row["env_steps"] / 40000), rel=1e-3)
    steps = [int(row["env_steps"]) for row in rows(trial)]
    assert steps == sorted(steps)


@pytest.mark.ci
def test_interrupt_prints_checkpoint_and_resume_command(tmp_path: Path) -> None:
    command = ["train", "ppo", "CartPole-v1", "--stop", "env_steps=1000000", *SMALL]
    command += ["--set", "checkpoint.every_env_steps=1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(tmp_path / "home")},
    )
    run = tmp_path / "results" / "ppo-CartPole-v1"
    wait_for_checkpoints(process, run, 1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"rlssl resume {run}" in printed
    assert "/checkpoint_0" in printed
    assert not (tmp_path / "home" / "ray_results").exists()


def test_plugin_outside_the_repository_trains_with_two_runners(tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(PLUGIN)
    spec = {
        "name": "lab",
        "algorithm": "ppo",
        "plugins": ["my_lab"],
        "env": {"id": "lab/Corridor", "goal": 2},
        "training": {"train_batch_size_per_learner": 256, "num_epochs": 2},
        "search": {"auxiliary": {"grid": [{}, {"small_latents": {"coeff": 0.1}}]}},
        "seeds": [0],
        "stop": {"env_steps": 1500},
        "resources": {"env_runners": 2},
    }
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(spec))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    storage = str(tmp_path / "results")
    printed, _ = rlssl("sweep", "../lab.yaml", "--set", f"storage={storage}", cwd=elsewhere)
    assert "small_latents" in printed
    assert str(tmp_path / "results" / "lab" / "learning_curves.png") in printed.splitlines()
    with_loss = next((tmp_path / "results" / "lab").glob("small_latents*"))
    assert "square" in results(with_loss)[-1]["aux"]["small_latents"]
    other = tmp_path / "other"
    other.mkdir()
    scores = evaluate(with_loss, other)
    assert set(scores) <= {0.0, 1.0}
    rlssl("resume", str(tmp_path / "results" / "lab"), cwd=other)


@pytest.mark.ci
def test_failed_trial_gives_exit_code_1_and_the_environments_error(tmp_path: Path) -> None:
    error = 'ValueError("the robot fell over")'
    write_failing_env(tmp_path / "flaky.py", "lab/Flaky", error, after=20)
    command = ["train", "ppo", "lab/Flaky", "--set", "plugins=[flaky]"]
    _, printed = rlssl(*command, cwd=tmp_path, code=1)
    assert "the robot fell over" in printed


@pytest.mark.ci
def test_network_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    command = ["train", "ppo", "CartPole-v1", "--set", "model.encoder=nature"]
    _, printed = rlssl(*command, cwd=tmp_path, code=2)
    assert "nature" in printed and "Traceback" not in printed
    assert not (tmp_path / "results").exists()


@pytest.mark.ci
def test_unknown_environment_starts_nothing(tmp_path: Path) -> None:
    start = time.monotonic()
    _, printed = rlssl("train", "ppo", "CartPole-v7", cwd=tmp_path, code=2)
    assert "CartPole-v7" in printed and "Traceback" not in printed
    assert not (tmp_path / "results").exists()
    assert time.monotonic() - start < 20


@pytest.mark.ci
def test_tuner_trains_a_config_after_a_users_own_ray_init(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TUNER_SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "TRAINED" in done.stdout, done.stdout + done.stderr
