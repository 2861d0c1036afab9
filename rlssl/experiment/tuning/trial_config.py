"""What a trial is told: the spec of its sweep, a seed, the values of its point, and its end."""

import pickle
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.utils import flatten_dict

from rlssl.clocks import default_period, every_key
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints.checkpoint import CheckpointInfo
from rlssl.experiment.checkpoints.inherit import EXPLOITS
from rlssl.experiment.remote.trial_uploads import RUN_URI_KEY
from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict
from rlssl.experiment.spec.schema import Spec

#: Keys of a trial's config that are not searched paths; the last one is of earlier versions.
SPEC_KEY, SEED_KEY, WARM_START_KEY = "spec", "seed", "warm_start"
#: Key of the objects that the launching script registered, by value; see `rlssl.registry`.
REGISTRATIONS_KEY = "registrations"
#: Key of the env steps at which the run ended, before it was told to train further.
TRAINS_ON_KEY = "trains_on_from"
#: Key of the bytes of a trial's replay buffer; also of ``run.json``.
REPLAY_BYTES_KEY = "replay_bytes"

_MOST_SPECS = 100
# The last specs that this process has parsed, by what they were parsed from.
_specs: dict[bytes, Spec] = {}


def spec_for_trials(spec: Spec) -> dict[str, Any]:
    """The spec of a sweep as plain data, as the config of each of its trials holds it.

    Without the seeds: a trial has one, and Tune saves the config of every trial again and again.

    Example:
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}
        >>> spec = load_spec({**document, "seeds": [7, 8]})
        >>> config = {SPEC_KEY: spec_for_trials(spec), SEED_KEY: 8}
        >>> "seeds" in config[SPEC_KEY], trial_spec(config).seed
        (False, 8)
    """
    return {key: value for key, value in resolved_dict(spec).items() if key != "seeds"}


def sweep_spec(config: Mapping[str, Any]) -> Spec:
    """The spec of the sweep of a trial's config, without the seeds of the sweep."""
    return _parsed_once((config[SPEC_KEY],), lambda: load_spec(config[SPEC_KEY]))


def trial_spec(config: Mapping[str, Any]) -> Spec:
    """The concrete spec of a trial's config."""
    values, seed = values_of(config), config[SEED_KEY]
    return _parsed_once(
        (config[SPEC_KEY], values, seed), lambda: at_point(sweep_spec(config), values, seed)
    )


def _parsed_once(document: tuple[Any, ...], parse: Callable[[], Spec]) -> Spec:
    """A spec from the last ones if it is there: checks take 20 ms, and a trial needs it often."""
    key = pickle.dumps(document)
    if key not in _specs:
        if len(_specs) >= _MOST_SPECS:
            _specs.clear()
        _specs[key] = parse()
    return _specs[key].model_copy(deep=True)


def point_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The searched values of a trial's config, by dotted path; of a member, those at the start."""
    known = (
        SPEC_KEY,
        SEED_KEY,
        WARM_START_KEY,
        REGISTRATIONS_KEY,
        TRAINS_ON_KEY,
        REPLAY_BYTES_KEY,
        EXPLOITS,
        RUN_URI_KEY,
    )
    return {key: value for key, value in config.items() if key not in known}


def values_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The searched values that a trial trains with: those of the last exploit, if there was one.

    Example:
        >>> exploit = {"env_steps": 100, "source": 1, "values": {"training.lr": 0.2}}
        >>> values_of({"seed": 0, "training.lr": 0.1, "exploits": [exploit]})
        {'training.lr': 0.2}
    """
    exploits = config.get(EXPLOITS)
    return dict(exploits[-1]["values"]) if exploits else point_of(config)


def population_metrics(config: Mapping[str, Any]) -> dict[str, Any]:
    """What each result of a member says: the number of its exploits, and its values."""
    if EXPLOITS not in config:
        return {}
    return {EXPLOITS: len(config[EXPLOITS]), **values_of(config)}


def check_exploits(found: CheckpointInfo | None, config: Mapping[str, Any]) -> None:
    """Refuses a checkpoint from before an exploit: its networks never had the member's values.

    Raises:
        SpecError: If there is such a checkpoint, or none.
    """
    num = len(config.get(EXPLOITS, []))
    if num and (found is None or found.progress.get(EXPLOITS, 0) != num):
        where = "no checkpoint" if found is None else f"{found.path}, which is older"
        exploit = config[EXPLOITS][-1]
        raise SpecError(
            f"the member continued from member {exploit['source']} at {exploit['env_steps']:,} env "
            f"steps, and that checkpoint is damaged or lost: there is {where}. The population goes "
            "on without the member."
        )


def checkpoint_period(spec: Spec) -> int:
    """Steps of the run's clock between checkpoints: as in the spec, or a tenth of the run."""
    period: int | None = getattr(spec.checkpoint, every_key(spec.clock))
    return period or default_period(spec.stop[spec.clock])


def has_reached(stop: Mapping[str, float], result: Mapping[str, Any]) -> bool:
    """Whether a result meets a stop criterion.

    Example:
        >>> has_reached({"env_steps": 100}, {"env_steps": 120})
        True
    """
    values = flatten_dict(dict(result))
    limits = [(values.get(key), limit) for key, limit in stop.items()]
    return any(isinstance(it, int | float) and it >= limit for it, limit in limits)
