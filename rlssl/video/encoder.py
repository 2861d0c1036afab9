"""Writes frames into an mp4 file or a GIF, one by one. It needs ffmpeg (`rlssl[video]`)."""

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlssl.errors import MissingExtraError, ResourceError, SpecError
from rlssl.video.frames import Frame

#: Most frames a second of a GIF: browsers slow down faster ones.
_GIF_FPS = 25.0

#: mp4 for every browser: H.264 with 4:2:0 colors, and its index at the beginning of the file.
_MP4: dict[str, Any] = {
    "codec": "libx264",
    "pix_fmt_out": "yuv420p",
    "quality": 8,
    "output_params": ["-movflags", "+faststart", "-preset", "veryfast", "-threads", "1"],
}

#: A palette for each frame, so that ffmpeg need not keep all frames until it knows the palette.
_GIF_FILTER = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"

SUFFIXES = (".mp4", ".gif")


class VideoFile:
    """An open video.

    Args:
        path: The file that is written.
        fps: Frames a second.
        name: The file, for messages.
    """

    def __init__(self, path: Path, fps: float, name: str) -> None:
        self._path, self._fps, self._name = path, fps, name
        # imageio-ffmpeg's writer, which must know the size of the frames.
        self._writer: Generator[None, Any, None] | None = None
        self._shape: tuple[int, ...] = ()

    def append(self, frame: Frame) -> None:
        """Encodes one frame.

        Args:
            frame: [height, width, 3], as large as the first one, with even sides.

        Raises:
            ResourceError: If ffmpeg ends, for example because the disk is full.
            ValueError: If the frame has another size.
        """
        if self._writer is None:
            self._shape = frame.shape
            self._writer = _writer(self._path, frame.shape, self._fps)
            with _ffmpeg_errors(self._name):
                next(self._writer)
        if frame.shape != self._shape:
            raise ValueError(f"a frame must be {self._shape}, as the first one; got {frame.shape}.")
        with _ffmpeg_errors(self._name):
            self._writer.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        """Ends the file; raises the errors of ``append``."""
        if self._writer is not None:
            with _ffmpeg_errors(self._name):
                self._writer.close()


@contextlib.contextmanager
def video_file(path: Path, fps: float) -> Iterator[VideoFile]:
    """Opens a video; at the end of the context, the file is complete.

    Until then, the frames are in a temporary file beside it. If an error or Ctrl-C ends the
    context, that file is deleted, and an earlier video of the same name stays.

    Args:
        path: The file, which ends in .mp4 or .gif.
        fps: Frames a second; > 0. A GIF shows at most 25 of them.

    Raises:
        SpecError: If the file has another ending.
        MissingExtraError: If imageio-ffmpeg is not installed.
        ResourceError: If the file cannot be written, or there is no ffmpeg.

    Example:
        >>> with video_file(Path("video.avi"), 30.0) as video:
        ...     pass
        Traceback (most recent call last):
        rlssl.errors.SpecError: video.avi: a video ends in .mp4 or .gif.
    """
    check_suffix(path)
    require_encoder()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.touch()  # the reason in words, before a frame is encoded: ffmpeg's may be lost
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}.") from error
    try:
        video = VideoFile(temporary, fps, str(path))
        try:
            yield video
        except BaseException:
            with contextlib.suppress(ResourceError):
                video.close()
            raise
        video.close()
        if not temporary.is_file() or not temporary.stat().st_size:
            raise ResourceError(f"ffmpeg wrote nothing into {path}.")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_suffix(path: Path) -> None:
    """Raises a SpecError unless a file ends as a video does."""
    if path.suffix not in SUFFIXES:
        raise SpecError(f"{path}: a video ends in {' or '.join(SUFFIXES)}.")


def require_encoder() -> None:
    """Raises unless videos can be written.

    Raises:
        MissingExtraError: If imageio-ffmpeg is not installed.
        ResourceError: If there is no ffmpeg.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtraError(
            f"videos need imageio-ffmpeg ({error}); pip install 'rlssl[video]'."
        ) from error
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ResourceError(
            "there is no ffmpeg on this machine; install it, or set IMAGEIO_FFMPEG_EXE to its path."
        ) from error
    if not os.access(program, os.X_OK):
        raise ResourceError(
            f"IMAGEIO_FFMPEG_EXE is {program}, which is no program; set it to the path of ffmpeg."
        )


def _writer(path: Path, shape: tuple[int, ...], fps: float) -> Generator[None, Any, None]:
    import imageio_ffmpeg

    options = _MP4
    if path.suffix == ".gif":
        shown = f"fps={min(fps, _GIF_FPS):g},{_GIF_FILTER}"
        options = {"codec": "gif", "pix_fmt_out": "pal8", "output_params": ["-vf", shown]}
    writer: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
        str(path),
        (shape[1], shape[0]),
        fps=fps,
        macro_block_size=1,  # the frames have even sides already
        ffmpeg_log_level="error",
        **options,
    )
    return writer


@contextlib.contextmanager
def _ffmpeg_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise ResourceError(f"ffmpeg cannot write {name}: {reason}") from error
