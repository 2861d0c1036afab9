"""Private names of ray: this fails, naming the name, when ray renames one."""

import importlib
import logging

from rlssl.ray_internals import loggers


def test_ray_still_logs_deprecations_under_the_name() -> None:
    module = importlib.import_module(loggers.DEPRECATIONS)
    assert module.logger is logging.getLogger(loggers.DEPRECATIONS)
