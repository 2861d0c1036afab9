"""Self-supervised reinforcement learning on RLlib.

Public names are imported on first use, so ``import rlssl`` is fast and starts nothing.
"""

import ctypes
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from rlssl import old_names
from rlssl.ray_internals import loggers
from rlssl.system import lazy_imports

if TYPE_CHECKING:
    from rlssl import auxiliary, losses
    from rlssl.algorithms.a3c.a3c import A3CConfig
    from rlssl.algorithms.bc.bc import BCConfig
    from rlssl.algorithms.dagger.dagger import DAggerConfig
    from rlssl.algorithms.ddpg.ddpg import DDPGConfig
    from rlssl.algorithms.iql.iql import IQLConfig
    from rlssl.algorithms.ppo.ppo import PPOConfig
    from rlssl.algorithms.rainbow.rainbow import RainbowConfig
    from rlssl.algorithms.sac.sac import SACConfig
    from rlssl.environments.by_id import make_env
    from rlssl.experiment.names import list_names
    from rlssl.experiment.runs import load_policy
    from rlssl.policy import Policy
    from rlssl.registry import (
        register_auxiliary_loss,
        register_encoder,
        register_env,
        register_expert,
    )

__version__ = "0.1.0"

__all__ = [
    "A3CConfig",
    "BCConfig",
    "DAggerConfig",
    "DDPGConfig",
    "IQLConfig",
    "PPOConfig",
    "Policy",
    "RainbowConfig",
    "SACConfig",
    "__version__",
    "auxiliary",
    "list_names",
    "load_policy",
    "losses",
    "make_env",
    "register_auxiliary_loss",
    "register_encoder",
    "register_env",
    "register_expert",
]

#: Public name -> the module that defines it.
_DEFINED_IN = {
    "A3CConfig": "rlssl.algorithms.a3c.a3c",
    "BCConfig": "rlssl.algorithms.bc.bc",
    "DAggerConfig": "rlssl.algorithms.dagger.dagger",
    "DDPGConfig": "rlssl.algorithms.ddpg.ddpg",
    "IQLConfig": "rlssl.algorithms.iql.iql",
    "PPOConfig": "rlssl.algorithms.ppo.ppo",
    "RainbowConfig": "rlssl.algorithms.rainbow.rainbow",
    "SACConfig": "rlssl.algorithms.sac.sac",
    "Policy": "rlssl.policy",
    "list_names": "rlssl.experiment.names",
    "load_policy": "rlssl.experiment.runs",
    "make_env": "rlssl.environments.by_id",
    "register_auxiliary_loss": "rlssl.registry",
    "register_encoder": "rlssl.registry",
    "register_env": "rlssl.registry",
    "register_expert": "rlssl.registry",
}
_MODULES = ("auxiliary", "losses")


def _render_headless() -> None:
    """Selects EGL as MuJoCo's renderer if there is no display.

    dm_control chooses its renderer once, when it is imported.
    """
    # Mesa's worker threads do not survive a fork, and they slow down small images.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    if sys.platform != "linux" or "DISPLAY" in os.environ or "MUJOCO_GL" in os.environ:
        return
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return
    os.environ["MUJOCO_GL"] = "egl"


_render_headless()
loggers.silence_known_warnings()
lazy_imports.install()
old_names.install()


def __getattr__(name: str) -> Any:
    """Imports a public name on first use.

    Raises:
        AttributeError: If there is no such name; for a config, the message lists the algorithms.
    """
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)
    message = f"module 'rlssl' has no attribute '{name}'"
    if name.endswith("Config") and not name.startswith("_"):
        configs = [public for public in __all__ if public.endswith("Config")]
        message += f"; available algorithms: {', '.join(configs)}."
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
