"""RLlib's own EnvRunner on rlssl's environments: slower, but with connectors and callbacks."""

import logging
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.typing import ResultDict
from ray.util import log_once

from rlssl.environments.vector_conventions import resets_at_once
from rlssl.environments.vector_infos import InfosToList, ListedInfos, copied
from rlssl.errors import SpecError
from rlssl.ray_internals.env_runner import custom_connectors, episode_callbacks
from rlssl.ray_internals.seeding import seed_without_compiler
from rlssl.rollouts.episode_metrics import EpisodeLog, log_finished, success_of
from rlssl.rollouts.guarded_env_runner import GuardedEnvRunner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner

logger = logging.getLogger(__name__)

# Every process that RLlib seeds has imported this module, for `choose_env_runner`.
seed_without_compiler()


class StockEnvRunner(GuardedEnvRunner):
    """RLlib's loop, connectors and callbacks, on environments of rlssl's registry.

    It ignores ``infos["soft_terminated"]`` and ``infos["learning_reward"]``. Episodes and callbacks
    get the infos as the environments gave them.
    """

    _info_join = ListedInfos

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for RLlib's SingleAgentEnvRunner."""
        super().__init__(config=config, **kwargs)
        self._episode_log = EpisodeLog(self.num_envs)
        # Agent steps since the offsets began to count, and their number when sample() was called.
        self._agent_steps = self._agent_steps_before = 0

    def get_metrics(self) -> ResultDict:
        """RLlib's metrics, and the finished episodes under ``rlssl_episodes``."""
        keeps_counting = self.settings.samples_in_rounds
        log_finished(self.metrics, self._episode_log.drain(keeps_counting=keeps_counting))
        if not keeps_counting:
            self._agent_steps = self._agent_steps_before = 0
        return super().get_metrics()

    def continue_at(self, agent_steps: int | None, offset: int) -> None:
        """See `BaseEnvRunner`."""
        super().continue_at(agent_steps, offset)
        self._agent_steps = self._agent_steps_before = offset

    def _adapt(self, vector_env: gym.vector.VectorEnv) -> gym.vector.VectorEnv:
        if resets_at_once(vector_env):
            raise SpecError(
                f"RLlib's stock EnvRunner needs NEXT_STEP autoreset; {self._env_name!r} has "
                "SAME_STEP. Remove the setting that needs the stock runner (the log names it), or "
                "set env_runners.vectorize to sync."
            )
        if self.settings.double_buffering:
            raise SpecError(
                "RLlib's stock EnvRunner does not support env_runners.double_buffering; remove it."
            )
        return InfosToList(super()._adapt(vector_env))

    def _try_env_reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> Any:
        observations, infos = super()._try_env_reset(seed=seed, options=options)
        self._episode_log.restart(self.num_envs)
        # RLlib keeps views, and environments may change their arrays in place.
        return copied(observations), infos

    def _try_env_step(self, actions: Any) -> Any:
        results = super()._try_env_step(copied(actions))
        if results != ENV_STEP_FAILURE and not self._replaced:
            return copied(results[0]), *results[1:]
        # RLlib's loop can only continue from a reset of all environments.
        self._ledger.drop_episodes(sum(episode.t > 0 for episode in self._ongoing_episodes))
        return ENV_STEP_FAILURE

    def _make_on_episode_callback(
        self, which: str, idx: int, episodes: list[SingleAgentEpisode]
    ) -> None:
        # RLlib's loop calls this after every agent step and at the end of every episode.
        if which == "on_episode_step":
            self._agent_steps += 1
            if self.settings.success == "any":
                success = np.array([success_of(episodes[idx].get_infos(-1))])
                self._episode_log.succeed(success, slice(idx, idx + 1))
        elif which == "on_episode_end":
            self._log_finished_episode(idx, episodes[idx])
            self._ledger.finished(idx)
        super()._make_on_episode_callback(which, idx, episodes)

    def _increase_sampled_metrics(self, num_steps: int, num_episodes_completed: int) -> int:
        # The loop skips callbacks after the last requested episode, but its count is exact.
        self._agent_steps_before += num_steps
        self._agent_steps = self._agent_steps_before
        return super()._increase_sampled_metrics(num_steps, num_episodes_completed)

    def _log_finished_episode(self, slot: int, episode: SingleAgentEpisode) -> None:
        chunks = [*self._ongoing_episodes_for_metrics.get(episode.id_, ()), episode]
        self._episode_log.add(
            episode_return=float(sum(chunk.get_return() for chunk in chunks)),
            length=sum(len(chunk) for chunk in chunks),
            success=self._episode_log.best_success(slot, success_of(episode.get_infos(-1))),
            offset=self._agent_steps,
            duration_s=sum(chunk.get_duration_s() for chunk in chunks),
        )


def choose_env_runner(config: AlgorithmConfig) -> tuple[type[SingleAgentEnvRunner], str | None]:
    """Chooses `VectorEnvRunner`, or `StockEnvRunner` for a config that needs it.

    Logs the reason once per process.

    Returns:
        The class; and the settings that need the stock runner, or None.
    """
    reason = _reason_for_stock(config)
    if reason is None:
        return VectorEnvRunner, None
    if log_once(f"rlssl_stock_env_runner_{reason}"):
        logger.warning(
            "Sampling with RLlib's stock EnvRunner, which is slower and ignores soft terminations: "
            "the vectorized EnvRunner does not support %s.",
            reason,
        )
    return StockEnvRunner, reason


def _reason_for_stock(config: AlgorithmConfig) -> str | None:
    reasons = [*custom_connectors(config), *episode_callbacks(config)]
    for setting in (
        "add_default_connectors_to_env_to_module_pipeline",
        "add_default_connectors_to_module_to_env_pipeline",
        "episodes_to_numpy",
    ):
        if not getattr(config, setting):
            reasons.append(f"{setting}=False")
    if config.model_config.get("use_lstm"):
        reasons.append("model.use_lstm")
    return ", ".join(reasons) or None
