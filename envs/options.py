"""The options of the environments, ``env: {id: atari/Pong, img_size: 42}``.

This module imports no suite, so that options are checked, and listed by editors, without the
suites.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from rlssl.errors import SpecError


def _require(fits: bool, name: str, wanted: str, value: Any) -> None:
    if not fits:
        raise SpecError(f"env.{name} must be {wanted}; got {value!r}.")


def _is_integer(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_number(value: Any, low: float, high: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and low <= value <= high


def _require_counts(options: Any, **least: int) -> None:
    for name, low in least.items():
        value = getattr(options, name)
        _require(_is_integer(value, low), name, f"a whole number >= {low}", value)


def _require_booleans(options: Any) -> None:
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(field.default, bool):
            _require(isinstance(value, bool), field.name, "true or false", value)


def _require_size(value: Any, name: str) -> None:
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    fits = len(sides) == 2 and all(_is_integer(side, 1) for side in sides)
    _require(fits, name, "a whole number >= 1, or two of them, [height, width]", value)


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = [size, size] if isinstance(size, int) else size
    return height, width


@dataclass(frozen=True)
class MiniGrid:
    """Options of ``MiniGrid-*`` and ``BabyAI-*``."""

    # All other options go to `gymnasium.make`: max_steps, agent_view_size, size, ...
    takes_others: ClassVar[bool] = True

    # One-hot planes of the agent's partial view, uint8 [20, 7, 7]; `flat`: the same planes as a
    # vector, uint8 [980]; `pixels`: the RGB view, uint8 [3, 56, 56].
    observation: Literal["grid", "flat", "pixels"] = "grid"
    # Pixels per cell; >= 1; for `pixels` only; None: 8.
    tile_size: int | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        if self.tile_size is None:
            return
        if self.observation != "pixels":
            raise SpecError(
                f"env.tile_size needs observation: pixels; got observation: {self.observation!r}."
            )
        _require_counts(self, tile_size=1)


@dataclass(frozen=True)
class ControlSuite:
    """Options of ``dmc/*``."""

    # Frames per agent step; >= 1; rewards are summed. None: 8 for cartpole-swingup, 2 for
    # finger-spin and walker-walk, else 4 (CURL's table 3).
    action_repeat: int | None = None
    # Number of the model's camera; -1 is the free camera; None: 2 for quadruped, else 0 (DrQ's
    # code).
    camera: int | None = None
    # Pixels of a frame: one number, or [height, width]; >= 1.
    size: int | Sequence[int] = 84
    # How frames are rendered; `full` is dm_control's rendering.
    render_quality: Literal["fast", "full"] = "fast"

    def __post_init__(self) -> None:
        """Checks the options; the camera is checked when the model is known."""
        if self.action_repeat is not None:
            _require_counts(self, action_repeat=1)
        _require_size(self.size, "size")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        return _height_and_width(self.size)


@dataclass(frozen=True)
class ControlSuitePixels(ControlSuite):
    """Options of ``dmc-pixels/*``."""

    # Whether `info["state"]` is the observation of the state environment.
    info_state: bool = False

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        _require_booleans(self)


@dataclass(frozen=True)
class MinAtar:
    """Options of ``minatar/*``."""

    # Probability that the last action is repeated instead; in [0, 1].
    sticky_action_prob: float = 0.1
    # Whether the game gets harder over time.
    difficulty_ramping: bool = True
    # Only the actions that have an effect in the game; false: all six.
    minimal_action_set: bool = True
    # Agent steps after which an episode is truncated; >= 1. None: never, as in MinAtar.
    max_episode_steps: int | None = 5000

    def __post_init__(self) -> None:
        """Checks the options."""
        _require_booleans(self)
        chance = self.sticky_action_prob
        _require(_is_number(chance, 0, 1), "sticky_action_prob", "in [0, 1]", chance)
        limit = self.max_episode_steps
        fits = limit is None or _is_integer(limit, 1)
        _require(fits, "max_episode_steps", "a whole number >= 1, or null", limit)


@dataclass(frozen=True)
class Atari:
    """Options of ``atari/*``."""

    # Pixels of a frame: one number, or [height, width]; >= 1.
    img_size: int | Sequence[int] = 84
    # Gray frames, uint8 [1, height, width]; false: RGB, uint8 [3, height, width].
    grayscale: bool = True
    # Frames for which an action is repeated; >= 1.
    frame_skip: int = 4
    # An observation is the maximum of the last two frames, against flicker.
    max_pool: bool = True
    # After a reset, a random number of no-ops below this is played; >= 0.
    noop_max: int = 30
    # Probability in each frame that the previous action is repeated instead; in [0, 1]. Machado et
    # al. (2018, arXiv:1709.06009) recommend 0.25.
    sticky_actions: float = 0.0
    # All 18 actions instead of those that have an effect.
    full_action_space: bool = False
    # FIRE is pressed after every reset, if the game has it.
    use_fire_reset: bool = False
    # In training, a lost life is a soft termination.
    life_loss_terminal: bool = True
    # In training, the Learner gets rewards clipped to [-1, 1].
    clip_rewards: bool = True
    # Frames after which a game is truncated, without no-ops; >= 1; 108,000 are 30 minutes.
    max_frames: int = 108_000
    # Threads of one vector environment; >= 1.
    num_threads: int = 1
    # `rgb_array` or null; single games only.
    render_mode: Literal["rgb_array"] | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        _require_booleans(self)
        _require_counts(self, frame_skip=1, noop_max=0, max_frames=1, num_threads=1)
        _require_size(self.img_size, "img_size")
        chance, wanted = self.sticky_actions, "a probability in [0, 1], such as 0.25"
        _require(_is_number(chance, 0, 1), "sticky_actions", wanted, chance)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an observation, in pixels."""
        return _height_and_width(self.img_size)


@dataclass(frozen=True)
class ViZDoom:
    """Options of ``vizdoom/*``."""

    # Where an episode begins: at any of 17 points; `sparse`: in a dead end about 110 agent steps
    # from the vest; `very_sparse`: in one about 150 agent steps from it.
    start: Literal["dense", "sparse", "very_sparse"] = "dense"
    # Frames per action; >= 1.
    action_repeat: int = 4
    # Height and width in pixels; >= 1.
    size: int = 42

    def __post_init__(self) -> None:
        """Checks the options."""
        _require_counts(self, action_repeat=1, size=1)


@dataclass(frozen=True)
class Robotics:
    """Options of ``robotics/*``."""

    # All other options go to `gymnasium.make`: width, height, ...
    takes_others: ClassVar[bool] = True

    # Agent steps until an episode is truncated; >= 1; None: 50, in mazes 300 to 1,000.
    max_episode_steps: int | None = None
    # `sparse` or `dense`; None: by the id.
    reward_type: Literal["sparse", "dense"] | None = None
    # Mazes: whether an episode goes on when the goal is reached; None: true.
    continuing_task: bool | None = None
    # Mazes: whether a goal that is reached is replaced by a new one; None: false.
    reset_target: bool | None = None


@dataclass(frozen=True)
class BitFlipping:
    """Options of ``goals/bit-flipping``."""

    # Bits of the state, and agent steps of an episode; >= 2.
    num_bits: int = 15
    # Whether the episode ends when the goal is reached. Otherwise it goes on, as in the published
    # code of hindsight.
    terminates: bool = True

    def __post_init__(self) -> None:
        """Checks the options."""
        _require_booleans(self)
        _require_counts(self, num_bits=2)


@dataclass(frozen=True)
class Memory:
    """Options of ``memory/*``."""

    # Number of different cues; >= 2.
    num_cues: int = 4
    # Agent steps between the cue and the signal; >= 1. An episode has one step more.
    delay: int = 10
    # Numbers without meaning in every observation; >= 0.
    num_distractors: int = 0

    def __post_init__(self) -> None:
        """Checks the options."""
        _require_counts(self, num_cues=2, delay=1, num_distractors=0)


@dataclass(frozen=True)
class Faulty:
    """Options of ``faulty/*``."""

    # All other options go to the environment whose id follows the prefix.
    takes_others: ClassVar[bool] = True

    # Probability of this fault in one call; in [0, 1].
    crash_in_reset: float = 0.0
    crash_in_step: float = 0.0
    stall: float = 0.0
    wrong_shape: float = 0.0
    wrong_dtype: float = 0.0
    nan_observation: float = 0.0
    nan_reward: float = 0.0
    huge_reward: float = 0.0
    # Seconds that `stall` sleeps; >= 0.
    stall_s: float = 3600.0
    # First steps of each copy without faults; >= 0. With 3 or more the preflight passes.
    after: int = 0
    # Seed of the faults, together with the seed of the reset; >= 0.
    fault_seed: int = 0
