"""``env.reward: none``: learning without the environment's reward, with its scores."""

from typing import Any

import numpy as np
import pytest

from rlssl.environments import make_env, make_vector_env
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from tests.algorithms.bench import Bench, small_ppo

ENV = {"id": "CartPole-v1", "reward": "none"}


def test_agent_learns_from_the_bonus_alone_and_scores_stay() -> None:
    bench = Bench(small_ppo(dict(ENV)).auxiliary(icm={"intrinsic_coeff": 1.0}))
    episodes = bench.sample(128)
    assert all((np.asarray(episode.get_rewards()) == 0).all() for episode in episodes)
    metrics = bench.runner.get_metrics()
    assert np.min(metrics["rlssl_episodes"]["return"].peek(compile=False)) >= 5
    assert metrics["learning_return_mean"].peek() == 0.0
    before = {name: value.clone() for name, value in bench.module.state_dict().items()}
    bench.update(episodes)
    assert not before["pi.weight"].equal(bench.module.state_dict()["pi.weight"])


@pytest.mark.parametrize("vectorize", ["native", "sync"])
def test_vector_environments_have_no_reward_to_learn_from(vectorize: Any) -> None:
    vector = make_vector_env(ENV, num_envs=2, vectorize=vectorize)
    vector.reset(seed=0)
    _, rewards, *_, infos = vector.step(np.array([0, 1]))
    assert rewards.tolist() == [1.0, 1.0]
    assert np.asarray(infos["learning_reward"]).tolist() == [0.0, 0.0]


def test_single_environment_gives_its_reward() -> None:
    env = make_env(ENV)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    assert reward == 1.0 and info["learning_reward"] == 0.0


def test_nothing_to_learn_from_is_refused() -> None:
    document = {"algorithm": "ppo", "env": ENV}
    with pytest.raises(SpecError, match="leaves nothing to learn from: there is no auxiliary"):
        load_spec(document)
    load_spec({**document, "auxiliary": {"inverse_dynamics": {}}})
    with pytest.raises(SpecError, match=r"env.reward must be none"):
        load_spec({**document, "env": {**ENV, "reward": "dense"}})


def test_stock_env_runner_which_ignores_it_is_refused() -> None:
    config = small_ppo(dict(ENV)).auxiliary(icm={"intrinsic_coeff": 1.0})
    config.env_runners(episodes_to_numpy=False)
    with pytest.raises(SpecError, match=r"env.reward need .* and episodes_to_numpy"):
        config.validate()
