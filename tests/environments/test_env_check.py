import time
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import list_environments, make_env
from rlssl.environments.env_check import preflight
from rlssl.errors import MissingExtraError, PreflightError, UnknownNameError
from rlssl.plugins import load_plugins
from rlssl.registry import ENVIRONMENTS, register_env

load_plugins(["rlssl_envs"])
# Entries that are strings: those of the suites, not those of other tests.
REGISTERED = [name for name, entry in ENVIRONMENTS.items() if isinstance(entry.make, str)]


def first_member(name: str) -> str:
    try:
        return ENVIRONMENTS[name].members()[0]
    except MissingExtraError as error:
        pytest.skip(str(error))


def rollout(env_id: str) -> list:
    env = make_env({"id": env_id})
    env.action_space.seed(0)
    trace = [env.reset(seed=0)[0]]
    for _ in range(50):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        trace += [observation, reward]
        if terminated or truncated:
            trace.append(env.reset()[0])
    return trace


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_environment_passes_preflight_and_gymnasiums_checks(name: str) -> None:
    env_id = first_member(name)
    env = make_env({"id": env_id})
    spaces = preflight({"id": env_id})
    assert spaces.observation_space == env.observation_space
    assert spaces.action_space == env.action_space
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_environment_repeats_itself_with_a_seed(name: str) -> None:
    env_id = first_member(name)
    for one, other in zip(rollout(env_id), rollout(env_id), strict=True):
        tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is out of date")
@pytest.mark.timeout(1800)
def test_every_listed_environment_passes_preflight() -> None:
    failures = {}
    for row in list_environments():
        # Without suites that are not installed, and without environments of other tests.
        if row["note"] or row["id"] in ENVIRONMENTS:
            continue
        try:
            preflight({"id": row["id"]})
        except PreflightError as error:
            failures[row["id"]] = str(error)
    assert failures == {}


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """Undoes the registrations of a test."""
    with ENVIRONMENTS.undone_afterwards():
        yield


class Fine(gym.Env):
    """Passes the preflight; each of the classes below breaks one rule."""

    observation_space: Any = Box(-1, 1, (2,), np.float32)
    action_space: Any = Discrete(2)

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def observe(self) -> Any:
        return np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        return self.observe(), 1.0, False, False, {}


class RaisesInMake(Fine):
    def __init__(self, config: dict[str, Any]) -> None:
        raise OSError("no display")


class RaisesInReset(Fine):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        raise KeyError("level")


class RaisesInStep(Fine):
    def step(self, action: Any) -> Any:
        return 1 / 0


class ResetReturnsOnlyObservation(Fine):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.observe()


class StepReturnsFour(Fine):
    def step(self, action: Any) -> Any:
        return self.observe(), 1.0, False, {}


class RewardIsNan(Fine):
    def step(self, action: Any) -> Any:
        return self.observe(), float("nan"), False, False, {}


class RewardIsAnArray(Fine):
    def step(self, action: Any) -> Any:
        return self.observe(), np.ones(1), False, False, {}


class ObservationHasAnotherDtype(Fine):
    def observe(self) -> Any:
        return np.zeros(2)


class ObservationHasAnotherShape(Fine):
    def observe(self) -> Any:
        return np.zeros((1, 2), np.float32)


class ObservationIsNotFinite(Fine):
    def observe(self) -> Any:
        return np.array([0, np.inf], np.float32)


class ObservationIsOutOfBounds(Fine):
    def observe(self) -> Any:
        return np.array([0, 2], np.float32)


class ObservationIsAList(Fine):
    def observe(self) -> Any:
        return [0.0, 0.0]


class PartOfADictHasAnotherShape(Fine):
    observation_space = Dict({"a": Tuple((Discrete(2), Box(0, 1, (3,), np.float32)))})

    def observe(self) -> Any:
        return {"a": (1, np.zeros(2, np.float32))}


class DictLacksAKey(Fine):
    observation_space = Dict({"a": Discrete(2), "b": Discrete(2)})

    def observe(self) -> Any:
        return {"a": 1}


NUMBERED: Any = {7: Discrete(2)}


class KeyIsANumber(Fine):
    observation_space = Tuple((Dict({"a": Discrete(2)}), Dict(NUMBERED)))


class HasNoElements(Fine):
    observation_space = Dict({"a": Box(0, 1, (3, 0), np.float32), "b": Tuple(())})


class SecondEpisodeFails(Fine):
    fill = 0.0

    def observe(self) -> Any:
        return np.full(2, self.fill, np.float32)

    def step(self, action: Any) -> Any:
        last = self.observe()
        self.fill = np.nan
        return last, 0.0, True, False, {}


class ActionRepeatIsZero(Fine):
    action_repeat = 0


