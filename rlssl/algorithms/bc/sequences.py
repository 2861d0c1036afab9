"""Sequences of a data set's steps, for a policy with an LSTM."""

from collections.abc import Mapping
from typing import Any

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.networks.recurrent import STATE_KEYS

#: Column [B, L], bool, of a replay buffer's windows: whether a row is in the episode.
VALID = "valid"


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
        SEQUENCE_BEGINS, and LOSS_MASK.

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
    }
