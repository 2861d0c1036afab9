"""Frames of videos: enlarged, with a caption, side by side. It needs Pillow (`rlssl[video]`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlssl.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

Frame = NDArray[np.uint8]

#: The shorter side of a small frame is enlarged to at least this, in pixels.
MIN_SIDE = 240

#: Pixels: height of a line of the caption, size of its letters, and space around it.
_LINE, _LETTERS, _SPACE = 18, 14, 4

_BACKGROUND, _BRIGHT, _DIM = (24, 24, 27), (244, 244, 245), (161, 161, 170)

#: More panels than this have several rows.
_IN_A_ROW = 4


@dataclass(frozen=True)
class Panel:
    """A frame and what is written above it.

    Args:
        frame: [height, width, 3], uint8.
        title: Whose episode it is.
        status: How far it is.
        has_ended: Whether the status is dimmed, because the episode has ended.
    """

    frame: Frame
    title: str
    status: str
    has_ended: bool = False


def enlarged(frame: Frame, min_side: int = MIN_SIDE) -> Frame:
    """Repeats pixels a whole number of times, until the shorter side has ``min_side`` pixels.

    Args:
        frame: [H, W, 3].
        min_side: Pixels; a larger frame stays as it is.

    Returns:
        [k H, k W, 3].

    Example:
        >>> enlarged(np.zeros((10, 12, 3), np.uint8), min_side=25).shape
        (30, 36, 3)
    """
    times = max(1, math.ceil(min_side / min(frame.shape[:2])))
    return frame.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else frame


def even(frame: Frame) -> Frame:
    """Adds a row and a column of background where a side is odd: encoders need even sides.

    Example:
        >>> even(np.zeros((5, 6, 3), np.uint8)).shape
        (6, 6, 3)
    """
    height, width = frame.shape[:2]
    whole = _canvas(height + height % 2, width + width % 2)
    whole[:height, :width] = frame
    return whole


class Layout:
    """Puts panels side by side; every frame of a video has the size of the first one.

    Args:
        panels: The panels of the first frame.

    Raises:
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> panel = Panel(np.zeros((240, 301, 3), np.uint8), "ppo", "return 0")
        >>> Layout([panel]).draw([panel]).shape  # 240 + 2 lines; the width is even
        (284, 302, 3)
    """

    def __init__(self, panels: Sequence[Panel]) -> None:
        self._font = _font()
        shapes = [enlarged(panel.frame).shape for panel in panels]
        self._height, self._width = max(it[0] for it in shapes), max(it[1] for it in shapes)
        count = len(panels)
        self._columns = count if count <= _IN_A_ROW else math.ceil(math.sqrt(count))
        self._rows = math.ceil(count / self._columns)

    def draw(self, panels: Sequence[Panel]) -> Frame:
        """Draws one frame.

        Args:
            panels: As many as in the first frame. A frame that has another size is cut or gets a
                margin.

        Returns:
            [height, width, 3] with even sides.
        """
        caption = 2 * _LINE + 2 * _SPACE
        cell_height, cell_width = caption + self._height, self._width
        gaps = (self._rows - 1) * _SPACE, (self._columns - 1) * _SPACE
        whole = _canvas(self._rows * cell_height + gaps[0], self._columns * cell_width + gaps[1])
        for index, panel in enumerate(panels):
            row, column = divmod(index, self._columns)
            top, left = row * (cell_height + _SPACE), column * (cell_width + _SPACE)
            whole[top : top + caption, left : left + cell_width] = self._caption(panel, caption)
            frame = enlarged(panel.frame)[: self._height, : self._width]
            height, width = frame.shape[:2]
            below, beside = top + caption, left + (cell_width - width) // 2
            whole[below : below + height, beside : beside + width] = frame
        return even(whole)

    def _caption(self, panel: Panel, height: int) -> Frame:
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self._width, height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        lines = (panel.title, _BRIGHT), (panel.status, _DIM if panel.has_ended else _BRIGHT)
        for number, (words, color) in enumerate(lines):
            shown = _fitting(words, self._font, self._width - 2 * _SPACE)
            draw.text((_SPACE, _SPACE + number * _LINE), shown, fill=color, font=self._font)
        return np.asarray(image)


def _fitting(words: str, font: "FreeTypeFont | ImageFont", width: int) -> str:
    """The words, cut to a width in pixels."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(f"{words}...") > width:
        words = words[:-1]
    return f"{words}..."


def _canvas(height: int, width: int) -> Frame:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def _font() -> "FreeTypeFont | ImageFont":
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise MissingExtraError(
            "videos need Pillow, which is not installed; pip install 'rlssl[video]'."
        ) from error
    return ImageFont.load_default(_LETTERS)
