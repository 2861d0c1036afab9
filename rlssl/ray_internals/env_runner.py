"""The private names of ray 2.60 that the EnvRunners use.

If ray renames one, a test fails and shows the name.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils import force_list
from ray.rllib.utils.actor_manager import FaultTolerantActorManager
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune.registry import ENV_CREATOR, _global_registry

#: Methods of RLlib's SingleAgentEnvRunner that our runners call or override.
ENV_RUNNER_METHODS = (
    "_increase_sampled_metrics",
    "_log_env_steps",
    "_make_on_episode_callback",
    "_sample",
    "_try_env_reset",
    "_try_env_step",
)

#: Attributes of a SingleAgentEnvRunner that our runners read or write.
ENV_RUNNER_ATTRIBUTES = (
    "_callbacks",
    "_device",
    "_env_to_module",
    "_metrics_num_env_steps_sampled",
    "_metrics_num_try_env_step",
    "_needs_initial_reset",
    "_ongoing_episodes",
    "_ongoing_episodes_for_metrics",
    "_seed",
    "_weights_seq_no",
)

#: Attributes of an AlgorithmConfig that hold a user's connectors.
CONFIG_CONNECTORS = {
    "env_to_module_connector": "_env_to_module_connector",
    "module_to_env_connector": "_module_to_env_connector",
}

#: Key that AddOneTsToEpisodesAndTruncate sets in ``shared_data`` when it appends a phantom row.
PHANTOM_ROW_KEY = "_added_loss_mask_for_valid_episode_ts"

#: Callbacks that RLlib calls with an unfinished episode.
EPISODE_CALLBACKS = (
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
)

#: Attribute of an EnvRunnerGroup: the manager that calls its remote runners.
WORKER_MANAGER = "_worker_manager"

#: Attribute of a LearnerGroup: the manager that calls its remote Learners; None without them.
LEARNER_MANAGER = "_worker_manager"

#: Method of that manager through which every remote result comes.
FETCH_RESULT = "_fetch_result"

#: Method of a MetricsLogger that finds the statistics of a metric by its path.
GET_STATISTICS = "_get_key"


def actor_manager(group: EnvRunnerGroup) -> FaultTolerantActorManager:
    """The manager that calls the remote runners of a group."""
    return group._worker_manager


def learner_manager(group: LearnerGroup) -> FaultTolerantActorManager | None:
    """The manager that calls the remote Learners of a group; None if its Learner is local."""
    return getattr(group, LEARNER_MANAGER)


def watch_remote_results(on_error: Callable[[BaseException], None]) -> None:
    """Calls ``on_error``, which may raise, with every error of a remote EnvRunner.

    This holds for all groups of this process, also while a group is built. Idempotent.
    """
    fetch = getattr(FaultTolerantActorManager, FETCH_RESULT)
    fetch = getattr(fetch, "__wrapped__", fetch)

    @functools.wraps(fetch)
    def fetch_and_look(manager: FaultTolerantActorManager, **kwargs: Any) -> Any:
        ready, results = fetch(manager, **kwargs)
        for result in results:
            if not result.ok:
                on_error(result.get())
        return ready, results

    setattr(FaultTolerantActorManager, FETCH_RESULT, fetch_and_look)


def tune_environment(name: str) -> Callable[..., Any] | None:
    """The creator that ``ray.tune.register_env`` has for a name; None if it has none."""
    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    creator: Callable[..., Any] = _global_registry.get(ENV_CREATOR, name)
    return creator


def custom_connectors(config: AlgorithmConfig) -> list[str]:
    """The settings of a config that contain connectors of the user."""
    return [name for name, private in CONFIG_CONNECTORS.items() if getattr(config, private)]


def episode_callbacks(config: AlgorithmConfig) -> list[str]:
    """The episode callbacks that a config sets or overrides, without rlssl's own."""
    return [
        name
        for name in EPISODE_CALLBACKS
        if getattr(config, f"callbacks_{name}")
        or any(_overrides(cls, name) for cls in force_list(config.callbacks_class))
    ]


def _overrides(callbacks_class: Any, name: str) -> bool:
    # A functools.partial of a class hides its methods: it may override anything.
    method: Callable[..., None] | None = getattr(callbacks_class, name, None)
    if method is None:
        return True
    own = getattr(method, "__module__", "").partition(".")[0] == "rlssl"
    return method is not getattr(RLlibCallback, name) and not own


def log_values(metrics: MetricsLogger, key: Any, values: Sequence[Any], **how: Any) -> None:
    """Logs values like repeated calls of `MetricsLogger.log_value`, ten times as fast.

    Args:
        metrics: The logger.
        key: Name or path of the metric.
        values: The values, oldest first.
        **how: Arguments of ``log_value``.
    """
    if not values:
        return
    metrics.log_value(key, values[0], **how)
    push = metrics._get_key(key).push
    for value in values[1:]:
        push(value)


def lookback_buffer(data: Any, lookback: int, space: Any, struct: Any) -> InfiniteLookbackBuffer:
    """Builds the buffer of an episode without its constructor, which walks through the space.

    The constructor would also limit ``lookback`` to the number of keys of nested data.

    Args:
        data: ``lookback`` + T rows.
        lookback: Number of rows before the chunk.
        space: Space of a row.
        struct: The space, from RLlib's ``get_base_struct_from_space``.
    """
    buffer = InfiniteLookbackBuffer.__new__(InfiniteLookbackBuffer)
    buffer.data, buffer.lookback, buffer.finalized = data, lookback, not isinstance(data, list)
    buffer._space, buffer._space_struct = space, struct
    return buffer


def numpy_episode(
    episode_id: str,
    *,
    observations: InfiniteLookbackBuffer,
    infos: InfiniteLookbackBuffer,
    actions: InfiniteLookbackBuffer,
    rewards: InfiniteLookbackBuffer,
    extra_model_outputs: dict[str, InfiniteLookbackBuffer],
    num_steps: int,
    t_started: int,
    terminated: bool,
    truncated: bool,
) -> SingleAgentEpisode:
    """Builds an episode like its constructor, four times as fast and without checks."""
    episode = SingleAgentEpisode.__new__(SingleAgentEpisode)
    episode.id_ = episode_id
    episode.agent_id = episode.module_id = episode.multi_agent_episode_id = None
    episode._observation_space, episode.observations = observations.space, observations
    episode._action_space, episode.actions = actions.space, actions
    episode.infos, episode.rewards = infos, rewards
    episode.extra_model_outputs = extra_model_outputs
    episode.is_terminated, episode.is_truncated = terminated, truncated
    episode.t_started, episode.t = t_started, t_started + num_steps
    episode._custom_data = {}
    episode._start_time = episode._last_step_time = None
    episode._last_added_observation = episode._last_added_infos = None
    return episode
