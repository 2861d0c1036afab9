"""Which sweeps run their trials one after the other in the same processes."""

from pathlib import Path
from typing import Any

import pytest

from rlssl.experiment.spec import load_spec
from rlssl.experiment.tuning import process_reuse
from rlssl.experiment.tuning.process_reuse import reuses_processes

SWEEP = {"algorithm": "ppo", "env": "CartPole-v1", "seeds": [0, 1], "stop": {"env_steps": 1000}}
POPULATION = {
    "seeds": [0],
    "search": {"training.lr": {"uniform": [0.1, 0.2]}},
    "searcher": {"random": {"num_samples": 2}},
    "scheduler": {"pbt": {"every_env_steps": 100}},
}


@pytest.fixture(autouse=True)
def no_code_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_reuse, "user_packages", set)
    monkeypatch.setattr(process_reuse, "local_registrations", dict)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"env": "minatar/breakout"}, True),
        ({"search": {"env.id": {"grid": ["CartPole-v1", "Acrobot-v1"]}}}, True),
        ({"seeds": [0]}, False),
        (POPULATION, False),
        ({"connectors": {"learner": ["rlssl.connectors.frame_stack:FrameStack"]}}, False),
        ({"reuse_processes": False}, False),
        ({"seeds": [0], "reuse_processes": True}, True),
    ],
)
def test_a_sweep_of_known_code_reuses_processes(changes: dict[str, Any], expected: bool) -> None:
    assert reuses_processes(load_spec({**SWEEP, **changes})) == expected


def test_plug_ins_keep_a_sweep_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lab_of_reuse.py").write_text("")
    assert not reuses_processes(load_spec({**SWEEP, "plugins": ["lab_of_reuse"]}))
