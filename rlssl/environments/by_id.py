"""`rlssl.make_env`: builds an environment by its id, as a spec does."""

from typing import TYPE_CHECKING, Any

from rlssl.environments import building
from rlssl.environments.building import Split

if TYPE_CHECKING:
    import gymnasium as gym


def make_env(
    id: str,
    *,
    split: Split = "eval",
    seed: int | None = None,
    **options: Any,
) -> "gym.Env":
    """Builds an environment with the preprocessing that rlssl trains with.

    ``rlssl.make_env(**policy.settings["env"])`` builds the environment of a policy: its id, its
    options and its preprocessing, but not the stack of frames, which the policy makes itself.

    Args:
        id: The id, registered or gymnasium's.
        split: Whether the environment is for training or for evaluation; few environments differ.
        seed: Seed of an environment that draws random numbers when it is built, and of its spaces.
        **options: The options of ``env:`` in a spec.

    Raises:
        UnknownNameError: No environment has this id.
        MissingExtraError: Its suite is not installed.
        SpecError: An option is wrong, or would not arrive.

    Example:
        >>> env = make_env("CartPole-v1", max_episode_steps=100)
        >>> env.spec.max_episode_steps
        100
    """
    env = {"id": id, **options}
    building.check_env_options(env)
    return building.make_env(env, split=split, seed=seed)
