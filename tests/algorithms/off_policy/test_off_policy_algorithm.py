"""Off-policy algorithms in whole runs: counts, weights, replay buffer, several processes."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlssl.algorithms.rainbow.rainbow import Rainbow, RainbowConfig
from rlssl.replay import PrioritizedReplayBuffer
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.host_syncs import as_on_a_gpu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]


def config_of(**training: Any) -> RainbowConfig:
    settings = {"agent_steps_per_iteration": 200, "learning_starts_agent_steps": 101}
    return small_rainbow(**{**settings, **training})


def built(config: RainbowConfig) -> Rainbow:
    algorithm: Rainbow = config.build_algo()
    return algorithm


@pytest.mark.parametrize("num_runners", [0, 1, 2])
def test_number_of_updates_is_exact_whatever_the_number_of_runners(num_runners: int) -> None:
    config = config_of(updates_per_agent_step=0.3).env_runners(num_env_runners=num_runners)
    algorithm = built(config)
    try:
        results = [algorithm.train() for _ in range(2)]
        taken = algorithm.learner_group.foreach_learner(
            lambda learner: learner.rl_module.target.get_extra_state()
        )
        made = int(next(iter(taken)).get())
        sent = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.module.get_state(), local_env_runner=num_runners == 0
        )
        weights = algorithm.learner_group.get_weights()["default_policy"]
    finally:
        algorithm.stop()
    for iteration, result in enumerate(results, start=1):
        # A round has 4 steps of 2 environments; each iteration has at most one round too many.
        assert (
            200 * iteration <= result["agent_steps"] < (200 + 8 * max(1, num_runners)) * iteration
        )
        assert result["updates"] == int((result["agent_steps"] - 101) * 0.3 + 1e-9)
        assert result["replay"]["size"] == result["agent_steps"]
    assert made == results[-1]["updates"] > 0
    for state in sent:
        assert "encoder.layers.0.weight" in state
        for key, value in state.items():
            if "noise_values" not in key:
                np.testing.assert_array_equal(value, weights[key], err_msg=key)


def clocks_of(algorithm: Any) -> list[int]:
    """The agent steps that each EnvRunner believes the run has had."""
    in_process = not algorithm.config.num_env_runners
    return list(
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner._global_steps(0), local_env_runner=in_process
        )
    )


@pytest.mark.parametrize("learning_starts", [101, 10**6], ids=["weights are sent", "none are sent"])
def test_runners_explore_by_everyones_steps(learning_starts: int) -> None:
    config = config_of(
        noisy=False,
        epsilon=[[0, 1.0], [10_000, 0.0]],
        learning_starts_agent_steps=learning_starts,
    )
    algorithm = built(config.env_runners(num_env_runners=2))
    try:
        result = algorithm.train()
        seen = clocks_of(algorithm)
    finally:
        algorithm.stop()
    assert seen == [result["agent_steps"]] * 2
    # The last action was taken by 2 runners of 2 environments at once; an environment that was
    # reset meanwhile took none.
    before = (1 - result["epsilon"]) * 10_000
    assert result["agent_steps"] - 4 <= before < result["agent_steps"]


@pytest.mark.parametrize("num_learners", [0, 1])
def test_epsilon_in_results_is_that_of_the_last_action(num_learners: int) -> None:
    config = config_of(noisy=False, epsilon=[[0, 1.0], [300, 0.0]]).learners(
        num_learners=num_learners
    )
    algorithm = built(config.env_runners(num_envs_per_env_runner=1))
    try:
        first, second = algorithm.train(), algorithm.train()
        seen = clocks_of(algorithm)
    finally:
        algorithm.stop()
    # The 200th action was taken after 199 agent steps: 1 - 199 / 300.
    assert first["agent_steps"] == 200
    assert first["epsilon"] == pytest.approx(101 / 300)
    assert second["epsilon"] == 0.0
    assert seen == [second["agent_steps"]]


@pytest.mark.parametrize("num_runners", [0, 2])
def test_clock_continues_after_a_restore(num_runners: int, tmp_path: Path) -> None:
    config = config_of(noisy=False, epsilon=[[0, 1.0], [10_000, 0.0]])
    algorithm = built(config.env_runners(num_env_runners=num_runners))
    try:
        saved = algorithm.train()["agent_steps"]
        path = algorithm.save_to_path(str(tmp_path / "saved"))
        algorithm.train()
        algorithm.restore_from_path(path)
        back = clocks_of(algorithm)
    finally:
        algorithm.stop()
    again = built(config.copy(copy_frozen=False))
    try:
        again.restore_from_path(path)
        restored = clocks_of(again)
        result = again.train()
        after = clocks_of(again)
    finally:
        again.stop()
    assert back == restored == [saved] * max(1, num_runners)
    assert after == [result["agent_steps"]] * max(1, num_runners)
    assert result["agent_steps"] >= saved + 200


def test_results_have_updates_replay_and_losses() -> None:
    algorithm = built(config_of(replay={"beta_anneal_env_steps": 1000}).auxiliary(icm={}))
    try:
        first, second = algorithm.train(), algorithm.train()
    finally:
        algorithm.stop()
    assert first["replay"]["beta"] == pytest.approx(0.4 + 0.6 * first["env_steps"] / 1000)
    assert second["updates"] > first["updates"] > 0
    assert np.isfinite(second["intrinsic_return_mean"])
    assert {"forward", "inverse", "intrinsic_reward"} <= second["aux"]["icm"].keys()
    learned = second["learners"]["default_policy"]
    for key in ("loss", "td_error_mean", "q_mean", "total_loss"):
        assert np.isfinite(learned[key]), key
    assert learned["module_train_batch_size_mean"] == 32
    assert second["epsilon"] == 0.0


@pytest.mark.parametrize("num_learners", [1, 2])
def test_remote_learners_return_priorities(num_learners: int) -> None:
    losses: dict[str, Any] = {"icm": {}, "curl": {}}
    config = config_of(train_batch_size_per_learner=16).auxiliary(**losses)
    algorithm = built(config.learners(num_learners=num_learners))
    try:
        result = algorithm.train()
        states = algorithm.learner_group.foreach_learner(
            lambda learner: learner.module["default_policy"].unwrapped().state_dict()
        )
        modules = [state.get() for state in states]
        assert isinstance(algorithm.replay, PrioritizedReplayBuffer)
        priorities = algorithm.replay.priorities(np.arange(result["agent_steps"]))
    finally:
        algorithm.stop()
    assert result["updates"] == (result["agent_steps"] - 101) // 4
    assert len(set(priorities[priorities > 0].round(12))) > 10
    for key, value in modules[0].items():
        assert torch.equal(value, modules[-1][key]), key
    assert np.isfinite(result["intrinsic_return_mean"])


@pytest.mark.parametrize("depth", [0, 2])
def test_two_runs_are_identical_with_and_without_prefetching(depth: int) -> None:
    losses = []
    for _ in range(2):
        algorithm = built(config_of(replay={"prefetch": depth}))
        try:
            losses.append([algorithm.train()["learners"]["default_policy"]["loss"]] * 2)
        finally:
            algorithm.stop()
    assert losses[0] == losses[1]


@pytest.mark.parametrize("depth", [0, 2])
def test_a_run_that_copies_as_for_a_gpu_is_the_run_of_the_cpu(depth: int) -> None:
    found = []
    for as_gpu in (False, True):
        algorithm = built(config_of(replay={"prefetch": depth}))
        try:
            if as_gpu:
                (learner,) = algorithm.learner_group.foreach_learner(as_on_a_gpu)
                transfers = learner.get().transfers
                algorithm._prepare = transfers.prepare
                learner.get().rl_module.transfers = transfers
            result = algorithm.train()
            assert isinstance(algorithm.replay, PrioritizedReplayBuffer)
            priorities = algorithm.replay.priorities(np.arange(result["agent_steps"]))
            found.append((result["learners"]["default_policy"]["loss"], priorities))
        finally:
            algorithm.stop()
    (loss, priorities), (other_loss, other_priorities) = found
    assert other_loss == pytest.approx(loss, rel=1e-3)
    np.testing.assert_allclose(other_priorities, priorities, rtol=1e-3)
    assert len(set(priorities.round(12))) > 10


def test_checkpoint_without_replay_learns_again_after_collecting_steps(
    tmp_path: Path,
) -> None:
    config = config_of().experiment(checkpoint_replay=False)
    first, second = built(config), built(config.copy())
    try:
        before = first.train()
        first.save_to_path(str(tmp_path))
        assert not (tmp_path / "replay").exists()
        second.restore_from_path(str(tmp_path))
        assert len(second.replay) == 0
        assert second.update_ratio.num_updates == before["updates"]
        after = second.train()
    finally:
        first.stop()
        second.stop()
    new_steps = after["agent_steps"] - before["agent_steps"]
    assert after["replay"]["size"] == new_steps
    counted = before["agent_steps"] - 101 + new_steps - 101
    assert after["updates"] == int(counted * 0.25)


class LosesAnEnvRunner(Rainbow):
    """An EnvRunner dies in the first iteration, after its samples and before its metrics arrive."""

    def _collect_metrics(self) -> None:
        (pid, *_) = self.env_runner_group.foreach_env_runner(
            lambda runner: os.getpid(), local_env_runner=False
        )
        if self.iteration == 0:
            os.kill(pid, signal.SIGKILL)
        super()._collect_metrics()


def test_steps_and_episodes_whose_metrics_were_lost_with_an_env_runner_are_counted() -> None:
    config = config_of().env_runners(num_env_runners=2)
    config.algo_class = LosesAnEnvRunner
    algorithm = built(config)
    try:
        results = [algorithm.train() for _ in range(2)]
        rows = algorithm.replay._rows
        num_ended = int(rows.terminated.sum() + rows.truncated.sum())
    finally:
        algorithm.stop()
    # CartPole's first episodes have about 20 steps.
    assert len(results[0]["episodes"] + results[1]["episodes"]) == num_ended > 5
    for result in results:
        # The buffer is larger than the run: it has a row for each step.
        assert result["env_steps"] == result["agent_steps"] == result["replay"]["size"]
        assert result["num_env_steps_sampled_lifetime"] == result["agent_steps"]
    assert 200 <= results[0]["agent_steps"] < 216
