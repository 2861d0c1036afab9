"""Runs trials one after the other in this process, and prints what they did, to the last bit.

    python -m tests.experiment.trials.trial_records RAY_ADDRESS '[DOCUMENT, ...]'

The first trial builds a `SpecTrainable`; each other trial resets it, as Tune does.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
import torch

from rlssl.experiment.packed_results import whole
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.experiment.tuning.trainable import SpecTrainable
from rlssl.policy import Policy
from tests.golden.recording import fixed_observations, learner_hashes, leaves, metrics

#: Metrics of the machine: they are never the same.
_OF_THE_MACHINE = ("memory", "sampler", "rate")


class Untracked(SpecTrainable):
    """A trial without the folder of logs that Tune creates in the user's home."""

    def _setup_logdir(self) -> None:
        pass


def main() -> None:
    """Prints a record a trial, as JSON."""
    ray.init(sys.argv[1], log_to_driver=False)
    records, trial = [], None
    for document in json.loads(sys.argv[2]):
        config = {"spec": resolved_dict(load_spec(document)), "seed": document.get("seed", 3)}
        start = time.process_time()
        if trial is None:
            trial = Untracked(config=config)
        else:
            assert trial.reset(config)
        # Of this process alone: others may keep the processors busy.
        built_s = time.process_time() - start
        attributes = plain_attributes(trial)
        records.append(record(trial) | {"built_s": built_s, "attributes": attributes})
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        records[-1]["rss"] = pages * os.sysconf("SC_PAGE_SIZE")
    print("RECORDS", json.dumps(records))


def plain_attributes(trial: SpecTrainable) -> dict[str, str]:
    """The attributes of a trial at its beginning, without times, ids and objects of its parts."""
    ignored = ("_process_state", "_start_time", "_trial_info", "last_checkpoint_s")
    plain = (type(None), bool, int, float, str, dict, list, tuple, set, frozenset)
    return {
        name: repr(sorted(value) if isinstance(value, set | frozenset) else value)
        if isinstance(value, plain)
        else type(value).__name__
        for name, value in sorted(vars(trial).items())
        if name not in ignored
    }


def record(trial: SpecTrainable) -> dict[str, Any]:
    """What a newly built trial does until its end."""
    rows: list[dict[str, str]] = []
    result: dict[str, Any] = {}
    while not result.get("env_steps", 0) >= trial.spec.stop["env_steps"]:
        result = whole(trial.train())
        rows.append({**metrics(result), "episodes": repr(result.get("episodes"))})
    return {
        "rows": rows,
        "learner": {} if trial.spec.algorithm == "a3c" else learner_hashes(trial.algorithm),
        "actions": actions(trial),
        "generators": leaves([torch.rand(2), torch.randn(2)]),
    }


def actions(trial: SpecTrainable) -> list[str]:
    """Hashes of actions that the policy samples for fixed observations."""
    policy = Policy.from_algorithm(trial.algorithm)
    torch.manual_seed(0)
    observations = fixed_observations(policy.observation_space, 4)
    chosen = []
    for observation in observations:
        policy.reset()
        chosen.append(policy.act(observation, explore=True))
    return leaves(chosen)


if __name__ == "__main__":
    main()
