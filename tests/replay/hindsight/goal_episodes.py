"""An environment with goals, its episodes as chunks, and hindsight that is slow and obvious."""

import functools
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.environments.goals import GoalFunctions
from rlssl.replay import PrioritizedReplayBuffer, RelabelSettings, ReplayBuffer
from tests.replay.episodes import ACTIONS, chunk
from tests.replay.reference import Part, ReferenceReplay, Row

#: Goals are one of three numbers, so that states often achieve them by chance.
NUM_GOALS = 3
SPACE = Dict(
    {
        "observation": Box(-np.inf, np.inf, (2,), np.float32),
        "achieved_goal": Box(0, NUM_GOALS, (1,), np.float32),
        "desired_goal": Box(0, NUM_GOALS, (1,), np.float32),
    }
)


class Numbers(gym.Env):
    """A number is set by the action; the episode ends where it is the goal, if ``terminates``."""

    def __init__(self, *, terminates: bool = True) -> None:
        self.observation_space, self.action_space = SPACE, Discrete(NUM_GOALS)
        self.terminates = terminates
        self.state = self.goal = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state, self.goal = (int(it) for it in self.np_random.integers(NUM_GOALS, size=2))
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.state = int(action)
        seen = self._observation()
        goals = seen["achieved_goal"], seen["desired_goal"]
        reward, ended = self.compute_reward(*goals, {}), self.compute_terminated(*goals, {})
        return seen, float(reward), bool(ended), False, {}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        return -np.abs(achieved - desired)[..., 0]

    def compute_terminated(
        self, achieved: np.ndarray, desired: np.ndarray, info: Any
    ) -> np.ndarray:
        return np.logical_and((achieved == desired)[..., 0], self.terminates)

    def _observation(self) -> dict[str, np.ndarray]:
        numbers = [self.state, 7], [self.state], [self.goal]
        seen, state, goal = (np.array(each, np.float32) for each in numbers)
        return {"observation": seen, "achieved_goal": state, "desired_goal": goal}


def functions(*, terminates: bool = True) -> GoalFunctions:
    return GoalFunctions(Numbers(terminates=terminates))


def relabeling_buffer(
    capacity: int = 100,
    *,
    strategy: Any = "future",
    k: float = 4.0,
    terminates: bool = True,
    kind: type[ReplayBuffer] = ReplayBuffer,
    seed: int = 0,
    **options: Any,
) -> ReplayBuffer:
    return kind(
        capacity,
        SPACE,
        ACTIONS,
        seed=seed,
        relabel=RelabelSettings(strategy, k),
        goal_functions=functions(terminates=terminates),
        **options,
    )


