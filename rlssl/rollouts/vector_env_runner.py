"""An EnvRunner that stores arrays for each vector step and builds all episodes at the end."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import RLMODULE_INFERENCE_TIMER, WEIGHTS_SEQ_NO
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from ray.rllib.utils.typing import ResultDict

from rlssl.environments.vector_conventions import FIX, can_step_async
from rlssl.environments.vector_infos import copied, vector_info
from rlssl.errors import EnvironmentFaultError, SpecError
from rlssl.image_spaces import with_layout
from rlssl.rollouts.action_sampling import ActionSampler, action_sampler, to_env_actions
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv, half_sizes
from rlssl.rollouts.env_batch import EnvBatch, PendingStep
from rlssl.rollouts.episode_metrics import (
    EpisodeLog,
    log_finished,
    log_learned,
    log_rllibs_episode_metrics,
    vector_success,
    vector_successes,
)
from rlssl.rollouts.guarded_env_runner import GuardedEnvRunner


class VectorEnvRunner(GuardedEnvRunner):
    """RLlib's SingleAgentEnvRunner with a sampling loop over arrays.

    It returns and logs what the stock runner does; episodes are numpy-backed and have no infos.
    Connectors and per-episode callbacks do not run. It also differs in these points:

    - Observations are single frames. Stacks are made for the forward pass and by the Learner.
    - ``infos["soft_terminated"]`` [N], bool: the step ends the learning episode, but not the
      environment's episode. The next step begins a new learning episode, whose stack holds no
      earlier frame.
    - ``infos["learning_reward"]`` [N]: replaces the reward in episodes. Scores use the true reward.
    - Vector environments may reset in the step that ends an episode (SAME_STEP autoreset).
    - Double buffering: if environments can step asynchronously, one half of them steps while the
      policy runs on the observations of the other half.
    """

    #: Maps the policy's actions to the environment's actions.
    _to_env: Callable[[Any], Any]

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for RLlib's SingleAgentEnvRunner."""
        super().__init__(config=config, **kwargs)
        self._episode_log = EpisodeLog(self.num_envs)
        # Draws the actions; numpy's generator is the fastest for small arrays.
        source = self.seeds.stream("actions", restart=self.generation)
        self._generator = np.random.default_rng(source)
        # Built at the first reset.
        self._env_batches: list[EnvBatch] = []
        # Seconds of each forward pass since the last log.
        self._inference_s: list[float] = []

    def make_module(self) -> None:
        """Builds the module."""
        super().make_module()
        if self.module is not None:
            # Once, because RLModule.forward_* would switch every layer's mode twice in each step.
            self.module.eval()
        self._samplers: dict[bool, ActionSampler | None] = {}

    def _make_vector_env(self, num_envs: int) -> gym.vector.VectorEnv:
        """Builds environments, in two halves if they can step asynchronously.

        Raises:
            SpecError: If the config asks for halves and the environments cannot be halved.
        """
        settings = self.settings
        may_halve = settings.double_buffering is not False and num_envs > 1
        if not may_halve or settings.vectorize == "sync":
            return self._make_undivided(num_envs)
        first, _ = half_sizes(num_envs)
        half = self._make_part(0, first)
        if not can_step_async(half):
            half.close()
            return self._make_undivided(num_envs)
        return DoubleBufferedVectorEnv(half, self._make_part(first, num_envs - first))

    def _make_undivided(self, num_envs: int) -> gym.vector.VectorEnv:
        if self.settings.double_buffering:
            raise SpecError(
                "env_runners.double_buffering needs at least 2 environments that can step "
                f"asynchronously; got {num_envs} of {self._env_name!r}, which cannot. Remove it, "
                "or set env_runners.vectorize to async."
            )
        return super()._make_vector_env(num_envs)

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
        finished = self._episode_log.drain(keeps_counting=self.settings.samples_in_rounds)
        # As in RLlib, the windows of all runners add up to the configured window.
        num_runners = self.config.num_env_runners or 1
        window = math.ceil(self.config.metrics_num_episodes_for_smoothing / num_runners)
        log_rllibs_episode_metrics(self.metrics, finished, max(window, 1))
        log_finished(self.metrics, finished)
        log_learned(self.metrics, self._episode_log.drain_learned(), max(window, 1))
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
            # Only the first reset is seeded: later episodes must differ from the first ones.
            self._reset_all(self._seed if self._needs_initial_reset else None)
        # If an error leaves half a fragment behind, the next call resets everything.
        self._needs_initial_reset = True
        steps = num_finished = 0
        limit = math.inf if num_episodes is None else num_episodes
        wanted = math.inf if num_timesteps is None else num_timesteps
        self._weights_column = np.full(self.num_envs, self._weights_seq_no, np.int64)
        self._numpy_policy = self._build_numpy_policy()
        turns = itertools.cycle(self._env_batches)
        while steps < wanted and num_finished < limit:
            env_batch = next(turns)
            if env_batch.pending_step is not None:
                stepped, finished = self._finish_step(env_batch, limit - num_finished)
                steps += stepped
                num_finished += finished
            pending = sum(env_batch.expected for env_batch in self._env_batches)
            if steps + pending < wanted and num_finished < limit:
                steps -= self._begin_step(env_batch, explore, random_actions, steps + pending)
        # A call that asks for whole episodes gets episodes from their first step.
        self._needs_initial_reset = num_episodes is not None
        episodes = self._cut_fragments(with_unfinished=num_timesteps is not None)
        if self._inference_s:
            self.metrics.log_value(RLMODULE_INFERENCE_TIMER, float(np.mean(self._inference_s)))
            self._inference_s.clear()
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=steps)
        self._increase_sampled_metrics(steps, num_finished)
        return episodes

    def _cut_fragments(self, *, with_unfinished: bool) -> list[SingleAgentEpisode]:
        cuts = [
            env_batch.fragment.cut(with_unfinished=with_unfinished)
            for env_batch in self._env_batches
        ]
        return list(itertools.chain.from_iterable(cuts))

    def _reset_all(self, seed: int | None) -> None:
        """Resets all environments and drops the unfinished episodes."""
        observations, _ = self._try_env_reset(seed=seed, options=None)
        frame_space = with_layout(self.env.single_observation_space, self.settings.encoder_config)
        slots: tuple[slice, ...] = (slice(0, self.num_envs),)
        if isinstance(self.env.unwrapped, DoubleBufferedVectorEnv):
            slots = self.env.unwrapped.slots
        self._env_batches = [
            EnvBatch(
                index,
                part,
                _rows(observations, part),
                observation_space=frame_space,
                action_space=self.env.single_action_space,
                lookback=self.config.episode_lookback_horizon,
                frames=self.settings.frame_stack,
                initial_state=self._initial_state(),
            )
            for index, part in enumerate(slots)
        ]
        self._episode_log.restart(self.num_envs)

    def _begin_step(
        self, env_batch: EnvBatch, explore: bool, random_actions: bool, steps: int
    ) -> int:
        """Begins a vector step of a batch of environments.

        Args:
            env_batch: The batch; it has no pending step.
            explore: Whether to sample actions; else the most likely actions are taken.
            random_actions: Whether to draw actions from the action space instead.
            steps: Agent steps before this one in this call, with those of the pending step.

        Returns:
            Agent steps that were lost because the environments could not be stepped; usually 0.
        """
        env_batch.pending_step = (
            self._random_step(env_batch)
            if random_actions
            else self._policy_step(env_batch, explore, steps)
        )
        # Without double buffering nothing runs in parallel: `_finish_step` does the whole step.
        if len(self._env_batches) == 1 or self._begin_env_step(
            env_batch.index, env_batch.pending_step.to_env
        ):
            return 0
        return self._recover()

    def _finish_step(self, env_batch: EnvBatch, limit: float) -> tuple[int, int]:
        """Finishes the pending vector step and records it; see `_record_step`."""
        assert env_batch.pending_step is not None
        if len(self._env_batches) == 1:
            results = self._try_env_step(env_batch.pending_step.to_env)
        else:
            results = self._finish_env_step(env_batch.index)
        if results is ENV_STEP_FAILURE:
            return -self._recover(), 0
        pending_step, env_batch.pending_step = env_batch.pending_step, None
        return self._record_step(env_batch, pending_step, results, limit)

    def _recover(self) -> int:
        """Continues in new environments; returns the number of agent steps that were lost."""
        observations, _ = self._try_env_reset(seed=self._seed, options=None)
        total = 0
        for env_batch in self._env_batches:
            dropped, lost = env_batch.abandon(_rows(observations, env_batch.slots))
            self._ledger.drop_episodes(dropped)
            total += lost
        self._episode_log.restart(self.num_envs, lost_steps=total)
        return total

    def _initial_state(self) -> Any:
        """The initial state of a recurrent module, a struct of [...]; else None."""
        if self.module is None or not self.module.is_stateful():
            return None
        return convert_to_numpy(self.module.get_initial_state())

    def _build_numpy_policy(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """The module's policy in numpy, if it has one; valid during one call of `_sample`."""
        find = getattr(self.module, "numpy_policy", None)
        return None if find is None else find(self.num_envs)

    def _random_step(self, env_batch: EnvBatch) -> PendingStep:
        """Samples actions from the action space, without the module."""
        actions = _rows(self.env.action_space.sample(), env_batch.slots)
        # Copies for the environments, which may change them in place.
        to_env = copied(actions)
        return PendingStep(actions, to_env, {WEIGHTS_SEQ_NO: self._weights_column[env_batch.slots]})

    def _policy_step(self, env_batch: EnvBatch, explore: bool, steps: int) -> PendingStep:
        """Runs the module on the latest observations of a batch of environments.

        Args:
            env_batch: The batch; its recurrent state moves on by a step.
            explore: Whether to sample actions; else the most likely actions are taken.
            steps: Agent steps before this one in this call, with those of the pending step.
        """
        observations = env_batch.observations()
        begin = time.perf_counter()
        if self._numpy_policy is not None:
            inputs = torch.from_numpy(self._numpy_policy(observations))
            outputs = self._to_outputs(env_batch, {Columns.ACTION_DIST_INPUTS: inputs}, explore)
        else:
            outputs = self._to_outputs(
                env_batch, self._forward(env_batch, observations, explore, steps), explore
            )
        self._inference_s.append(time.perf_counter() - begin)
        actions = outputs.pop(Columns.ACTIONS)
        outputs[WEIGHTS_SEQ_NO] = self._weights_column[env_batch.slots]
        # Copies for the environments, which may change them in place.
        return PendingStep(actions, copied(self._to_env(actions)), outputs)

    def _forward(
        self, env_batch: EnvBatch, observations: Any, explore: bool, steps: int
    ) -> dict[str, Any]:
        """Calls the module and returns its outputs; a recurrent module's have a time axis."""
        batch = {Columns.OBS: self._to_module(observations)}
        if env_batch.state is not None:
            batch = {
                Columns.OBS: tree.map_structure(lambda leaf: leaf[:, None], batch[Columns.OBS]),
                Columns.STATE_IN: self._to_module(env_batch.state),
            }
        if explore:
            return self.module._forward_exploration(batch, t=self._global_steps(steps))
        return self.module._forward_inference(batch)

    def _to_module(self, observations: Any) -> Any:
        # Faster for most environments; torch cannot wrap read-only arrays.
        plain = isinstance(observations, np.ndarray) and observations.dtype != np.float64
        if plain and observations.flags.writeable:
            return torch.from_numpy(observations).to(self._device)
        return convert_to_torch_tensor(observations, device=self._device)

    def _to_outputs(
        self, env_batch: EnvBatch, forward_out: Mapping[str, Any], explore: bool
    ) -> dict[str, Any]:
        """The module's outputs as arrays, with actions and their log-probabilities."""
        state = None
        if env_batch.state is not None:
            forward_out = dict(forward_out)
            state = env_batch.state = convert_to_numpy(forward_out.pop(Columns.STATE_OUT))
            forward_out = tree.map_structure(lambda leaf: leaf[:, 0], forward_out)
        sampler = None
        if forward_out.keys() == {Columns.ACTION_DIST_INPUTS}:
            sampler = self._sampler(explore)
        outputs: dict[str, Any]
        if sampler is not None:
            generator = self._generator if explore else None
            outputs = sampler(forward_out[Columns.ACTION_DIST_INPUTS], generator)
        else:
            outputs = convert_to_numpy(self._add_actions(dict(forward_out), explore))
        if state is not None:
            outputs[Columns.STATE_OUT] = state
        return outputs

    def _sampler(self, explore: bool) -> ActionSampler | None:
        if explore not in self._samplers:
            self._samplers[explore] = action_sampler(self._distribution(explore))
        return self._samplers[explore]

    def _distribution(self, explore: bool) -> Any:
        if explore:
            return self.module.get_exploration_action_dist_cls()
        return self.module.get_inference_action_dist_cls()

    def _add_actions(self, outputs: dict[str, Any], explore: bool) -> dict[str, Any]:
        """Adds actions and their log-probabilities if the module gave distribution inputs only."""
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

    def _record_step(
        self, env_batch: EnvBatch, pending_step: PendingStep, results: Any, limit: float
    ) -> tuple[int, int]:
        """Records one vector step.

        Args:
            env_batch: The batch of n environments that stepped.
            pending_step: The policy's outputs for the step.
            results: What ``env.step`` returned.
            limit: Stop after this many finished episodes, as the stock runner does.

        Returns:
            Number of environments that stepped, minus the steps of episodes that were lost to a
            fault; and number of episodes finished.
        """
        observations, rewards, terminated, truncated, infos = results
        rewards = np.asarray(rewards, np.float64)
        over = terminated | truncated
        stepped, count, lost = env_batch.every_env, env_batch.size, 0
        if env_batch.num_awaiting or self._replaced:
            self._check_resets(env_batch, over, rewards)
            stepped = ~env_batch.awaits_reset
            lost = self._drop_replaced_episodes(env_batch, stepped)
            over, rewards = over & stepped, rewards * stepped
            count = int(np.count_nonzero(stepped))
        ends = over
        soft = self._soft_terminated(infos, env_batch.size)
        if soft is not None:
            ends = over | (soft & stepped)
        self._episode_log.step(rewards, stepped, env_batch.slots, count)
        if infos and self.settings.success == "any":
            self._note_successes(infos, stepped, env_batch)
        to_learn_from = self._learning_rewards(infos, rewards)
        if to_learn_from is not rewards:
            self._episode_log.learn(to_learn_from * stepped, env_batch.slots)
        env_batch.fragment.append(
            pending_step.actions, to_learn_from, pending_step.outputs, observations, stepped
        )
        begins = None
        finished = 0
        if np.count_nonzero(ends):
            begins = ends if self._resets_at_once else ends & ~over
            finished = self._close_episodes(env_batch, ends, over, results, limit)
        if count < env_batch.size:
            begins = ~stepped if begins is None else begins | ~stepped
        env_batch.observe(observations, begins)
        if not self._resets_at_once:
            env_batch.await_reset(over, int(np.count_nonzero(over)))
        return count - lost, finished

    def _close_episodes(
        self, env_batch: EnvBatch, ends: np.ndarray, over: np.ndarray, results: Any, limit: float
    ) -> int:
        """Closes learning episodes and the environments' episodes.

        Args:
            env_batch: The batch of environments.
            ends: [n], bool: where a learning episode ends.
            over: [n], bool: where the environment's episode ends.
            results: What ``env.step`` returned.
            limit: As for `_record_step`.

        Returns:
            Number of the environments' episodes that were closed, at most ``limit``.
        """
        _, _, terminated, truncated, infos = results
        was_reset = self._resets_at_once
        finished = 0
        for index in np.flatnonzero(ends).tolist():
            is_over = bool(over[index])
            env_batch.fragment.close(
                index,
                terminated=bool(terminated[index]) or not is_over,
                truncated=is_over and bool(truncated[index]),
                final_observation=infos["final_obs"][index] if was_reset and is_over else None,
            )
            if is_over:
                slot = env_batch.slots.start + index
                self._episode_log.finish(slot, vector_success(infos, index, env_batch.size))
                self._ledger.finished(slot)
                finished += 1
                if finished == limit:
                    break
        return finished

    def _drop_replaced_episodes(self, env_batch: EnvBatch, stepped: np.ndarray) -> int:
        """Drops the episodes of replaced environments; returns the number of lost steps."""
        if not self._replaced:
            return 0
        dropped, lost = env_batch.fragment.abandon(self._replaced)
        self._ledger.drop_episodes(dropped)
        self._episode_log.forget(self._replaced, lost_steps=lost)
        stepped[self._replaced] = False
        return lost

    def _check_resets(self, env_batch: EnvBatch, over: np.ndarray, rewards: np.ndarray) -> None:
        """Raises if the step that must reset an environment (NEXT_STEP autoreset) does not."""
        wrong = np.flatnonzero(env_batch.awaits_reset & (over | (rewards != 0)))
        if len(wrong):
            index = int(wrong[0])
            slot = env_batch.slots.start + index
            raise EnvironmentFaultError(
                f"environment {self._env_name!r}: metadata['autoreset_mode'] is NEXT_STEP, but in "
                f"the step after the end of an episode, copy {slot} gave a reward of "
                f"{rewards[index]:g} and {'ended' if over[index] else 'did not end'}. With "
                f"NEXT_STEP, this step only resets, with reward 0. {FIX}"
            )

    def _note_successes(
        self, infos: Mapping[str, Any], stepped: np.ndarray, env_batch: EnvBatch
    ) -> None:
        successes = vector_successes(infos, env_batch.size)
        if successes is not None:
            self._episode_log.succeed(np.where(stepped, successes, np.nan), env_batch.slots)

    def _soft_terminated(self, infos: Mapping[str, Any], num_envs: int) -> np.ndarray | None:
        given = vector_info(infos, "soft_terminated", num_envs)
        return None if given is None else given[1] & given[0].astype(np.bool_)

    def _learning_rewards(self, infos: Mapping[str, Any], rewards: np.ndarray) -> np.ndarray:
        given = vector_info(infos, "learning_reward", len(rewards))
        return rewards if given is None else np.where(given[1], given[0], rewards)


def _rows(struct: Any, rows: slice) -> Any:
    """Some rows of every array of a struct."""
    return tree.map_structure(lambda leaf: leaf[rows], struct)
