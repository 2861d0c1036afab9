"""Options of an environment arrive in its class or function, or are refused."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlssl
from rlssl.environments import make_env, make_vector_env
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.registry import ENVIRONMENTS, register_env


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with ENVIRONMENTS.undone_afterwards():
        yield


class Base(gym.Env):
    """An environment that remembers its size."""

    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    size: Any = 5

    def reset(self, **_: Any) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, False, False, {}


class GridWorld(Base):
    """As in gymnasium's tutorial."""

    def __init__(self, render_mode: str | None = None, size: int = 5) -> None:
        assert render_mode is None or isinstance(render_mode, str)
        self.size = size


class Configured(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        self.size = config.get("size", 5)


class PassesOn(Configured):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Both(Base):
    def __init__(self, config: dict[str, Any] | None = None, size: int = 5) -> None:
        assert config is not None and config["split"] == "train"
        self.size = size


class Nothing(Base):
    def __init__(self) -> None: ...


class Caller:
    def __call__(self, *, size: int) -> gym.Env:
        return GridWorld(size=size)

    def method(self, size: int = 5) -> gym.Env:
        return GridWorld(size=size)


def any_keywords(**options: Any) -> gym.Env:
    return GridWorld(**options)


def takes_mapping(c: Mapping[str, Any]) -> gym.Env:
    return GridWorld(size=c["size"])


def takes_optional(c: Optional[dict[str, Any]] = None) -> gym.Env:  # noqa: UP045
    return GridWorld(size=(c or {})["size"])


def positional_config(config: Any, /) -> gym.Env:
    return GridWorld(size=config["size"])


def keyword_config(*, config: Any) -> gym.Env:
    return GridWorld(size=config["size"])


def positional_size(size: int = 5, /) -> gym.Env:
    return GridWorld(size=size)


@functools.wraps(GridWorld)
def wrapped(*args: Any, **kwargs: Any) -> gym.Env:
    return GridWorld(*args, **kwargs)


TAKES_SIZE: list[Callable[..., Any]] = [
    GridWorld,
    Configured,
    PassesOn,
    Both,
    Caller(),
    Caller().method,
    any_keywords,
    takes_mapping,
    takes_optional,
    positional_config,
    keyword_config,
    wrapped,
    functools.partial(GridWorld, "human"),
    functools.partial(GridWorld, size=3),
    lambda size: GridWorld(size=size),
    lambda env_config: Configured(env_config),
    lambda *args: Configured(args[0]),
    lambda config, **_: Configured(config),
    lambda _, size=5: GridWorld(size=size),
]


@pytest.mark.parametrize("make", TAKES_SIZE)
def test_an_option_arrives(make: Any) -> None:
    register_env("lab/Grid", make)
    assert make_env({"id": "lab/Grid", "size": 7}, seed=3).unwrapped.size == 7  # type: ignore[attr-defined]


REFUSES_OPTIONS: list[Callable[..., Any]] = [
    Nothing,
    Base,
    GridWorld,
    Caller().method,
    positional_size,
    lambda: GridWorld(),
    lambda *_: GridWorld(),
    lambda _: GridWorld(),
    lambda _config: GridWorld(),
]


@pytest.mark.parametrize("make", REFUSES_OPTIONS)
def test_an_option_that_would_not_arrive_is_refused_before_anything_starts(make: Any) -> None:
    register_env("lab/Grid", make)
    env = {"id": "lab/Grid", "sizes": 7}
    words = r"'lab/Grid' does not take the option env\.sizes.*two ways.*sizes=.*config\['sizes'\]"
    for refuse in (make_env, lambda env: load_spec({"algorithm": "ppo", "env": env})):
        with pytest.raises(SpecError, match=words):
            refuse(env)
    if make is not positional_size:
        assert make_env({"id": "lab/Grid"}).unwrapped.size == 5  # type: ignore[attr-defined]


def test_the_error_guesses_the_option_and_shows_the_signature() -> None:
    register_env("lab/Grid", GridWorld)
    with pytest.raises(SpecError, match=r"did you mean 'size'\? It is built by GridWorld\(render"):
        make_env({"id": "lab/Grid", "sizes": 7})


def test_a_required_argument_is_an_option_and_not_the_dict() -> None:
    register_env("lab/Grid", lambda size: GridWorld(size=size))
    with pytest.raises(SpecError, match=r"needs a value of 'size'; set env\.size\."):
        make_env({"id": "lab/Grid"})
    # A search may give it to each point.
    search = {"env.size": {"grid": [3, 4]}}
    document = {"algorithm": "ppo", "env": "lab/Grid", "stop": {"env_steps": 1}, "search": search}
    assert load_spec(document).search


def test_the_seed_of_a_copy_reaches_a_parameter_of_this_name() -> None:
    def make(seed: int | None = None, split: str = "", size: int = 5) -> gym.Env:
        return GridWorld(size=(seed, split, size))  # type: ignore[arg-type]

    register_env("lab/Grid", make)
    env = make_env({"id": "lab/Grid", "size": 7}, seed=3, split="eval")
    assert env.unwrapped.size == (3, "eval", 7)  # type: ignore[attr-defined]


def test_an_option_called_config_is_the_parameter() -> None:
    def make(config: Any = None, size: int = 5) -> gym.Env:
        return GridWorld(size=config["lanes"] + size)

    register_env("lab/Road", make)
    env = make_env({"id": "lab/Road", "config": {"lanes": 2}, "size": 7})
    assert env.unwrapped.size == 9  # type: ignore[attr-defined]


def test_a_module_attribute_string_is_called_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grid_of_a_test.py").write_text(
        "import gymnasium as gym\n"
        "class Grid(gym.Wrapper):\n"
        "    def __init__(self, size=5):\n"
        "        super().__init__(gym.make('CartPole-v1'))\n"
        "        self.size = size\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    register_env("lab/Grid", "grid_of_a_test:Grid")
    assert make_env({"id": "lab/Grid", "size": 7}).get_wrapper_attr("size") == 7
    with pytest.raises(SpecError, match=r"env\.sizes; did you mean 'size'"):
        make_env({"id": "lab/Grid", "sizes": 7})


def vector(count: int, size: int) -> SyncVectorEnv:
    makers = [lambda: GridWorld(size=size)] * count
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize(
    "make_vec",
    [
        lambda config, n: vector(n, config["size"]),
        lambda config, *, num_envs: vector(num_envs, config["size"]),
        lambda num_envs, size=5: vector(num_envs, size),
        lambda **options: vector(options["num_envs"], options["size"]),
    ],
)
def test_vector_environments_get_options_in_the_same_ways(make_vec: Any) -> None:
    register_env("lab/Grid", GridWorld, make_vec)
    envs: Any = make_vector_env({"id": "lab/Grid", "size": 7}, num_envs=2)
    assert envs.num_envs == 2 and envs.envs[1].size == 7


def test_a_vector_environment_without_the_option_is_refused() -> None:
    register_env("lab/Grid", GridWorld, lambda num_envs: vector(num_envs, 5))
    with pytest.raises(SpecError, match=r"env\.size"):
        make_vector_env({"id": "lab/Grid", "size": 7}, num_envs=2)


def test_classes_in_a_config_and_creators_of_ray_get_their_options() -> None:
    from ray import tune

    config = rlssl.PPOConfig().environment(GridWorld, env_config={"size": 7})
    assert make_env(config.env_settings).unwrapped.size == 7  # type: ignore[attr-defined]
    # RLlib calls a creator with one dict, whatever its parameter is called.
    tune.register_env("creator-of-a-test", lambda c: Configured(c))
    config = rlssl.PPOConfig().environment("creator-of-a-test", env_config={"size": 8})
    assert make_env(config.env_settings).unwrapped.size == 8  # type: ignore[attr-defined]


def test_options_of_evaluations_are_checked_at_the_start() -> None:
    register_env("lab/Grid", GridWorld)
    with pytest.raises(SpecError, match=r"env\.sizes"):
        load_spec({"algorithm": "ppo", "env": "lab/Grid", "evaluation": {"env": {"sizes": 7}}})
