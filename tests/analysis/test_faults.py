"""Faults of a run in words, from its results."""

from pathlib import Path

import numpy as np

from rlssl.analysis.faults import env_fault_words
from rlssl.analysis.results import Episodes, Trial


def test_faults_before_a_restart_count(tmp_path: Path) -> None:
    rows = [{"env_steps": 100, "faults/env_crashes": 2}]
    none = Episodes(*np.empty((4, 0)))
    undone = {"env_crashes": 3}
    trial = Trial(tmp_path, {}, {}, 0, "", rows, none, undone_faults=undone)
    assert env_fault_words([trial]).startswith("environments: 5 crashes. First tracebacks: ")
