"""Small environments that keep a hash of every action they receive and every result they return."""

import hashlib
from typing import Any

import gymnasium as gym
import numpy as np

import rlssl

#: Sides of the small images and of the frames; frames have 36 pixels a side or more.
SIDE, FRAME_SIDE = 16, 40


class Trace:
    """A hash of what the environments of this process received and returned, in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.steps = 0
        self._hash = hashlib.sha256()

    def add(self, *values: Any) -> None:
        for value in values:
            self._hash.update(np.ascontiguousarray(value).tobytes())
        self.steps += 1

    def digest(self) -> str:
        return self._hash.hexdigest()[:16]


TRACE = Trace()


class Traced(gym.Wrapper):
    """Adds the steps of an environment to `TRACE`."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        values = observation.values() if isinstance(observation, dict) else [observation]
        TRACE.add(action, reward, terminated, truncated, *values)
        return observation, reward, terminated, truncated, info


class Dot(gym.Env):
    """A bright dot that actions push over a shaded image; the reward is its height."""

    side = SIDE
    channels = 3
    continuous = True

    def __init__(self) -> None:
        shape = (self.channels, self.side, self.side)
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.action_space: gym.Space = gym.spaces.Discrete(5)
        if self.continuous:
            self.action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.uniform(2, self.side - 2, 2), 0
        return self._image(), {}

    def step(self, action: Any) -> Any:
        moves = np.array([[0, 0], [2, 0], [-2, 0], [0, 2], [0, -2]])
        move = action if self.continuous else moves[int(action)]
        self._place = np.clip(self._place + move, 1, self.side - 2)
        self._steps += 1
        reward = float(self._place[0]) / self.side
        ended = bool(self._place[0] >= self.side - 2.5)
        return self._image(), reward, ended, self._steps == 20, {"success": ended}

    def _image(self) -> np.ndarray:
        shade = np.arange(self.side * self.side).reshape(self.side, self.side) * 127 // self.side**2
        image = np.stack([shade, shade.T, 128 - shade][: self.channels]).astype(np.uint8)
        row, column = self._place.astype(int)
        image[:, row - 1 : row + 2, column - 1 : column + 2] = 200
        return image


class DiscreteDot(Dot):
    continuous = False


class Frames(Dot):
    """As `Dot`, in single gray frames that are stacked, with an action repeat."""

    side = FRAME_SIDE
    channels = 1
    suggested_frame_stack = 2
    action_repeat = 2


class DiscreteFrames(Frames):
    continuous = False


class Mixed(gym.Env):
    """A dict of a vector, an image and a number; several discrete actions."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(
            {
                "vector": gym.spaces.Box(-1.0, 1.0, (3,), np.float32),
                "image": gym.spaces.Box(0, 255, (3, SIDE, SIDE), np.uint8),
                "number": gym.spaces.Discrete(4),
            }
        )
        self.action_space = gym.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        reward = float(action[0] == self._steps % 3) + 0.5 * float(action[1])
        return self._observation(), reward, self._steps == 15, False, {}

    def _observation(self) -> dict[str, Any]:
        return {
            "vector": self.np_random.uniform(-1, 1, 3).astype(np.float32),
            "image": self.np_random.integers(256, size=(3, SIDE, SIDE), dtype=np.uint8),
            "number": np.int64(self._steps % 4),
        }


class TracedFrames(Traced):
    suggested_frame_stack = Frames.suggested_frame_stack
    action_repeat = Frames.action_repeat


def make_cartpole(config: Any) -> gym.Env:
    return Traced(gym.make("CartPole-v1"))


def make_pendulum(config: Any) -> gym.Env:
    return Traced(gym.make("Pendulum-v1", max_episode_steps=30))


def make_dot(config: Any) -> gym.Env:
    return Traced(Dot())


def make_discrete_dot(config: Any) -> gym.Env:
    return Traced(DiscreteDot())


def make_frames(config: Any) -> gym.Env:
    return TracedFrames(Frames())


def make_discrete_frames(config: Any) -> gym.Env:
    return TracedFrames(DiscreteFrames())


def make_mixed(config: Any) -> gym.Env:
    return Traced(Mixed())


rlssl.register_env("golden/cartpole", make_cartpole)
rlssl.register_env("golden/pendulum", make_pendulum)
rlssl.register_env("golden/dot", make_dot)
rlssl.register_env("golden/discrete-dot", make_discrete_dot)
rlssl.register_env("golden/frames", make_frames)
rlssl.register_env("golden/discrete-frames", make_discrete_frames)
rlssl.register_env("golden/mixed", make_mixed)
