"""The DeepMind Control Suite (Tassa et al. 2018, arXiv:1801.00690), from states and from pixels.

``dmc/<domain>-<task>``, such as ``dmc/ball_in_cup-catch``: float32 [n], the task's observations,
flattened in their order. ``dmc-pixels/<domain>-<task>``: uint8 [3, height, width], RGB. Actions:
float32 [m] in [-1, 1], scaled to the bounds of the actuators (lqr has no bounds: not scaled).

Options: `rlssl_envs.options.ControlSuite` and `rlssl_envs.options.ControlSuitePixels`. In a state
environment ``size``, ``camera`` and ``render_quality`` apply to ``render()``. ``render_quality:
fast`` is 40 to 70 times as fast as ``full`` on a CPU: it has no anti-aliasing, shadows or
reflections, and fewer faces on round objects. Floors are brighter if lights that cast shadows light
much of them. The mean difference is 1 of 255 for acrobot, cartpole, cheetah, hopper and
manipulator, 5 to 10 for most others, 10 to 20 for dog, fish and pendulum, and 25 to 35 for
point_mass, reacher and swimmer.

An episode has 1,000 frames: it is truncated, never terminated. ``info["discount"]`` is the suite's
discount: 1, or 0 if a lqr task ends early because it is solved.
"""

import atexit
import ctypes
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from rlssl_envs.options import ControlSuite, ControlSuitePixels

from rlssl.environments import env_options
from rlssl.errors import SpecError, unknown_name

logger = logging.getLogger(__name__)

#: Frames per episode, as the suite counts them.
EPISODE_FRAMES = 1000

#: The tasks of `suite.ALL_TASKS`, whose import takes seconds and fails if MUJOCO_GL is wrong.
TASKS = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": (
        "balance",
        "balance_sparse",
        "swingup",
        "swingup_sparse",
        "two_poles",
        "three_poles",
    ),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}

#: Frames in a stack in the literature; used unless `model.frame_stack` is set.
SUGGESTED_FRAME_STACK = 3

ACTION_REPEAT = {"cartpole-swingup": 8, "finger-spin": 2, "walker-walk": 2}
CAMERA = {"quadruped": 2}
QUALITIES = ("fast", "full")


def state_ids() -> list[str]:
    """Lists the ids of the 51 tasks, from states."""
    return [f"dmc/{name}" for name in _task_names()]


def pixel_ids() -> list[str]:
    """Lists the ids of the 51 tasks, from pixels."""
    return [f"dmc-pixels/{name}" for name in _task_names()]


def _task_names() -> list[str]:
    return [f"{domain}-{task}" for domain, tasks in TASKS.items() for task in tasks]


def make_state(config: Mapping[str, Any]) -> gym.Env:
    """Builds a task with flat states.

    Raises:
        UnknownNameError: There is no such task.
        SpecError: An option is unknown or out of range, or dm_control cannot be imported.
    """
    name = config["id"].removeprefix("dmc/")
    return SuiteEnv(name, **_options(ControlSuite, config, name, state_ids()))


def make_pixels(config: Mapping[str, Any]) -> gym.Env:
    """Builds a task with frames of its camera.

    Raises:
        UnknownNameError: There is no such task.
        SpecError: An option is unknown or out of range, or rendering fails on this machine.
    """
    name = config["id"].removeprefix("dmc-pixels/")
    return PixelSuiteEnv(name, **_options(ControlSuitePixels, config, name, pixel_ids()))


def _options(
    of: type[ControlSuite], config: Mapping[str, Any], name: str, ids: list[str]
) -> dict[str, Any]:
    """Returns the arguments of the environment: the user's options, and the task's defaults."""
    if config["id"] not in ids:
        hint = "`rlssl list envs` shows all 51 tasks."
        raise unknown_name("environment", config["id"], ids, hint)
    options = of(**env_options(config))
    arguments = {**vars(options), "size": options.shape}
    if options.action_repeat is None:
        arguments["action_repeat"] = ACTION_REPEAT.get(name, 4)
    if options.camera is None:
        arguments["camera"] = CAMERA.get(name.partition("-")[0], 0)
    return arguments


