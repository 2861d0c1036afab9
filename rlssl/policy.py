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
from ray.rllib.utils.serialization import gym_space_from_dict
from safetensors.torch import load_file, save_file

from rlssl import trust
from rlssl.connectors.frame_stack import FrameStack, stacked_space
from rlssl.data.spaces import space_from_json, space_to_json
from rlssl.environments.policy_inputs import batch_reader, batch_size, observation_reader
from rlssl.environments.vector_infos import DEFAULT_SUCCESS
from rlssl.errors import SpecError
from rlssl.image_spaces import image_layout, is_image, with_layout
from rlssl.networks.action_encoding import to_env_actions
from rlssl.old_names import renamed_state
from rlssl.plugins import load_plugins
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.registry import ALGORITHMS
from rlssl.run_files import POLICY_FILE, WEIGHTS_FILE
from rlssl.system.json_output import readable_json

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

logger = logging.getLogger(__name__)


class Policy:
    """Acts on the observations of one environment, or of several environments at once.

    Args:
        module: The RLModule, built for inference.
        settings: The content of ``policy.json``: algorithm, model, observation_space, action_space
            (of one environment), normalize_actions, clip_actions, plugins, env.

    Example:
        It needs a run, as ``rlssl train ppo CartPole-v1`` makes one.

        >>> import rlssl
        >>> policy = rlssl.load_policy("ppo-CartPole-v1")  # doctest: +SKIP
        >>> env = rlssl.make_env(**policy.settings["env"])  # doctest: +SKIP
        >>> observation, info = env.reset(seed=0)  # doctest: +SKIP
        >>> policy.act(observation)  # doctest: +SKIP
        1
    """

    def __init__(self, module: RLModule, settings: Mapping[str, Any]) -> None:
        self.module = module
        self.observation_space: gym.Space = settings["observation_space"]
        model = _with_known_layout(settings["model"], self.observation_space)
        self.settings = {**settings, "model": model}
        self.action_space: gym.Space = settings["action_space"]
        frame_stack = settings["model"]["frame_stack"]
        self._frame_space = with_layout(self.observation_space, model["encoder_config"])
        self._stacks = frame_stack > 1
        self._read = observation_reader(self.observation_space)
        self._read_batch = batch_reader(self.observation_space)
        self._begin(1)

    def _begin(self, num_rows: int) -> None:
        """Starts an episode in each of ``num_rows`` environments."""
        self._num_rows = num_rows
        # Rows whose next observation begins an episode.
        self._begins = np.ones(num_rows, dtype=bool)
        frame_stack = self.settings["model"]["frame_stack"]
        stack = FrameStack(frame_stack, num_rows, self._frame_space) if self._stacks else None
        self._frames = stack
        # Recurrent state before the next step: struct of [rows, ...]; None: the initial state.
        self._state: Any = None

    @classmethod
    def from_algorithm(cls, algorithm: "Algorithm") -> Self:
        """Copies the current policy of ``algorithm`` to the CPU.

        Raises:
            SpecError: If the config has custom connectors between environment and module, because
                the policy was trained on their output.

        Example:
            Its first lines start Ray; the last line needs an observation of CartPole.

            >>> import rlssl
            >>> config = rlssl.PPOConfig().environment("CartPole-v1")
            >>> algorithm = config.build_algo()  # doctest: +SKIP
            >>> algorithm.train()  # doctest: +SKIP
            >>> policy = rlssl.Policy.from_algorithm(algorithm)  # doctest: +SKIP
            >>> policy.act(observation)  # doctest: +SKIP
            1
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
            settings[key] = space_to_json(settings[key])
        (folder / POLICY_FILE).write_text(readable_json(settings, indent=2), "utf-8")
        weights = {key: value.contiguous() for key, value in self.module.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)
        return folder

    def reset(self, rows: Any = None) -> None:
        """Clears the frame stack and the recurrent state; call it at the start of each episode.

        Args:
            rows: [N], bool: the environments of a batch whose next observation begins an episode;
                None: all.
        """
        if rows is None:
            self._begins[:] = True
            return
        rows = np.asarray(rows)
        if rows.shape != (self._num_rows,) or rows.dtype != bool:
            raise ValueError(
                f"rows must be {self._num_rows} booleans, one for each environment of the last "
                f"batch; got {rows.dtype} of shape {rows.shape}."
            )
        self._begins |= rows

    def seen(self, observation: Any) -> Any:
        """The module's input at the last ``act``: [1, ...], or [N, ...] for a batch, in tensors.

        Args:
            observation: The observation of the last ``act``, without a stack.
        """
        if self._frames is not None:
            return _tensors(self._frames.stacked())
        return _tensors(self._rows_of(observation)[0])

    def act(self, observation: Any, *, explore: bool = False) -> Any:
        """Returns the action with which to step the environment, or a batch of actions.

        Args:
            observation: One observation of the environment, without a stack, as the environment
                gives it: integer images are not scaled. Or N of them, as a vector environment gives
                them: [N, ...], in a dict or tuple if the space is one. Each row belongs to an
                environment, which keeps its row: with frame stacks or an LSTM, see ``reset``.
            explore: Whether to sample the action (torch's global generator); else the most likely
                action is taken.

        Raises:
            ValueError: If the observation has another structure, shape or dtype than the space of
                the training, and no safe cast; see ``observation_reader``. If the number of rows
                changes in mid-episode.

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
            >>> policy.act(np.zeros((3, 4), np.float32)).shape
            (3,)
        """
        rows, is_batch = self._rows_of(observation)
        batch = {Columns.OBS: _tensors(self._stacked(rows))}
        forward = self.module.forward_exploration if explore else self.module.forward_inference
        outputs = self._recur(forward, batch) if self.module.is_stateful() else forward(batch)
        self._begins[:] = False
        if Columns.ACTIONS in outputs:
            # Modules that learn action values choose the action themselves.
            actions = outputs[Columns.ACTIONS].cpu().numpy()
        else:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            distribution = self.module.get_inference_action_dist_cls().from_logits(inputs)
            if not explore:
                distribution = distribution.to_deterministic()
            actions = distribution.sample().cpu().numpy()
        if isinstance(self.action_space, gym.spaces.Discrete):
            # A scalar, because environments may use it as a key, and an array has no hash.
            return actions.astype(np.int64) if is_batch else np.int64(actions[0])
        if is_batch:
            return np.stack([self._to_env(action) for action in actions])
        return self._to_env(actions[0])

    def _rows_of(self, observation: Any) -> tuple[Any, bool]:
        """The checked observations as rows [N, ...], and whether they were given as a batch."""
        num_rows = batch_size(observation, self.observation_space)
        if num_rows is None:
            rows = _mapped(lambda leaf: leaf[None], self._read(observation))
        else:
            rows = self._read_batch(observation)
        size = 1 if num_rows is None else num_rows
        if size != self._num_rows:
            if (self._stacks or self._state is not None) and not self._begins.all():
                raise ValueError(
                    f"the policy has memory of {self._num_rows} environments, and got observations "
                    f"of {size}; call reset() before the number changes."
                )
            self._begin(size)
        return rows, num_rows is not None

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
        if self._begins.any():
            initial = _tensors(self.module.get_initial_state())
            begins = torch.as_tensor(self._begins)
            state = initial if self._state is None else self._state
            self._state = tree.map_structure(
                lambda first, now: torch.where(_like(begins, first), first[None], now),
                initial,
                state,
            )
        observation = tree.map_structure(lambda leaf: leaf[:, None], batch[Columns.OBS])
        outputs = dict(forward({Columns.OBS: observation, Columns.STATE_IN: self._state}))
        self._state = outputs.pop(Columns.STATE_OUT)
        return tree.map_structure(lambda leaf: leaf[:, 0], outputs)

    def _stacked(self, rows: Any) -> Any:
        if self._frames is None:
            return rows
        self._frames.push(rows)
        if self._begins.any():
            self._frames.reset(rows, self._begins)
        return self._frames.stacked()


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
    """Reads a space; those of earlier versions, which RLlib wrote, must have no pickled arrays."""
    if "type" in saved:
        return space_from_json(saved)
    _refuse_pickles(saved)
    return gym_space_from_dict(saved)


def _refuse_pickles(saved: Any) -> None:
    for key, value in saved.items() if isinstance(saved, Mapping) else enumerate(saved):
        if key in ("low", "high", "nvec"):
            data = io.BytesIO(zlib.decompress(base64.b64decode(value)))
            np.load(data, allow_pickle=False)
        elif isinstance(value, Mapping | list):
            _refuse_pickles(value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """``tree.map_structure`` for dicts and tuples, but fast for a single array."""
    if isinstance(value, Mapping):
        return {key: _mapped(function, part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_mapped(function, part) for part in value)
    return function(value)


def _tensors(value: Any) -> Any:
    return _mapped(lambda leaf: torch.as_tensor(np.asarray(leaf)), value)


def _like(rows: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """[N] as [N, 1, ...], with an axis for each axis of one row."""
    return rows.reshape(-1, *(1 for _ in one.shape))
