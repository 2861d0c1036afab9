"""Decides, before a sweep starts, whether its processes run one trial after the other."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from rlssl.environments.building import find_environment
from rlssl.experiment.spec.schema import ConnectorsSpec, Spec
from rlssl.experiment.spec.search_checks import has_population
from rlssl.experiment.spec.search_space import dimensions, num_trials
from rlssl.plugins import user_packages
from rlssl.registry import local_registrations


def reuses_processes(spec: Spec) -> bool:
    """Whether a process that has ended a trial runs the next one.

    The spec may say it. By default, sweeps do, unless they run code that is neither rlssl's nor
    gymnasium's: its modules may keep something from one trial for the next.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "seeds": [0, 1]}
        >>> spec = load_spec({**document, "stop": {"env_steps": 2_000}, "reuse_processes": False})
        >>> reuses_processes(spec)
        False
    """
    if spec.reuse_processes is not None:
        return spec.reuse_processes
    return num_trials(spec) > 1 and not has_population(spec) and not _runs_user_code(spec)


def _runs_user_code(spec: Spec) -> bool:
    """Whether a sweep, whose plug-ins are imported, runs code of the user."""
    return (
        bool(user_packages() or local_registrations())
        or spec.connectors != ConnectorsSpec()
        or any(path.split(".")[0] == "connectors" for path in spec.search)
        or not all(map(_is_known, _env_ids(spec)))
    )


def _env_ids(spec: Spec) -> list[Any]:
    """The environments of all points."""
    searched = {one.path: one.arguments for one in dimensions(spec.search)}
    sections = [spec.env, *(it for it in searched.get("env", ()) if isinstance(it, Mapping))]
    named = [it for it in searched.get("env", ()) if isinstance(it, str)]
    ids = [section["id"] for section in sections if "id" in section]
    return [*ids, *named, *searched.get("env.id", ())]


def _is_known(env_id: str) -> bool:
    """Whether an environment is rlssl's or gymnasium's; others come with a user's packages."""
    if find_environment(env_id) is not None:
        return True
    found = gym.registry.get(env_id)
    return found is not None and str(found.entry_point).startswith("gymnasium.")
