"""What an update of pretraining moves, for every loss and every kind of space."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from rlssl.auxiliary.imitation.demonstrations import DemonstrationOptions
from rlssl.errors import SpecError
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.pretrain.pretrain_bench import SPACES, PretrainBench, small_pretrain

PLUGIN = Path(__file__).parents[2] / "auxiliary" / "plugin_with_queue.py"
#: Losses of all kinds: with a window, with actions, and with a key encoder.
SEVERAL: dict[str, Any] = {
    "spr": {},
    "inverse_dynamics": {},
    "curl": {},
    "atc": {"delta": 2},
    "autoencoder": {"hidden": 16},
}
#: Losses without random views, which Dict observations do not have.
OF_ANY_SPACE: dict[str, Any] = {"spr": {"augment": False}, "inverse_dynamics": {}}
OF_FRAMES = ("rotation", "st_dim")
#: Losses that do not train the encoder with their default options.
OF_BONUSES = (
    *("disagreement", "episodic_count", "icm", "noveld", "random_bonus", "ride", "rnd"),
    *("demonstration_progress", "gail"),
)
LOSSES = sorted(AUXILIARY_LOSSES)


def demonstrations(name: str, folder: Path) -> dict[str, Any]:
    """The options of a loss that reads demonstrations."""
    if not issubclass(AUXILIARY_LOSSES[name].Config, DemonstrationOptions):
        return {}
    more = {"gail": {"allow_variable_horizon": True}, "demonstration_progress": {"spacing": 3}}
    return {"demonstrations": str(folder), "bonus_when": "sampled", **more.get(name, {})}


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in OF_BONUSES])
def test_every_loss_that_trains_the_encoder_moves_it(tmp_path: Path, name: str) -> None:
    if name == "behavior_cloning":
        pytest.skip("reads the policy; see the tests of refusals")
    spaces = "chw" if name in OF_FRAMES else "vectors"
    bench = PretrainBench(small_pretrain(tmp_path / "data", {name: {}}, spaces=spaces))
    moved = bench.moved_by_an_update()
    assert {key.split(".")[0] for key in bench.state()} == {"encoder", "auxiliary"}
    assert {key for key in bench.state() if key.startswith("encoder.")} <= moved


@pytest.mark.parametrize("name", [name for name in OF_BONUSES])
def test_losses_that_leave_the_encoder_alone_are_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    config = small_pretrain(data, {name: {}})
    config.auxiliary(**{name: demonstrations(name, data)})
    with pytest.raises(SpecError, match=f"auxiliary {name}: none of these losses trains the enc"):
        PretrainBench(config)
