"""An EnvRunner that keeps arrays per vector step and builds episodes in bulk at the end."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import RLMODULE_INFERENCE_TIMER, WEIGHTS_SEQ_NO
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from ray.rllib.utils.typing import ResultDict

from rlssl.rollouts.acting import ActionSampler, action_sampler, to_env_actions
from rlssl.rollouts.episode_log import EpisodeLog, log_finished, vector_info, vector_success
from rlssl.rollouts.fragment import Fragment
from rlssl.rollouts.frame_stack import FrameStack
from rlssl.rollouts.guarded_envs import GuardedEnvs


class VectorEnvRunner(GuardedEnvs):
    """RLlib's SingleAgentEnvRunner with a sampling loop over arrays.

    What it returns and logs is what the stock runner returns and logs, numpy-backed and without
    infos; connectors and per-episode callbacks do not run. Besides:

    - Observations are single frames; stacks are made for the forward pass and by the Learner.
    - ``infos["soft_terminated"]`` [N], bool: the step ends an episode for learning, although the
      game goes on. The next step begins a new one, whose stack holds no frame from before.
    - ``infos["learning_reward"]`` [N]: replaces the reward in episodes. Scores keep the true one.
    """

    #: From the policy's actions to those that the environment takes.
    _to_env: Callable[[Any], Any]

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for RLlib's SingleAgentEnvRunner."""
        super().__init__(config=config, **kwargs)
        self._episode_log = EpisodeLog(self.num_envs)
        # All three are made at the first reset.
        self._fragment: Fragment
        self._frame_stack: FrameStack | None = None
        self._awaits_reset: np.ndarray
        # Seconds of each forward pass since they were logged.
        self._inference_s: list[float] = []

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
        if self.module is not None:
            # Once: RLModule.forward_* would put every layer into this mode and back, each step.
            self.module.eval()
        self._samplers: dict[bool, ActionSampler | None] = {}

    def _adapt(self, vector_env: gym.vector.VectorEnv) -> gym.vector.VectorEnv:
        self._to_env = to_env_actions(
            vector_env.single_action_space,
            normalize=self.config.normalize_actions,
            clip=self.config.clip_actions,
        )
        return super()._adapt(vector_env)

    def get_metrics(self) -> ResultDict:
        """Reduces and returns the metrics: the stock runner's, and ``rlssl_episodes``."""
        self._ledger.log(self.metrics)
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
        self._weights_column = np.full(self.num_envs, self._weights_seq_no, np.int64)
        while steps < num_timesteps if num_timesteps is not None else games < (num_episodes or 0):
            actions, outputs = self._random() if random_actions else self._act(explore, steps)
            results = self._try_env_step(actions if random_actions else self._to_env(actions))
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
        if self._inference_s:
            self.metrics.log_value(RLMODULE_INFERENCE_TIMER, float(np.mean(self._inference_s)))
            self._inference_s.clear()
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
        """Goes on after a failed step, in new environments; returns the number of lost steps."""
        observations = self._reset_env(self._seed)
        dropped, lost = self._fragment.abandon()
        self._ledger.drop_episodes(dropped)
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
        return self.env.action_space.sample(), {WEIGHTS_SEQ_NO: self._weights_column}

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
        batch = {Columns.OBS: self._to_module(observations)}
        begin = time.perf_counter()
        if explore:
            forward_out = self.module._forward_exploration(batch, t=self._global_steps(steps))
        else:
            forward_out = self.module._forward_inference(batch)
        self._inference_s.append(time.perf_counter() - begin)
        outputs = self._sampled(forward_out, explore)
        actions = outputs.pop(Columns.ACTIONS)
        outputs[WEIGHTS_SEQ_NO] = self._weights_column
        return actions, outputs

    def _to_module(self, observations: Any) -> Any:
        # The short way for what most environments give; torch takes no read-only arrays.
        plain = isinstance(observations, np.ndarray) and observations.dtype != np.float64
        if plain and observations.flags.writeable:
            return torch.from_numpy(observations).to(self._device)
        return convert_to_torch_tensor(observations, device=self._device)

    def _sampled(self, forward_out: Mapping[str, Any], explore: bool) -> dict[str, Any]:
        """The module's outputs as arrays, with actions and their log-probabilities."""
        if forward_out.keys() == {Columns.ACTION_DIST_INPUTS}:
            sampler = self._sampler(explore)
            if sampler is not None:
                return sampler(forward_out[Columns.ACTION_DIST_INPUTS], explore)
        outputs: dict[str, Any] = convert_to_numpy(self._with_actions(dict(forward_out), explore))
        return outputs

    def _sampler(self, explore: bool) -> ActionSampler | None:
        if explore not in self._samplers:
            self._samplers[explore] = action_sampler(self._distribution(explore))
        return self._samplers[explore]

    def _distribution(self, explore: bool) -> Any:
        if explore:
            return self.module.get_exploration_action_dist_cls()
        return self.module.get_inference_action_dist_cls()

    def _global_steps(self, steps: int) -> int:
        # As RLlib estimates the agent steps of all runners, for modules that anneal exploration.
        num_runners = self.config.num_env_runners or 1
        return (self.num_env_steps_sampled_lifetime // num_runners + steps) * num_runners

    def _with_actions(self, outputs: dict[str, Any], explore: bool) -> dict[str, Any]:
        """Adds actions and their log-probabilities, where the module left them to its inputs."""
        if Columns.ACTIONS in outputs or Columns.ACTION_DIST_INPUTS not in outputs:
            return outputs
        cls = self._distribution(explore)
        distribution = cls.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        if not explore:
            distribution = distribution.to_deterministic()
        outputs[Columns.ACTIONS] = distribution.sample()
        if Columns.ACTION_LOGP not in outputs:
            outputs[Columns.ACTION_LOGP] = distribution.logp(outputs[Columns.ACTIONS])
        return outputs

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
            Number of environments that stepped, less the steps of games that a fault cost, and
            number of games finished.
        """
        observations, rewards, terminated, truncated, infos = results
        stepped = ~self._awaits_reset
        lost = self._drop_replaced(stepped) if self._replaced else 0
        terminated, truncated = terminated & stepped, truncated & stepped
        over = terminated | truncated
        ends = over
        soft = self._soft_terminated(infos)
        if soft is not None:
            soft &= stepped & ~over
            ends = over | soft
        rewards = np.asarray(rewards, np.float64)
        self._episode_log.step(rewards, stepped)
        to_learn_from = self._learning_rewards(infos, rewards)
        self._fragment.append(actions, to_learn_from, outputs, observations, stepped)
        finished = 0
        for slot in np.flatnonzero(ends).tolist():
            self._fragment.close(
                slot,
                terminated=bool(terminated[slot] or not over[slot]),
                truncated=bool(truncated[slot]),
            )
            if over[slot]:
                self._episode_log.finish(slot, vector_success(infos, slot, self.num_envs))
                self._ledger.finished(slot)
                finished += 1
                if finished == limit:
                    break
        if self._frame_stack is not None:
            self._stack(observations, begins=(ends & ~over) | ~stepped)
        self._awaits_reset = over
        return int(stepped.sum()) - lost, finished

    def _drop_replaced(self, stepped: np.ndarray) -> int:
        """Drops the games of environments that are new; returns the number of lost steps."""
        dropped, lost = self._fragment.abandon(self._replaced)
        self._ledger.drop_episodes(dropped)
        self._episode_log.forget(self._replaced, lost_steps=lost)
        stepped[self._replaced] = False
        return lost

    def _soft_terminated(self, infos: Mapping[str, Any]) -> np.ndarray | None:
        given = vector_info(infos, "soft_terminated", self.num_envs)
        return None if given is None else given[1] & given[0].astype(np.bool_)

    def _learning_rewards(self, infos: Mapping[str, Any], rewards: np.ndarray) -> np.ndarray:
        given = vector_info(infos, "learning_reward", self.num_envs)
        return rewards if given is None else np.where(given[1], given[0], rewards)

    def _stack(self, observations: Any, begins: np.ndarray) -> None:
        """Pushes the newest frames; stacks of episodes that begin with them start over."""
        if self._frame_stack is not None:
            self._frame_stack.push(observations)
            self._frame_stack.reset(observations, begins)
