"""An environment with known observations and rewards, and a module with fixed actions."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
)
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.registry import register_env
from rlssl.system.seeding import SamplerSeeds

#: The seed of each copy of the first runner, also after up to four rebuilds -> the copy.
SLOTS = {
    SamplerSeeds(0).environment(slot, restart=restart): slot
    for slot in range(16)
    for restart in range(5)
}


def slot_of(seed: int | None) -> int:
    """The copy that a seed of a run with seed 0 belongs to; other numbers stay as they are.

    Native vector environments add the copy to the seed of the first one.
    """
    after_first = (seed or 0) - (SamplerSeeds(0).environment(0, restart=0) or 0)
    return after_first if 0 <= after_first < 64 else SLOTS.get(seed, seed or 0)


COUNTING = "rollouts-test/counting"


class CountingEnv(gym.Env):
    """Observes [slot, episode, t, last action]; the reward of a step is t.

    The episodes of slot s have the lengths ``lengths[s % len]`` in turn. Even episodes terminate,
    odd ones are truncated; the first episode is even.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.slot = slot_of(config["seed"])
        lengths = config.get("lengths", [[3]])
        self.lengths = lengths[self.slot % len(lengths)]
        self.soft = set(config.get("soft", ()))
        self.clip = config.get("clip")
        self.fail = config.get("fail")
        self.episode, self.t, self.action = -1, 0, 0.0
        self.nested = config.get("nested", False)
        self.observation_space = gym.spaces.Box(-100, 100, (4,), np.float32)
        if self.nested:
            self.observation_space = gym.spaces.Dict(
                {"vector": self.observation_space, "t": gym.spaces.Discrete(100)}
            )
        self.action_space = gym.spaces.Discrete(3)
        if config.get("continuous"):
            self.action_space = gym.spaces.Box(-2.0, 6.0, (2,), np.float32)

    def _observation(self) -> Any:
        vector = np.array([self.slot, self.episode, self.t, self.action], np.float32)
        return {"vector": vector, "t": np.int64(self.t)} if self.nested else vector

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.episode, self.t, self.action = self.episode + 1, 0, 0.0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self.fail == (self.slot, self.episode, self.t):
            raise KeyError("the pole fell off the table")
        self.t, self.action = self.t + 1, float(np.sum(action))
        over = self.t >= self.lengths[self.episode % len(self.lengths)]
        even = self.episode % 2 == 0
        info: dict[str, Any] = {}
        if over and self.slot == 0:
            info["success"] = even
        if self.t in self.soft:
            info["soft_terminated"] = True
        if self.clip is not None:
            info["learning_reward"] = min(float(self.t), self.clip)
        return self._observation(), float(self.t), over and even, over and not even, info


def make_reusing_its_buffer(config: dict[str, Any], num_envs: int) -> SyncVectorEnv:
    """A vector environment that writes each step's observations into the same array."""
    base = config["seed"] or 0
    makers = [lambda i=i: CountingEnv({**config, "seed": base + i}) for i in range(num_envs)]
    return SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)


register_env(COUNTING, CountingEnv)
register_env("rollouts-test/reusing", CountingEnv, make_vec=make_reusing_its_buffer)


class ForcedModule(TorchRLModule):
    """Its action is a fixed function of the whole observation."""

    def setup(self) -> None:
        if isinstance(self.action_space, gym.spaces.Discrete):
            self.action_dist_cls, self.width = TorchCategorical, int(self.action_space.n)
        else:
            self.action_dist_cls, self.width = TorchDiagGaussian, 4

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        leaves = [x.float().reshape(len(x), -1) for x in tree.flatten(batch[Columns.OBS])]
        flat = torch.cat(leaves, 1)
        weights = torch.arange(1, flat.shape[1] + 1).float()
        code = torch.sin((flat * weights).sum(1, keepdim=True))
        frequencies = 7 * torch.arange(1, self.width + 1)
        return {Columns.ACTION_DIST_INPUTS: torch.cos(code * frequencies)}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        # Not sampled, because the two runners draw different random numbers.
        out = self._forward(batch)
        distribution = self.action_dist_cls.from_logits(out[Columns.ACTION_DIST_INPUTS])
        actions = distribution.to_deterministic().sample()
        return {**out, Columns.ACTIONS: actions, Columns.ACTION_LOGP: distribution.logp(actions)}


def make_config(env: dict[str, Any], num_envs: int, frame_stack: int = 1) -> PPOConfig:
    """A config of RLlib with the attributes that an rlssl config adds."""
    config = (
        PPOConfig()
        .environment(env["id"], env_config={k: v for k, v in env.items() if k != "id"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs, explore=False)
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=ForcedModule, model_config={"frame_stack": frame_stack}
            ),
            model_config={"frame_stack": frame_stack},
        )
        .debugging(seed=0)
    )
    config.vectorize = "sync"
    return config


def make_runner(cls: type, config: PPOConfig) -> Any:
    return cls(config=config, worker_index=0, num_workers=0)


def assert_same_chunks(
    actual: list[SingleAgentEpisode], expected: list[SingleAgentEpisode], ids: dict[str, str]
) -> None:
    """Compares two runners' chunks to the last bit; ``ids`` maps the ids seen so far.

    Log-probabilities may differ by rounding: numpy and torch add up in different orders.
    """
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        a.validate()
        assert ids.setdefault(e.id_, a.id_) == a.id_
        assert (len(a), a.t, a.t_started) == (len(e), e.t, e.t_started)
        assert (a.is_terminated, a.is_truncated) == (e.is_terminated, e.is_truncated)
        for name in ("observations", "actions", "rewards"):
            ours, theirs = getattr(a, name), getattr(e, name)
            assert ours.lookback == theirs.lookback
            assert_same_arrays(ours.data, theirs.data)
        assert a.extra_model_outputs.keys() == e.extra_model_outputs.keys()
        for key in e.extra_model_outputs:
            given, reference = (x.get_extra_model_outputs(key) for x in (a, e))
            if key == Columns.ACTION_LOGP:
                # Without exploration RLlib gives one zero for each element of the action.
                reference = reference.reshape(*given.shape, -1)[:, 0]
                np.testing.assert_allclose(given, reference, rtol=1e-5, atol=1e-6)
            else:
                assert_same_arrays(given, reference)
    assert len(set(ids.values())) == len(ids)


def assert_same_arrays(actual: Any, expected: Any) -> None:
    tree.assert_same_structure(actual, expected)
    for a, e in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)
