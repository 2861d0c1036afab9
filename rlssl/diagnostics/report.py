"""Computes the diagnostics of an algorithm's encoder on recorded steps."""

import time
from collections.abc import Mapping
from typing import Any

import torch
import tree
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from torch import Tensor, nn

from rlssl.diagnostics.dormant import Activity, dormant
from rlssl.diagnostics.probes import Split, action_probe, held_out_rows, reward_probe
from rlssl.diagnostics.ranks import ranks
from rlssl.diagnostics.recording import Rows
from rlssl.diagnostics.settings import PROBES
from rlssl.system.seeding import seed_of

#: Rows in one pass through an encoder, which bounds the memory of feature maps.
_ROWS_A_PASS = 128


def diagnose(algorithm: Any, rows: Rows, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Diagnostics of the encoder that auxiliary losses train, on the CPU.

    Args:
        algorithm: An rlssl Algorithm with its current weights.
        rows: Steps of evaluation episodes, without augmentation.
        wanted: Name of each diagnostic -> its options.

    Returns:
        Name of each diagnostic -> its values; ``num_rows`` (N), ``num_features`` (D), and
        ``seconds`` that the diagnostics took.
    """
    began = time.perf_counter()
    found: dict[str, Any] = {}
    module = _trained_module(algorithm)
    activity = Activity(module.encoder) if "dormant" in wanted else None
    latents = encode(module.encoder, rows.observations, activity)
    if "ranks" in wanted:
        found["ranks"] = ranks(latents, **wanted["ranks"])
    if activity is not None:
        found["dormant"] = dormant(activity.sizes(), **wanted["dormant"])
    if PROBES & wanted.keys():
        random_latents = encode(_random_encoder(algorithm, module), rows.observations)
        split = Split(latents.numpy(), random_latents.numpy(), held_out_rows(rows.episodes))
        if "reward_probe" in wanted:
            found["reward_probe"] = reward_probe(split, rows.rewards, **wanted["reward_probe"])
        if "action_probe" in wanted:
            found["action_probe"] = action_probe(split, rows.actions)
    num_rows, num_features = latents.shape
    seconds = time.perf_counter() - began
    return {"num_rows": num_rows, "num_features": num_features, "seconds": seconds, **found}


@torch.no_grad()
def encode(encoder: nn.Module, observations: Any, activity: Activity | None = None) -> Tensor:
    """[N, D], float32: latents of observations, in several passes.

    Args:
        encoder: Reads a struct of [N, ...].
        observations: A struct of [N, ...].
        activity: Measures the activations of ``encoder``; None: they are not measured.

    Example:
        >>> encode(nn.Identity(), torch.ones(300, 2)).shape
        torch.Size([300, 2])
    """
    num_rows = len(tree.flatten(observations)[0])
    latents = []
    for start in range(0, num_rows, _ROWS_A_PASS):
        part = slice(start, start + _ROWS_A_PASS)
        batch = tree.map_structure(lambda leaf, part=part: leaf[part], observations)
        if activity is None:
            latents.append(encoder(batch))
            continue
        with activity.measured():
            latents.append(encoder(batch))
    return torch.cat(latents).float()


def _trained_module(algorithm: Any) -> Any:
    """An RLModule on the CPU with the Learner's weights, without auxiliary losses."""
    module = _new_module(algorithm, seed=0)
    parts = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
    state = algorithm.learner_group.get_state(components=parts)
    weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
    module.set_state({key: weights[key] for key in module.state_dict()})
    return module


def _random_encoder(algorithm: Any, trained: Any) -> nn.Module:
    """A newly initialized encoder; it has the statistics of observations of the trained one."""
    module = _new_module(algorithm, seed_of("random encoder", algorithm.config.seed))
    if trained.normalizer is not None:
        module.normalizer.set_statistics(trained.normalizer.statistics())
    encoder: nn.Module = module.encoder
    return encoder


def _new_module(algorithm: Any, seed: int) -> Any:
    """The algorithm's RLModule for a Learner, newly initialized, without auxiliary losses."""
    spec = algorithm.config.get_rl_module_spec(spaces=algorithm.spaces, inference_only=False)
    spec.model_config = {**spec.model_config, "auxiliary": {}}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return spec.build()
