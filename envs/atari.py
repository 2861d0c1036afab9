"""Atari 2600 games on ale-py's C++ vector environment, as ``atari/<Game>``: ``atari/MsPacman``.

Games are named as in ``ALE/MsPacman-v5``. Observations: uint8 [1, 84, 84], one gray frame. The
defaults are the protocol of the Atari 100k literature: no sticky actions, the minimal action set,
up to 29 no-ops after a reset, the maximum of the last two of four frames, no fire on reset.

Options: `rlssl_envs.options.Atari`. The frames of single games can be rendered, see
`AtariGame.render`.

With all options and in both splits, rewards are those of the game, never clipped, and an episode is
the whole game. In training, infos also contain what to learn from (see VectorEnvRunner):
``soft_terminated``, if a life was lost and the game continues, and ``learning_reward``. In both
splits, infos contain ``lives`` and ``episode_frame_number``, which includes no-ops.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py import roms
from ale_py.registration import rom_id_to_name
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from rlssl_envs.options import Atari

from rlssl.environments import env_options
from rlssl.errors import unknown_name

PREFIX = "atari/"

#: Name of a game -> name of its ROM, for the games that ale-py registers; others need two players.
GAMES = {
    rom_id_to_name(rom): rom
    for rom in sorted(roms.get_all_rom_ids())
    if f"ALE/{rom_id_to_name(rom)}-v5" in gym.registry
}

#: Frames in a stack in the literature; used unless `model.frame_stack` is set.
SUGGESTED_FRAME_STACK = 4

#: Number of seeds; the emulator's seeds are C++ ints.
NUM_SEEDS = 2**31


def ids() -> list[str]:
    """Lists the ids of the games that ale-py contains."""
    return [f"{PREFIX}{game}" for game in GAMES]


def make(config: Mapping[str, Any]) -> "AtariGame":
    """Builds a single game, for evaluation and video, with the same frames as `make_vec`.

    Raises:
        UnknownNameError: There is no such game.
        SpecError: An option is unknown or out of range.
    """
    return AtariGame(_rom(config), _options(config), training=config.get("split") == "train")


def make_vec(config: Mapping[str, Any], num_envs: int) -> "AtariGames":
    """Builds ``num_envs`` copies of a game in C++; raises the errors of `make`."""
    options = _options(config)
    return AtariGames(_rom(config), num_envs, options, training=config.get("split") == "train")


def _rom(config: Mapping[str, Any]) -> str:
    rom = GAMES.get(config["id"].removeprefix(PREFIX))
    if rom is None:
        hint = "`rlssl list envs` shows every game."
        raise unknown_name("environment", config["id"], ids(), hint)
    return rom


def _options(config: Mapping[str, Any]) -> Atari:
    return Atari(**env_options(config))


def _arguments(options: Atari, **changes: Any) -> dict[str, Any]:
    """Returns the arguments of ale-py's vector environment.

    ale-py does not handle lives, clipping and stacking. Its ``episodic_life`` resets the game
    at every lost life. Its ``life_loss_info`` reports lost lives as ``terminated``, and a game
    that is cut off when a life is lost is not reported as truncated.
    """
    height, width = options.size
    return {
        "img_height": height,
        "img_width": width,
        "grayscale": options.grayscale,
        "frameskip": options.frame_skip,
        "maxpool": options.max_pool,
        "noop_max": options.noop_max,
        "repeat_action_probability": options.sticky_actions,
        "full_action_space": options.full_action_space,
        "use_fire_reset": options.use_fire_reset,
        "max_num_frames_per_episode": options.max_frames,
        "num_threads": options.num_threads,
        "stack_num": 1,
        "episodic_life": False,
        "life_loss_info": False,
        "reward_clipping": False,
        **changes,
    }


class _Emulator(AtariVectorEnv):
    """ale-py's vector environment, with its own ``metadata``."""

    def __init__(self, rom: str, num_envs: int, **arguments: Any) -> None:
        # ale-py writes into this dict. Without it, ale-py would write into gymnasium's class.
        self.metadata = {}
        super().__init__(rom, num_envs, **arguments)


