"""A run ends at most one vector step of all EnvRunners after `stop.env_steps`."""

from typing import Any

import pytest

import rlssl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]

SMALL = {"learning_starts_agent_steps": 64, "replay_capacity": 2_000}


def train_to_the_end(config: Any, total: int) -> Any:
    """Trains until ``total`` env steps; returns the algorithm, which is not stopped."""
    algorithm = config.experiment(total_env_steps=total).debugging(seed=0).build_algo()
    while algorithm.train()["env_steps"] < total:
        pass
    return algorithm


@pytest.mark.parametrize(
    ("config", "env", "num_envs", "num_runners", "frame_skip"),
    [
        pytest.param(rlssl.RainbowConfig, {"id": "CartPole-v1"}, 1, 0, 1, id="one copy"),
        pytest.param(rlssl.SACConfig, {"id": "Pendulum-v1"}, 5, 0, 1, id="five copies"),
        pytest.param(
            *(rlssl.DDPGConfig, {"id": "dmc/cartpole-swingup", "action_repeat": 4}, 3, 0, 4),
            id="frame skip",
        ),
        pytest.param(rlssl.SACConfig, {"id": "Pendulum-v1"}, 3, 2, 1, id="two runners"),
    ],
)
def test_the_run_ends_within_one_vector_step(
    config: Any, env: dict[str, Any], num_envs: int, num_runners: int, frame_skip: int
) -> None:
    total = 1_003
    built = config().environment(env.pop("id"), env_config=env).training(**SMALL)
    built.env_runners(num_envs_per_env_runner=num_envs, num_env_runners=num_runners)
    algorithm = train_to_the_end(built, total)
    vector_step = num_envs * max(1, num_runners) * frame_skip
    reached = algorithm.clock * frame_skip
    assert total <= reached < total + vector_step
    # A user may train further; then iterations have their usual length again.
    more = algorithm.train()["env_steps"]
    assert more - reached >= algorithm.config.agent_steps_per_iteration * frame_skip
    algorithm.stop()


def test_the_last_iteration_of_a3c_ends_with_the_fragment_that_reaches_the_end() -> None:
    config = rlssl.A3CConfig().environment("CartPole-v1")
    config.env_runners(num_envs_per_env_runner=4, rollout_fragment_length=20)
    algorithm = train_to_the_end(config, 1_010)
    # 1,010 lies in the thirteenth gradient of 4 * 20 steps, which ends at about 1,040. A fragment
    # may have some steps more or less: steps that only reset an environment do not count.
    assert 1_010 <= algorithm.clock < 1_010 + 4 * 21
    algorithm.stop()
