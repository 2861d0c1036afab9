"""What chooses the actions: an expert, a trained policy, or a random draw."""

from typing import Any

import gymnasium as gym
import tree
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.environments.experts import Expert, make_expert
from rlssl.errors import SpecError
from rlssl.experiment.collection.recording import RANDOM, Recording
from rlssl.policy import Policy


class RandomActor:
    """Draws from a space that its owner seeds."""

    def __init__(self, space: gym.Space) -> None:
        self._space = space

    def reset(self, observation: Any) -> None:
        """Begins an episode."""

    def act(self, observation: Any, previous_action: Any) -> Any:
        """Draws an action, uniformly."""
        return self._space.sample()


class TrainedActor:
    """A trained policy, which sees single frames and stacks them itself."""

    def __init__(self, policy: Policy, *, explore: bool) -> None:
        self._policy = policy
        self._explore = explore

    def reset(self, observation: Any) -> None:
        """Clears the frame stack and the recurrent state."""
        self._policy.reset()

    def act(self, observation: Any, previous_action: Any) -> Any:
        """The action in the environment's units."""
        return self._policy.act(observation, explore=self._explore)


def make_actor(recording: Recording, env: gym.Env, random_actions: gym.Space) -> Expert:
    """What chooses the actions of a recording.

    Args:
        recording: Names the policy.
        env: The environment in which it acts.
        random_actions: A copy of the action space, for random draws.

    Raises:
        SpecError: The expert or the trained policy is for another environment, or the action space
            has no uniform distribution.
    """
    source, choices = recording.policy, recording.choices
    if source.name == RANDOM or choices.noise:
        _require_bounds(random_actions)
    if source.name == RANDOM:
        return RandomActor(random_actions)
    if source.folder is None:
        return make_expert(source.name, env)
    policy = Policy.load(source.folder)
    for name in ("observation_space", "action_space"):
        trained, given = getattr(policy, name), getattr(env, name)
        if trained != given:
            raise SpecError(
                f"the policy of {source.name} has {name} {trained}, and {recording.env['id']} has "
                f"{given}; give the options of its training with --set env.KEY=VALUE."
            )
    return TrainedActor(policy, explore=choices.explore)


def _require_bounds(space: gym.Space) -> None:
    for leaf in tree.flatten(get_base_struct_from_space(space)):
        if isinstance(leaf, gym.spaces.Box) and not leaf.is_bounded():
            raise SpecError(
                f"random actions need bounds; the environment has actions {leaf}. Record a policy "
                "or an expert, without --noise."
            )
