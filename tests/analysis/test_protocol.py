"""A protocol says what a number means; numbers of unlike protocols are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.analysis.objective import Objective
from rlssl.analysis.protocol import Protocol, differences, protocol_of, require_alike
from rlssl.analysis.results import Episodes, Trial

EVALUATED = Objective("evaluation/episode_return_mean")


def trial(
    env: Any = "CartPole-v1",
    *,
    seed: int = 0,
    evaluation: dict[str, Any] | None = None,
    **last: Any,
) -> Trial:
    spec = {
        "env": {"id": env} if isinstance(env, str) else env,
        "evaluation": {"episodes": 10, "explore": False, "env": {}, **(evaluation or {})},
    }
    result = {"env_steps": 1000, "agent_steps": 1000, **last}
    return Trial(Path("a"), spec, {}, seed, "", [result], Episodes(*np.empty((4, 0))))


def test_the_final_return_is_a_mean_of_exploring_training_episodes() -> None:
    protocol = protocol_of([trial(seed=0), trial(seed=1, env_steps=900)])
    assert protocol.label == (
        "return: mean of the last 20 training episodes, exploring actions; 900 env steps; 2 seeds"
    )


def test_frames_are_told_from_agent_steps() -> None:
    # 400,000 frames at 4 frames an action are the 100,000 agent steps of "Atari 100k".
    of_settings = trial({"id": "atari/Pong", "action_repeat": 4}, env_steps=400_000)
    counted = trial("atari/Pong", env_steps=400_000, agent_steps=100_000)
    for one in (of_settings, counted):
        assert protocol_of([one]).label.split("; ")[1] == (
            "400,000 env steps (100,000 agent steps of 4)"
        )


def test_an_evaluation_is_told_from_training() -> None:
    options = {"explore": True, "episodes": 5, "env": {"sticky_actions": 0.25}}
    one = trial("atari/Pong", evaluation=options, **{"evaluation/env_steps": 500})
    protocol = protocol_of([one], EVALUATED)
    assert protocol.label == (
        "return: last value (mean of 5 evaluation episodes), sampled actions, evaluation "
        "environment: sticky_actions=0.25; 500 env steps; 1 seed"
    )
    assert protocol.task_options == (("sticky_actions", "0.25"),)


def test_an_evaluation_in_another_environment_is_of_that_environment() -> None:
    one = trial("MiniGrid-Empty-5x5-v0", evaluation={"env": {"id": "MiniGrid-Empty-8x8-v0"}})
    assert protocol_of([one], EVALUATED).task == "MiniGrid-Empty-8x8-v0"
    assert protocol_of([one]).task == "MiniGrid-Empty-5x5-v0"


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective("area"), "return: mean over the env steps of the curve (mean of 20 training "),
        (Objective("episode_return_mean", last=3), "return: mean of the last 3 values (mean of 20"),
        (Objective("aux/icm/loss"), "aux/icm/loss: last value of training; 1,000 env steps"),
        (Objective("success_rate"), "success rate: mean of the last 20 training episodes, "),
    ],
)
def test_every_objective_has_words(objective: Objective, words: str) -> None:
    assert protocol_of([trial()], objective).label.startswith(words)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (trial(), trial("Pendulum-v1"), "environment: CartPole-v1 and Pendulum-v1"),
        (
            trial({"id": "atari/Pong", "sticky_actions": 0.25}),
            trial("atari/Pong"),
            "options of the environment: sticky_actions=0.25 and none",
        ),
        (trial(), trial(evaluation={"explore": True}), "actions: deterministic and sampled"),
        (
            trial(),
            trial(evaluation={"episodes": 100}),
            "value: last value (mean of 10 evaluation episodes) and last value (mean of 100 "
            "evaluation episodes)",
        ),
    ],
)
def test_unlike_protocols_name_what_differs(one: Trial, other: Trial, difference: str) -> None:
    protocols = [protocol_of([each], EVALUATED) for each in (one, other)]
    assert differences(*protocols) == [difference]
    with pytest.raises(ValueError, match="unlike protocols"):
        require_alike(protocols)
    with pytest.raises(ValueError, match="unlike protocols"):
        protocol_of([one, other], EVALUATED)


def test_budget_seeds_and_what_the_agent_sees_do_not_make_protocols_unlike() -> None:
    grid = trial({"id": "MiniGrid-Empty-5x5-v0", "observation": "grid"}, env_steps=10)
    flat = trial({"id": "MiniGrid-Empty-5x5-v0", "observation": "flat"}, seed=1)
    assert differences(protocol_of([grid]), protocol_of([grid, flat])) == []


def test_last_does_not_count_for_an_area() -> None:
    one, other = (protocol_of([trial()], Objective("area", last=last)) for last in (1, 5))
    assert one == other and one.label == other.label


def test_options_with_the_same_name_count_in_other_environments() -> None:
    one, other = (trial({"id": "my/Maze", "size": size}) for size in (5, 9))
    assert differences(protocol_of([one]), protocol_of([other])) == [
        "options of the environment: size=5 and size=9"
    ]


def test_training_and_evaluation_are_unlike_even_in_the_same_environment() -> None:
    found = differences(protocol_of([trial()]), protocol_of([trial()], EVALUATED))
    assert [one.partition(":")[0] for one in found] == [
        "episodes of", "value", "actions", "evaluation environment"
    ]  # fmt: skip


def test_success_counts_alike_only_by_the_same_rule() -> None:
    any_step, last_step = trial(), trial(evaluation={"success": "last"})
    rate = Objective("success_rate")
    found = differences(protocol_of([any_step], rate), protocol_of([last_step], rate))
    assert found == ["an episode is a success: if any step is and if last step is"]
    assert differences(protocol_of([any_step]), protocol_of([last_step])) == []


def test_over_tasks_only_the_measure_must_agree() -> None:
    require_alike([Protocol("atari/Pong"), Protocol("atari/Alien")], over_tasks=True)
    with pytest.raises(ValueError, match="actions: not stated and exploring"):
        require_alike([Protocol("a", actions=None), Protocol("b")], over_tasks=True)


def test_what_is_not_stated_is_unlike_what_is_stated() -> None:
    published = Protocol("atari/Pong", source=None, statistic=None, episodes=None, actions=None)
    assert "final or best not stated" in published.label
    assert differences(published, Protocol("atari/Pong", episodes=20))


def test_no_trials_have_no_protocol() -> None:
    with pytest.raises(ValueError, match="trials must not be empty"):
        protocol_of([])
