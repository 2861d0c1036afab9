"""Learning curves: numbers calculated by hand, and the plot."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlssl.analysis import plot_learning_curves, read_sweep, read_trial
from rlssl.analysis.curves import learning_curve, learning_curves_figure, running_mean_return
from rlssl.analysis.results import Episodes

WriteTrial = Callable[..., Path]


def episodes(env_steps: list[float], returns: list[float]) -> Episodes:
    unknown = np.full(len(returns), np.nan)
    return Episodes(np.array(env_steps, float), np.array(returns, float), unknown, unknown)


def test_one_huge_return_leaves_later_means_as_they_are() -> None:
    many = episodes([*range(1, 62)], [1e17, *[1.0] * 60])
    means = running_mean_return(many, window=20)[1]
    # The last 20 returns are all 1 from the 21st episode on.
    assert means[1] == (1e17 + 1.0) / 2 and (means[20:] == 1.0).all()


def test_running_mean_averages_all_episodes_until_the_window_is_full() -> None:
    env_steps, returns = running_mean_return(episodes([1, 2, 3, 4], [1, 3, 8, 10]), window=2)
    assert env_steps.tolist() == [1, 2, 3, 4]
    assert returns.tolist() == [1.0, 2.0, 5.5, 9.0]  # 1, (1+3)/2, (3+8)/2, (8+10)/2


def test_rows_out_of_order_are_sorted_and_one_env_step_gives_one_point() -> None:
    env_steps, returns = running_mean_return(episodes([20, 10, 20], [9, 0, 3]), window=20)
    assert env_steps.tolist() == [10, 20]
    assert returns.tolist() == [0.0, 4.0]  # 0, (0 + 9 + 3) / 3


def test_curve_is_the_mean_over_seeds_in_the_range_that_they_share(
    write_trial: WriteTrial,
) -> None:
    # Seed 0: 0 at step 0, 10 at step 100. Seed 1: 2 from step 50 to step 200.
    # Common: 50 .. 100. Seed 0 there: 5, 7.5, 10 (lines between its points); seed 1: 2, 2, 2;
    # seed 2, the mean of both: 3.5, 4.75, 6.
    trials = [
        read_trial(write_trial("a", seed=0, env_steps=[0, 100], returns=[0, 10])),
        read_trial(write_trial("b", seed=1, env_steps=[50, 200], returns=[2, 2])),
        read_trial(write_trial("c", seed=2, env_steps=[50, 100], returns=[3.5, 6])),
    ]
    curve = learning_curve(trials, window=1, num_points=3)
    assert curve is not None and curve.low is not None and curve.high is not None
    assert curve.env_steps.tolist() == [50, 75, 100]
    assert curve.mean.tolist() == [3.5, 4.75, 6.0]
    # Three seeds, (5, 2, 3.5), (7.5, 2, 4.75), (10, 2, 6): their standard deviations are 1.5, 2.75
    # and 4. Half width = t(0.975, 2) * std / sqrt(3) = 4.302653 / 1.732051 * std.
    expected = 4.302653 / 1.732051 * np.array([1.5, 2.75, 4])
    assert curve.high - curve.mean == pytest.approx(expected, rel=1e-5)
    assert curve.mean - curve.low == pytest.approx(curve.high - curve.mean)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_one_or_two_seeds_have_a_curve_without_an_interval(
    write_trial: WriteTrial, num_seeds: int
) -> None:
    trials = [read_trial(write_trial(str(seed), returns=[1, 2])) for seed in range(num_seeds)]
    curve = learning_curve(trials)
    assert curve is not None
    assert curve.low is None and curve.high is None


def test_curve_of_returns_of_0_or_1_has_wilsons_interval(write_trial: WriteTrial) -> None:
    trials = [read_trial(write_trial(str(seed), returns=[0, 1])) for seed in range(3)]
    curve = learning_curve(trials, window=1, num_points=2)
    assert curve is not None and curve.low is not None and curve.high is not None
    # Shares 0 and 1 of three seeds: z^2 / n = 3.841459 / 3; 1 / (1 + 1.280486) = 0.438503.
    assert curve.low == pytest.approx([0, 0.438503], abs=1e-6)
    assert curve.high == pytest.approx([1 - 0.438503, 1], abs=1e-6)


@pytest.mark.parametrize(
    "num_seeds, words",
    [
        (2, "mean over seeds; thin: each seed"),
        (3, "mean over seeds; band: 95% t interval; thin: each seed"),
    ],
)
def test_the_picture_of_two_seeds_shows_each_run_and_no_band(
    write_trial: WriteTrial, num_seeds: int, words: str
) -> None:
    pytest.importorskip("matplotlib.figure")
    for seed in range(num_seeds):
        folder = write_trial(f"a{seed}", seed=seed, label="ppo", returns=[1, 2 + seed])
    (axes,) = learning_curves_figure(read_sweep(folder.parent)).axes
    assert len(axes.collections) == (num_seeds == 3)  # bands
    assert len(axes.lines) == 1 + num_seeds  # the mean and each seed
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == words
    assert legend.get_texts()[0].get_text() == f"ppo ({num_seeds} seeds)"


def test_legend_says_what_the_table_says_about_a_variant(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    pytest.importorskip("matplotlib.figure")
    sweep = write_run([{"x": 0}, {"x": 1}], seeds=[0, 1, 2], stopped={1: 500})
    for seed in range(3):
        ended = [{"env_steps": 900, "done": seed < 2}]
        write_trial(f"a{seed}", point={"x": 0}, seed=seed, returns=[1, seed], results=ended)
        write_trial(f"b{seed}", point={"x": 1}, seed=seed, returns=[1, seed])
    (axes,) = learning_curves_figure(read_sweep(sweep)).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "x=0 (2 of 3 seeds)",
        "x=1 (3 seeds, stopped at 500)",
    ]
    assert len(axes.lines) == (1 + 2) + (1 + 3)  # the failed seed has no line


def test_band_of_returns_that_stay_in_0_1_stays_there_too(write_trial: WriteTrial) -> None:
    for seed, score in enumerate([0.9, 0.9, 0.0]):
        known = [float(score > 0)] * 2
        folder = write_trial(str(seed), seed=seed, returns=[score] * 2, successes=known)
    curve = learning_curve(read_sweep(folder.parent))
    assert curve is not None and curve.low is not None and curve.high is not None
    assert (curve.low.min(), curve.high.max()) == (0.0, 1.0)


def test_seeds_without_common_env_steps_have_no_curve(write_trial: WriteTrial) -> None:
    early = read_trial(write_trial("a", env_steps=[1, 2], returns=[0, 0]))
    late = read_trial(write_trial("b", env_steps=[3, 4], returns=[0, 0]))
    silent = read_trial(write_trial("c"))
    assert learning_curve([early, late]) is None
    assert learning_curve([early, silent]) is None


def test_plot_is_a_png_at_an_absolute_path(
    write_trial: WriteTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        write_trial(f"a{seed}", seed=seed, label="ppo", point={"x": 0}, returns=[1, 2 + seed])
        folder = write_trial(f"b{seed}", seed=seed, label="ppo + icm", point={"x": 1}, returns=[3])
    monkeypatch.chdir(tmp_path)
    path = plot_learning_curves(read_sweep(folder.parent), "curves.png")
    assert path == tmp_path / "curves.png"
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (1200, 750)  # 8 x 5 inches at 150 dots per inch


def test_plot_names_its_axes_and_its_variants(write_trial: WriteTrial) -> None:
    pytest.importorskip("matplotlib.figure")
    for seed in range(2):
        write_trial(f"a{seed}", seed=seed, label="ppo", point={"x": 0}, returns=[1, 2 + seed])
        folder = write_trial(f"b{seed}", seed=seed, label="never", point={"x": 1})
    (axes,) = learning_curves_figure(read_sweep(folder.parent)).axes
    assert axes.get_title(loc="left") == "ppo on CartPole-v1, 2 seeds"
    assert axes.get_xlabel() == "env steps"
    assert axes.get_ylabel() == "return (mean of 20 episodes)"
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["ppo (2 seeds)", "never (2 seeds, too few finished episodes)"]
    # The seeds cover 1 to 2 (seed 1: 1, then (1 + 3) / 2); the interval does not widen the axis.
    assert -0.5 < axes.get_ylim()[0] < axes.get_ylim()[1] < 2.5


def test_error_without_matplotlib_names_the_extra(
    write_trial: WriteTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = read_trial(write_trial("a", returns=[1]))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"rlssl\[report\]"):
        plot_learning_curves([trial], tmp_path / "curves.png")


def test_analysis_imports_no_training_code_and_no_plotting_code() -> None:
    heavy = "{'ray', 'torch', 'gymnasium', 'matplotlib', 'scipy', 'rich', 'pandas'}"
    code = f"import sys, rlssl.analysis; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
