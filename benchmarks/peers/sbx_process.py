"""Makes updates of SBX; a program for the Python of SBX's environment, started by `sbx`.

Its argument is JSON: ``algorithm`` ("SAC" or "DDPG"), ``num_inputs``, ``num_actions``, ``batch``,
``num_steps`` (transitions in the replay buffer), ``hidden``, ``learning_rate``, ``gamma``, ``tau``.
It writes a line when it is ready, and after the updates that a line of its input asks for.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

# One thread: JAX counts the cores that the process may use when it is imported.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import sbx  # noqa: E402


class Spaces(gym.Env):
    """An environment that only gives its spaces."""

    def __init__(self, num_inputs: int, num_actions: int) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (num_inputs,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (num_actions,), np.float32)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, False, False, {}


def main() -> None:
    """Builds the model, makes updates until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    settings = json.loads(sys.argv[1])
    model = build(settings)

    def update() -> None:
        model.train(gradient_steps=1, batch_size=settings["batch"])

    for _ in range(5):  # compiles
        update()
    answers.write("ready\n")
    for line in sys.stdin:
        for _ in range(int(line)):
            update()
        answers.write("done\n")


def build(settings: Mapping[str, Any]) -> Any:
    """The model, with a replay buffer of random transitions."""
    model = getattr(sbx, settings["algorithm"])(
        "MlpPolicy",
        Spaces(settings["num_inputs"], settings["num_actions"]),
        learning_rate=settings["learning_rate"],
        buffer_size=settings["num_steps"],
        batch_size=settings["batch"],
        tau=settings["tau"],
        gamma=settings["gamma"],
        policy_kwargs={"net_arch": [settings["hidden"]] * 2},
        seed=0,
    )
    model._setup_learn(total_timesteps=settings["num_steps"])
    rng = np.random.default_rng(0)
    for _ in range(settings["num_steps"]):
        observation, following = rng.standard_normal((2, 1, settings["num_inputs"]), np.float32)
        action = rng.uniform(-1, 1, (1, settings["num_actions"])).astype(np.float32)
        over = rng.random(1) < 0.002
        model.replay_buffer.add(observation, following, action, rng.standard_normal(1), over, [{}])
    return model


if __name__ == "__main__":
    main()
