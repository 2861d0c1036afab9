"""Frames side by side with captions."""

import numpy as np
import pytest

from rlssl.video.frames import Frame, Layout, Panel, enlarged, even

#: 2 lines of 18 pixels and 2 x 4 pixels of space.
CAPTION = 44


def plain(height: int, width: int, value: int = 200) -> Frame:
    return np.full((height, width, 3), value, np.uint8)


def test_small_frames_are_enlarged_without_a_blur() -> None:
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    big = enlarged(frame, min_side=5)  # ceil(5 / 2) = 3 times
    assert big.shape == (6, 9, 3)
    assert (big[::3, ::3] == frame).all() and (big[2::3, 2::3] == frame).all()
    assert enlarged(plain(400, 600)).shape == (400, 600, 3)


def test_odd_sides_get_a_margin_and_keep_their_pixels() -> None:
    found = even(plain(3, 5))
    assert found.shape == (4, 6, 3)
    assert (found[:3, :5] == 200).all() and (found[3] != 200).any()


def test_the_frame_is_below_the_caption_and_not_covered() -> None:
    panel = Panel(plain(250, 301), "ppo", "return 1")
    drawn = Layout([panel]).draw([panel])
    assert drawn.shape == (CAPTION + 250, 302, 3)
    assert (drawn[CAPTION:, :301] == 200).all()
    assert drawn[:CAPTION].std() > 0  # words


def test_words_change_the_picture_and_too_many_are_cut() -> None:
    panels = [Panel(plain(250, 300), "ppo", f"return {score}") for score in (1, 2)]
    layout = Layout(panels[:1])
    first, second = (layout.draw([panel]) for panel in panels)
    assert (first != second).any()
    long = layout.draw([Panel(plain(250, 300), "p" * 500, "")])
    assert long.shape == first.shape
    assert (long[:CAPTION, -4:] == long[0, -1]).all()  # nothing is written into the margin


def test_frames_of_different_sizes_do_not_overlap() -> None:
    panels = [Panel(plain(300, 400, 100), "a", ""), Panel(plain(250, 260, 200), "b", "")]
    drawn = Layout(panels).draw(panels)
    assert drawn.shape == (CAPTION + 300, 400 + 4 + 400, 3)
    assert (drawn[CAPTION:, :400] == 100).all()
    # In the middle of its cell: (400 - 260) / 2 = 70 pixels on each side.
    assert (drawn[CAPTION : CAPTION + 250, 404 + 70 : 404 + 330] == 200).all()
    assert not (drawn[CAPTION:, 404 : 404 + 70] == 200).any()


@pytest.mark.parametrize(("count", "rows", "columns"), [(4, 1, 4), (5, 2, 3), (9, 3, 3)])
def test_many_panels_have_several_rows(count: int, rows: int, columns: int) -> None:
    panels = [Panel(plain(240, 240), str(index), "") for index in range(count)]
    drawn = Layout(panels).draw(panels)
    height, width = rows * (CAPTION + 240) + (rows - 1) * 4, columns * 240 + (columns - 1) * 4
    assert drawn.shape == (height, width, 3)


def test_a_frame_that_grows_does_not_change_the_size_of_the_video() -> None:
    layout = Layout([Panel(plain(250, 300), "", "")])
    for size in ((300, 400), (249, 280)):
        assert layout.draw([Panel(plain(*size), "", "")]).shape == (CAPTION + 250, 300, 3)
