"""What Tune gets of a result, and what only the files of a trial get.

For each result, Tune compares, counts and keeps every number that it sees, and saves them with the
experiment. It needs few of them. The others travel as bytes.
"""

import pickle
from collections.abc import Collection, Mapping
from typing import Any

from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.rollouts.faults import FAULTS_KEY

#: Key of a result: what Tune does not need, as bytes.
FOR_FILES = "for_files"

#: Sections of a result that callbacks and schedulers read.
_ALWAYS = ("evaluation", FAULTS_KEY)


def sections_in_use(spec: Spec) -> frozenset[str]:
    """The sections of a result that hold a metric which Tune compares.

    Args:
        spec: The spec of a sweep.

    Example:
        >>> from rlssl.experiment.spec.loading import load_spec
        >>> stop = {"env_steps": 100}
        >>> spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1", "stop": stop})
        >>> sorted(sections_in_use(spec))
        ['env_steps', 'episode_return_mean', 'evaluation', 'faults']
    """
    metrics = [*spec.stop, objective_of(spec).metric]
    return frozenset([*_ALWAYS, *(metric.split("/")[0] for metric in metrics)])


def for_tune(result: Mapping[str, Any], sections: Collection[str]) -> dict[str, Any]:
    """The part of a result that Tune needs: its numbers and texts, and these sections."""
    return {
        key: value
        for key, value in result.items()
        if key in sections or not isinstance(value, Mapping | list)
    }


def packed(result: Mapping[str, Any], sections: Collection[str]) -> dict[str, Any]:
    """The same result, where bytes stand for what Tune does not need; `whole` undoes it.

    Example:
        >>> small = packed({"env_steps": 8, "learners": {"loss": 0.5}}, ["evaluation"])
        >>> sorted(small), whole(small)
        (['env_steps', 'for_files'], {'env_steps': 8, 'learners': {'loss': 0.5}})
    """
    kept = for_tune(result, sections)
    rest = {key: value for key, value in result.items() if key not in kept}
    return {**kept, FOR_FILES: pickle.dumps(rest)}


def whole(result: Mapping[str, Any]) -> dict[str, Any]:
    """A new dict with everything in a result, packed or not."""
    values = dict(result)
    rest = values.pop(FOR_FILES, None)
    return values if rest is None else {**values, **pickle.loads(rest)}
