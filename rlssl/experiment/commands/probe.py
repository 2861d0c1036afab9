"""`rlssl evaluate --probe`: how well the latents predict the environment's state."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rlssl.auxiliary.latent_statistics import (
    latent_statistics,
    pair_distances,
    rank_correlation,
    state_distances,
)
from rlssl.errors import SpecError
from rlssl.evaluation import begin_episode, evaluation_env
from rlssl.policy import Policy
from rlssl.system.random_state import undisturbed_generators

#: The most rows for the rank correlation, which compares all pairs of rows.
MAX_PAIRED_ROWS = 1000

#: The most rows of latents that are kept, evenly spread over the episodes.
MAX_ROWS = 20_000

#: Weight of the squared coefficients, times the number of rows; inputs have standard deviation 1.
RIDGE = 1e-3


def probe(
    policy: Policy,
    env: Mapping[str, Any],
    *,
    seeds: Sequence[int],
    explore: bool,
    max_steps: int,
) -> dict[str, Any]:
    """Runs episodes, and predicts the states from the latents of their observations.

    The state is ``info["state"]``, or else the observation if that is a vector. A linear map is
    fitted by ridge regression on every second episode, and predicts the states of the others.

    Args:
        policy: The policy whose encoder is probed.
        env: ``{"id": ..., **options}``. The options that put the state into ``info`` are added for
            environments that have them.
        seeds: Seeds of the episodes; two or more.
        explore: Whether to sample actions instead of taking the policy's mode.
        max_steps: Agent steps after which an episode is truncated.

    Returns:
        ``state`` (``info`` or ``observation``); ``num_rows``; ``r2``: [S], the predicted share of
        each state element's variance, nan for an element that never changes; ``r2_mean``;
        ``effective_rank``, ``feature_variance`` and ``distance`` of 128 latents, spread over the
        episodes; and ``rank_correlation`` of distances between latents and between states.

    Raises:
        SpecError: If there are fewer than two episodes, or the environment gives no state.
    """
    if len(seeds) < 2:
        raise SpecError(
            "--probe fits on some episodes and tests on others; give --episodes 2 or more."
        )
    rows = _rows(policy, with_state_in_info(env), seeds, explore, max_steps)
    latents, states, episodes = rows["latent"], rows["state"], rows["episode"]
    held_out = episodes % 2 == 1
    r2 = linear_r2(latents[~held_out], states[~held_out], latents[held_out], states[held_out])
    spread = torch.as_tensor(latents[_evenly(len(latents), 128)])
    paired = _evenly(len(latents), MAX_PAIRED_ROWS)
    correlation = rank_correlation(pair_distances(latents[paired]), state_distances(states[paired]))
    known = r2[np.isfinite(r2)]
    return {
        "state": rows["source"],
        "num_rows": len(latents),
        "r2_mean": float(known.mean()) if len(known) else float("nan"),
        "r2": [float(value) for value in r2],
        **{key: float(value) for key, value in latent_statistics(spread).items()},
        "rank_correlation": correlation,
    }


def with_state_in_info(env: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's options, and those that put its state into ``info``, if it has them."""
    options = dict(env)
    if str(env["id"]).startswith("dmc-pixels/"):
        options["info_state"] = True
    if "dims" in (env.get("distractors") or {}):
        options["distractors"] = {**env["distractors"], "info_state": True}
    return options


def linear_r2(
    latents: np.ndarray, states: np.ndarray, test_latents: np.ndarray, test_states: np.ndarray
) -> np.ndarray:
    """Share of each state element's variance that a linear map of the latents predicts.

    Args:
        latents: [N, D], latents to fit on.
        states: [N, S], their states.
        test_latents: [M, D], latents to test on.
        test_states: [M, S], their states.

    Returns:
        [S], ``1 - squared error / sum of squared differences from the mean`` on the M rows. 1 is
        perfect; 0 is as good as predicting the mean; below 0 is worse. nan if all M rows are equal.

    Example:
        >>> latents = np.array([[-1.0], [1.0]])
        >>> states = np.array([[4.0, 5.0], [8.0, 5.0]])  # the second element never changes
        >>> linear_r2(latents, states, latents, states).round(3)
        array([ 1., nan])
    """
    mean, scale = latents.mean(0), latents.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    inputs, test_inputs = (latents - mean) / scale, (test_latents - mean) / scale
    center = states.mean(0)
    gram = inputs.T @ inputs + RIDGE * len(inputs) * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (states - center))
    error = ((test_inputs @ weights + center - test_states) ** 2).sum(0)
    total = ((test_states - test_states.mean(0)) ** 2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2: np.ndarray = np.where(total > 0, 1.0 - error / total, np.nan)
    return r2


def latents_of(module: Any, obs: Any) -> Tensor:
    """[N, D], the latents that the policy's head reads, of raw stacked observations [N, ...].

    Raises:
        SpecError: If the module has no encoder.
    """
    with torch.no_grad():
        if hasattr(module, "actor_latents"):
            latents: Tensor = module.actor_latents(module.features(obs))
        elif hasattr(module, "encoder"):
            latents = module.encoder(obs)
        else:
            raise SpecError(f"--probe needs a module with an encoder; got {type(module)}.")
    return latents


@undisturbed_generators()
def _rows(
    policy: Policy, env: Mapping[str, Any], seeds: Sequence[int], explore: bool, max_steps: int
) -> dict[str, Any]:
    """Rows of all episodes: ``latent`` [N, D], ``state`` [N, S], ``episode`` [N], ``source``."""
    environment = evaluation_env(env, seeds[0])
    rows: dict[str, list[Any]] = {"latent": [], "state": [], "episode": []}
    source = ""
    # At most this many steps of each episode are kept, so that memory is bounded.
    most = max(1, MAX_ROWS // len(seeds))
    try:
        for number, seed in enumerate(seeds):
            latents, states, source = _episode(policy, environment, seed, explore, max_steps)
            kept = _evenly(len(latents), most)
            rows["latent"].append(latents[kept])
            rows["state"].append(states[kept])
            rows["episode"].append(np.full(len(kept), number))
    finally:
        environment.close()
    return {**{key: np.concatenate(parts) for key, parts in rows.items()}, "source": source}


def _episode(
    policy: Policy, env: gym.Env, seed: int, explore: bool, max_steps: int
) -> tuple[np.ndarray, np.ndarray, str]:
    policy.reset()
    observation, info = begin_episode(env, seed)
    latents: list[np.ndarray] = []
    states: list[np.ndarray] = []
    ended = False
    source = "info" if "state" in info else "observation"
    while not ended and len(latents) < max_steps:
        states.append(_state(observation, info, source, env))
        action = policy.act(observation, explore=explore)
        latent = latents_of(policy.module, policy.seen(observation))[0]
        latents.append(latent.double().numpy())
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    return np.stack(latents), np.stack(states), source


def _state(observation: Any, info: Mapping[str, Any], source: str, env: gym.Env) -> np.ndarray:
    # Copies, because an environment may change its arrays in place in the next step.
    if source == "info":
        return np.array(info["state"], np.float64).ravel()
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise SpecError(
            f"--probe needs the state: the environment gives no info['state'], and {space} is not "
            "a vector space. Make its reset and step put a vector into info['state']."
        )
    return np.array(observation, np.float64)


def _evenly(num: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` out of ``num`` rows, evenly spread."""
    return np.unique(np.linspace(0, num - 1, min(num, most)).round().astype(np.int64))
