"""Trains one trial for some seconds, to learn its speed and the size of its checkpoints."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlssl.analysis.results import read_run
from rlssl.clocks import steps_of
from rlssl.errors import ExitCode, ResourceError
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.run_record import delete_run
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import points_to_check
from rlssl.experiment.tuning.launch import launch

#: Seconds of training.
SECONDS = 20.0


@dataclass(frozen=True)
class Measurement:
    """What a trial of some seconds has shown."""

    # In the second half of the time, when off-policy algorithms learn.
    env_steps_per_s: float
    # Bytes of its checkpoint, with what was in the replay buffer.
    checkpoint_bytes: int


def measure(spec: Spec, *, address: str | None, seconds: float = SECONDS) -> Measurement:
    """Trains the first point of a sweep for some seconds, in the storage, and deletes the run.

    Raises:
        ResourceError: If the trial failed, or had no two results in this time.
    """
    trial = at_point(spec, points_to_check(spec)[0] if spec.search else {}, spec.seeds[0])
    name = f"{spec.name}-measured-{uuid.uuid4().hex[:8]}"
    changes: dict[str, Any] = {"name": name, "tracking": [], "confirm": None, "scheduler": None}
    stop = {spec.clock: spec.stop[spec.clock], "time_total_s": seconds}
    short = trial.model_copy(update={**changes, "stop": stop})
    folder = None
    try:
        code, folder = launch(short, address=address, is_sweep=False)
        if code != ExitCode.OK:
            raise ResourceError(f"the measured trial failed; see the error above (exit {code}).")
        return _read(folder)
    finally:
        if folder is not None:
            delete_run(folder)


def _read(folder: Path) -> Measurement:
    (trial,) = read_run(folder).trials
    times = [result["time_total_s"] for result in trial.results]
    middle = next(index for index, time in enumerate(times) if time >= times[-1] / 2)
    if middle == len(times) - 1:
        middle = 0
    first, last = trial.results[middle], trial.results[-1]
    passed_s = last["time_total_s"] - first["time_total_s"]
    if passed_s <= 0:
        raise ResourceError(
            "the measured trial had a single result: one iteration is longer than the time."
        )
    env_steps = steps_of(last) - steps_of(first)
    found = newest_valid(Path(trial.path))
    size = 0
    if found is not None:
        size = sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file())
    return Measurement(env_steps / passed_s, size)
