"""Files that ffmpeg wrote, read back."""

import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from rlssl.errors import MissingExtraError, ResourceError, SpecError
from rlssl.video.encoder import video_file
from rlssl.video.frames import Frame, even


def bars(step: int, height: int = 64, width: int = 96) -> Frame:
    """A frame with a red left and a blue right half, and a white bar that moves."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, : width // 2, 0] = frame[:, width // 2 :, 2] = 255
    frame[:8, 8 * step : 8 * step + 8] = 255
    return frame


def write(path: Path, frames: list[Frame], fps: float = 25.0) -> None:
    with video_file(path, fps) as video:
        for frame in frames:
            video.append(frame)


def test_every_frame_is_in_the_file_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "a.mp4"
    write(path, [bars(step) for step in range(10)])
    found = iio.imread(path)
    assert found.shape == (10, 64, 96, 3)
    for step, frame in enumerate(found):
        white = frame[:8].min(axis=2).mean(axis=0)
        assert white[8 * step + 2 : 8 * step + 6].min() > 180
    assert [one.name for one in path.parent.iterdir()] == ["a.mp4"]


def test_colors_stay_where_they_are_also_of_frames_that_are_views(tmp_path: Path) -> None:
    # wandb's issue 4695: stripes instead of the frames.
    odd = np.ascontiguousarray(bars(0, 63, 95).transpose(2, 0, 1)).transpose(1, 2, 0)
    assert not odd.flags.c_contiguous
    path = tmp_path / "a.mp4"
    write(path, [even(odd)[:, ::1]] * 3)
    (frame, *_) = iio.imread(path)
    assert frame.shape == (64, 96, 3)
    left, right = frame[20:60, 4:40].mean((0, 1)), frame[20:60, 56:90].mean((0, 1))
    assert np.abs(left - [255, 0, 0]).max() < 12 and np.abs(right - [0, 0, 255]).max() < 12


def test_browsers_can_play_it(tmp_path: Path) -> None:
    # OpenAI Gym's issue 2412: videos with 4:4:4 colors, which no browser plays.
    path = tmp_path / "a.mp4"
    write(path, [bars(step) for step in range(3)], fps=12.5)
    found = iio.immeta(path, plugin="FFMPEG")
    assert (found["codec"], found["fps"]) == ("h264", 12.5)
    assert found["pix_fmt"].startswith("yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


@pytest.mark.parametrize(("fps", "shown", "frames"), [(50.0, 40, 20), (10.0, 100, 40)])
def test_a_gif_lasts_as_long_as_the_video(
    tmp_path: Path, fps: float, shown: int, frames: int
) -> None:
    path = tmp_path / "a.gif"
    write(path, [bars(step % 10) for step in range(40)], fps)
    found = iio.imread(path)
    assert found.shape == (frames, 64, 96, 3)
    assert iio.immeta(path)["duration"] == shown  # milliseconds a frame
    assert np.abs(found[0][40, 10].astype(int) - [255, 0, 0]).max() < 12
    assert (found[0] != found[-1]).any()


def test_an_error_leaves_no_file_and_the_earlier_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, [bars(0)] * 2)
    before = path.read_bytes()
    for error in (ValueError("an environment"), KeyboardInterrupt()):
        with pytest.raises(type(error)), video_file(path, 25.0) as video:
            video.append(bars(1))
            raise error
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"a frame must be \(64, 96, 3\)"),
        video_file(tmp_path / "a.mp4", 25.0) as video,
    ):
        video.append(bars(0))
        video.append(bars(0, 32))
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_an_error_not_an_empty_file(tmp_path: Path) -> None:
    # Stable-Baselines3's issue 317: a file of 262 bytes.
    with pytest.raises(ResourceError, match="wrote nothing"), video_file(tmp_path / "a.mp4", 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.avi", "a", "mp4"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"ends in \.mp4 or \.gif"), video_file(tmp_path / name, 1):
        pass


def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'rlssl\[video\]'"),
        video_file(tmp_path / "a.mp4", 25.0),
    ):
        pass


@pytest.mark.parametrize(
    ("program", "expected"),
    [("/nowhere/ffmpeg", "which is no program"), ("/bin/false", "ffmpeg cannot write")],
)
def test_an_ffmpeg_that_does_not_work_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, expected: str
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
    with pytest.raises(ResourceError, match=expected):
        write(tmp_path / "a.mp4", [bars(step % 10, 480, 640) for step in range(30)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), video_file(tmp_path / "file" / "a.mp4", 25.0):
        pass


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    import resource

    def most() -> Any:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

    frame = np.zeros((400, 600, 3), np.uint8)
    with video_file(tmp_path / "a.mp4", 50.0) as video:
        for _ in range(20):
            video.append(frame)
        before = most()
        for _ in range(300):  # 216 MB of frames
            video.append(frame.copy())
        assert most() - before < 50_000
