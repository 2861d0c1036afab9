"""A trained policy on its own: acting, evaluating, saving and loading without pickles."""

import base64
import io
import json
import logging
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.utils.serialization import gym_space_from_dict, gym_space_to_dict
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action
from safetensors.torch import load_file, save_file

from rlssl import trust
from rlssl.connectors.frame_stack import FrameStack, stacked_space
from rlssl.errors import SpecError
from rlssl.old_names import renamed_state
from rlssl.plugins import load_plugins
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.registry import ALGORITHMS
from rlssl.run_files import POLICY_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

logger = logging.getLogger(__name__)


class Policy:
    """Acts on single, unbatched, unstacked observations of one environment.

    Args:
        module: The RLModule, built for inference.
        settings: What ``policy.json`` holds: algorithm, model, observation_space, action_space
            (of one environment), normalize_actions, clip_actions, plugins, env.
    """

    def __init__(self, module: RLModule, settings: Mapping[str, Any]) -> None:
        self.module = module
        self.settings = dict(settings)
        self.observation_space: gym.Space = settings["observation_space"]
        self.action_space: gym.Space = settings["action_space"]
        frame_stack = settings["model"]["frame_stack"]
        self._frames = (
            FrameStack(frame_stack, 1, self.observation_space) if frame_stack > 1 else None
        )
        self._starts_episode = True
        # A recurrent module's state before the next step: struct of [1, ...]; None: the initial.
        self._state: Any = None

    @classmethod
    def from_algorithm(cls, algorithm: "Algorithm") -> Self:
        """A copy of what ``algorithm`` has learned so far, on the CPU.

        Raises:
            SpecError: If connectors of the user's own stand between environment and module: the
                policy would act on observations that it was not trained on.
        """
        config = algorithm.config
        if pieces := custom_connectors(config):
            raise SpecError(f"a policy behind {pieces} of your own cannot act by itself yet.")
        observation_space, action_space = algorithm.spaces[INPUT_ENV_SINGLE_SPACES]
        spec = config.get_rl_module_spec(spaces=algorithm.spaces, inference_only=True)
        settings = {
            "algorithm": config.algorithm_name,
            "model": {**spec.model_config, "auxiliary": {}},
            "observation_space": observation_space,
            "action_space": action_space,
            "normalize_actions": config.normalize_actions,
            "clip_actions": config.clip_actions,
            "plugins": list(config.plugin_modules),
            "env": config.evaluation_env_settings,
        }
        policy = cls(_build_module(settings), settings)
        state = algorithm.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        policy.module.set_state(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        return policy

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what ``save`` wrote; nothing in it is executed.

        Raises:
            SpecError: If the folder holds no policy, or one that is damaged, names something
                unknown, or names plug-ins to import though its origin is foreign.
        """
        folder = Path(folder)
        if not (folder / POLICY_FILE).is_file():
            raise SpecError(f"{folder} holds no {POLICY_FILE}; give an exported policy or a run.")
        try:
            settings = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))
            _load_own_plugins(folder, settings["plugins"])
            for key in ("observation_space", "action_space"):
                settings[key] = _space(settings[key])
            module = _build_module(settings)
            module.load_state_dict(renamed_state(load_file(folder / WEIGHTS_FILE)))
        except SpecError:
            raise
        except Exception as error:  # whatever its author wrote into it
            words = f"{type(error).__name__}: {error}"
            raise SpecError(f"{folder} holds a policy that cannot be read: {words}") from error
        return cls(module, settings)

    def save(self, folder: str | Path) -> Path:
        """Writes ``policy.json`` and ``weights.safetensors`` into ``folder``; returns it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = dict(self.settings)
        for key in ("observation_space", "action_space"):
            settings[key] = gym_space_to_dict(settings[key])
        (folder / POLICY_FILE).write_text(json.dumps(settings, indent=2))
        weights = {key: value.contiguous() for key, value in self.module.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)
        return folder

    def reset(self) -> None:
        """Forgets what it has seen so far; call it at the start of every episode."""
        self._starts_episode = True
        self._state = None

    def seen(self, observation: Any) -> Any:
        """What the module saw when it acted last: a batch of one, [1, ...], in tensors.

        Args:
            observation: The unstacked one that ``act`` was given last.
        """
        return _to_batch(observation if self._frames is None else self._frames.stacked()[0])

    def act(self, observation: Any, *, explore: bool = False) -> Any:
        """The action to step the environment with.

        Args:
            observation: One unstacked observation, as the environment gave it.
            explore: Samples from the policy (torch's global generator) instead of its mode.
        """
        batch = {Columns.OBS: _to_batch(self._stacked(observation))}
        forward = self.module.forward_exploration if explore else self.module.forward_inference
        outputs = self._recur(forward, batch) if self.module.is_stateful() else forward(batch)
        if Columns.ACTIONS in outputs:
            # Of a module that chooses by itself, as those that learn values do.
            action = outputs[Columns.ACTIONS][0].cpu().numpy()
        else:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            distribution = self.module.get_inference_action_dist_cls().from_logits(inputs)
            if not explore:
                distribution = distribution.to_deterministic()
            action = distribution.sample()[0].cpu().numpy()
        if isinstance(self.action_space, gym.spaces.Discrete):
            # A scalar: environments look it up in tables, and an array of no dimension has no hash.
            return np.int64(action)
        if self.settings["normalize_actions"]:
            return unsquash_action(action, self.action_space)
        if self.settings["clip_actions"]:
            return clip_action(action, self.action_space)
        return action

    def _recur(
        self, forward: Callable[[dict[str, Any]], dict[str, Any]], batch: dict[str, Any]
    ) -> dict[str, Any]:
        """One step of a recurrent module, which wants a time axis; its state goes on."""
        if self._state is None:
            self._state = _to_batch(self.module.get_initial_state())
        observation = tree.map_structure(lambda leaf: leaf[:, None], batch[Columns.OBS])
        outputs = dict(forward({Columns.OBS: observation, Columns.STATE_IN: self._state}))
        self._state = outputs.pop(Columns.STATE_OUT)
        return tree.map_structure(lambda leaf: leaf[:, 0], outputs)

    def _stacked(self, observation: Any) -> Any:
        if self._frames is None:
            return observation
        frame = np.asarray(observation)[None]
        if self._starts_episode:
            self._frames.reset(frame, np.ones(1, dtype=bool))
        else:
            self._frames.push(frame)
        self._starts_episode = False
        return self._frames.stacked()[0]


def _build_module(settings: Mapping[str, Any]) -> RLModule:
    """The untrained module of the settings, without drawing from torch's global generator."""
    default_spec = ALGORITHMS[settings["algorithm"]]().get_default_rl_module_spec()
    spec = RLModuleSpec(
        module_class=default_spec.module_class,
        observation_space=stacked_space(
            settings["observation_space"], settings["model"]["frame_stack"]
        ),
        action_space=settings["action_space"],
        model_config=dict(settings["model"]),
        inference_only=True,
    )
    with torch.random.fork_rng(devices=[]):
        return spec.build()


def _load_own_plugins(folder: Path, names: Sequence[str]) -> None:
    """Imports the plug-ins, unless somebody else names them whom nobody vouches for."""
    if missing := sorted(set(names) - set(sys.modules)):
        trust.require(folder, f"it names plug-ins to import, {missing}")
    load_plugins(names)


def _space(saved: Mapping[str, Any]) -> gym.Space:
    """RLlib's reader of spaces, which would unpickle arrays that are pickles."""
    _refuse_pickles(saved)
    return gym_space_from_dict(saved)


def _refuse_pickles(saved: Any) -> None:
    for key, value in saved.items() if isinstance(saved, Mapping) else enumerate(saved):
        if key in ("low", "high", "nvec"):
            data = io.BytesIO(zlib.decompress(base64.b64decode(value)))
            np.load(data, allow_pickle=False)
        elif isinstance(value, Mapping | list):
            _refuse_pickles(value)


def _to_batch(observation: Any) -> Any:
    """One observation as a batch of one, in tensors."""
    if isinstance(observation, Mapping):
        return {key: _to_batch(value) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_to_batch(value) for value in observation)
    return torch.as_tensor(np.asarray(observation))[None]
