"""A trained policy without its algorithm: it acts, and it is saved and loaded without pickles."""

import base64
import functools
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
from safetensors.torch import load_file, save_file

from rlssl import trust
from rlssl.connectors.frame_stack import FrameStack, stacked_space
from rlssl.environments.policy_inputs import observation_reader
from rlssl.environments.vector_infos import DEFAULT_SUCCESS
from rlssl.errors import SpecError
from rlssl.image_spaces import image_layout, is_image, with_layout
from rlssl.networks.action_encoding import to_env_actions
from rlssl.old_names import renamed_state
from rlssl.plugins import load_plugins
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.registry import ALGORITHMS
from rlssl.run_files import POLICY_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

logger = logging.getLogger(__name__)


class Policy:
    """Acts on single observations of one environment, without a batch or a stack.

    Args:
        module: The RLModule, built for inference.
        settings: The content of ``policy.json``: algorithm, model, observation_space, action_space
            (of one environment), normalize_actions, clip_actions, plugins, env.
    """

    def __init__(self, module: RLModule, settings: Mapping[str, Any]) -> None:
        self.module = module
        self.observation_space: gym.Space = settings["observation_space"]
        model = _with_known_layout(settings["model"], self.observation_space)
        self.settings = {**settings, "model": model}
        self.action_space: gym.Space = settings["action_space"]
        frame_stack = settings["model"]["frame_stack"]
        frame_space = with_layout(self.observation_space, model["encoder_config"])
        self._frames = FrameStack(frame_stack, 1, frame_space) if frame_stack > 1 else None
        self._read = observation_reader(self.observation_space)
        self._starts_episode = True
        # Recurrent state before the next step: struct of [1, ...]; None means the initial state.
        self._state: Any = None

    @classmethod
    def from_algorithm(cls, algorithm: "Algorithm") -> Self:
        """Copies the current policy of ``algorithm`` to the CPU.

        Raises:
            SpecError: If the config has custom connectors between environment and module, because
                the policy was trained on their output.
        """
        config = algorithm.config
        if pieces := custom_connectors(config):
            raise SpecError(
                f"a policy with custom connectors ({', '.join(pieces)}) cannot be used without its "
                "algorithm yet; remove them from the config."
            )
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
            "success": config.seeded_evaluation.get("success", DEFAULT_SUCCESS),
        }
        policy = cls(_build_module(settings), settings)
        state = algorithm.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        policy.module.set_state(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        return policy

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Loads a policy that ``save`` wrote. Nothing in the folder is executed.

        Raises:
            SpecError: If the folder has no policy, the policy is damaged or names something
                unknown, or an untrusted policy names plug-ins to import.
        """
        folder = Path(folder)
        if not (folder / POLICY_FILE).is_file():
            raise SpecError(f"{folder} has no {POLICY_FILE}; give an exported policy or a run.")
        try:
            settings = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))
            _load_own_plugins(folder, settings["plugins"])
            for key in ("observation_space", "action_space"):
                settings[key] = _space(settings[key])
            module = _build_module(settings)
            _refuse_misread(module, settings)
            module.load_state_dict(renamed_state(load_file(folder / WEIGHTS_FILE)))
        except SpecError:
            raise
        except Exception as error:  # the files may contain anything
            reason = f"{type(error).__name__}: {error}"
            raise SpecError(
                f"the policy in {folder} cannot be read: {reason}; export it again."
            ) from error
        return cls(module, settings)

    def save(self, folder: str | Path) -> Path:
        """Writes ``policy.json`` and ``weights.safetensors`` into a folder; returns the folder."""
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
        """Clears the frame stack and the recurrent state; call it at the start of each episode."""
        self._starts_episode = True
        self._state = None

    def seen(self, observation: Any) -> Any:
        """The module's input at the last ``act``: a batch of one, [1, ...], in tensors.

        Args:
            observation: The observation of the last ``act``, without a stack.
        """
        if self._frames is not None:
            return _to_batch(self._frames.stacked()[0])
        return _to_batch(self._read(observation))

    def act(self, observation: Any, *, explore: bool = False) -> Any:
        """Returns the action with which to step the environment.

        Args:
            observation: One observation of the environment, without a batch or a stack, as the
                environment gives it: integer images are not scaled.
            explore: Whether to sample the action (torch's global generator); else the most likely
                action is taken.

        Raises:
            ValueError: If the observation has another structure, shape or dtype than the space of
                the training, and no safe cast; see ``observation_reader``.

        Example:
            >>> import rlssl
            >>> config = rlssl.PPOConfig().environment("CartPole-v1")
            >>> observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
            >>> actions = gym.spaces.Discrete(2)
            >>> spec = config.get_rl_module_spec(
            ...     spaces={DEFAULT_MODULE_ID: (observation_space, actions)}, inference_only=True
            ... )
            >>> settings = {"algorithm": "ppo", "model": spec.model_config}
            >>> settings |= {"observation_space": observation_space, "action_space": actions}
            >>> policy = Policy(spec.build(), settings)
            >>> policy.act(np.zeros(4, np.float32)) in actions
            True
        """
        batch = {Columns.OBS: _to_batch(self._stacked(self._read(observation)))}
        forward = self.module.forward_exploration if explore else self.module.forward_inference
        outputs = self._recur(forward, batch) if self.module.is_stateful() else forward(batch)
        if Columns.ACTIONS in outputs:
            # Modules that learn action values choose the action themselves.
            action = outputs[Columns.ACTIONS][0].cpu().numpy()
        else:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            distribution = self.module.get_inference_action_dist_cls().from_logits(inputs)
            if not explore:
                distribution = distribution.to_deterministic()
            action = distribution.sample()[0].cpu().numpy()
        if isinstance(self.action_space, gym.spaces.Discrete):
            # A scalar, because environments may use it as a key, and an array has no hash.
            return np.int64(action)
        return self._to_env(action)

    @functools.cached_property
    def _to_env(self) -> Callable[[Any], Any]:
        return to_env_actions(
            self.action_space,
            normalize=self.settings["normalize_actions"],
            clip=self.settings["clip_actions"],
        )

    def _recur(
        self, forward: Callable[[dict[str, Any]], dict[str, Any]], batch: dict[str, Any]
    ) -> dict[str, Any]:
        """Runs one step of a recurrent module, which needs a time axis, and updates its state."""
        if self._state is None:
            self._state = _to_batch(self.module.get_initial_state())
        observation = tree.map_structure(lambda leaf: leaf[:, None], batch[Columns.OBS])
        outputs = dict(forward({Columns.OBS: observation, Columns.STATE_IN: self._state}))
        self._state = outputs.pop(Columns.STATE_OUT)
        return tree.map_structure(lambda leaf: leaf[:, 0], outputs)

    def _stacked(self, observation: Any) -> Any:
        if self._frames is None:
            return observation
        frame = observation[None]
        if self._starts_episode:
            self._frames.reset(frame, np.ones(1, dtype=bool))
        else:
            self._frames.push(frame)
        self._starts_episode = False
        return self._frames.stacked()[0]


def _build_module(settings: Mapping[str, Any]) -> RLModule:
    """Builds the untrained module, without a draw from torch's global generator."""
    default_spec = ALGORITHMS[settings["algorithm"]]().get_default_rl_module_spec()
    spec = RLModuleSpec(
        module_class=default_spec.module_class,
        observation_space=stacked_space(
            settings["observation_space"],
            settings["model"]["frame_stack"],
            settings["model"].get("encoder_config"),
        ),
        action_space=settings["action_space"],
        model_config=dict(settings["model"]),
        inference_only=True,
    )
    with torch.random.fork_rng(devices=[]):
        return spec.build()


def _with_known_layout(model: Mapping[str, Any], space: gym.Space) -> dict[str, Any]:
    """The settings of the model, with the layout of images filled in."""
    config = dict(model.get("encoder_config") or {})
    if is_image(space):
        config["layout"] = image_layout(with_layout(space, config))
    return {**model, "encoder_config": config}


def _refuse_misread(module: RLModule, settings: Mapping[str, Any]) -> None:
    """Raises if an earlier version read the stacked images along the wrong axis.

    Today's exports name the layout. Earlier versions decided it again on the shape of the stack.
    """
    space, model = settings["observation_space"], settings["model"]
    reads_images = is_image(space) and getattr(module.encoder, "layout", None) is not None
    if not reads_images or (model.get("encoder_config") or {}).get("layout") is not None:
        return
    stack = module.observation_space.shape
    if image_layout(gym.spaces.Box(0, 1, stack)) != image_layout(space):
        raise SpecError(
            f"an earlier version trained this policy; it joined frames {space.shape} into stacks "
            f"{stack}, but took another axis of the stacks for the channels. Train it again."
        )


def _load_own_plugins(folder: Path, names: Sequence[str]) -> None:
    """Imports the plug-ins; plug-ins that are not yet imported need a trusted folder."""
    if missing := sorted(set(names) - set(sys.modules)):
        trust.require(folder, f"it names plug-ins to import, {missing}")
    load_plugins(names)


def _space(saved: Mapping[str, Any]) -> gym.Space:
    """Reads a space with RLlib, after a check that it contains no pickled arrays."""
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
