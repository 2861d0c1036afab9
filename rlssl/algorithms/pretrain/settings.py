"""The training settings of pretraining: the only place of their defaults."""

import dataclasses

from rlssl.algorithms.common.settings import setting
from rlssl.algorithms.offline.settings import OfflineSettings


@dataclasses.dataclass(frozen=True)
class PretrainSettings(OfflineSettings):
    """The settings of `rlssl.algorithms.pretrain`."""

    target_tau: float | None = setting(
        None,
        "Step size of a target encoder, which losses take as their key encoder; in (0, 1]. None: "
        "each loss that needs a key encoder has its own, as with ppo and rainbow.",
        above=0,
        high=1,
        is_for_networks=True,
    )
