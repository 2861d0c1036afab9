"""Sequences of a data set's steps, for a policy with an LSTM."""

from collections.abc import Mapping
from typing import Any

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.off_policy.batches import (
    ALWAYS_READ,
    AUXILIARY_COLUMNS,
    INDICES,
    WEIGHTS,
    sample_uniformly,
)
from rlssl.auxiliary.needs import Needs
from rlssl.auxiliary.windows import VALID, WINDOWS
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.networks.recurrent import STATE_KEYS
from rlssl.replay import ReplayBuffer


def draw_windows(
    replay: ReplayBuffer, batch_size: int, *, length: int, needs: Needs
) -> dict[str, Any]:
    """Draws windows of steps that end at uniformly drawn steps.

    Args:
        replay: A replay buffer that is not empty.
        batch_size: Rows; the number of windows is this over ``length``, rounded up.
        length: L, rows of a window.
        needs: What the auxiliary losses read.

    Returns:
        The arrays [B, L, ...] of ``ReplayBuffer.windows``. ``AUXILIARY_COLUMNS``, if present, holds
        ``batch_size`` separate steps for the auxiliary losses, and WINDOWS around them.
    """
    drawn = sample_uniformly(replay, -(-batch_size // length), gamma=1.0)
    batch = replay.windows(drawn[INDICES], before=length - 1)
    if needs.reads or needs.has_windows:
        rows = sample_uniformly(replay, batch_size, gamma=1.0)
        own = {key: rows[key] for key in (*needs.reads, *ALWAYS_READ) if key in rows}
        if needs.window is not None:
            window = needs.window
            found = replay.windows(rows[INDICES], before=window.before, after=window.after)
            own[WINDOWS] = {key: found[key] for key in (*needs.window_reads, VALID)}
        batch[AUXILIARY_COLUMNS] = own
    return batch


def rows_of_windows(windows: Mapping[str, Any], *, burn_in: int, hidden: int) -> dict[str, Any]:
    """The rows of windows that end at drawn steps, as rows for a recurrent module's training.

    The LSTM starts from zeros at the first row of every window. If an episode begins in the window,
    that is exact. Otherwise the first ``burn_in`` rows only bring the LSTM into a likely state:
    they are in the sequence, and not in the loss.

    Args:
        windows: OBS, ACTIONS and VALID [B, L, ...], as of ``ReplayBuffer.windows`` with
            ``before = L - 1``.
        burn_in: Rows; < L.
        hidden: H, features of the LSTM's state.

    Returns:
        Columns [N, ...] of the N valid rows, window by window: OBS, ACTIONS, STATE_IN (zeros),
        SEQUENCE_BEGINS, LOSS_MASK, and WEIGHTS (ones).

    Example:
        Two windows of three rows; the second begins with an episode.

        >>> valid = torch.tensor([[True, True, True], [False, True, True]])
        >>> numbers = torch.arange(6).view(2, 3)
        >>> windows = {"obs": numbers, "actions": numbers, "valid": valid}
        >>> rows = rows_of_windows(windows, burn_in=1, hidden=4)
        >>> rows["obs"].tolist(), rows["loss_mask"].tolist()
        ([0, 1, 2, 4, 5], [False, True, True, True, True])
        >>> rows["sequence_begins"].tolist()
        [True, False, False, True, False]
    """
    valid: Tensor = windows[VALID]
    begins = torch.zeros_like(valid)
    begins.scatter_(1, valid.long().argmax(dim=1, keepdim=True), True)
    in_loss = valid.clone()
    in_loss[:, :burn_in] &= ~valid[:, :1]
    rows = {
        key: tree.map_structure(lambda leaf: leaf[valid], windows[key])
        for key in (Columns.OBS, Columns.ACTIONS)
    }
    state = torch.zeros(len(begins[valid]), hidden, device=valid.device)
    return {
        **rows,
        Columns.STATE_IN: dict.fromkeys(STATE_KEYS, state),
        SEQUENCE_BEGINS: begins[valid],
        Columns.LOSS_MASK: in_loss[valid],
        WEIGHTS: torch.ones(len(state), device=valid.device),
    }
