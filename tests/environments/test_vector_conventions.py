"""Vector environments that break one convention of gymnasium are refused in words, or right."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlssl.environments.env_check import preflight
from rlssl.errors import EnvironmentFaultError, PreflightError
from rlssl.registry import ENVIRONMENTS, register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.environments.vector_zoo import Walk, Walks
from tests.rollouts.counting import assert_same_chunks, make_config, make_runner

NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
BOTH = (NEXT, SAME)

#: Right: the same episodes as those of the environment that keeps every convention.
RIGHT = {
    "": BOTH,
    "ends are uint8": BOTH,
    "ends are int32": BOTH,
    "ends are float32": BOTH,
    "ends are lists": BOTH,
    "rewards are float32": BOTH,
    "reuses every buffer": BOTH,
    "changes the actions in place": BOTH,
    "infos have no masks": BOTH,
    "masks are integers": (NEXT,),
    "infos have other keys of any kind": BOTH,
    "has the older key": (SAME,),
    "reuses the buffer of final observations": (SAME,),
    "gives a final observation of another dtype": (SAME,),
    "has a list of final infos": (SAME,),
}

#: Refused by the preflight: words of the message.
REFUSED = {
    "ends are columns": (BOTH, r"terminated of step\(\) must be booleans of shape \(3,\)"),
    "rewards are columns": (BOTH, r"rewards of step\(\) must be numbers of shape \(3,\)"),
    "infos are a list": (BOTH, "infos must be a dict"),
    "infos have another shape": (BOTH, r"infos\['learning_reward'\] must have a value for each"),
    "observations are float64": (BOTH, "step.. gave an observation of shape .* dtype float64"),
    "masks are always false": ((NEXT,), r"infos\['learning_reward'\] gives None .* 0.5"),
    "ignores the seed": (BOTH, "Equal seeds must give equal observations"),
    "seeds all copies alike": (BOTH, r"Copy i must be seeded with seed \+ i"),
    "steps after the reset": ((NEXT,), "a reward of 1 in the step after the end of an episode"),
    "ends while it resets": ((NEXT,), "ended an episode in two steps in a row"),
    "has no final observation": ((SAME,), r"without infos\['final_obs'\]"),
    "gives a view of the observations": ((SAME,), "shares its memory with observations"),
    "gives the next first observation": ((SAME,), "final_obs'. and observations were equal"),
    "gives a final observation of another shape": ((SAME,), r"an observation of shape \(1, 3\)"),
    "has no final infos": ((SAME,), "success.* gives None for a step in which make gives 0.75"),
    "claims the other autoreset mode": (BOTH, "metadata..autoreset_mode.. is"),
}

#: Only the preflight sees these: nothing in single results shows them.
UNSEEN_LATER = {
    "ignores the seed",
    "seeds all copies alike",
    "masks are always false",
    "gives the next first observation",
    "has no final infos",
}


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """Undoes the registrations of a test."""
    with ENVIRONMENTS.undone_afterwards():
        yield


def register(fault: str, mode: AutoresetMode) -> str:
    name = f"zoo/{mode.value} {fault}"
    if name not in ENVIRONMENTS:
        register_env(name, Walk, make_vec=lambda config, n: Walks(n, mode, fault))
    return name


def runner_of(cls: type, fault: str, mode: AutoresetMode, vectorize: str = "native") -> Any:
    config = make_config({"id": register(fault, mode)}, num_envs=3)
    config.vectorize = vectorize
    return make_runner(cls, config)


def sampled(runner: Any) -> list[list[Any]]:
    return [runner.sample(num_timesteps=count) for count in (1, 12, 30)]


def cases(table: Any) -> list[Any]:
    rows = [(fault, row if isinstance(row[0], AutoresetMode) else row[0]) for fault, row in table]
    return [
        pytest.param(fault, mode, id=f"{mode.name.lower()} {fault}")
        for fault, modes in rows
        for mode in modes
    ]


@pytest.mark.parametrize("fault, mode", cases(RIGHT.items()))
def test_results_in_another_form_give_the_same_episodes(fault: str, mode: AutoresetMode) -> None:
    preflight({"id": register(fault, mode)})
    broken, fine = runner_of(VectorEnvRunner, fault, mode), runner_of(VectorEnvRunner, "", mode)
    ids: dict[str, str] = {}
    for ours, theirs in zip(sampled(broken), sampled(fine), strict=True):
        assert_same_chunks(ours, theirs, ids)
    series = [
        {key: value.peek() for key, value in runner.get_metrics()["rlssl_episodes"].items()}
        for runner in (broken, fine)
    ]
    assert series[0] == series[1]
    # Episodes of 5 and of 3 steps: 1 + ... + 5 = 15 and 1 + 2 + 3 = 6.
    assert set(zip(*[series[0][k] for k in ("return", "length", "success")], strict=True)) == {
        (15.0, 5, 0.75),
        (6.0, 3, 0.25),
    }


@pytest.mark.parametrize("mode", BOTH)
def test_last_observations_are_those_of_the_step_that_ended_the_episode(
    mode: AutoresetMode,
) -> None:
    runner = runner_of(VectorEnvRunner, "", mode)
    ended = [chunk for chunk in runner.sample(num_timesteps=60) if chunk.is_done]
    assert {float(chunk.get_observations(-1)[1]) for chunk in ended if chunk.is_truncated} == {3.0}
    assert {float(chunk.get_observations(-1)[1]) for chunk in ended if chunk.is_terminated} == {5.0}
    # The rewards to learn from are t / 2.
    assert all(chunk.get_rewards()[-1] == chunk.get_observations(-1)[1] / 2 for chunk in ended)


@pytest.mark.parametrize("fault, mode", cases(REFUSED.items()))
def test_the_preflight_refuses_in_words(fault: str, mode: AutoresetMode) -> None:
    name = register(fault, mode)
    with pytest.raises(PreflightError, match=REFUSED[fault][1]) as caught:
        preflight({"id": name})
    message = str(caught.value)
    assert message.startswith(f"environment {name!r}: make_vec: ")
    assert "Correct make_vec, or set env_runners.vectorize to sync" in message
    # Gymnasium's own loop over `make` keeps the conventions.
    preflight({"id": name}, vectorize="sync")


@pytest.mark.parametrize("fault, mode", cases(REFUSED.items()))
def test_the_runner_refuses_what_the_preflight_has_not_seen(
    fault: str, mode: AutoresetMode
) -> None:
    if fault in UNSEEN_LATER:
        pytest.skip("only the preflight can see it")
    with pytest.raises(EnvironmentFaultError, match=r"environment 'zoo/"):
        sampled(runner_of(VectorEnvRunner, fault, mode))


@pytest.mark.parametrize("fault", ["", "ends are uint8", "reuses every buffer"])
def test_rllibs_runner_gives_the_same_episodes(fault: str) -> None:
    ours = runner_of(VectorEnvRunner, "", NEXT)
    stock = runner_of(StockEnvRunner, fault, NEXT)
    mine, theirs = (
        [chunk for chunk in runner.sample(num_timesteps=60) if chunk.is_done]
        for runner in (ours, stock)
    )
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one.get_observations(), other.get_observations())
        np.testing.assert_array_equal(one.get_actions(), other.get_actions())
        assert (one.is_terminated, one.is_truncated) == (other.is_terminated, other.is_truncated)
    successes = [r.get_metrics()["rlssl_episodes"]["success"].peek() for r in (ours, stock)]
    assert successes[0] == successes[1]
