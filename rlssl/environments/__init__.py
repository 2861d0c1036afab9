"""Environments: building them by name, trying one out, and limits on the time a call may take.

Names are imported on first use, so that reading a spec builds nothing.
"""

from typing import TYPE_CHECKING

from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.environments.building import (
        env_options,
        find_environment,
        list_environments,
        make_env,
        make_vector_env,
    )
    from rlssl.environments.env_check import EnvSpaces, preflight
    from rlssl.environments.experts import Expert, make_expert

_DEFINED_IN = {
    "EnvSpaces": "rlssl.environments.env_check",
    "Expert": "rlssl.environments.experts",
    "env_options": "rlssl.environments.building",
    "find_environment": "rlssl.environments.building",
    "list_environments": "rlssl.environments.building",
    "make_env": "rlssl.environments.building",
    "make_expert": "rlssl.environments.experts",
    "make_vector_env": "rlssl.environments.building",
    "preflight": "rlssl.environments.env_check",
}

__all__ = [
    "EnvSpaces",
    "Expert",
    "env_options",
    "find_environment",
    "list_environments",
    "make_env",
    "make_expert",
    "make_vector_env",
    "preflight",
]

__getattr__ = attribute_loader(__name__, _DEFINED_IN)