class HasNoActionSpace(Fine):
    action_space = None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (RaisesInMake, "failed in make(): OSError: no display"),
        (RaisesInReset, "failed in reset(): KeyError: 'level'"),
        (RaisesInStep, "failed in step(): ZeroDivisionError: division by zero"),
        (ResetReturnsOnlyObservation, "reset() must return (observation, info)"),
        (StepReturnsFour, "step() must return (observation, reward, terminated, truncated, info)"),
        (RewardIsNan, "the reward must be a finite number; got nan"),
        (RewardIsAnArray, "the reward must be a finite number; got array([1.])"),
        (ObservationHasAnotherDtype, "has dtype float64, but its space has float32"),
        (ObservationHasAnotherShape, "has shape (1, 2), but its space has (2,)"),
        (ObservationIsNotFinite, "has a value that is not finite: [ 0. inf]"),
        (ObservationIsOutOfBounds, "lies outside Box(-1.0, 1.0, (2,), float32)"),
        (ObservationIsAList, "must be a numpy array; got <class 'list'>"),
        (PartOfADictHasAnotherShape, "at ['a'][1] has shape (2,), but its space has (3,)"),
        (DictLacksAKey, "must be a dict with the keys ['a', 'b']; got {'a': 1}"),
        (KeyIsANumber, "the observation space has the key 7; make it text"),
        (HasNoElements, "has no elements; give observations with at least one number"),
        (SecondEpisodeFails, "the observation of reset() has a value that is not finite"),
        (ActionRepeatIsZero, "action_repeat must be an integer >= 1; got 0"),
        (HasNoActionSpace, "action_space must be a gymnasium space; got None"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_environment_is_refused_by_name_and_in_its_own_words(
    broken: type, message: str
) -> None:
    register_env(f"broken/{broken.__name__}", broken)
    with pytest.raises(PreflightError) as caught:
        preflight({"id": f"broken/{broken.__name__}"})
    assert str(caught.value).startswith(f"environment 'broken/{broken.__name__}'")
    assert message in str(caught.value)


def test_fine_environment_passes_with_its_action_repeat() -> None:
    class Repeating(Fine):
        action_repeat = 4

    assert preflight({"id": "CartPole-v1"}).action_repeat == 1
    register_env("fine/repeating", lambda config: gym.Wrapper(Repeating(config)))
    spaces = preflight({"id": "fine/repeating"})
    assert spaces.action_repeat == 4
    assert spaces.observation_space == Fine.observation_space


def test_original_exception_is_kept_as_the_cause() -> None:
    register_env("broken/cause", RaisesInStep)
    with pytest.raises(PreflightError) as caught:
        preflight({"id": "broken/cause"})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_environment_that_stands_still_is_refused_in_time() -> None:
    begin = time.monotonic()
    with pytest.raises(PreflightError, match=r"timed out in step\(\) after 0.5 s"):
        preflight({"id": "faulty/CartPole-v1", "stall": 1.0, "stall_s": 60.0}, timeout_s=0.5)
    assert time.monotonic() - begin < 20


def test_unknown_id_is_not_called_a_failure_of_the_environment() -> None:
    with pytest.raises(UnknownNameError):
        preflight({"id": "CartPole-v9"})


def test_make_vec_with_other_spaces_is_refused() -> None:
    def other(config: dict[str, Any], num_envs: int) -> Any:
        return gym.make_vec("CartPole-v1", num_envs=num_envs)

    register_env("broken/vector", Fine, other)
    with pytest.raises(PreflightError, match="make_vec: single_observation_space is Box"):
        preflight({"id": "broken/vector"})


def test_gymnasiums_normalization_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    def single(config: Any) -> gym.Env:
        env = gym.make("CartPole-v1")
        if config.get("normalized"):
            env = gym.wrappers.NormalizeObservation(env)
        return gym.wrappers.TimeLimit(env, 10)

    def several(config: Any, num_envs: int) -> Any:
        return gym.wrappers.vector.NormalizeObservation(
            gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="sync")
        )

    def warnings_of(env: dict[str, Any]) -> list[str]:
        caplog.clear()
        preflight(env)
        return [text for text in caplog.messages if "model.normalize_observations" in text]

    register_env("wrapped/single", single)
    register_env("wrapped/vector", lambda config: gym.make("CartPole-v1"), several)
    assert warnings_of({"id": "wrapped/single"}) == []
    (text,) = warnings_of({"id": "wrapped/single", "normalized": True})
    assert "'wrapped/single' has gymnasium's wrapper NormalizeObservation" in text
    (text,) = warnings_of({"id": "wrapped/vector"})
    assert "'wrapped/vector' has gymnasium's wrapper" in text
    assert warnings_of({"id": "CartPole-v1"}) == []


def test_wrong_option_of_a_gymnasium_environment_is_told_in_gymnasiums_words() -> None:
    with pytest.raises(PreflightError, match=r"failed in make\(\): TypeError.*'gravty'"):
        preflight({"id": "CartPole-v1", "gravty": 3})


class Frames(Fine):
    """Images of floats up to ``brightest``, of a space up to ``high``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.brightest = config["brightest"]
        dtype = np.dtype(config.get("dtype", "float32"))
        self.space = Box(0, config["high"], (3, 8, 8), dtype.type)
        self.observation_space = Dict({"camera": self.space}) if config.get("dict") else self.space

    def observe(self) -> Any:
        image = np.full((3, 8, 8), self.brightest, self.space.dtype)
        return {"camera": image} if isinstance(self.observation_space, Dict) else image


@pytest.mark.parametrize(
    ("config", "warns"),
    [
        ({"high": 255.0, "brightest": 0.5}, True),
        ({"high": 255.0, "brightest": 200.0, "dtype": "float64", "dict": True}, True),
        ({"high": np.inf, "brightest": 200.0}, True),
        ({"high": np.inf, "brightest": 3.5}, False),
        ({"high": 1.0, "brightest": 1.0}, False),
        ({"high": 255, "brightest": 200, "dtype": "uint8"}, False),
    ],
)
def test_images_of_floats_up_to_255_give_a_warning_with_the_fix(
    config: dict[str, Any], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    register_env("fine/frames", Frames)
    with caplog.at_level("WARNING"):
        preflight({"id": "fine/frames", **config})
    told = [record.getMessage() for record in caplog.records if "is an image" in record.msg]
    assert len(told) == warns
    for message in told:
        assert "environment 'fine/frames'" in message
        assert "return uint8, or scale the image to 0..1" in message
        assert ("at ['camera']" in message) == ("dict" in config)