class AtariGames(gym.vector.VectorEnv):
    """N copies of a game in C++; the module describes lives and rewards."""

    def __init__(self, rom: str, num_envs: int, options: Atari, *, training: bool) -> None:
        """Loads the games.

        Args:
            rom: A value of `GAMES`.
            num_envs: N.
            options: See the module.
            training: Whether infos contain what to learn from.
        """
        self._emulator: _Emulator | None = _Emulator(rom, num_envs, **_arguments(options))
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.action_repeat = options.frame_skip
        self.suggested_frame_stack = SUGGESTED_FRAME_STACK
        shape = (1 if options.grayscale else 3, *options.size)
        self.single_observation_space = Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self._emulator.single_action_space
        self.action_space = self._emulator.action_space
        self._num_actions = len(self._emulator.ale.get_action_set())
        self._grayscale = options.grayscale
        self._splits_at_lives = training and options.life_loss_terminal
        self._clips = training and options.clip_rewards
        self._lives = np.zeros(num_envs, np.int32)
        # [N], bool: games whose next step is an autoreset.
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts new games.

        Args:
            seed: Game i is seeded with ``seed + i`` or ``seed[i]``, modulo 2**31, which is
                ale-py's limit. None: games continue their random streams.
            options: May contain ``reset_mask``, [N], bool: the games to reset. A sequence of seeds
                then has one seed for each of these games.
        """
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        seeds = _seeds(seed, int(np.sum(mask)))
        observations: np.ndarray
        observations, infos = self._running().reset(seed=seeds, options=options)
        self._over = self._over & ~mask
        self._lives = infos["lives"]
        return self._frames(observations), self._infos(infos)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps every game; a game that is over is reset instead.

        Raises:
            ValueError: ``actions`` is not [N], or contains an invalid action.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: np.ndarray) -> None:
        """Begins a step of every game in ale-py's threads; raises the errors of ``step``."""
        self._running().send(self._checked(actions))

    def step_wait(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Waits for the pending step, and returns what ``step`` does."""
        observations, rewards, terminated, truncated, infos = self._running().recv()
        rewards = rewards.astype(np.float64)
        over = terminated | truncated
        extra = {}
        if self._splits_at_lives:
            # Some games continue for a few steps after the last life: no soft termination.
            lost = (infos["lives"] < self._lives) & (infos["lives"] > 0)
            extra["soft_terminated"] = lost & ~over & ~self._over
        if self._clips:
            extra["learning_reward"] = np.clip(rewards, -1.0, 1.0)
        self._lives, self._over = infos["lives"], over
        infos = {**self._infos(infos), **extra}
        return self._frames(observations), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        self._emulator = None

    def _running(self) -> _Emulator:
        if self._emulator is None:
            raise gym.error.ClosedEnvironmentError("the environment is closed.")
        return self._emulator

    def _checked(self, actions: Any) -> np.ndarray:
        # An invalid action stops a game of ale-py, which then waits forever.
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype not in (np.int32, np.int64):
            raise ValueError(
                f"actions must be int64 or int32 of shape ({self.num_envs},); got {actions!r}."
            )
        if actions.min() < 0 or actions.max() >= self._num_actions:
            raise ValueError(f"actions must be in 0..{self._num_actions - 1}; got {actions!r}.")
        return actions

    def _frames(self, observations: np.ndarray) -> np.ndarray:
        """Converts ale-py's [N, 1, H, W] or [N, 1, H, W, 3] to [N, C, H, W].

        No copy is needed, because ale-py returns a new array in each step.
        """
        if self._grayscale:
            return observations
        return np.ascontiguousarray(observations[:, 0].transpose(0, 3, 1, 2))

    def _infos(self, infos: Mapping[str, Any]) -> dict[str, Any]:
        return {key: infos[key] for key in ("lives", "episode_frame_number")}


def _seeds(seed: int | Sequence[int | None] | np.ndarray | None, count: int) -> np.ndarray | None:
    """Returns ``count`` seeds for ale-py, -1 for no seed; None if ``seed`` is None."""
    if seed is None:
        return None
    given: list[int | None]
    if isinstance(seed, int | np.integer):
        given = [int(seed) + i for i in range(count)]
    else:
        given = list(seed)
    if any(one is not None and one < 0 for one in given):
        raise ValueError(f"seed must be >= 0; got {seed!r}.")
    return np.array([-1 if one is None else int(one) % NUM_SEEDS for one in given], np.int64)


class AtariGame(gym.Env[np.ndarray, Any]):
    """One game, with the same emulator and the same frames as `AtariGames`."""

    def __init__(self, rom: str, options: Atari, *, training: bool) -> None:
        """Loads the game.

        Args:
            rom: A value of `GAMES`.
            options: See the module.
            training: Whether infos contain what to learn from.
        """
        self._game = AtariGames(rom, 1, options, training=training)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 60 / options.frame_skip}
        self.render_mode = options.render_mode
        self.action_repeat = options.frame_skip
        self.suggested_frame_stack = SUGGESTED_FRAME_STACK
        self.observation_space = self._game.single_observation_space
        self.action_space = self._game.single_action_space
        # ale-py returns the screen only as observations, so a second emulator plays the same game.
        self._screen = _screen(rom, options) if options.render_mode else None
        self._picture: np.ndarray | None = None
        self._seeded, self._over = False, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a game, also in the middle of another game.

        With a seed, the game does not depend on earlier games. Without a seed, the random stream of
        no-ops and sticky actions continues.
        """
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(NUM_SEEDS))
        self._seeded, self._over = True, False
        observations, infos = self._game.reset(seed=seed)
        if self._screen is not None:
            pictures: np.ndarray
            pictures, _ = self._screen.reset(seed=_seeds(seed, 1))
            self._picture = pictures[0, 0]
        return observations[0], _scalars(infos)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step.

        Raises:
            gymnasium.error.ResetNeeded: The game is over or has not begun.
            ValueError: The action is invalid.
        """
        if self._over:
            raise gym.error.ResetNeeded("the game is over or has not begun; call reset().")
        actions = np.asarray(action).reshape(1)
        observations, rewards, terminated, truncated, infos = self._game.step(actions)
        if self._screen is not None:
            self._picture = self._screen.step(actions)[0][0, 0]
        self._over = bool(terminated[0] or truncated[0])
        return (
            observations[0],
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _scalars(infos),
        )

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Returns the screen: uint8 [210, 160, 3] (some games have another height), max-pooled.

        Returns None without ``render_mode: rgb_array``, which makes a game twice as slow.
        """
        return self._picture

    def close(self) -> None:
        """Ends the emulators' threads."""
        self._game.close()
        self._screen = None


def _scalars(infos: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: value[0].item() for key, value in infos.items()}


def _screen(rom: str, options: Atari) -> _Emulator:
    """Builds a game whose observations are its screen, in color and unscaled."""
    console = ale_py.ALEInterface()
    path = roms.get_rom_path(rom)
    assert path is not None  # for mypy
    console.loadROM(path)
    height, width = console.getScreenDims()
    changes = {"img_height": height, "img_width": width, "grayscale": False}
    return _Emulator(rom, 1, **_arguments(options, **changes))
