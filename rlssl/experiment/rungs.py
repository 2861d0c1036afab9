"""The env steps at which a scheduler compares trials."""

from rlssl.experiment.spec.schema import Spec


def rungs_of(spec: Spec) -> list[int]:
    """The env steps at which the scheduler compares trials; none without a scheduler."""
    if spec.scheduler is None:
        return []
    end = int(spec.stop[spec.clock])
    if (median := spec.scheduler.median) is not None:
        every = median.every_env_steps or median.grace_env_steps
        return list(range(median.grace_env_steps, end, every))
    if (pbt := spec.scheduler.pbt) is not None:
        every = pbt.every_env_steps
        return list(range(pbt.start_env_steps or every, end, every))
    asha = spec.scheduler.asha
    assert asha is not None
    return rungs(asha.grace_env_steps, asha.max_env_steps or end, asha.reduction_factor)


def rungs(grace_env_steps: int, max_env_steps: int, reduction_factor: int) -> list[int]:
    """The env steps at which ASHA compares.

    Example:
        >>> rungs(100, 1000, 2)
        [100, 200, 400, 800]
    """
    found = []
    rung = grace_env_steps
    while rung < max_env_steps:
        found.append(rung)
        rung *= reduction_factor
    return found
