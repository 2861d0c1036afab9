import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from benchmarks.harness.contests import (
    Comparison,
    Contestant,
    ContestantDiedError,
    Play,
    Row,
    Sample,
    Spread,
    UnavailableError,
    descendants,
    fastest,
    play_row,
    ratios,
    reaches,
    repeat,
    tree_cpu_seconds,
    turn_order,
)
from benchmarks.peers.loops import real_steps


def samples(*rates: float, cpu_s: float = 1.0) -> list[Sample]:
    return [Sample(units=rate, wall_s=1.0, cpu_s=cpu_s) for rate in rates]


def test_ratios_are_taken_within_each_round() -> None:
    played = {"ours": samples(10, 40), "theirs": samples(5, 10)}
    # 10 / 5 and 40 / 10; the ratio of the means would be 50 / 15.
    assert ratios(Comparison(("ours",), ("theirs",)), played) == [2.0, 4.0]


def test_a_ratio_of_time_is_the_inverse_of_the_ratio_of_speed() -> None:
    played = {"ours": samples(10), "theirs": samples(5)}
    assert ratios(Comparison(("ours",), ("theirs",), of_time=True), played) == [0.5]


def test_processor_ratios_divide_by_processor_time() -> None:
    played = {"ours": samples(10, cpu_s=4.0), "theirs": samples(10, cpu_s=1.0)}
    # 10 / 4 against 10 / 1
    assert ratios(Comparison(("ours",), ("theirs",)), played, "cpu") == [0.25]


def test_the_rival_has_the_best_median_not_the_best_round() -> None:
    played = {"ours": samples(12, 12, 12), "steady": samples(4, 4, 4), "lucky": samples(1, 1, 99)}
    assert fastest(("steady", "lucky"), played) == "steady"
    assert ratios(Comparison(("ours",), ("lucky", "steady")), played) == [3.0, 3.0, 3.0]


def test_a_whole_may_be_compared_with_the_slowest_of_its_parts() -> None:
    played = {"whole": samples(9, 9), "sample": samples(20, 30), "learn": samples(10, 12)}
    parts = Comparison(("whole",), ("sample", "learn"), against_slowest=True)
    assert ratios(parts, played) == [0.9, 0.75]  # 9 / 10 and 9 / 12


def test_a_contestant_that_was_not_measured_is_not_compared() -> None:
    played = {"ours": samples(1)}
    assert ratios(Comparison(("ours",), ("missing",)), played) == []
    assert ratios(Comparison(("ours",), ("missing", "ours")), played) == [1.0]


def test_a_spread_is_median_minimum_and_maximum() -> None:
    assert Spread.of([5, 1, 9, 2]) == Spread(median=3.5, low=1, high=9)  # (2 + 5) / 2


@pytest.mark.parametrize(
    ("ratio", "target", "of_time", "expected"),
    [
        (0.9, 0.85, False, True),
        (0.8, 0.85, False, False),
        (0.8, 1.0, True, True),
        (1.1, 1.0, True, False),
        (1.1, None, False, None),
    ],
)
def test_time_must_stay_below_its_target_and_speed_above(
    ratio: float, target: float | None, of_time: bool, expected: bool | None
) -> None:
    assert reaches(ratio, target, Comparison((), (), of_time=of_time)) is expected


def test_every_name_has_one_turn_a_round_and_rounds_begin_with_different_names() -> None:
    orders = [turn_order(["a", "b", "c"], index) for index in (-1, 0, 1)]
    assert orders == [["c", "a", "b"], ["a", "b", "c"], ["b", "c", "a"]]


def test_descendants_are_found_over_generations() -> None:
    # 1 -> 2 -> 3 -> 4; 9 is in another tree
    assert descendants(2, {2: 1, 3: 2, 4: 3, 9: 1}) == {2, 3, 4}


def test_processor_time_of_children_counts_and_their_sleep_does_not() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(60)"

    def children_s() -> float:
        return tree_cpu_seconds(os.getpid()) - time.process_time()

    before = children_s()
    with subprocess.Popen([sys.executable, "-c", burn]) as child:
        deadline = time.monotonic() + 30
        while children_s() - before < 0.45 and time.monotonic() < deadline:
            time.sleep(0.1)
        used = children_s() - before
        child.kill()
    # Half a second, in ticks of 10 ms.
    assert 0.45 <= used < 0.6


def test_a_play_lasts_until_its_seconds_are_over() -> None:
    def step() -> int:
        time.sleep(0.03)
        return 7

    sample = repeat(step, seconds=0.1)()
    steps = sample.units / 7
    assert sample.wall_s >= 0.1 and steps == int(steps) and 1 <= steps <= 4


def test_steps_that_only_reset_do_not_count() -> None:
    over = np.array([[True, False], [False, False], [False, True]])
    # 6 steps. Two are resets: row 1 of env 0 and row 0 of env 1. The last row ends an episode of
    # env 1, which resets in the next fragment.
    assert real_steps(over, begins_with_reset=np.array([False, True])) == 4


def count_up(seconds: float, *, order: str, name: str) -> Play:
    def play() -> Sample:
        with open(order, "a") as file:
            file.write(f"{name}{os.environ['OMP_NUM_THREADS']} ")
        return Sample(units=os.getpid(), wall_s=1.0, cpu_s=seconds)

    return play


def refuse(seconds: float) -> Play:
    raise UnavailableError("not installed")


def die(seconds: float) -> Play:
    print("I fell off the table", flush=True)
    raise KeyError("pole")


def row(contestants: Sequence[Contestant]) -> Row:
    return Row("test", "a test", "units", tuple(contestants), seconds=2.0)


def test_contestants_take_turns_in_separate_processes(tmp_path: object) -> None:
    order = f"{tmp_path}/order"
    players = [
        Contestant(name, partial(count_up, order=order, name=name), threads=threads)
        for name, threads in (("a", 1), ("b", 2))
    ]
    played, skipped = play_row(row([*players, Contestant("c", refuse)]), rounds=2)
    with open(order) as file:
        # Round -1 is the warm-up.
        assert file.read().split() == ["b2", "a1", "a1", "b2", "b2", "a1"]
    assert skipped == {"c": "not installed"}
    assert {name: len(ones) for name, ones in played.items()} == {"a": 2, "b": 2}
    pids = {ones[0].units for ones in played.values()} | {os.getpid()}
    assert len(pids) == 3
    assert played["a"][0].cpu_s == 2.0


def test_a_contestant_that_dies_is_named_with_its_last_output() -> None:
    with pytest.raises(ContestantDiedError, match=r"(?s)a died.*I fell off the table.*pole"):
        play_row(row([Contestant("a", die)]), rounds=1)
