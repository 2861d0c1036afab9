"""Goal-conditioned robots and mazes of gymnasium-robotics, as ``robotics/<Id>``.

``Fetch*``, ``PointMaze*`` and ``AntMaze*``, for example ``robotics/FetchReach-v4`` (Plappert et al.
2018, arXiv:1802.09464; Fu et al. 2020, arXiv:2004.07219; both ported by the Farama Foundation).

Observations are a dict of float64 vectors: ``observation``, ``achieved_goal`` and ``desired_goal``.
``info["is_success"]`` (Fetch) or ``info["success"]`` (mazes) of every step says whether the goal is
reached. Episodes are truncated at the limit of their id, and never terminate by default.

Rewards, by default sparse: Fetch pays -1 in every step that does not reach the goal, and else 0.
Mazes pay 1 in every step that reaches the goal, and else 0. Ids with ``Dense`` in their name pay
by the distance.

Options: `rlssl_envs.options.Robotics`, and all others of ``gymnasium.make`` for the id.
"""

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gymnasium as gym
from rlssl_envs.options import Robotics

from rlssl.environments import env_options
from rlssl.errors import SpecError, unknown_name

# It prints, in every process, that the rewards of AdroitHand have changed.
with contextlib.redirect_stderr(io.StringIO()):
    import gymnasium_robotics

gym.register_envs(gymnasium_robotics)

PREFIX = "robotics/"

#: Beginnings of the ids that are served.
FAMILIES = ("Fetch", "PointMaze", "AntMaze")

_VERSION = re.compile(r"-v(\d+)$")


def ids() -> list[str]:
    """Lists the newest version of each environment."""
    newest: dict[str, int] = {}
    for name in _served():
        base, version = name.rsplit("-v", 1)
        newest[base] = max(newest.get(base, 0), int(version))
    return [f"{PREFIX}{base}-v{version}" for base, version in newest.items()]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds an environment of gymnasium-robotics.

    Raises:
        UnknownNameError: There is no such environment.
        SpecError: An option is unknown.
    """
    name = config["id"].removeprefix(PREFIX)
    if name not in _served():
        raise unknown_name("environment", config["id"], ids())
    given = env_options(config)
    unset = {field.name for field in fields(Robotics) if given.get(field.name) is None}
    options = {key: value for key, value in given.items() if key not in unset}
    try:
        return gym.make(name, disable_env_checker=True, **options)
    except TypeError as error:
        raise SpecError(
            f"environment {config['id']!r} refuses its options {options}: {error}. "
            "docs/goals.md names the options."
        ) from error


def _served() -> list[str]:
    """The ids that run on today's MuJoCo; their older versions need mujoco-py."""
    return [
        name
        for name, spec in gym.registry.items()
        if name.startswith(FAMILIES)
        and _VERSION.search(name)
        and "gymnasium_robotics" in str(spec.entry_point)
        and "MujocoPy" not in str(spec.entry_point)
    ]
