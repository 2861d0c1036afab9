"""IQL with networks of 16 features, without Ray's processes."""

from typing import Any

from rlssl.algorithms.iql.iql import IQLConfig
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small


def small_iql(env: Any = "Pendulum-v1", **training: Any) -> IQLConfig:
    """IQL with two environments and networks of 16 features."""
    config: IQLConfig = small(IQLConfig(), env, {"value_hidden": [16], **training})
    return config
