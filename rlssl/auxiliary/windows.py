"""Windows of time steps around the rows of a batch, for losses that see more than one step."""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.batches import CHUNK_BEGINS, STEP
from rlssl.peers import ALONE, Peers

#: Column of a window: [N, W], bool, whether the frame at a place of the window belongs to the
#: episode of the row.
VALID = "valid"

#: Key of the windows in a batch: columns [N, W, ...], for the widest window of all losses.
WINDOWS = "windows"

#: Column [N], int64: where a row stands in the batch before it was cut into minibatches.
POSITION = "position"

#: Column of a window: [N, W], int64. Equal numbers are equal frames, so that a frame which is in
#: several windows can be encoded once. Only batches of on-policy algorithms have it.
FRAME = "frame"


class Window(NamedTuple):
    """The time steps that a loss sees around each row: ``before`` rows, the row, ``after`` rows.

    Example:
        >>> window = Window(before=1, after=3)
        >>> window.length
        5
        >>> Window(after=2).union(window)
        Window(before=1, after=3)
    """

    # Rows before the row; >= 0. The row stands at this place of the window.
    before: int = 0
    # Rows after the row; >= 0. The last one may be the final observation of an episode.
    after: int = 0

    @property
    def length(self) -> int:
        """W, the number of frames."""
        return self.before + 1 + self.after

    def union(self, other: "Window") -> "Window":
        """The smallest window that has the rows of both."""
        return Window(max(self.before, other.before), max(self.after, other.after))

    def inside(self, wider: "Window") -> slice:
        """The places of this window in a wider one."""
        first = wider.before - self.before
        return slice(first, first + self.length)


class BatchWindows:
    """Windows of the rows of an on-policy batch, before it is cut into minibatches.

    A window never leaves the chunk of its row, so it never holds rows of two episodes, of two
    copies of the environment or of two fragments. The observation after the last step of a chunk is
    a frame, too: the final observation of an episode, terminal or truncated, is a valid target.

    Args:
        rows: Columns [N, ...] with OBS, NEXT_OBS and ``CHUNK_BEGINS``; rows of a chunk are
            consecutive.
        reads: The columns that windows have.

    Example:
        A chunk of two steps, and one of a single step:

        >>> rows = {
        ...     "obs": torch.tensor([0.0, 1.0, 5.0]),
        ...     "new_obs": torch.tensor([1.0, 2.0, 6.0]),
        ...     "chunk_begins": torch.tensor([True, False, True]),
        ... }
        >>> found = BatchWindows(rows, {"obs"}).at(torch.tensor([0, 2]), Window(after=2))
        >>> found["obs"].tolist(), found["valid"].tolist()
        ([[0.0, 1.0, 2.0], [5.0, 6.0, 6.0]], [[True, True, True], [True, True, False]])
    """

    def __init__(self, rows: Mapping[str, Any], reads: Set[str]) -> None:
        begins: Tensor = rows[CHUNK_BEGINS]
        chunk = begins.long().cumsum(0) - 1
        firsts = begins.nonzero().squeeze(-1)
        lasts = torch.cat([firsts[1:], firsts.new_tensor([len(begins)])]) - 1
        self._first, self._last = firsts[chunk], lasts[chunk]
        # Number of the frame after a row's chunk: these frames follow those of all rows.
        self._final = len(begins) + chunk
        self._frames = tree.map_structure(
            lambda obs, after: torch.cat([obs, after[lasts]]),
            rows[Columns.OBS],
            rows[Columns.NEXT_OBS],
        )
        self._columns = {key: rows[key] for key in reads - {Columns.OBS}}

    def at(self, positions: Tensor, window: Window) -> dict[str, Any]:
        """The windows [N, W, ...] around the rows at ``positions`` [N], with VALID and FRAME.

        Places outside of the episode repeat its nearest frame. Where there is no step, rewards are
        0, flags are False, and the action is that of the row itself.
        """
        places = torch.arange(-window.before, window.after + 1, device=positions.device)
        rows = positions[:, None] + places
        first, last = self._first[positions, None], self._last[positions, None]
        has_step = (rows >= first) & (rows <= last)
        inside = rows.clamp(first, last)
        frame = torch.where(rows > last, self._final[positions, None], inside)
        found = {
            key: self._steps(key, value, inside, has_step, positions)
            for key, value in self._columns.items()
        }
        return {
            **found,
            Columns.OBS: tree.map_structure(lambda leaf: leaf[frame], self._frames),
            VALID: (rows >= first) & (rows <= last + 1),
            FRAME: frame,
        }

    def _steps(
        self, key: str, value: Tensor, inside: Tensor, has_step: Tensor, positions: Tensor
    ) -> Tensor:
        if key == Columns.ACTIONS:
            return value[torch.where(has_step, inside, positions[:, None])]
        found = value[inside]
        if key == STEP:
            # A final observation is one step after the last row.
            return found + (~has_step & (inside == self._last[positions, None]))
        if key in (Columns.REWARDS, Columns.TERMINATEDS):
            return torch.where(has_step, found, torch.zeros_like(found))
        return found