class SuiteEnv(gym.Env):
    """A task of the suite whose observations are flat states."""

    def __init__(
        self,
        name: str,
        *,
        action_repeat: int,
        camera: int,
        size: tuple[int, int],
        render_quality: str,
    ) -> None:
        """Loads the task.

        Args:
            name: ``domain-task``.
            action_repeat: See the module.
            camera: See the module.
            size: Height and width, pixels.
            render_quality: See the module.
        """
        domain, _, task = name.partition("-")
        # lqr draws the springs of its model when it is loaded: all copies must be the same task.
        self._env = _suite().load(domain, task, {"random": 0})
        self._env.task.random.seed()
        self.action_repeat = action_repeat
        self.render_mode = "rgb_array"
        fps = 1 / (self._env.control_timestep() * action_repeat)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self._set_spaces()
        self._frames_left = 0

        self._camera_number = _camera_number(camera, self._env.physics)
        self._size = size
        self._fast = render_quality == "fast"
        self._camera: Any = None
        _prepare_rendering(self._env.physics, size, fast=self._fast)
        # The reset of this task uploads the terrain to the renderer.
        self._draws_at_reset = name == "quadruped-escape"

    #: Changes dm_control's scene (called with physics and scene) before it is drawn; None: nothing.
    scene_change: Callable[[Any, Any], None] | None = None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of frames, pixels."""
        return self._size

    @property
    def physics(self) -> Any:
        """dm_control's simulation of the task."""
        return self._env.physics

    def _set_spaces(self) -> None:
        bounds = self._env.action_spec()
        limited = np.abs(bounds.maximum) < 1e10  # MuJoCo uses 1e10 for infinity
        low = np.where(limited, bounds.minimum, -1.0)
        high = np.where(limited, bounds.maximum, 1.0)
        # This spelling is in pickles of earlier versions.
        self._action_centre = (low + high) / 2  # codespell:ignore centre
        self._action_radius = (high - low) / 2
        self.action_space = Box(-1, 1, bounds.shape, np.float32)
        length = sum(int(np.prod(part.shape)) for part in self._env.observation_spec().values())
        self.observation_space = Box(-np.inf, np.inf, (length,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; with a seed, the same episode as dm_control with this seed."""
        super().reset(seed=seed)
        if seed is not None:
            # RandomState takes 32 bits, but gymnasium's seeds may be longer.
            short = seed if seed < 2**32 else int(self.np_random.integers(2**32))
            self._env.task.random.seed(short)
        self._frames_left = EPISODE_FRAMES
        if self._draws_at_reset and self._camera is None:
            self._open_camera()
        info: dict[str, Any] = {}
        return self._observe(self._env.reset().observation, info), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Repeats one action for ``action_repeat`` frames, or until the episode ends.

        Raises:
            gymnasium.error.ResetNeeded: The episode is over.
        """
        if self._frames_left == 0:
            raise gym.error.ResetNeeded("the episode is over, or has not begun: call reset().")
        center = self._action_centre  # codespell:ignore centre
        control = center + self._action_radius * np.asarray(action, np.float64)
        reward = 0.0
        for _ in range(min(self.action_repeat, self._frames_left)):
            frame = self._env.step(control)
            reward += frame.reward
            self._frames_left -= 1
            if frame.last():
                self._frames_left = 0
                break
        info = {"discount": float(frame.discount)}
        observation = self._observe(frame.observation, info)
        return observation, float(reward), False, self._frames_left == 0, info

    def _observe(self, parts: Mapping[str, Any], info: dict[str, Any]) -> np.ndarray:
        """Returns the observation of the current state; may add to ``info``."""
        return _flat(parts)

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Returns the frame, uint8 [height, width, 3].

        Raises:
            SpecError: Rendering fails on this machine.
        """
        if self._camera is None:
            self._open_camera()
        flags = {"shadow": False, "reflection": False} if self._fast else None
        # A copy, because the camera returns a view of its only buffer.
        return self._camera.render(render_flag_overrides=flags).copy()

    def segmentation(self) -> np.ndarray:
        """Number and kind (mujoco's ``mjtObj``) of the object at each pixel, int32 [H, W, 2].

        Both are -1 where there is no object.

        Raises:
            SpecError: Rendering fails on this machine.
        """
        if self._camera is None:
            self._open_camera()
        found: np.ndarray = self._camera.render(segmentation=True)
        return found

    def _change_scene(self, physics: Any, scene: Any) -> None:
        if self.scene_change is not None:
            self.scene_change(physics, scene)

    def _open_camera(self) -> None:
        """Opens the renderer, at the first frame only, because it does not survive a fork.

        The camera is reused; Physics.render would build one for each frame.
        """
        from dm_control.mujoco.engine import Camera
        from mujoco import FatalError
        from OpenGL.error import Error  # type: ignore[import-untyped]

        physics = self.physics
        try:
            self._camera = Camera(
                physics,
                *self._size,
                camera_id=self._camera_number,
                scene_callback=self._change_scene,
            )
        except (RuntimeError, FatalError, Error) as error:
            raise _cannot_render(error) from error

    def close(self) -> None:
        """Frees the renderer and the physics; may be called again."""
        self._frames_left = 0
        self._camera = None
        self.physics.free()


class PixelSuiteEnv(SuiteEnv):
    """A task of the suite whose observations are camera images."""

    def __init__(self, name: str, *, info_state: bool, **options: Any) -> None:
        """Loads the task.

        Args:
            name: ``domain-task``.
            info_state: See the module.
            **options: Options of `SuiteEnv`.
        """
        super().__init__(name, **options)
        self._info_state = info_state
        self.suggested_frame_stack = SUGGESTED_FRAME_STACK
        self.observation_space = Box(0, 255, (3, *self._size), np.uint8)

    def _observe(self, parts: Mapping[str, Any], info: dict[str, Any]) -> np.ndarray:
        if self._info_state:
            info["state"] = _flat(parts)
        return np.ascontiguousarray(self.render().transpose(2, 0, 1))


def _flat(parts: Mapping[str, Any]) -> np.ndarray:
    """Flattens observations to [n], float32; some parts are single numbers."""
    return np.concatenate([np.ravel(part) for part in parts.values()]).astype(np.float32)


def _camera_number(camera: Any, physics: Any) -> int:
    last = physics.model.ncam - 1
    if not isinstance(camera, int) or isinstance(camera, bool) or not -1 <= camera <= last:
        raise SpecError(f"env.camera must be an integer from -1 to {last}; got {camera!r}.")
    return camera


def _prepare_rendering(physics: Any, size: tuple[int, int], *, fast: bool) -> None:
    """Sets the quality settings, which the renderer reads once when it is opened.

    Without a GPU these settings determine almost all of the rendering time.
    """
    buffer = physics.model.ptr.vis.global_
    if not fast:
        buffer.offheight = max(buffer.offheight, size[0])
        buffer.offwidth = max(buffer.offwidth, size[1])
        return
    buffer.offheight, buffer.offwidth = size
    quality = physics.model.ptr.vis.quality
    quality.offsamples = quality.shadowsize = 0
    quality.numslices, quality.numstacks, quality.numquads = 10, 6, 1


@functools.cache
def _suite() -> Any:
    """Imports the suite, which opens the rendering library that MUJOCO_GL names.

    Raises:
        SpecError: MUJOCO_GL names no library, or one that does not work on this machine.
    """
    # Mesa renders with one thread per core, which slows down small images. After a fork (vectorize:
    # async) it would wait for missing threads. It reads this when dm_control is imported.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        from dm_control import suite

        suite.ALL_TASKS  # noqa: B018 - loaded at first use (rlssl.system.lazy_imports)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise _cannot_render(error) from error
    choose_egl_device()
    return suite


def _cannot_render(error: Exception) -> SpecError:
    reason = f"{type(error).__name__}: {error}".removesuffix(".")
    wanted = os.environ.get("MUJOCO_GL", "")
    chosen = getattr(sys.modules.get("dm_control._render"), "BACKEND", None) or "none"
    return SpecError(
        f"dm_control cannot render with MUJOCO_GL={wanted!r} (its renderer: {chosen}): {reason}. "
        "The variable is read once, when dm_control or ray.rllib is first imported: without a "
        "display, set MUJOCO_GL=egl before Python starts, or import rlssl first. EGL needs Mesa or "
        "a GPU's driver (on Debian: apt-get install libegl1 libgl1-mesa-dri). MUJOCO_GL=disabled "
        "works for states, except for quadruped-escape."
    )


#: Attribute of an EGL device: CUDA's index of the GPU (extension EGL_NV_device_cuda).
_EGL_CUDA_DEVICE_NV = 0x323A


def cuda_devices(egl: Any) -> list[int | None]:
    """CUDA's index of each EGL device, in EGL's order; None: the device is not known to CUDA.

    Args:
        egl: The module of EGL's functions that dm_control uses.
    """
    kind = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
    )
    address = ctypes.cast(egl.eglGetProcAddress("eglQueryDeviceAttribEXT"), ctypes.c_void_p).value
    devices = egl.eglQueryDevicesEXT()
    if not address:
        return [None] * len(devices)
    ask = kind(address)
    found: list[int | None] = []
    for device in devices:
        index = ctypes.c_ssize_t()
        pointer = ctypes.cast(device, ctypes.c_void_p)
        knows = ask(pointer, _EGL_CUDA_DEVICE_NV, ctypes.byref(index))
        found.append(index.value if knows else None)
    return found


def egl_device(visible: str, cuda_of: Sequence[int | None], *, process: int) -> int | None:
    """The EGL device on which a process renders; None: the default.

    Args:
        visible: The value of CUDA_VISIBLE_DEVICES; "": no GPU belongs to this process.
        cuda_of: CUDA's index of each EGL device, or None; see `cuda_devices`.
        process: A number that differs between processes, to spread those without a GPU.

    Example:
        >>> egl_device("", [1, 0, None], process=4), egl_device("", [1, 0, None], process=5)
        (0, 1)
        >>> egl_device("1", [1, 0, None], process=4), egl_device("1", [None, 0], process=4)
        (0, 1)
        >>> egl_device("", [None], process=0) is None
        True
    """
    gpus = [egl for egl, cuda in enumerate(cuda_of) if cuda is not None]
    first = visible.partition(",")[0]
    if not first:
        return gpus[process % len(gpus)] if gpus else None
    if not first.isdigit():
        return None
    if not gpus:
        return int(first) if int(first) < len(cuda_of) else None
    # Some drivers number all GPUs of the node; others number the visible ones, from 0.
    numbers_all = len(gpus) > len(visible.split(","))
    wanted = int(first) if numbers_all else 0
    return next((egl for egl in gpus if cuda_of[egl] == wanted), None)


def choose_egl_device() -> None:
    """Lets this process render on the first of its visible GPUs.

    CUDA and EGL number GPUs differently; EGL says which is which. Processes that see no GPU of
    their own, as EnvRunners without one, are spread over the node's GPUs.

    dm_control opened the display on the machine's first GPU when it was imported, so the display is
    opened again. The environment variable is set only during this call, because child processes
    inherit it but have other GPUs. If EGL sees no GPU, or GPUs are named by UUID, the display does
    not change.
    """
    from dm_control import _render

    if _render.BACKEND != "egl" or "MUJOCO_EGL_DEVICE_ID" in os.environ:
        return
    from dm_control._render.pyopengl import egl_renderer

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpu = egl_device(visible, cuda_devices(egl_renderer.EGL), process=os.getpid())
    if gpu is None:
        logger.info("EGL does not see GPU %r; rendering on its first device.", visible)
        return
    os.environ["MUJOCO_EGL_DEVICE_ID"] = str(gpu)
    try:
        display = egl_renderer.create_initialized_headless_egl_display()
    finally:
        del os.environ["MUJOCO_EGL_DEVICE_ID"]
    if display == egl_renderer.EGL.EGL_NO_DISPLAY:
        logger.info("EGL cannot be opened on GPU %s; rendering on its first device.", gpu)
        return
    egl_renderer.EGL_DISPLAY = display
    atexit.register(egl_renderer.EGL.eglTerminate, display)
