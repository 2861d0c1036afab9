"""What the auxiliary losses of a module need from a batch, together."""

from collections.abc import Iterable
from typing import NamedTuple

from ray.rllib.core.columns import Columns

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import is_sampled
from rlssl.auxiliary.windows import Window
from rlssl.batches import IDENTITY


class Needs(NamedTuple):
    """The columns that losses read, of single rows and of windows around them.

    Example:
        >>> Needs.of([]).has_windows
        False
    """

    # Columns of single rows.
    reads: frozenset[str] = frozenset()
    # The smallest window that has the windows of all losses; None: no loss has a window.
    window: Window | None = None
    # Columns of windows.
    window_reads: frozenset[str] = frozenset()
    # Columns of single rows that rewards read which are computed for each batch.
    bonus_reads: frozenset[str] = frozenset()

    @classmethod
    def of(cls, losses: Iterable[AuxiliaryLoss]) -> "Needs":
        """What ``losses`` need."""
        needs = cls()
        for loss in losses:
            if loss.window is None or gives_bonus(loss):
                needs = needs._replace(reads=needs.reads | loss.reads)
            if gives_bonus(loss) and is_sampled(loss.config):
                needs = needs._replace(bonus_reads=needs.bonus_reads | loss.reads)
            if loss.window is not None:
                window = loss.window if needs.window is None else needs.window.union(loss.window)
                reads = needs.window_reads | loss.reads
                needs = needs._replace(window=window, window_reads=reads)
        return needs

    @property
    def has_windows(self) -> bool:
        """Whether a loss has a window."""
        return self.window is not None

    @property
    def has_identity(self) -> bool:
        """Whether a loss reads where rows come from."""
        return bool(IDENTITY & (self.reads | self.window_reads))

    @property
    def has_next_obs(self) -> bool:
        """Whether a loss reads the next observations of single rows."""
        return Columns.NEXT_OBS in self.reads


def gives_bonus(loss: AuxiliaryLoss) -> bool:
    """Whether a loss has an intrinsic reward."""
    return type(loss).intrinsic_reward is not AuxiliaryLoss.intrinsic_reward
