"""The private names of ray 2.60 under which it logs, and the lines of no use; imports no Ray."""

import logging
import warnings

#: Logger of the warnings that something of Ray's is deprecated.
DEPRECATIONS = "ray._common.deprecation"

#: Logger of the copies of an experiment's state to the storage.
SYNC = "ray.train._internal.syncer"


def silence_known_warnings() -> None:
    """Hides warnings that every run would print and that need no action."""
    # dm_control tries to open a window when it is imported.
    warnings.filterwarnings("ignore", message=r".*DISPLAY environment variable is missing")
    # RLlib announces its new API stack at every start.
    configs = logging.getLogger("ray.rllib.algorithms.algorithm_config")
    configs.addFilter(lambda record: "on the new API stack" not in record.getMessage())
    # RLlib warns about the old constructor of RLModule even if the new one is called.
    deprecations = logging.getLogger(DEPRECATIONS)
    deprecations.addFilter(lambda record: "RLModule(config=" not in record.getMessage())
