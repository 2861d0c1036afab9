"""DAgger's training settings: the only place of their defaults."""

import dataclasses

from rlssl.algorithms.bc.settings import BCSettings
from rlssl.algorithms.common.settings import setting


@dataclasses.dataclass(frozen=True)
class DAggerSettings(BCSettings):
    """The settings of `rlssl.algorithms.dagger`."""

    expert: str | None = setting(
        None,
        "Who labels the visited states: ``expert/NAME``, or the absolute path of an exported "
        "policy. "
        "``rlssl list experts`` names the experts. It has no default.",
    )
    rounds: int = setting(10, "Rounds of episodes.", low=1)
    episodes_per_round: int = setting(3, "Episodes that a round plays and labels.", low=1)
    updates_per_round: int = setting(
        1_000,
        "Updates between two rounds. The first round is before the first update; updates continue "
        "after the last round, until the run stops.",
        low=1,
    )
    beta_rounds: int = setting(
        1,
        "Rounds in which the expert also acts: in round i each step is the expert's with the "
        "probability ``max(0, 1 - i / beta_rounds)``. 1: in round 0 alone. The paper's "
        "experiments and `imitation`: 15.",
        low=1,
    )
    explore: bool = setting(
        False, "Whether the policy's own actions in rounds are sampled instead of its mode."
    )
    replay_capacity: int = setting(
        100_000, "Labeled frames that are kept; when it is full, the oldest are dropped.", above=0
    )
