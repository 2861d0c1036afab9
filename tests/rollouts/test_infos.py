"""Infos of any type and shape: no environment changes what another one gave."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.rllib.callbacks.callbacks import RLlibCallback

from rlssl.environments.env_check import preflight
from rlssl.environments.vector_infos import InfosToList, JoinedInfos, ListedInfos, vector_info
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.rollouts.counting import make_config, make_runner

NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP

#: A number from 0 to 3 decides which value an info has: an int, a float, a bool, or none.
VALUES = (0, 0.5, True, None)
#: What the value means to learn from, if the reward is 10.
LEARNED = (0.0, 0.5, 1.0, 10.0)
#: What the value means as a success.
SUCCESSES = (0.0, 0.5, 1.0, math.nan)


class Telling(gym.Env):
    """Observes the t of an episode and the code of the step's infos; episodes have 4 steps."""

    observation_space = gym.spaces.Box(0, 100, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: dict[str, Any]) -> None:
        self.t, self.code = 0, 0

    def _observation(self) -> np.ndarray:
        return np.array([self.t, self.code], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.code = 0, 0
        return self._observation(), {"winner": "nobody", "success": 1}

    def step(self, action: Any) -> Any:
        self.t, self.code = self.t + 1, int(self.np_random.integers(4))
        info: dict[Any, Any] = {
            "legal_moves": np.arange(self.code),
            "winner": (None, 1, {"name": "x"}, "y")[self.code],
            "board": (None, np.zeros(2), np.zeros((2, 2)), {"deep": np.arange(3)})[self.code],
            "_success": self.code,
            "final_obs": "not an observation",
        }
        if self.code < 3 or self.t % 2:
            info["learning_reward"] = VALUES[self.code]
        if self.t == 4:
            info["success"] = VALUES[self.code]
        return self._observation(), 10.0, self.t == 4, False, info


class Subclass(SyncVectorEnv):
    """A user's class, which may read infos: rlssl keeps all of them."""


class StepsAsync(SyncVectorEnv):
    """Steps in ``step_wait``, for double buffering."""

    def step_async(self, actions: Any) -> None:
        self.actions = np.copy(actions)

    def step_wait(self) -> Any:
        return self.step(self.actions)


def native(cls: type[SyncVectorEnv], mode: AutoresetMode) -> Callable[..., gym.vector.VectorEnv]:
    def make_vec(config: dict[str, Any], num_envs: int) -> gym.vector.VectorEnv:
        vector = cls([lambda: Telling({})] * num_envs, autoreset_mode=mode)
        return gym.vector.VectorWrapper(vector) if cls is Subclass else vector

    return make_vec


for name, make_vec in {
    "sync": None,
    "native": native(SyncVectorEnv, NEXT),
    "wrapped": native(Subclass, NEXT),
    "halved": native(StepsAsync, NEXT),
}.items():
    register_env(f"infos-test/{name}", Telling, make_vec=make_vec)

KINDS = ("sync", "async", "native", "wrapped", "halved")


class CountsSteps(RLlibCallback):
    """Makes RLlib's runner necessary."""

    def on_episode_step(self, *, episode: Any, **kwargs: Any) -> None:
        episode.custom_data.setdefault("winners", []).append(episode.get_infos(-1).get("winner"))


def runner_of(cls: type, kind: str, num_envs: int) -> Any:
    config = make_config({"id": f"infos-test/{'sync' if kind == 'async' else kind}"}, num_envs)
    config.vectorize = kind if kind in ("sync", "async") else "native"
    config.double_buffering = None if kind == "halved" else False
    return make_runner(cls, config)


def codes_of(chunk: Any) -> list[int]:
    """The code of each step of a chunk."""
    return [int(code) for code in chunk.get_observations()[1:, 1]]


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_that_each_environment_gave(kind: str, num_envs: int) -> None:
    runner = runner_of(VectorEnvRunner, kind, num_envs)
    chunks = [*runner.sample(num_timesteps=40), *runner.sample(num_timesteps=80)]
    for chunk in chunks:
        learned = [LEARNED[code] for code in codes_of(chunk)]
        assert chunk.get_rewards().tolist() == learned
    ended = [codes_of(chunk)[-1] for chunk in chunks if chunk.is_done]
    assert set(ended) == {0, 1, 2, 3}
    series = runner.get_metrics()["rlssl_episodes"]
    successes = series["success"].peek()
    runner.stop()
    assert sorted(map(str, successes)) == sorted(str(SUCCESSES[code]) for code in ended)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_rllibs_runner_gives_episodes_the_infos_as_they_were(kind: str) -> None:
    samples = {}
    for num_envs in (1, 4):
        runner = runner_of(StockEnvRunner, kind, num_envs)
        chunks = runner.sample(num_timesteps=80)
        for chunk in chunks:
            for code, info in zip(codes_of(chunk), chunk.get_infos()[1:], strict=True):
                assert len(info["legal_moves"]) == code
                assert info["winner"] == (None, 1, {"name": "x"}, "y")[code]
        ended = [codes_of(chunk)[-1] for chunk in chunks if chunk.is_done]
        successes = runner.get_metrics()["rlssl_episodes"]["success"].peek()
        samples[num_envs] = (ended, successes)
        runner.stop()
    for ended, successes in samples.values():
        np.testing.assert_array_equal(successes, [SUCCESSES[code] for code in ended])


def test_a_success_that_is_no_number_is_a_fault_in_words() -> None:
    class Wordy(Telling):
        def step(self, action: Any) -> Any:
            *results, _ = super().step(action)
            return *results, {"success": "yes"}

    register_env("infos-test/wordy", Wordy)
    config = make_config({"id": "infos-test/wordy"}, num_envs=2)
    runner = make_runner(VectorEnvRunner, config)
    with pytest.raises(Exception, match=r"info\['success'\] must be a number; got 'yes'"):
        runner.sample(num_timesteps=100)


@pytest.mark.parametrize("order", itertools.permutations([0, 1, 2, 3]))
def test_joined_infos_do_not_depend_on_the_order_of_the_copies(order: tuple[int, ...]) -> None:
    infos: dict[str, Any] = {}
    join = JoinedInfos(num_envs=4)
    winners: tuple[Any, ...] = (None, 1, {"name": "x"}, {"name": "z", "won": 2})
    for slot in order:
        info: dict[str, Any] = {"moves": np.arange(slot), "winner": winners[slot], "_x": 3}
        if slot < 3:
            info["reward"] = VALUES[slot]
        infos = join(infos, info, slot)
    given = vector_info(infos, "reward", 4)
    assert given is not None
    assert given[0].tolist() == [0.0, 0.5, 1.0, 0.0]
    assert given[1].tolist() == [True, True, True, False]
    assert [len(moves) for moves in infos["moves"]] == [0, 1, 2, 3]
    assert infos["winner"].tolist() == list(winners)
    assert not {"_x", "__x"} & infos.keys()


def test_listed_infos_are_copies() -> None:
    board = np.zeros(2)
    vector = SyncVectorEnv([lambda: Telling({})] * 2)
    infos = ListedInfos(2)({}, {"board": board, "deep": {"board": board}}, 1)
    board[:] = 1.0
    listed = InfosToList(vector)._convert_info_to_list(infos)
    assert listed[0] == {} and listed[1]["board"].tolist() == [0.0, 0.0]
    assert listed[1]["deep"]["board"].tolist() == [0.0, 0.0]


def test_values_that_are_not_one_for_each_environment_are_given_to_all() -> None:
    vector = SyncVectorEnv([lambda: Telling({})] * 2)
    infos = {"winner": None, "lives": np.array([3, 2]), "_lives": [True, False], "size": [1, 2, 3]}
    assert InfosToList(vector)._convert_info_to_list(infos) == [
        {"winner": None, "lives": 3, "size": [1, 2, 3]},
        {"winner": None, "size": [1, 2, 3]},
    ]


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_final_observations_survive_environments_that_change_them_in_place(
    mode: AutoresetMode,
) -> None:
    class InPlace(Telling):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            self.array = np.zeros(2, np.float32)

        def _observation(self) -> np.ndarray:
            self.array[:] = self.t, self.code
            return self.array

    def make_vec(config: dict[str, Any], num_envs: int) -> gym.vector.VectorEnv:
        return SyncVectorEnv([lambda: InPlace({})] * num_envs, autoreset_mode=mode)

    name = f"infos-test/in-place-{mode.value}"
    register_env(name, InPlace, make_vec=make_vec)
    preflight({"id": name})
    config = make_config({"id": name}, num_envs=3)
    config.vectorize = "native"
    chunks = make_runner(VectorEnvRunner, config).sample(num_timesteps=60)
    assert {float(c.get_observations(-1)[0]) for c in chunks if c.is_done} == {4.0}
