"""Vector environments that keep every convention of gymnasium but one."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

#: The episodes of copy i have these lengths in turn; the first one terminates, the second one is
#: truncated, and so on.
LENGTHS = (5, 3)

STARTS = 1_000_000


class Walk(gym.Env):
    """Observes [start, t, action]; the start is a random number, the reward t."""

    observation_space = gym.spaces.Box(-STARTS, STARTS, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, config: dict[str, Any]) -> None:
        self.episode, self.t, self.start, self.action = -1, 0, 0, 0

    def observation(self) -> np.ndarray:
        return np.array([self.start, self.t, self.action], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.t, self.action = self.episode + 1, 0, 0
        self.start = int(self.np_random.integers(STARTS))
        return self.observation(), {}

    def step(self, action: Any) -> Any:
        self.t, self.action = self.t + 1, int(action)
        over = self.t == LENGTHS[self.episode % 2]
        terminated = over and self.episode % 2 == 0
        info: dict[str, Any] = {"learning_reward": self.t / 2}
        if over:
            info["success"] = 0.75 if terminated else 0.25
        return self.observation(), float(self.t), terminated, over and not terminated, info


class Walks(gym.vector.VectorEnv):
    """N walks; ``fault`` names the convention that is broken, "" for none."""

    def __init__(self, num_envs: int, mode: AutoresetMode, fault: str) -> None:
        self.num_envs, self.mode, self.fault = num_envs, mode, fault
        claimed = mode
        if fault == "claims the other autoreset mode":
            modes = {AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP}
            (claimed,) = modes - {mode}
        self.metadata = {"autoreset_mode": claimed}
        self.walks = [Walk({}) for _ in range(num_envs)]
        self.single_observation_space = Walk.observation_space
        self.single_action_space = Walk.action_space
        self.observation_space = batch_space(Walk.observation_space, num_envs)
        self.action_space = batch_space(Walk.action_space, num_envs)
        self.over = np.zeros(num_envs, np.bool_)
        self.buffer = np.zeros((num_envs, 3), np.float32)
        self.ends = np.zeros((2, num_envs), np.bool_)
        self.rewards = np.zeros(num_envs)
        self.final = np.zeros((num_envs, 3), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seeds = [None] * self.num_envs if seed is None else [seed + i for i in range(self.num_envs)]
        if self.fault == "ignores the seed":
            seeds = [None] * self.num_envs
        if self.fault == "seeds all copies alike":
            seeds = [seed] * self.num_envs
        self.over[:] = False
        for slot, walk in enumerate(self.walks):
            self.buffer[slot] = walk.reset(seed=seeds[slot])[0]
        return self.observations(), {}

    def observations(self) -> np.ndarray:
        shared = ("reuses every buffer", "gives a view of the observations")
        return self.buffer if self.fault in shared else self.buffer.copy()

    def step(self, actions: np.ndarray) -> Any:
        infos: dict[str, Any] = {}
        self.ends[:], self.rewards[:] = False, 0.0
        for slot, walk in enumerate(self.walks):
            self.step_one(slot, walk, int(actions[slot]), infos)
        if self.fault == "changes the actions in place":
            actions[:] = 0
        return self.results(infos)

    def step_one(self, slot: int, walk: Walk, action: int, infos: dict[str, Any]) -> None:
        if self.mode is AutoresetMode.NEXT_STEP and self.over[slot]:
            self.over[slot] = False
            self.buffer[slot], _ = walk.reset()
            if self.fault == "steps after the reset":
                self.buffer[slot], self.rewards[slot], *_ = walk.step(action)
            if self.fault == "ends while it resets":
                self.ends[0, slot] = True
            return
        last, reward, terminated, truncated, info = walk.step(action)
        self.buffer[slot], self.rewards[slot] = last, reward
        self.ends[:, slot] = terminated, truncated
        self.over[slot] = terminated or truncated
        if self.mode is AutoresetMode.SAME_STEP and self.over[slot]:
            self.final[slot] = last
            self.buffer[slot], _ = walk.reset()
            self.end(slot, infos, info)
        else:
            self.add(infos, info, slot)

    def add(self, infos: dict[str, Any], info: dict[str, Any], slot: int) -> None:
        for key, value in info.items():
            infos.setdefault(key, np.zeros(self.num_envs))[slot] = value
            infos.setdefault(f"_{key}", np.zeros(self.num_envs, np.bool_))[slot] = True

    def end(self, slot: int, infos: dict[str, Any], info: dict[str, Any]) -> None:
        final, key = self.final[slot].copy(), "final_obs"
        match self.fault:
            case "has no final observation":
                final = None
            case "has the older key":
                key = "final_observation"
            case "reuses the buffer of final observations":
                infos[key], infos[f"_{key}"] = self.final, self.over.copy()
                final = None
            case "gives a view of the observations":
                final = self.buffer[slot]
            case "gives the next first observation":
                final = self.buffer[slot].copy()
            case "gives a final observation of another shape":
                final = final[None]
            case "gives a final observation of another dtype":
                final = final.astype(np.float64)
        if final is not None:
            infos.setdefault(key, np.full(self.num_envs, None, object))[slot] = final
            infos.setdefault(f"_{key}", np.zeros(self.num_envs, np.bool_))[slot] = True
        if self.fault == "has no final infos":
            return
        if self.fault == "has a list of final infos":
            infos.setdefault("final_info", [None] * self.num_envs)[slot] = info
        else:
            self.add(infos.setdefault("final_info", {}), info, slot)
        infos.setdefault("_final_info", np.zeros(self.num_envs, np.bool_))[slot] = True

    def results(self, infos: dict[str, Any]) -> Any:
        terminated, truncated = self.ends
        rewards = self.rewards
        if self.fault != "reuses every buffer":
            terminated, truncated, rewards = terminated.copy(), truncated.copy(), rewards.copy()
        match self.fault:
            case "ends are uint8" | "ends are int32" | "ends are float32":
                dtype = self.fault.rpartition(" ")[2]
                terminated, truncated = terminated.astype(dtype), truncated.astype(dtype)
            case "ends are lists":
                return self.observations(), rewards, [*terminated], [*truncated], infos
            case "ends are columns":
                terminated, truncated = terminated[:, None], truncated[:, None]
            case "rewards are float32":
                rewards = rewards.astype(np.float32)
            case "rewards are columns":
                rewards = rewards[:, None]
            case "infos are a list":
                return self.observations(), rewards, terminated, truncated, [infos]
            case "infos have no masks":
                infos = {key: value for key, value in infos.items() if key[0] != "_"}
                if isinstance(infos.get("final_info"), dict):
                    nested = infos["final_info"].items()
                    infos["final_info"] = {k: v for k, v in nested if k[0] != "_"}
            case "masks are integers":
                infos = {k: v.astype(int) if k[0] == "_" else v for k, v in infos.items()}
            case "masks are always false":
                infos = {k: v & False if k[0] == "_" else v for k, v in infos.items()}
            case "infos have another shape":
                infos["learning_reward"] = np.zeros((self.num_envs, 1))
            case "infos have other keys of any kind":
                infos |= {"legal_moves": [1, 2, 3], "winner": None, "_x": 1, "lives": 3}
            case "observations are float64":
                observations = self.buffer.astype(np.float64)
                return observations, rewards, terminated, truncated, infos
        return self.observations(), rewards, terminated, truncated, infos
