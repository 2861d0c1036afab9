"""Sampling during updates: the same counts, a lag of one update, no copies of arrays."""

from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS

import rlssl
from rlssl.errors import SpecError

LAG = "diff_num_grad_updates_vs_sampler_policy"


def config(num_env_runners: int, **training: Any) -> rlssl.PPOConfig:
    return (
        rlssl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=num_env_runners, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=128, minibatch_size=128, num_epochs=1, **training)
        .debugging(seed=0)
    )


def test_overlapped_sampling_needs_remote_env_runners() -> None:
    with pytest.raises(SpecError, match=r"resources\.env_runners to 1 or more"):
        config(0, overlap_sampling=True).validate()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize("overlap_sampling", [False, True])
def test_the_next_batch_comes_from_weights_that_are_one_update_old(
    overlap_sampling: bool,
) -> None:
    algorithm = config(2, overlap_sampling=overlap_sampling).build_algo()
    try:
        results = [algorithm.train() for _ in range(4)]
    finally:
        algorithm.stop()
    steps = np.diff([0, *(result["agent_steps"] for result in results)])
    # Whole vector steps of 2 runners x 2 environments; a step that resets one counts one less.
    assert all(128 <= count < 132 for count in steps)
    lags = [result[LEARNER_RESULTS][DEFAULT_MODULE_ID][LAG] for result in results]
    # The metric also counts the update that learns from the batch.
    expected = [1, 2, 2, 2] if overlap_sampling else [1, 1, 1, 1]
    np.testing.assert_allclose(lags, expected)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("own_ray")
def test_remote_chunks_are_views_of_the_object_store() -> None:
    algorithm = config(1).build_algo()
    try:
        (episodes,) = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.sample(num_timesteps=2048), local_env_runner=False
        )
        longest = max(episodes, key=len)
        # Copies would be writable; views of the object store are not.
        assert not longest.observations.data.flags.writeable
    finally:
        algorithm.stop()
