"""``env.shaping``: the best policy stays, the score stays, in single and vector environments."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlssl.environments import make_env
from rlssl.environments.rewards.options import with_agent_gamma
from rlssl.environments.rewards.wrappers import Shaped, ShapedVector
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.building import build_config
from tests.algorithms.bench import Bench, small_ppo

GAMMA, STATES = 0.9, 12


class Chain(gym.Env):
    """Twelve states in a row; both ends terminate. A step may slip to the other side.

    The left end gives 1, the right end 3. ``starts`` are the states in which episodes begin.
    """

    observation_space = gym.spaces.Discrete(STATES)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, starts: tuple[int, ...] = (4,), limit: int = 1000) -> None:
        self.starts, self.limit, self.state, self.t = starts, limit, 0, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.t = int(self.np_random.choice(self.starts)), 0
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.state += 1 if action else -1
        self.t += 1
        reward = {0: 1.0, STATES - 1: 3.0}.get(self.state, -0.01)
        terminated = self.state in (0, STATES - 1)
        return self.state, reward, terminated, self.t >= self.limit, {}


def potential(state: Any) -> float:
    """Anything; at both ends not 0, which the wrapper must ignore."""
    return 5.0 - 0.7 * (int(state) - 3) ** 2


def optimum(step: Callable[[int, int], tuple[int, float, bool]]) -> np.ndarray:
    """[S, A], optimal action values of a deterministic model, by value iteration."""
    values = np.zeros((STATES, 2))
    for _ in range(500):
        best = values.max(axis=1)
        for state in range(1, STATES - 1):
            for action in range(2):
                after, reward, over = step(state, action)
                values[state, action] = reward + GAMMA * (0.0 if over else best[after])
    return values[1:-1]


def model_of(make: Callable[[gym.Env], gym.Env]) -> Callable[[int, int], tuple[int, float, bool]]:
    """(state, action) -> next state, reward to learn from, over: measured with the wrapper."""
    table = {}
    for state in range(1, STATES - 1):
        for action in range(2):
            env = make(Chain((state,)))
            env.reset()
            after, reward, over, _, info = env.step(action)
            table[state, action] = after, float(info.get("learning_reward", reward)), over
    return lambda state, action: table[state, action]


class Wrong(gym.Wrapper):
    """Shaping with a mistake: the potential of terminal states, or no discount."""

    def __init__(self, env: gym.Env, *, at_end: bool, gamma: float) -> None:
        super().__init__(env)
        self.at_end, self.gamma, self.before = at_end, gamma, 0.0

    def reset(self, **given: Any) -> Any:
        observation, info = self.env.reset(**given)
        self.before = potential(observation)
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, over, cut, info = self.env.step(action)
        after = potential(observation) if self.at_end or not over else 0.0
        return observation, float(reward) + self.gamma * after - self.before, over, cut, info


def test_best_policy_and_values_up_to_the_potential_stay_the_same() -> None:
    plain = optimum(model_of(lambda env: env))
    shaped = optimum(model_of(lambda env: Shaped(env, potential, GAMMA)))
    potentials = np.array([potential(state) for state in range(1, STATES - 1)])
    np.testing.assert_allclose(shaped, plain - potentials[:, None], atol=1e-6)
    assert (shaped.argmax(axis=1) == plain.argmax(axis=1)).all()


@pytest.mark.parametrize(
    "mistake", [{"at_end": True, "gamma": GAMMA}, {"at_end": False, "gamma": 1.0}]
)
def test_mistakes_that_the_wrapper_does_not_make_change_the_policy(mistake: Any) -> None:
    plain = optimum(model_of(lambda env: env))
    wrong = optimum(model_of(lambda env: Wrong(env, **mistake)))
    assert (wrong.argmax(axis=1) != plain.argmax(axis=1)).any()


def test_sum_over_n_steps_telescopes() -> None:
    env = Shaped(Chain((3,)), potential, GAMMA)
    first, _ = env.reset()
    sums = [0.0, 0.0]
    for k in range(4):
        state, reward, *_, info = env.step(1)
        sums[0] += GAMMA**k * float(reward)
        sums[1] += GAMMA**k * info["learning_reward"]
    # All potentials between cancel: gamma^4 Phi(7) - Phi(3).
    assert sums[1] - sums[0] == pytest.approx(GAMMA**4 * potential(7) - potential(first))
    assert state == 7


def test_truncation_keeps_the_potential_and_a_lost_life_ends_it() -> None:
    env = Shaped(Chain((5,), limit=1), potential, GAMMA)
    env.reset()
    _, reward, terminated, truncated, info = env.step(1)
    assert truncated and not terminated and reward == -0.01
    # Phi(6) = 5 - 0.7 * 9 = -1.3; Phi(5) = 5 - 0.7 * 4 = 2.2.
    assert info["learning_reward"] == pytest.approx(-0.01 + 0.9 * -1.3 - 2.2)

    class Lives(gym.Wrapper):
        def step(self, action: Any) -> Any:
            *results, info = self.env.step(action)
            return *results, {**info, "soft_terminated": True, "learning_reward": 1.0}

    env = Shaped(Lives(Chain((5,))), potential, GAMMA)
    env.reset()
    # Learning ends here: Phi(6) counts as 0, and a clipped reward stays the reward to learn from.
    assert env.step(1)[-1]["learning_reward"] == pytest.approx(1.0 - 2.2)
    # The next learning episode begins in 6: Phi(7) counts as 0 again.
    assert env.step(1)[-1]["learning_reward"] == pytest.approx(1.0 + 1.3)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_vector_environments_have_the_rewards_of_single_ones(mode: AutoresetMode) -> None:
    limits = (3, 5, 1000)
    vector = SyncVectorEnv(
        [functools.partial(Chain, (4, 5, 6), limit) for limit in limits],
        autoreset_mode=mode,
    )
    shaped = ShapedVector(vector, potential, GAMMA)
    singles = [Shaped(Chain((4, 5, 6), limit), potential, GAMMA) for limit in limits]
    shaped.reset(seed=7)
    for i, single in enumerate(singles):
        single.reset(seed=7 + i)
    rng, awaits, seen = np.random.default_rng(0), np.zeros(3, bool), 0
    for _ in range(60):
        actions = rng.integers(2, size=3)
        _, rewards, terminated, truncated, infos = shaped.step(actions)
        for i, single in enumerate(singles):
            if awaits[i]:
                single.reset()
                assert infos["learning_reward"][i] == rewards[i] == 0.0
                awaits[i] = False
                continue
            _, reward, over, cut, info = single.step(actions[i])
            assert rewards[i] == reward and (terminated[i], truncated[i]) == (over, cut)
            assert infos["learning_reward"][i] == pytest.approx(info["learning_reward"])
            seen += over or cut
            if (over or cut) and mode is AutoresetMode.NEXT_STEP:
                awaits[i] = True
            elif over or cut:
                single.reset()
    assert seen > 10


def angle(observation: np.ndarray) -> float:
    return -abs(float(observation[2]))


NAME = f"{__name__}:angle"


def test_scores_are_those_of_the_environment_and_the_learner_gets_the_shaped_rewards() -> None:
    config = small_ppo({"id": "CartPole-v1", "shaping": NAME}, gamma=0.5)
    bench = Bench(config)
    episodes = bench.sample(128)
    for episode in episodes:
        angles = [angle(frame) for frame in episode.get_observations()]
        expected = []
        for before, after in itertools.pairwise(angles):
            expected.append(1.0 + 0.5 * after - before)
        if episode.is_terminated:
            expected[-1] = 1.0 - angles[-2]
        np.testing.assert_allclose(episode.get_rewards(), expected, rtol=1e-5, atol=1e-6)
    metrics = bench.runner.get_metrics()
    returns = metrics["rlssl_episodes"]["return"].peek(compile=False)
    # Each step of CartPole gives 1, so a score is the length of an episode.
    assert np.allclose(returns, np.round(returns))
    assert metrics["learning_return_mean"].peek() != pytest.approx(float(np.mean(returns)))


def test_discount_is_that_of_the_agent_also_where_it_is_searched() -> None:
    env = {"id": "CartPole-v1", "shaping": NAME}
    document = {"algorithm": "ppo", "env": env, "training": {"gamma": 0.8}}
    config = build_config(load_spec(document))
    assert config.env_settings["shaping"] == {"potential": NAME, "gamma": 0.8}
    assert "shaping" not in config.evaluation_env_settings
    with pytest.raises(SpecError, match=r"env.shaping.gamma is 0.9 and training.gamma is 0.8"):
        load_spec({**document, "env": {**env, "shaping": {"potential": NAME, "gamma": 0.9}}})
    assert with_agent_gamma({"id": "x"}, 0.8) == {"id": "x"}


@pytest.mark.parametrize(
    ("shaping", "words"),
    [
        (3, "env.shaping must be 'module:function'"),
        ("angle", "env.shaping.potential must be 'module:function'"),
        ({"potential": NAME, "gama": 1}, "unknown option env.shaping.gama; did you mean 'gamma'"),
        ({"potential": NAME, "gamma": 1.5}, r"must be a number in \[0, 1\]; got 1.5"),
        (f"{__name__}:nothing", "env.shaping: .*nothing"),
        (f"{__name__}:GAMMA", "must be a function of an observation; got 0.9"),
    ],
)
def test_wrong_options_are_refused(shaping: Any, words: str) -> None:
    env = {"id": "CartPole-v1", "shaping": shaping}
    with pytest.raises(SpecError, match=words):
        load_spec({"algorithm": "ppo", "env": env})


def test_potential_that_is_not_finite_is_an_error_that_names_it() -> None:
    env = Shaped(Chain(), lambda state: float("nan"), GAMMA)
    with pytest.raises(ValueError, match="gave nan for 4"):
        env.reset()


def test_environment_alone_needs_the_discount() -> None:
    with pytest.raises(SpecError, match="needs the discount of the agent"):
        make_env({"id": "CartPole-v1", "shaping": NAME})
    env = make_env({"id": "CartPole-v1", "shaping": {"potential": NAME, "gamma": 0.9}})
    env.reset(seed=0)
    assert "learning_reward" in env.step(0)[-1]
