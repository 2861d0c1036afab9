"""The golden record: two runs of a checkout agree, and every difference between two is reported."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import golden_record
from tests.golden.golden_record import compare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).resolve().parents[2]


def recorded() -> dict[str, Any]:
    """A record of one case with two iterations."""
    rows = [
        {
            "metrics": {"aux/icm/forward": (0.1 * k).hex(), "learners/loss": (0.5 * k).hex()},
            "environments": f"{k} steps 0",
        }
        for k in (1, 2)
    ]
    case = {"iterations": rows, "tensors of module": ["float32[2] a", "float32[2] b"]}
    return {"cases": {"one": case}}


def differences(old: Any, new: Any, renamed: Any = None) -> list[str]:
    return [line for _, found in compare(old, new, renamed or {}) for line in found]


def test_same_records_have_no_difference() -> None:
    assert differences(recorded(), recorded()) == []
    assert golden_record.report(recorded(), recorded()) == 0


def test_last_bit_of_a_metric_is_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    new = recorded()
    # One unit in the last place above 0.5.
    new["cases"]["one"]["iterations"][0]["metrics"]["learners/loss"] = "0x1.0000000000001p-1"
    (line,) = differences(recorded(), new)
    assert line == "iteration 1, learners/loss: 0.5 -> 0.5000000000000001"
    assert golden_record.report(recorded(), new) == 1
    assert "1 of 1 cases differ" in capsys.readouterr().out


def test_missing_case_iteration_or_metric_is_a_difference() -> None:
    assert differences(recorded(), {"cases": {}}) == ["only in the old record"]
    assert differences({"cases": {}}, recorded()) == ["only in the new record"]
    new = recorded()
    new["cases"]["one"]["iterations"].pop()
    assert differences(recorded(), new) == ["iterations: 2 -> 1"]
    new = recorded()
    del new["cases"]["one"]["iterations"][1]["metrics"]["learners/loss"]
    assert differences(recorded(), new) == ["iteration 2, learners/loss: 1.0 -> missing"]


def test_empty_records_prove_nothing() -> None:
    assert golden_record.report({"cases": {}}, {"cases": {}}) == 1


def test_renamed_metric_is_a_difference_unless_it_is_mapped() -> None:
    new = json.loads(json.dumps(recorded()).replace("aux/icm", "auxiliary/icm"))
    # In each of two iterations one name is gone, and one is new.
    assert len(differences(recorded(), new)) == 4
    assert differences(recorded(), new, {"aux": "auxiliary"}) == []
    assert differences(recorded(), new, {"aux/icm/forward": "auxiliary/icm/forward"}) == []
    # Whole parts of a path only.
    assert len(differences(recorded(), new, {"aux/icm/for": "auxiliary/icm/for"})) == 4


def test_changed_tensor_is_a_difference_and_its_place_is_not() -> None:
    new = copy.deepcopy(recorded())
    new["cases"]["one"]["tensors of module"].reverse()
    assert differences(recorded(), new) == []
    new["cases"]["one"]["tensors of module"][0] = "float32[2] c"
    (line,) = differences(recorded(), new)
    assert line.startswith("tensors of module: 1 of 2 are gone, 1 of 2 are new")


def test_changed_action_and_new_error_are_differences() -> None:
    new = recorded()
    new["cases"]["one"]["iterations"][1]["environments"] = "2 steps 1"
    assert "actions and observations: 2 steps 0 -> 2 steps 1" in differences(recorded(), new)[0]
    failed = {"cases": {"one": {"error": "ValueError: no"}}}
    assert "error: None -> ValueError: no" in differences(recorded(), failed)


@pytest.mark.parametrize("only", ["vectors-curl", "ppo-adaptive_kl-lstm-icm"])
def test_two_runs_of_this_checkout_agree(only: str) -> None:
    records = [golden_record.record(CHECKOUT, only) for _ in range(2)]
    assert golden_record.report(*records) == 0
    for case in records[0]["cases"].values():
        assert "error" not in case
        # Running means of gradients, beside numbers of steps, which are scalars.
        tensors = [entry for entry in case["tensors of optimizer"] if "float32[" in entry]
        assert any("float32[]" not in entry for entry in tensors)


def test_other_weights_are_reported() -> None:
    old = golden_record.record(CHECKOUT, "ppo-vectors-icm")
    new = golden_record.record(CHECKOUT, "ppo-vectors-deepmdp")
    new["cases"] = {"ppo-vectors-icm": new["cases"]["ppo-vectors-deepmdp"]}
    assert any("tensors of module" in line for line in differences(old, new))
