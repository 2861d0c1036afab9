"""Clips of the user's files: videos and images of a folder.

A folder with the folders ``train`` and ``eval`` says itself which files are for training. Otherwise
files are sorted by name, and every fourth one is for evaluation, or the last one of fewer than
four. So evaluation shows other clips than training. Files that are neither videos nor images are
ignored.

The files are cropped to the shape of the frame and scaled to its size. Of a video, the first 1,000
frames are used. A process keeps them in memory: 21 kB a frame of 84 x 84 pixels. Each episode shows
a random clip from a random frame on, one frame an agent step, and begins it again at its end.
"""

import functools
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rlssl_envs.pixel_distractors.options import VideoOptions

from rlssl.errors import MissingExtraError, SpecError

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
VIDEOS = frozenset({".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"})

#: Frames of a video that are used at most.
MAX_FRAMES = 1000

#: Of so many files, one is for evaluation.
_EVAL_EVERY = 4


class Clips:
    """The clips of a folder, one of which runs."""

    def __init__(self, options: VideoOptions, size: tuple[int, int], split: str) -> None:
        """Lists the files; they are read when they are first shown.

        Args:
            options: The folder.
            size: Height and width of the frames, pixels.
            split: "train" or "eval".

        Raises:
            SpecError: If the folder does not have files for training and for evaluation.
            MissingExtraError: If the package that decodes them is missing.
        """
        self._files = files_of(options.folder, split)
        self._size, self._gray = size, options.gray
        for file in self._files:
            _decoders(file)

    def start(self, rng: np.random.Generator) -> None:
        """Draws a clip and the frame from which it runs."""
        self._clip = read(self._files[rng.integers(len(self._files))], self._size, self._gray)
        self._now = int(rng.integers(len(self._clip)))

    def step(self) -> None:
        """Goes to the next frame."""
        self._now = (self._now + 1) % len(self._clip)

    def frame(self) -> np.ndarray:
        """[3, H, W], uint8; not to be written to."""
        shown: np.ndarray = self._clip[self._now]
        return shown

    def __getstate__(self) -> dict[str, Any]:
        """Without the frames, which are read from the files again."""
        state = dict(self.__dict__)
        clip = state.pop("_clip", None)
        if clip is not None:
            state["_running"] = next(
                file for file in self._files if read(file, self._size, self._gray) is clip
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores what ``__getstate__`` gave."""
        running = state.pop("_running", None)
        self.__dict__.update(state)
        if running is not None:
            self._clip = read(running, self._size, self._gray)


def files_of(folder: str, split: str) -> list[Path]:
    """The files of a folder that are for training or for evaluation, sorted by name.

    Raises:
        SpecError: If there is no such folder, or it does not have files for both.
    """
    where = Path(folder).expanduser()
    if not where.is_dir():
        raise SpecError(f"env.distractors.video.folder must be a folder; there is no {folder!r}.")
    if (where / "train").is_dir() and (where / "eval").is_dir():
        found = _listed(where / split)
        if not found:
            raise SpecError(f"env.distractors.video: {str(where / split)!r} has {_nothing()}.")
        return found
    found = _listed(where)
    if len(found) < 2:
        raise SpecError(
            f"env.distractors.video needs two files or more, because evaluation shows other clips "
            f"than training; {folder!r} has {len(found) or _nothing()}."
        )
    chosen = found[_EVAL_EVERY - 1 :: _EVAL_EVERY] or found[-1:]
    return chosen if split == "eval" else [file for file in found if file not in chosen]


@functools.lru_cache(maxsize=64)
def read(file: Path, size: tuple[int, int], gray: bool) -> np.ndarray:
    """Reads a file: [T, 3, height, width], uint8. T is 1 for an image.

    Raises:
        MissingExtraError: If the package that decodes it is missing.
        SpecError: If the file cannot be read.
    """
    image, iterate = _decoders(file)
    try:
        pictures = islice(iterate(file), MAX_FRAMES)
        frames = [_fitted(image, picture, size, gray) for picture in pictures]
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:
        # ffmpeg's messages have many lines.
        reason, *_ = [*str(error).splitlines(), type(error).__name__]
        raise SpecError(
            f"env.distractors.video: {str(file)!r} cannot be read: {reason}. Remove the file, or "
            "convert it."
        ) from error
    if not frames:
        raise SpecError(f"env.distractors.video: {str(file)!r} has no frames; remove the file.")
    return np.stack(frames)


def _fitted(image: Any, picture: Any, size: tuple[int, int], gray: bool) -> np.ndarray:
    """[3, height, width], uint8, of a picture of Pillow: cropped in the middle and scaled."""
    from PIL import ImageOps

    fitted = ImageOps.fit(picture.convert("L" if gray else "RGB"), (size[1], size[0]))
    return np.ascontiguousarray(np.asarray(fitted.convert("RGB"), np.uint8).transpose(2, 0, 1))


def _decoders(file: Path) -> tuple[Any, Any]:
    """Pillow's Image, and a function from a file to its pictures."""
    try:
        from PIL import Image, ImageSequence
    except ImportError as error:
        raise _missing("Pillow", file) from error

    def stills(path: Path) -> Iterable[Any]:
        with Image.open(path) as opened:
            yield from ImageSequence.Iterator(opened)

    if file.suffix.lower() in IMAGES | {".gif"}:
        return Image, stills
    try:
        import imageio.v3 as imageio
    except ImportError as error:
        raise _missing("imageio", file) from error

    def pictures(path: Path) -> Iterable[Any]:
        return map(Image.fromarray, imageio.imiter(path))

    return Image, pictures


def _missing(package: str, file: Path) -> MissingExtraError:
    return MissingExtraError(
        f"env.distractors.video: {file.name!r} is decoded by {package}, which is not installed; "
        "pip install 'rlssl[video]'."
    )


def _listed(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES | VIDEOS)


def _nothing() -> str:
    names: Sequence[str] = sorted(IMAGES | VIDEOS)
    return f"no file that ends in {', '.join(names)}"