def narrow(windows: Mapping[str, Any], wider: Window, window: Window) -> dict[str, Any]:
    """The columns of ``window``, views of those of a ``wider`` one.

    Example:
        >>> columns = {"obs": torch.tensor([[1, 2, 3]])}
        >>> narrow(columns, Window(1, 1), Window(after=1))
        {'obs': tensor([[2, 3]])}
    """
    places = window.inside(wider)
    columns: dict[str, Any] = tree.map_structure(lambda leaf: leaf[:, places], dict(windows))
    return columns


def over_time(network: Any, values: Any) -> Tensor:
    """[N, W, ...], a network's output for each time step of values [N, W, ...], nested or not.

    Example:
        >>> over_time(torch.nn.Linear(3, 2), torch.zeros(5, 4, 3)).shape
        torch.Size([5, 4, 2])
    """
    shape = tree.flatten(values)[0].shape[:2]
    output: Tensor = network(tree.map_structure(lambda leaf: leaf.flatten(0, 1), values))
    return output.unflatten(0, shape)


def mean_over_valid(values: Tensor, valid: Tensor, peers: Peers = ALONE) -> Tensor:
    """[N], losses of rows whose mean is the mean of ``values`` where ``valid``.

    This is how rows are weighed everywhere: an invalid entry has weight 0, and every valid entry
    of the batch, of all Learners, has the same weight. Without a valid entry, the losses are 0,
    connected to the graph.

    Args:
        values: [N] or [N, K], losses.
        valid: Of the same shape, bool.
        peers: The Learners that share the batch.

    Example:
        >>> valid = torch.tensor([[True, True], [True, False]])
        >>> mean_over_valid(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), valid)
        tensor([2., 2.])
    """
    values, valid = values.reshape(len(values), -1), valid.reshape(len(valid), -1)
    rows = torch.where(valid, values, 0.0).sum(dim=1)
    if peers.size == 1:
        return rows * (len(rows) / valid.sum().clamp(min=1))
    num_rows, num_valid = peers.mean_counts([len(rows), int(valid.sum())])
    return rows * (num_rows / (num_valid or 1.0))


def latents_over_time(
    encoder: Any, batch: Mapping[str, Any], before: int, latents: Tensor | None
) -> Tensor:
    """[N, W, D], latents of the observations of windows; every frame is encoded once.

    Args:
        encoder: From observations [M, ...] to latents [M, D].
        batch: Windows, with OBS, and FRAME if it is known which frames are equal.
        before: The place of the rows in their windows.
        latents: [N, D], latents of the rows, if they are known.
    """
    obs, frame = batch[Columns.OBS], batch.get(FRAME)
    if frame is not None:
        return _encode_distinct(encoder, obs, frame, before, latents)
    if latents is None:
        return over_time(encoder, obs)
    length = tree.flatten(obs)[0].shape[1]
    others = [place for place in range(length) if place != before]
    if not others:
        return latents[:, None]
    encoded = over_time(encoder, tree.map_structure(lambda leaf: leaf[:, others], obs))
    return torch.cat([encoded[:, :before], latents[:, None], encoded[:, before:]], dim=1)


def latents_at(
    encoder: Any, batch: Mapping[str, Any], places: Tensor, latents: Tensor | None
) -> Tensor:
    """[N, P, D], latents at some places of each window; every frame is encoded once.

    Args:
        encoder: From observations [M, ...] to latents [M, D].
        batch: Windows, as for `latents_over_time`, in which rows stand at place 0.
        places: [N, P], int64; the first one is 0, the row itself.
        latents: [N, D], latents of the rows, if they are known.
    """
    rows = torch.arange(len(places), device=places.device)[:, None]
    few = {
        key: tree.map_structure(lambda leaf: leaf[rows, places], batch[key])
        for key in (Columns.OBS, FRAME)
        if key in batch
    }
    return latents_over_time(encoder, few, 0, latents)


def _encode_distinct(
    encoder: Any, obs: Any, frame: Tensor, before: int, latents: Tensor | None
) -> Tensor:
    distinct, number = torch.unique(frame, return_inverse=True)
    anywhere = torch.empty_like(distinct)
    flat = number.flatten()
    anywhere[flat] = torch.arange(len(flat), device=flat.device)
    if latents is None:
        encoded: Tensor = encoder(_flat_rows(obs, anywhere))
        return encoded[number]
    own = number[:, before]
    is_known = torch.zeros_like(distinct, dtype=torch.bool)
    is_known[own] = True
    rest = (~is_known).nonzero().squeeze(-1)
    every = latents
    if len(rest):
        encoded = encoder(_flat_rows(obs, anywhere[rest]))
        every = torch.cat([latents, encoded.to(latents.dtype)])
    place = torch.empty_like(distinct)
    place[own] = torch.arange(len(own), device=own.device)
    place[rest] = len(own) + torch.arange(len(rest), device=own.device)
    return every[place[number]]


def _flat_rows(obs: Any, index: Tensor) -> Any:
    return tree.map_structure(lambda leaf: leaf.flatten(0, 1)[index], obs)
