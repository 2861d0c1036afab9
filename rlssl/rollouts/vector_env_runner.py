"""An EnvRunner that keeps arrays per vector step and builds episodes in bulk at the end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import RLMODULE_INFERENCE_TIMER, WEIGHTS_SEQ_NO
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.spaces.space_utils import (
    clip_action,
    get_base_struct_from_space,
    unsquash_action,
)
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from ray.rllib.utils.typing import ResultDict

from rlssl.rollouts.episode_log import EpisodeLog, log_finished, vector_info, vector_success
from rlssl.rollouts.fragment import Fragment
from rlssl.rollouts.frame_stack import FrameStack
from rlssl.rollouts.registered_envs import RegisteredEnvs


class VectorEnvRunner(RegisteredEnvs):
    """RLlib's SingleAgentEnvRunner with a sampling loop over arrays.

    What it returns and logs is what the stock runner returns and logs, numpy-backed and without
    infos; connectors and per-episode callbacks do not run. Besides:

    - Observations are single frames; stacks are made for the forward pass and by the Learner.
    - ``infos["soft_terminated"]`` [N], bool: the step ends an episode for learning, although the
      game goes on. The next step begins a new one, whose stack holds no frame from before.
    - ``infos["learning_reward"]`` [N]: replaces the reward in episodes. Scores keep the true one.
    """

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for RLlib's SingleAgentEnvRunner."""
        super().__init__(config=config, **kwargs)
        self._episode_log = EpisodeLog(self.num_envs)
        # All three are made at the first reset.
        self._fragment: Fragment
        self._frame_stack: FrameStack | None = None
        self._awaits_reset: np.ndarray

    def make_module(self) -> None:
        """Builds the module.

        Raises:
            NotImplementedError: For a recurrent module.
        """
        super().make_module()
        if self.module is not None and self.module.is_stateful():
            raise NotImplementedError(
                "VectorEnvRunner does not run recurrent modules (model.lstm); leave env_runner_cls "
                "to rlssl, or set it to StockEnvRunner."
            )

    def get_metrics(self) -> ResultDict:
        """Reduces and returns the metrics: the stock runner's, and ``rlssl_episodes``."""
        finished = self._episode_log.drain()
        for episode in finished:
            self._log_episode_metrics(episode.length, episode.episode_return, episode.duration_s)
        log_finished(self.metrics, finished)
        return self.metrics.reduce()

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        if force_reset or num_episodes is not None or self._needs_initial_reset:
            # Seeded at first only: later games differ from the first ones.
            self._start_over(self._seed if self._needs_initial_reset else None)
        # An error on the way leaves half a fragment behind: the next call would start over.
        self._needs_initial_reset = True
        steps = games = 0
        while steps < num_timesteps if num_timesteps is not None else games < (num_episodes or 0):
            actions, outputs = self._random() if random_actions else self._act(explore, steps)
            for_env = actions if random_actions else self._to_env(actions)
            results = self._try_env_step(for_env)
            if results == ENV_STEP_FAILURE:
                steps -= self._recover(actions, outputs)
                continue
            limit = None if num_episodes is None else num_episodes - games
            stepped, finished = self._record(actions, outputs, results, limit)
            steps += stepped
            games += finished
        # Whoever asks for whole episodes gets them from the start, each time.
        self._needs_initial_reset = num_episodes is not None
        episodes = self._fragment.cut(with_unfinished=num_timesteps is not None)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=steps)
        self._increase_sampled_metrics(steps, games)
        return episodes

    def _start_over(self, seed: int | None) -> None:
        """Resets all environments; unfinished games are forgotten."""
        observations = self._reset_env(seed)
        space = self.env.single_observation_space
        self._fragment = Fragment(
            observations,
            observation_space=space,
            action_space=self.env.single_action_space,
            lookback=self.config.episode_lookback_horizon,
            frames=self.settings.frame_stack,
        )
        if self.settings.frame_stack > 1:
            self._frame_stack = FrameStack(self.settings.frame_stack, self.num_envs, space)
        self._stack(observations, begins=np.ones(self.num_envs, np.bool_))
        self._episode_log.restart(self.num_envs)

    def _recover(self, actions: Any, outputs: Mapping[str, Any]) -> int:
        """Goes on after a failed step, in a new environment; returns the number of lost steps."""
        # Not seeded: the same seed could lead to the same failure for ever.
        observations = self._reset_env(seed=None)
        lost = self._fragment.abandon()
        nobody = np.zeros(self.num_envs, np.bool_)
        rewards = np.zeros(self.num_envs)
        # The failed step is a row without an owner: finished episodes lie in the rows before it.
        self._fragment.append(actions, rewards, outputs, observations, stepped=nobody)
        self._stack(observations, begins=~nobody)
        self._episode_log.restart(self.num_envs, lost_steps=lost)
        return lost

    def _reset_env(self, seed: int | None) -> Any:
        observations, _ = self._try_env_reset(seed=seed, options=None)
        self._awaits_reset = np.zeros(self.num_envs, np.bool_)
        return observations

    def _random(self) -> tuple[Any, dict[str, Any]]:
        """Samples actions from the action space: [N, ...], and no outputs of the module."""
        return self.env.action_space.sample(), self._weights_outputs()

    def _act(self, explore: bool, steps: int) -> tuple[Any, dict[str, Any]]:
        """Runs the module on the latest observations.

        Args:
            explore: Whether to sample actions, or to take the most likely.
            steps: Sampled so far in this call.

        Returns:
            Actions, a struct of [N, ...], and what else the module gave, name -> [N, ...].
        """
        latest = self._fragment.latest_observations()
        observations = latest if self._frame_stack is None else self._frame_stack.stacked()
        batch = {Columns.OBS: convert_to_torch_tensor(observations, device=self._device)}
        with self.metrics.log_time(RLMODULE_INFERENCE_TIMER):
            if explore:
                forward_out = self.module.forward_exploration(batch, t=self._global_steps(steps))
            else:
                forward_out = self.module.forward_inference(batch)
        outputs = convert_to_numpy(self._with_actions(dict(forward_out), explore))
        actions = outputs.pop(Columns.ACTIONS)
        return actions, {**outputs, **self._weights_outputs()}

    def _global_steps(self, steps: int) -> int:
        # As RLlib estimates the agent steps of all runners, for modules that anneal exploration.
        num_runners = self.config.num_env_runners or 1
        return (self.num_env_steps_sampled_lifetime // num_runners + steps) * num_runners

    def _with_actions(self, outputs: dict[str, Any], explore: bool) -> dict[str, Any]:
        """Adds actions and their log-probabilities, where the module left them to its inputs."""
        if Columns.ACTIONS in outputs or Columns.ACTION_DIST_INPUTS not in outputs:
            return outputs
        if explore:
            cls = self.module.get_exploration_action_dist_cls()
            distribution = cls.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        else:
            cls = self.module.get_inference_action_dist_cls()
            distribution = cls.from_logits(outputs[Columns.ACTION_DIST_INPUTS]).to_deterministic()
        outputs[Columns.ACTIONS] = distribution.sample()
        if Columns.ACTION_LOGP not in outputs:
            outputs[Columns.ACTION_LOGP] = distribution.logp(outputs[Columns.ACTIONS])
        return outputs

    def _weights_outputs(self) -> dict[str, np.ndarray]:
        return {WEIGHTS_SEQ_NO: np.full(self.num_envs, self._weights_seq_no, np.int64)}

    def _to_env(self, actions: Any) -> Any:
        """Maps the policy's actions into the action space, as NormalizeAndClipActions does."""
        if not (self.config.normalize_actions or self.config.clip_actions):
            return actions
        struct = get_base_struct_from_space(self.env.single_action_space)
        change = unsquash_action if self.config.normalize_actions else clip_action
        return change(actions, struct)

    def _record(
        self, actions: Any, outputs: Mapping[str, Any], results: Any, limit: int | None
    ) -> tuple[int, int]:
        """Files one vector step.

        Args:
            actions: Struct of [N, ...], the policy's.
            outputs: Name -> [N, ...], the module's.
            results: What ``env.step`` returned.
            limit: Stop after this many finished games, as the stock runner does; None: never.

        Returns:
            Number of environments that stepped, and number of games finished.
        """
        observations, rewards, terminated, truncated, infos = results
        stepped = ~self._awaits_reset
        terminated, truncated = terminated & stepped, truncated & stepped
        over = terminated | truncated
        soft = self._soft_terminated(infos) & stepped & ~over
        rewards = np.asarray(rewards, np.float64)
        self._episode_log.step(rewards, stepped)
        to_learn_from = self._learning_rewards(infos, rewards)
        self._fragment.append(actions, to_learn_from, outputs, observations, stepped)
        finished = 0
        for slot in np.flatnonzero(over | soft).tolist():
            self._fragment.close(
                slot,
                terminated=bool(terminated[slot] or soft[slot]),
                truncated=bool(truncated[slot]),
            )
            if over[slot]:
                self._episode_log.finish(slot, vector_success(infos, slot, self.num_envs))
                finished += 1
                if finished == limit:
                    break
        self._stack(observations, begins=soft | ~stepped)
        self._awaits_reset = over
        return int(stepped.sum()), finished

    def _soft_terminated(self, infos: Mapping[str, Any]) -> np.ndarray:
        given = vector_info(infos, "soft_terminated", self.num_envs)
        if given is None:
            return np.zeros(self.num_envs, np.bool_)
        flags, mask = given
        return mask & flags.astype(np.bool_)

    def _learning_rewards(self, infos: Mapping[str, Any], rewards: np.ndarray) -> np.ndarray:
        given = vector_info(infos, "learning_reward", self.num_envs)
        return rewards if given is None else np.where(given[1], given[0], rewards)

    def _stack(self, observations: Any, begins: np.ndarray) -> None:
        """Pushes the newest frames; stacks of episodes that begin with them start over."""
        if self._frame_stack is not None:
            self._frame_stack.push(observations)
            self._frame_stack.reset(observations, begins)
