"""Demonstrations: recorded episodes that a loss compares with, or learns from."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.batches import to_tensors
from rlssl.data import Description, Episode, EpisodeDataset
from rlssl.errors import SpecError
from rlssl.image_spaces import image_layout, is_image, last_frame_space
from rlssl.networks.action_encoding import to_module_actions
from rlssl.networks.update_rng import UpdateRNG

#: Numbers of 31 bits in a checksum: RLlib's checkpoints convert integers to int32.
_CHECKSUM_SIZE = 4


@dataclasses.dataclass(frozen=True)
class DemonstrationOptions(AuxiliaryLossConfig):
    """Options of a loss that reads demonstrations; its ``Config`` subclasses this class."""

    # Folder or URI of the data set with the demonstrations; needed.
    demonstrations: str = ""

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        if not isinstance(self.demonstrations, str):
            raise ValueError(
                f"demonstrations must be the path of a data set; got {self.demonstrations!r}."
            )


class Demonstrations:
    """The steps of demonstrations in memory; each frame is kept once.

    Args:
        episodes: The episodes, with single frames, and actions in the environment's units.
        observation_space: The space of one stacked observation.
        action_space: The space of one action.
        frame_stack: Frames in a stacked observation.

    Raises:
        SpecError: If there are no steps, or an action is out of range.

    Example:
        Stacks of two frames; an episode begins with its first frame twice.

        >>> frames = np.array([[1.0], [2.0], [3.0]], np.float32)
        >>> push = np.array([[-2.0], [1.0]], np.float32)
        >>> rewards = np.zeros(2, np.float32)
        >>> episode = Episode(frames, push, rewards, terminated=False, truncated=True)
        >>> box = gym.spaces.Box(-2.0, 2.0, (1,))
        >>> stacks = gym.spaces.Box(-9.0, 9.0, (2,))
        >>> steps = Demonstrations([episode], stacks, box, frame_stack=2)
        >>> columns = steps.rows(np.array([0, 1]), ["obs", "actions"], torch.device("cpu"))
        >>> columns["obs"].tolist(), columns["actions"].tolist()
        ([[1.0, 1.0], [1.0, 2.0]], [[-1.0], [0.5]])
    """

    def __init__(
        self,
        episodes: Iterable[Episode],
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        frame_stack: int = 1,
    ) -> None:
        episodes = list(episodes)
        if not any(len(episode) for episode in episodes):
            raise SpecError("demonstrations: the data set has no steps; record some first.")
        self.lengths = [len(episode) for episode in episodes]
        self.num_terminated = sum(bool(episode.terminated) for episode in episodes)
        self._frame_stack, self._axis = frame_stack, _joined_axis(observation_space)
        self._frames = _concatenated([episode.observations for episode in episodes])
        first = np.cumsum([0, *(length + 1 for length in self.lengths[:-1])])
        #: [S]: the frame of each step, and the first frame of its episode.
        self._at = np.concatenate(
            [f + np.arange(n) for f, n in zip(first, self.lengths, strict=True)]
        )
        self._begins = np.repeat(first, self.lengths)
        self._actions = None
        if all(episode.actions is not None for episode in episodes):
            to_module = to_module_actions(action_space)
            self._actions = to_module(_concatenated([episode.actions for episode in episodes]))

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._at)

    @property
    def has_actions(self) -> bool:
        """Whether the actions are known."""
        return self._actions is not None

    def rows(self, steps: np.ndarray, columns: Sequence[str], device: torch.device) -> Any:
        """OBS, NEXT_OBS (stacked), ACTIONS (as the policy gives them) of steps.

        Args:
            steps: [N], integers in [0, number of steps).
            columns: The columns to return.
            device: The device of the tensors.

        Returns:
            Column -> [N, ...].
        """
        found: dict[str, Any] = {}
        if Columns.OBS in columns:
            found[Columns.OBS] = self._stacked(self._at[steps], self._begins[steps])
        if Columns.NEXT_OBS in columns:
            found[Columns.NEXT_OBS] = self._stacked(self._at[steps] + 1, self._begins[steps])
        if Columns.ACTIONS in columns:
            assert self._actions is not None
            found[Columns.ACTIONS] = tree.map_structure(lambda leaf: leaf[steps], self._actions)
        return to_tensors(found, device)

    def observations(self, episode: int, device: torch.device) -> Any:
        """[T + 1, ...]: the stacked observations of an episode."""
        first = sum(self.lengths[:episode]) + episode
        frames = first + np.arange(self.lengths[episode] + 1)
        return to_tensors(self._stacked(frames, np.full_like(frames, first)), device)

    @functools.cached_property
    def checksum(self) -> Tensor:
        """[4] int64, from the SHA-256 of all frames, actions and lengths."""
        digest = hashlib.sha256(repr(self.lengths).encode())
        for leaf in tree.flatten((self._frames, self._actions)):
            if leaf is None:
                continue
            digest.update(f"{leaf.dtype.str}{leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf).data)
        numbers = np.frombuffer(digest.digest(), np.uint32)[:_CHECKSUM_SIZE]
        return torch.from_numpy((numbers % 2**31).astype(np.int64))

    def _stacked(self, frames: np.ndarray, begins: np.ndarray) -> Any:
        if self._frame_stack == 1:
            return tree.map_structure(lambda leaf: leaf[frames], self._frames)
        places = [np.maximum(frames - k, begins) for k in reversed(range(self._frame_stack))]
        return np.concatenate([self._frames[place] for place in places], self._axis)


class DemonstrationLoss(AuxiliaryLoss):
    """The base of losses that read demonstrations.

    The data set is read when a Learner is built, and before a run starts, to check it. EnvRunners
    and saved policies do not need it. A restored Learner must read the same demonstrations.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(DemonstrationOptions):
        """Options of a loss that reads demonstrations."""

    config: Any

    #: Whether demonstrations without actions are refused.
    needs_actions = True

    def __init__(self, config: Any, **given: Any) -> None:
        super().__init__(config, **given)
        self.update_rng = UpdateRNG()
        self._demonstrations: Demonstrations | None = None
        # The checksum in a checkpoint that was restored before the data set was read.
        self._restored_checksum: Tensor | None = None

    @property
    def demonstrations(self) -> Demonstrations:
        """The demonstrations; read at the first use."""
        if self._demonstrations is None:
            found = self._read()
            self.check_demonstrations(found)
            if self._restored_checksum is not None:
                self._check_checksum(self._restored_checksum, found)
            self._demonstrations = found
        return self._demonstrations

    def check_demonstrations(self, demonstrations: Demonstrations) -> None:
        """Refuses demonstrations that the loss cannot use.

        Raises:
            SpecError: Naming the option, its value and the fix.
        """
        if self.needs_actions and not demonstrations.has_actions:
            raise SpecError(
                f"demonstrations: {self.config.demonstrations} has no actions, which this loss "
                "needs. Label them first (`rlssl data label`), or record them with actions."
            )

    def check_batch(self, num_rows: int) -> None:
        """Reads the data set."""
        del num_rows
        _ = self.demonstrations

    def draw(self, num: int, columns: Sequence[str], device: torch.device) -> Any:
        """Draws steps of the demonstrations, with replacement.

        In an update, all calls draw the same numbers. Several Learners draw what one would draw.

        Args:
            num: N, number of steps of this Learner.
            columns: The columns to return.
            device: The device of the tensors.

        Returns:
            Column -> [N, ...].
        """
        first, total = self.peers.rows(num)
        generator = self.update_rng.generator()
        steps = torch.randint(len(self.demonstrations), (total,), generator=generator)
        return self.demonstrations.rows(steps[first : first + num].numpy(), columns, device)

    def after_update(self) -> None:
        """Renews the random draws."""
        self.update_rng.after_update()

    def get_extra_state(self) -> Tensor:
        """[4], a checksum of the demonstrations; zeros before they are read."""
        if self._demonstrations is not None:
            return self._demonstrations.checksum.clone()
        return torch.zeros(_CHECKSUM_SIZE, dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Compares the checksum in a checkpoint with that of the demonstrations.

        Raises:
            SpecError: If they differ.
        """
        state = torch.as_tensor(state)
        if not bool(state.any()):
            return
        self._restored_checksum = state
        if self._demonstrations is not None:
            self._check_checksum(state, self._demonstrations)

    def _check_checksum(self, saved: Tensor, found: Demonstrations) -> None:
        if not torch.equal(saved.long().cpu(), found.checksum):
            raise SpecError(
                f"demonstrations: {self.config.demonstrations} is not the data set with which the "
                "checkpoint was trained: its checksum differs. Restore that data set, or start a "
                "new run."
            )

    def _read(self) -> Demonstrations:
        path = self.config.demonstrations
        if not path:
            raise SpecError(
                "demonstrations is missing; give the folder or URI of a data set "
                "(`--aux NAME:demonstrations=PATH`). See docs/imitation.md."
            )
        dataset = EpisodeDataset(path)
        spaces = self.observation_space, self.action_space
        check_spaces(dataset.description, path, *spaces, self.frame_stack)
        return Demonstrations(dataset.episodes(), *spaces, frame_stack=self.frame_stack)


def check_spaces(
    description: Description,
    where: str,
    observation_space: gym.Space,
    action_space: gym.Space,
    frame_stack: int = 1,
) -> None:
    """Refuses a data set of another environment.

    Args:
        description: What the data set holds.
        where: Its path, for the message.
        observation_space: The space of one stacked observation.
        action_space: The space of one action.
        frame_stack: Frames in a stacked observation.

    Raises:
        SpecError: If its observations or its actions differ; names both.
    """
    frame = last_frame_space(observation_space, frame_stack)
    pairs = [("observations", description.observation_space, frame)]
    if description.action_space is not None:
        pairs.append(("actions", description.action_space, action_space))
    for what, given, wanted in pairs:
        is_same = _same_observations(given, wanted) if what == "observations" else given == wanted
        if not is_same:
            raise SpecError(
                f"demonstrations: {where} has {what} {given}, but those of the environment are "
                f"{wanted}. Record demonstrations in this environment, with the same options."
            )


def _same_observations(first: gym.Space, second: gym.Space) -> bool:
    """Whether spaces have the same structure, shapes and dtypes; bounds of floats may differ."""
    if isinstance(first, gym.spaces.Dict) and isinstance(second, gym.spaces.Dict):
        return first.keys() == second.keys() and all(
            _same_observations(first[key], second[key]) for key in first
        )
    if isinstance(first, gym.spaces.Tuple) and isinstance(second, gym.spaces.Tuple):
        return len(first) == len(second) and all(map(_same_observations, first, second))
    if isinstance(first, gym.spaces.Box) and isinstance(second, gym.spaces.Box):
        return (first.shape, first.dtype) == (second.shape, second.dtype)
    return bool(first == second)


def _joined_axis(space: gym.Space) -> int:
    """The axis of rows along which the frames of a stack are joined."""
    return -1 if is_image(space) and image_layout(space) == "HWC" else 1


def _concatenated(structs: Sequence[Any]) -> Any:
    """One struct with the rows of all; float64 becomes float32, which networks read."""

    def join(*leaves: np.ndarray) -> np.ndarray:
        rows = np.concatenate(leaves)
        return rows.astype(np.float32) if rows.dtype == np.float64 else rows

    return tree.map_structure(join, *structs)
