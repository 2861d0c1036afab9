"""Private names of ray. If ray renames one, a test fails and shows the name."""

import importlib
import logging

from rlssl.ray_internals import loggers


def test_ray_still_logs_deprecations_under_the_name() -> None:
    module = importlib.import_module(loggers.DEPRECATIONS)
    assert module.logger is logging.getLogger(loggers.DEPRECATIONS)


def test_ray_still_logs_failed_copies_of_the_state_under_the_name() -> None:
    module = importlib.import_module(loggers.SYNC)
    assert module.logger is logging.getLogger(loggers.SYNC)