def as_observations(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Observations [N, ...] of rows [N, 4]: observation, achieved goal, desired goal."""
    return {
        "observation": rows[:, :2],
        "achieved_goal": rows[:, 2:3],
        "desired_goal": rows[:, 3:],
    }


def goal_chunk(
    achieved: list[int], desired: int, rewards: list[float], **options: Any
) -> SingleAgentEpisode:
    """A chunk whose states achieve these goals; observation t is (t, 10 t)."""
    t = np.arange(len(achieved)) + options.get("t_started", 0)
    columns = np.stack([t, 10 * t, achieved, np.full(len(t), desired)], axis=1)
    return chunk(as_observations(columns.astype(np.float32)), rewards, **options)


class RandomEpisodes:
    """Random chunks of some environments, for a buffer and for the reference."""

    def __init__(self, seed: int, num_envs: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.episodes = 0
        self.running: list[dict[str, Any]] = [self._begin() for _ in range(num_envs)]

    def chunk(self) -> tuple[SingleAgentEpisode, SingleAgentEpisode, np.ndarray]:
        """The next chunk, the same with flat observations, and its intrinsic rewards."""
        number = int(self.rng.integers(len(self.running)))
        env = self.running[number]
        length = int(self.rng.integers(1, 8))
        frames = np.stack([env["frame"], *(self._frame(env["goal"]) for _ in range(length))])
        rewards = self.rng.normal(size=length).tolist()
        options: dict[str, Any] = {
            "id_": env["id"],
            "t_started": env["t"],
            "actions": self.rng.integers(0, 100, length).astype(np.int32),
        }
        ends = self.rng.choice(["continues", "terminated", "truncated", "abandoned"])
        if ends in ("terminated", "truncated"):
            options[ends] = True
        env["t"], env["frame"] = env["t"] + length, frames[-1]
        if ends != "continues":
            self.running[number] = self._begin()
        made = chunk(as_observations(frames), rewards, **options)
        return made, chunk(frames, rewards, **options), self.rng.normal(size=length)

    def _begin(self) -> dict[str, Any]:
        self.episodes += 1
        goal = int(self.rng.integers(NUM_GOALS))
        return {"id": f"e{self.episodes}", "t": 0, "goal": goal, "frame": self._frame(goal)}

    def _frame(self, goal: int) -> np.ndarray:
        seen = self.rng.integers(0, 256, 2)
        return np.array([*seen, self.rng.integers(NUM_GOALS), goal], np.float32)


class Draw(NamedTuple):
    """The random numbers of one row."""

    serial: int
    is_relabeled: bool
    fraction: float


def expected_draws(buffer: ReplayBuffer, generator: np.random.Generator, size: int) -> list[Draw]:
    """The random numbers of the next batch, from a copy of the buffer's generator."""
    if isinstance(buffer, PrioritizedReplayBuffer):
        slots = buffer._tree.draw(generator, size)
    else:
        slots = buffer._ring.draw(generator, size)
    assert buffer.relabeler is not None
    chosen = generator.random(size) < buffer.relabeler.settings.share
    fractions = generator.random(size)
    serials = buffer._ring.serials(slots)
    return [Draw(*row) for row in zip(serials.tolist(), chosen.tolist(), fractions, strict=True)]


class SlowHindsight:
    """Hindsight on lists of episodes, one row and one step at a time."""

    def __init__(self, replay: ReferenceReplay, strategy: str, *, terminates: bool) -> None:
        self.replay, self.strategy = replay, strategy
        self.env = Numbers(terminates=terminates)

    @functools.cached_property
    def steps(self) -> dict[int, tuple[Part, int]]:
        """Of the buffer that is complete."""
        return self.replay.steps()

    def goal(self, drawn: Draw) -> np.ndarray | None:
        """The new goal of a row; None: its own."""
        part, i = self.steps[drawn.serial]
        if not drawn.is_relabeled:
            return None
        candidates = {
            "future": part.rows[i + 1 :],
            "final": part.rows[-1:],
            "episode": [row for row in part.rows if self.replay._alive(row)],
        }[self.strategy]
        achieved: np.ndarray = candidates[int(drawn.fraction * len(candidates))].frame[2:3]
        return achieved

    def step(self, part: Part, i: int, goal: np.ndarray | None) -> tuple[float, bool, bool]:
        """Reward, terminated and truncated of one step."""
        row, after = part.rows[i], part.rows[i + 1]
        if goal is None:
            return row.reward, row.terminated, row.truncated
        reward = float(self.env.compute_reward(after.frame[2:3], goal, {}))
        ended = bool(self.env.compute_terminated(after.frame[2:3], goal, {}))
        own = bool(self.env.compute_terminated(after.frame[2:3], row.frame[3:], {}))
        ended = ended or (row.terminated and not own)
        return reward, ended, row.truncated or (row.terminated and not ended)

    def transition(self, drawn: Draw, n_step: int, gamma: float) -> dict[str, Any]:
        part, i = self.steps[drawn.serial]
        goal = self.goal(drawn)
        total = bonus = 0.0
        k, ended, cut = 0, False, False
        while k < n_step and part.rows[i + k].is_step and not ended:
            reward, ended, cut = self.step(part, i + k, goal)
            # As the buffer: products are float32, sums float64.
            total += float(np.float32(gamma**k) * np.float32(reward))
            bonus += float(np.float32(gamma**k) * np.float32(part.rows[i + k].bonus))
            k += 1
        return {
            "obs": self.seen(part.rows[i], goal),
            "new_obs": self.seen(part.rows[i + k], goal),
            "actions": part.rows[i].action,
            "rewards": total,
            "intrinsic_rewards": bonus,
            "n_step": k,
            "terminateds": ended,
            "truncateds": cut,
            "discounts": 0.0 if ended else gamma**k,
            "relabeled": drawn.is_relabeled,
        }

    def window(self, drawn: Draw, before: int, after: int) -> list[dict[str, Any] | None]:
        """The places of a window; None outside of the episode."""
        part, i = self.steps[drawn.serial]
        goal = self.goal(drawn)
        found: list[dict[str, Any] | None] = []
        for j in range(i - before, i + after + 1):
            is_inside = 0 <= j < len(part.rows) and self.replay._alive(part.rows[j])
            if not is_inside:
                found.append(None)
                continue
            row = part.rows[j]
            reward, ended, _ = self.step(part, j, goal) if row.is_step else (0.0, False, False)
            seen = self.seen(row, goal)
            found.append({"obs": seen, "rewards": reward, "terminateds": ended})
        return found

    @staticmethod
    def seen(row: Row, goal: np.ndarray | None) -> dict[str, np.ndarray]:
        flat = row.frame if goal is None else np.concatenate([row.frame[:3], goal])
        return {key: leaf[0] for key, leaf in as_observations(flat[None]).items()}
