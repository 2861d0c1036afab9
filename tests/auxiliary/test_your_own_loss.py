"""The code of docs/your_own_loss.md does what the page says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlssl.auxiliary
from rlssl.errors import UndeclaredColumnError
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.common.test_auxiliary_rules import ALGORITHMS

PAGE = Path(__file__).parents[2] / "docs" / "your_own_loss.md"


def codes_of_the_page() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_loss_of_the_page_trains_in_about_thirty_lines() -> None:
    code = codes_of_the_page()[0]
    assert len(code.splitlines()) <= 34
    namespace: dict[str, Any] = {"__name__": "page_of_your_own_loss"}
    try:
        exec(compile(code, str(PAGE), "exec"), namespace)
        bench = Bench(small_ppo().auxiliary(reward_prediction={"hidden": 32}))
        errors = []
        for _ in range(20):
            aux = bench.update(bench.sample())["default_policy"]["aux"]["reward_prediction"]
            errors.append(float(aux["squared_error"].peek()))
        assert bench.module.auxiliary["reward_prediction"].head[0].out_features == 32
        # CartPole pays 1 per step, which is soon learned.
        assert errors[-1] < 0.2 * errors[0]
    finally:
        AUXILIARY_LOSSES._entries.pop("reward_prediction", None)
        AUXILIARY_LOSSES._local.discard("reward_prediction")


@pytest.mark.parametrize("algorithm", ["ppo", "a3c", "rainbow", "sac"])
def test_bonus_of_the_page_rewards_changes(algorithm: str) -> None:
    (code,) = (code for code in codes_of_the_page() if "class Change" in code)
    small, bench_of = ALGORITHMS[algorithm]
    with AUXILIARY_LOSSES.undone_afterwards():
        exec(compile(code, str(PAGE), "exec"), {"__name__": "page_of_your_own_loss"})
        bench = bench_of(small().auxiliary(change={"intrinsic_coeff": 0.1}))
        bench.update(bench.sample())
        aux = bench.update(bench.sample())["default_policy"]["aux"]["change"]
    assert float(aux["intrinsic_reward"].peek()) > 0.0


@pytest.mark.parametrize("algorithm", ["ppo", "a3c", "rainbow", "sac"])
def test_windowed_loss_of_the_page_learns_to_predict(algorithm: str) -> None:
    (code,) = (code for code in codes_of_the_page() if "class NextLatents" in code)
    assert len(code.splitlines()) < 60
    small, bench_of = ALGORITHMS[algorithm]
    with AUXILIARY_LOSSES.undone_afterwards():
        exec(compile(code, str(PAGE), "exec"), {"__name__": "page_of_your_own_loss"})
        bench = bench_of(small().auxiliary(next_latents={"lr": 0.01}))
        found = []
        for _ in range(30):
            aux = bench.update(bench.sample())["default_policy"]["aux"]["next_latents"]
            found.append({key: float(value.peek()) for key, value in aux.items()})
    assert 0.5 < found[-1]["valid_share"] <= 1.0
    assert found[-1]["error"] < 0.5 * found[0]["error"]


@pytest.mark.parametrize("name", rlssl.auxiliary.__all__)
def test_what_a_loss_needs_is_imported_from_the_package(name: str) -> None:
    assert getattr(rlssl.auxiliary, name) is not None


def test_names_of_the_package_in_the_page_exist() -> None:
    names = re.findall(r"`rlssl\.auxiliary\.(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert {"MEAN_ACTION", "UpdateRNG"} <= set(names) <= set(rlssl.auxiliary.__all__)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import rlssl.auxiliary, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("method", ["losses", "metrics", "intrinsic_reward"])
def test_a_column_that_is_not_declared_is_an_error_with_the_fix(method: str) -> None:
    class Undeclared(rlssl.auxiliary.AuxiliaryLoss):
        reads = frozenset({"obs"})

        def losses(self, batch: Any) -> Any:
            return {"square": self.latents(batch).square().mean(-1)}

    def reads_rewards(self: Any, batch: Any) -> Any:
        return {"error": batch["rewards"]}

    setattr(Undeclared, method, reads_rewards)
    with AUXILIARY_LOSSES.undone_afterwards():
        rlssl.register_auxiliary_loss("undeclared", Undeclared)
        options = {"intrinsic_coeff": 1.0} if method == "intrinsic_reward" else {}
        bench = Bench(small_ppo().auxiliary(undeclared=options))
        with pytest.raises(UndeclaredColumnError) as caught:
            bench.update(bench.sample())
    assert str(caught.value) == (
        "loss 'undeclared' reads the column 'rewards' without declaring it. Add 'rewards' to its "
        "`reads`, which now has ['obs']."
    )
