"""The exponent of the importance weights over a run."""


def annealed_beta(
    env_steps: float, *, start: float = 0.4, end: float = 1.0, anneal_env_steps: float
) -> float:
    """``start`` at env step 0, linear, ``end`` from ``anneal_env_steps`` on.

    Args:
        env_steps: Since the start of the run (agent steps x action repeat); >= 0.
        start: Beta at the start, no unit.
        end: Beta at last; 1 corrects the draws in full.
        anneal_env_steps: Env steps until then; > 0.

    Raises:
        ValueError: If ``env_steps`` is negative or ``anneal_env_steps`` is not positive.

    Source:
        Schaul et al. 2016, arXiv:1511.05952, section 3.4. Hessel et al. 2018, arXiv:1710.02298:
        from 0.4 to 1 over the run.
    """
    if env_steps < 0:
        raise ValueError(f"env_steps must be >= 0; got {env_steps}.")
    if anneal_env_steps <= 0:
        raise ValueError(f"anneal_env_steps must be > 0; got {anneal_env_steps}.")
    return start + (end - start) * min(env_steps / anneal_env_steps, 1.0)
