"""`rlssl export` leaves no part of a policy; what cannot act is told what can."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlssl.errors import SpecError
from rlssl.experiment.commands.evaluate import checked_policy
from rlssl.experiment.commands.export import export
from rlssl.policy import Policy
from tests.test_policy import make_policy

FRAME = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
ACTIONS: gym.Space = gym.spaces.Discrete(2)


@pytest.mark.parametrize("is_new", [True, False])
def test_an_export_that_fails_leaves_the_folder_as_it_was(tmp_path: Path, is_new: bool) -> None:
    source = make_policy(FRAME, ACTIONS).save(tmp_path / "policy")
    target = tmp_path / "exported" / "policy"
    if not is_new:
        target.mkdir(parents=True)
        (target / "notes.txt").write_text("mine")
    (source / "gone").symlink_to(tmp_path / "nowhere")  # a file that cannot be read
    with pytest.raises(OSError, match=r"nowhere|gone"):
        export(str(source), out=target)
    left = [path.name for path in target.iterdir()] if target.exists() else None
    assert left == (None if is_new else ["notes.txt"])
    (source / "gone").unlink()
    export(str(source), out=target)
    Policy.load(target)
    names = sorted(path.name for path in target.iterdir())
    assert names == [*([] if is_new else ["notes.txt"]), "policy.json", "weights.safetensors"]


def test_a_pretrained_encoder_is_not_evaluated_but_probed_while_it_trains(tmp_path: Path) -> None:
    folder = make_policy(FRAME, ACTIONS, algorithm="pretrain").save(tmp_path / "encoder")
    with pytest.raises(SpecError, match=r"no policy that could act; .*diagnostics: \[ranks, act"):
        checked_policy(folder)
