"""What changes in dm_control's scene: colors, the view; and where its background is."""

import math
from typing import Any

import numpy as np
from rlssl_envs.pixel_distractors.options import CameraOptions, ColorOptions


class Colors:
    """Shifts the colors of materials, and of objects without a material.

    Colors are not part of the simulation: they do not change states.
    """

    def __init__(self, options: ColorOptions, physics: Any) -> None:
        """Notes the colors of the model, from which each shift starts."""
        self._scale = options.scale
        self._materials = np.array(physics.model.mat_rgba)
        self._geoms = np.array(physics.model.geom_rgba)
        self._bare = np.array(physics.model.geom_matid) < 0

    def start(self, physics: Any, rng: np.random.Generator) -> None:
        """Draws the colors of an episode and sets them in the model."""
        for colors, base, chosen in (
            (physics.model.mat_rgba, self._materials, slice(None)),
            (physics.model.geom_rgba, self._geoms, self._bare),
        ):
            shifts = rng.uniform(-self._scale, self._scale, (len(base), 3))
            # Alpha stays: some objects are invisible.
            colors[chosen, :3] = np.clip(base[:, :3] + shifts, 0.0, 1.0)[chosen]


class CameraChange:
    """Turns the camera around the body, and zooms.

    It changes only the copy of the camera in the scene that is drawn. The model's cameras stay.
    """

    def __init__(self, options: CameraOptions) -> None:
        self._most = math.radians(options.degrees)
        self._most_zoom = options.zoom
        self._angles, self._zoom = np.zeros(3), 1.0

    def start(self, rng: np.random.Generator) -> None:
        """Draws the view of an episode."""
        around, above, roll, zoom = rng.uniform(-1, 1, 4)
        # Never below the usual view, where the floor would hide the body.
        self._angles = self._most * np.array([around, abs(above), roll])
        self._zoom = 1.0 + self._most_zoom * zoom

    def __call__(self, physics: Any, scene: Any) -> None:
        """Changes the cameras of dm_control's scene, before it is drawn."""
        center = np.array(physics.data.subtree_com[0])
        # The cameras of two eyes, which have the same directions.
        left = scene.camera[0]
        forward, up = np.array(left.forward, np.float64), np.array(left.up, np.float64)
        turn = self._turn(forward, up)
        turned_forward, turned_up = turn @ forward, turn @ up
        for camera in scene.camera:
            position = np.array(camera.pos, np.float64)
            # The point on the view's axis that is as far away as the bodies.
            pivot = position + forward * float((center - position) @ forward)
            camera.pos = pivot + turn @ (position - pivot)
            camera.forward, camera.up = turned_forward, turned_up
            for side in ("frustum_bottom", "frustum_top", "frustum_width"):
                setattr(camera, side, getattr(camera, side) * self._zoom)

    def _turn(self, forward: np.ndarray, up: np.ndarray) -> np.ndarray:
        """[3, 3], the rotation of an episode for a camera's directions."""
        around, above, roll = self._angles
        right = np.cross(forward, up)
        return rotation(up, around) @ rotation(right, -above) @ rotation(forward, roll)


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """[3, 3], the rotation by an angle (radians) around a unit vector [3].

    Source:
        Rodrigues' formula.

    Example:
        >>> turned = rotation(np.array([0.0, 0.0, 1.0]), math.pi / 2) @ np.array([1.0, 0.0, 0.0])
        >>> turned.round(6).tolist()
        [0.0, 1.0, 0.0]
    """
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: np.ndarray = np.eye(3) + math.sin(angle) * cross
    turned += (1 - math.cos(angle)) * cross @ cross
    return turned


class Background:
    """Finds the pixels of floor and sky: of planes, height fields, and of nothing."""

    def __init__(self, physics: Any) -> None:
        from mujoco import mjtGeom, mjtObj

        kinds = np.array(physics.model.geom_type)
        floor = (kinds == int(mjtGeom.mjGEOM_PLANE)) | (kinds == int(mjtGeom.mjGEOM_HFIELD))
        # The last entry is for the number -1 of pixels without an object.
        self._is_floor = np.append(floor, True)
        self._geom = int(mjtObj.mjOBJ_GEOM)

    def mask(self, segmentation: np.ndarray) -> np.ndarray:
        """[H, W], bool, from the numbers and the kinds of the objects at each pixel [H, W, 2]."""
        numbers, kinds = segmentation[..., 0], segmentation[..., 1]
        is_geom = kinds == self._geom
        found: np.ndarray = self._is_floor[np.where(is_geom, numbers, -1)]
        return found & (is_geom | (kinds == -1))
