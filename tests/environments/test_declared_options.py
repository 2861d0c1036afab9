"""Environments that declare their options: wrong ones are refused, the others arrive."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import gymnasium as gym
import jsonschema
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlssl
from rlssl.environments.building import make_env, make_vector_env
from rlssl.environments.declared_options import declared_options
from rlssl.errors import SpecError
from rlssl.experiment.json_schema import spec_schema
from rlssl.experiment.spec.loading import load_spec
from rlssl.plugins import load_plugins
from rlssl.registry import ENVIRONMENTS


@dataclass(frozen=True)
class Options:
    # Number of cells; >= 2.
    length: int = 10
    start: Literal["left", "middle"] = "left"
    slips: list[float] = field(default_factory=lambda: [0.0])

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"env.length must be >= 2; got {self.length}.")


@dataclass(frozen=True)
class OpenOptions(Options):
    takes_others: ClassVar[bool] = True


@dataclass(frozen=True)
class Required:
    length: int


@dataclass(frozen=True)
class Clash:
    seed: int = 0


class Corridor(gym.Env):
    """Has its options."""

    observation_space = Box(0, 1, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, **options: Any) -> None:
        self.options = options


def from_dict(config: dict[str, Any]) -> Corridor:
    return Corridor(**{key: config[key] for key in config if key not in ("split", "seed")})


@pytest.fixture(autouse=True)
def _corridors() -> Iterator[None]:
    load_plugins()
    with ENVIRONMENTS.undone_afterwards():
        rlssl.register_env("lab/*", from_dict, options=Options)
        rlssl.register_env("lab/open/*", from_dict, options=OpenOptions)
        rlssl.register_env("lab/free", from_dict)
        rlssl.register_env("lab/required", Corridor, options=Required)
        yield


def spec(**env: Any) -> Any:
    return load_spec({"algorithm": "ppo", "env": env, "stop": {"env_steps": 1000}})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"lengths": 3}, "unknown option env.lengths of lab/one; did you mean 'length'?"),
        ({"speed": 3}, "unknown option env.speed of lab/one; known: length, slips, start"),
        ({"length": "ten"}, "env.length must be a whole number; got 'ten'."),
        ({"length": 1}, "environment 'lab/one': env.length must be >= 2; got 1."),
        ({"start": "lefft"}, "must be 'left' or 'middle'; got 'lefft'; did you mean 'left'?"),
        ({"slips": [0.1, "x"]}, "env.slips must be a list, each a number; got [0.1, 'x']."),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(
    options: dict[str, Any], words: str
) -> None:
    for build in (spec, rlssl.make_env):
        with pytest.raises(SpecError) as refusal:
            build(id="lab/one", **options)
        assert words in str(refusal.value)
    with pytest.raises(SpecError):
        load_spec({"algorithm": "ppo", "env": "lab/one", "evaluation": {"env": options}})


def test_a_wrong_option_in_a_search_is_refused() -> None:
    document = {"algorithm": "ppo", "env": "lab/one", "stop": {"env_steps": 1000}}
    with pytest.raises(SpecError, match=r"env\.lengths.*did you mean 'length'"):
        load_spec({**document, "search": {"env.lengths": {"grid": [3, 4]}}})


def test_a_search_may_set_the_options_that_a_spec_lacks() -> None:
    document = {"algorithm": "ppo", "env": "lab/required", "stop": {"env_steps": 1000}}
    load_spec({**document, "search": {"env.length": {"grid": [3, 4]}}})
    with pytest.raises(SpecError, match=r"search at training.lr = 0.1: .* needs env\.length"):
        load_spec({**document, "search": {"training.lr": {"grid": [0.1]}}})


def test_every_option_arrives_with_its_default() -> None:
    env: Any = make_env({"id": "lab/one", "start": "middle"}).unwrapped
    assert env.options == {
        "id": "lab/one",
        "worker_index": 0,
        "start": "middle",
        "length": 10,
        "slips": [0.0],
    }
    assert make_vector_env({"id": "lab/one"}, num_envs=2, vectorize="sync").num_envs == 2


def test_other_options_arrive_where_the_class_takes_them() -> None:
    env: Any = make_env({"id": "lab/open/one", "speed": 2}).unwrapped
    assert (env.options["speed"], env.options["length"]) == (2, 10)
    free: Any = make_env({"id": "lab/free", "speed": 2}).unwrapped
    assert free.options.keys() == {"id", "worker_index", "speed"}


def test_an_option_without_default_must_be_given() -> None:
    with pytest.raises(SpecError, match=r"'lab/required' needs env\.length: it has no default"):
        spec(id="lab/required")
    env: Any = make_env({"id": "lab/required", "length": 4}).unwrapped
    assert env.options == {"length": 4}


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(ValueError, match="options of environment 'lab/x' must be a dataclass"):
        rlssl.register_env("lab/x", from_dict, options=dict)
    rlssl.register_env("lab/clash", from_dict, options=Clash)
    with pytest.raises(SpecError, match="'seed' has a meaning for every environment"):
        make_env({"id": "lab/clash"})
    rlssl.register_env("lab/late", from_dict, options="math:pi")
    with pytest.raises(SpecError, match=r"'lab/late' must be a dataclass; got 3\.14"):
        make_env({"id": "lab/late"})


def test_the_schema_lists_options_and_refuses_others() -> None:
    schema = spec_schema()
    check = jsonschema.Draft202012Validator(schema)

    def accepts(**env: Any) -> bool:
        return check.is_valid({"algorithm": "ppo", "env": env})

    assert accepts(id="lab/one", length=3, start="middle", reward="none")
    assert accepts(id="lab/open/one", length=3, speed=2)
    assert accepts(id="lab/free", speed=2, length="ten")
    assert not accepts(id="lab/one", lengths=3)
    assert not accepts(id="lab/one", length="ten")
    assert not accepts(id="lab/open/one", length="ten")
    assert not accepts(id="lab/required", width=3)
    (reference,) = [
        rule["then"]["$ref"]
        for rule in schema["properties"]["env"]["anyOf"][-1]["allOf"]
        if rule["if"]["properties"]["id"]["pattern"] == "^lab/required$"
    ]
    assert "length" in schema["$defs"][reference.removeprefix("#/$defs/")]["properties"]


def test_every_environment_of_rlssl_declares_its_options() -> None:
    own = [one for one in ENVIRONMENTS.values() if str(one.make).startswith("rlssl_envs.")]
    assert len(own) >= 11
    check = jsonschema.Draft202012Validator(spec_schema())
    for entry in own:
        of = declared_options(entry)
        assert of is not None, entry.name
        env = {"id": entry.name.replace("*", "x"), "no_such_option": 1}
        is_open = getattr(of, "takes_others", False)
        assert check.is_valid({"algorithm": "ppo", "env": env}) is is_open, entry.name
