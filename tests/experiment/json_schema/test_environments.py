"""The JSON schema knows the environments of ``evaluation.env`` and of the paths of a search.

Each document is also loaded: the schema refuses what loading refuses.
"""

from typing import Any

import jsonschema
import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec

DMC = {"id": "dmc-pixels/cartpole-swingup", "size": 64}
WALK, BREAKOUT, ASTERIX = ({"id": it} for it in ("dmc/w", "minatar/Breakout", "minatar/Asterix"))
GRID, SHARES = {"grid": [1, 2]}, {"grid": [0.1, 0.2]}


def document(env: Any, evaluation: Any, search: Any = None) -> dict[str, Any]:
    given = {"algorithm": "ppo", "env": env, "stop": {"env_steps": 1000}}
    return {**given, "evaluation": {"env": evaluation}, "search": search}


def loads(given: dict[str, Any]) -> bool:
    try:
        load_spec(given)
    except SpecError:
        return False
    return True


VALID: dict[str, tuple[Any, Any, Any]] = {
    # Name -> the environment, that of evaluations, the search.
    "option of evaluations": (DMC, {"camera": 1}, {}),
    "environment given as text": ("minatar/Breakout", {"sticky_action_prob": 0.5}, {}),
    "other environment": (BREAKOUT, {"id": "atari/Pong", "frame_skip": 2}, {}),
    "option of every environment": (BREAKOUT, {"reward": "none"}, {}),
    "open options": ("faulty/CartPole-v1", {"sutton_barto_reward": True}, {}),
    "undeclared options": ("CartPole-v1", {"sutton_barto_reward": True}, {}),
    "searched options": (DMC, {}, {"env.size": GRID, "evaluation.env.camera": GRID}),
    "searched option of every environment": (BREAKOUT, {}, {"env.reward": {"grid": [None]}}),
    "searched in the other environment": (BREAKOUT, WALK, {"evaluation.env.camera": GRID}),
    "searched environments": (BREAKOUT, {}, {"env": {"grid": [DMC, BREAKOUT]}}),
    "searched ids": ("CartPole-v1", {}, {"env.id": {"grid": ["dmc/w"]}, "env.camera": GRID}),
    "searched open option": ("faulty/CartPole-v1", {}, {"env.render_mode": {"grid": [None]}}),
}
REFUSED: dict[str, tuple[Any, Any, Any]] = {
    "misspelt": (DMC, {"camerra": 1}, {}),
    "misspelt, environment given as text": ("minatar/Breakout", {"sticky_action": 0.5}, {}),
    "wrong type": (DMC, {"camera": "left"}, {}),
    "option of the training environment": (
        (BREAKOUT, {"id": "atari/Pong", "sticky_action_prob": 0.5}, {})
    ),
    "wrong type of an open option": ("faulty/CartPole-v1", {"after": "ten"}, {}),
    "wrong id": (BREAKOUT, {"id": 3}, {}),
    "set by rlssl": ("CartPole-v1", {"seed": 1}, {}),
    "set by rlssl, in training": ({"id": "CartPole-v1", "split": "eval"}, {}, {}),
    "misspelt in the search": (DMC, {}, {"env.sizes": GRID}),
    "misspelt in the search of evaluations": (DMC, {}, {"evaluation.env.camerra": GRID}),
    "searched in the wrong environment": (
        (BREAKOUT, WALK, {"evaluation.env.sticky_action_prob": SHARES})
    ),
    "a search over evaluations does not change training": (
        (BREAKOUT, {}, {"evaluation.env.id": {"grid": ["minatar/Asterix"]}, "env.camera": GRID})
    ),
    "searched, but set by rlssl": ("CartPole-v1", {}, {"env.seed": GRID}),
    "searched in evaluations, but set by rlssl": ("CartPole-v1", {}, {"evaluation.env.seed": GRID}),
}


@pytest.mark.parametrize("name", VALID)
def test_options_of_environments_are_valid(
    name: str, validator: jsonschema.Draft202012Validator
) -> None:
    given = document(*VALID[name])
    assert [error.message for error in validator.iter_errors(given)] == []
    assert loads(given)


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_options_of_environments_are_refused(
    name: str, validator: jsonschema.Draft202012Validator
) -> None:
    given = document(*REFUSED[name])
    assert not validator.is_valid(given)
    assert not loads(given)


def test_empty_sections_have_no_environment(validator: jsonschema.Draft202012Validator) -> None:
    empties: list[Any] = [None, {}]
    for empty in empties:
        given = {"algorithm": "ppo", "env": DMC, "evaluation": empty, "search": empty}
        assert validator.is_valid(given)
    with_data = {"algorithm": "sac", "data": {"path": "steps"}, "evaluation": {"env": {"size": 3}}}
    assert validator.is_valid(with_data)
