"""The replay buffers of a run: of its own steps, of a data set, or of both in fixed shares."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tree

from rlssl.algorithms.off_policy.batches import INDICES, draw
from rlssl.algorithms.off_policy.data_sets.loading import LoadedData, load_data
from rlssl.algorithms.off_policy.replay_building import make_replay
from rlssl.auxiliary.needs import Needs
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from rlssl.replay.hindsight.relabeling import Relabeler
from rlssl.run_files import REPLAY_FOLDER


class Rows(NamedTuple):
    """Rows of a batch that come from one replay buffer."""

    replay: ReplayBuffer
    # [K], their places in the batch.
    places: np.ndarray
    # [K], their numbers in the replay buffer.
    indices: np.ndarray


class Replays:
    """Draws batches, sets priorities, and saves what cannot be filled again.

    Args:
        config: A config that is adapted to its spaces.
        observation_space: The space of one environment and one frame.
        action_space: The space of one environment.
    """

    def __init__(self, config: Any, observation_space: gym.Space, action_space: gym.Space) -> None:
        self._config = config
        self.own: ReplayBuffer | None = None
        self.data: LoadedData | None = None
        if config.data_settings is not None:
            self.data = load_data(config, observation_space, action_space)
        if config.has_own_steps:
            self.own = make_replay(config, observation_space, action_space)

    @property
    def main(self) -> ReplayBuffer:
        """The buffer of the run's own steps; without one, that of the data set."""
        if self.own is not None:
            return self.own
        assert self.data is not None
        return self.data.replay

    def draw(self, *, beta: float, needs: Needs) -> tuple[dict[str, Any], list[Rows]]:
        """Draws a batch.

        Args:
            beta: Exponent of the importance weights, if draws follow priorities.
            needs: What the auxiliary losses read.

        Returns:
            The batch of `batches.draw`, and which of its rows come from which buffer. Rows of a
            data set are spread evenly over the batch, so that each Learner gets its share.
        """
        config, size = self._config, self._config.total_train_batch_size
        parts, sources = [], []
        for replay, num_rows in self._shares(size):
            sources.append(replay)
            parts.append(
                draw(
                    replay,
                    num_rows,
                    n_step=config.n_step,
                    gamma=config.gamma,
                    beta=beta,
                    needs=needs,
                    uniform_for_auxiliary=config.replay_settings.uniform_for_auxiliary,
                )
            )
        if len(parts) == 1:
            return parts[0], [Rows(sources[0], np.arange(size), parts[0][INDICES])]
        order = interleaved([len(part[INDICES]) for part in parts])
        places = np.split(np.argsort(order), np.cumsum([len(part[INDICES]) for part in parts])[:-1])
        batch = tree.map_structure(lambda *leaves: np.concatenate(leaves)[order], *parts)
        rows = [
            Rows(replay, where, part[INDICES])
            for replay, where, part in zip(sources, places, parts, strict=True)
        ]
        return batch, rows

    def _shares(self, size: int) -> list[tuple[ReplayBuffer, int]]:
        """The buffers to draw from, and the number of rows from each; > 0."""
        if self.data is None or self.own is None:
            return [(self.main, size)]
        of_data = round(self._config.data_settings.share * size)
        shares = [(self.data.replay, of_data), (self.own, size - of_data)]
        return [(replay, num_rows) for replay, num_rows in shares if num_rows]

    def set_priorities(self, rows: Sequence[Rows], errors: np.ndarray) -> None:
        """Sets the priorities of drawn rows.

        Args:
            rows: From `draw`.
            errors: [N], sizes of the TD errors of the batch; not finite where an update was
                skipped. Those rows keep their priorities.
        """
        for replay, places, indices in rows:
            assert isinstance(replay, PrioritizedReplayBuffer)
            sizes = errors[places]
            finite = np.isfinite(sizes)
            replay.update_priorities(indices[finite], sizes[finite])

    def relabeled_success(self) -> float | None:
        """The share of steps with a replaced goal that reach it, in batches since the last call.

        Steps of the run and of its data set count alike. None: no goal was replaced.
        """
        counts = [relabeler.take_counts() for relabeler in self._relabelers()]
        relabeled = sum(num_relabeled for num_relabeled, _ in counts)
        reached = sum(num_reached for _, num_reached in counts)
        return reached / relabeled if relabeled else None

    def close(self) -> None:
        """Closes the environments that compute rewards of other goals."""
        for relabeler in self._relabelers():
            relabeler.functions.close()

    def _relabelers(self) -> list[Relabeler]:
        """Of all buffers that have one; of held-out episodes, no batch is drawn."""
        buffers = [self.own]
        if self.data is not None:
            buffers += [self.data.replay, self.data.held_out]
        found = [None if replay is None else replay.relabeler for replay in buffers]
        return [relabeler for relabeler in found if relabeler is not None]

    @property
    def words(self) -> str:
        """The sizes of the buffers, in words."""
        parts = []
        if self.own is not None:
            size = self.own.nbytes / 2**30
            parts.append(f"replay: {self.own.capacity:,} frames, {size:.2f} GiB when full")
        if self.data is not None:
            parts.append(f"data: {len(self.data.replay):,} steps of {self.data.path}")
        return "; ".join(parts)

    def save(self, folder: Path) -> None:
        """Writes the run's own steps into a folder of a checkpoint; a data set is not copied."""
        if self.own is not None:
            self.own.save(folder / REPLAY_FOLDER)

    def restore(self, folder: Path) -> bool:
        """Reads what `save` wrote; whether the buffers are as they were."""
        if self.own is None:
            return True
        if not (folder / REPLAY_FOLDER).is_dir():
            return False
        self.own.restore(folder / REPLAY_FOLDER)
        return True

    def get_state(self) -> dict[str, Any]:
        """What the draws from a data set need besides its rows; {} without one."""
        return {} if self.data is None else {"data": self.data.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what ``get_state`` gave.

        Raises:
            SpecError: If the data set has changed since.
        """
        if self.data is not None and "data" in state:
            self.data.set_state(state["data"])


def interleaved(sizes: Sequence[int]) -> np.ndarray:
    """An order that spreads the rows of each part evenly over the whole.

    Args:
        sizes: Rows of each part; the parts are concatenated.

    Returns:
        [sum(sizes)], int64: the old place of each row.

    Example:
        >>> interleaved([2, 4]).tolist()
        [2, 0, 3, 4, 1, 5]
    """
    at = [(np.arange(size) + 0.5) / size for size in sizes if size]
    return np.argsort(np.concatenate(at), kind="stable")
