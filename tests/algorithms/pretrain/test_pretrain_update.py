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
OF_ANY_SPACE: dict[str, Any] = {"spr": {}, "inverse_dynamics": {}}
OF_FRAMES = ("rotation", "st_dim")
#: Losses that do not train the encoder with their default options.
OF_BONUSES = (
    *("disagreement", "episodic_count", "icm", "noveld", "random_bonus", "ride", "rnd"),
    *("demonstration_progress", "gail"),
)
#: Losses that train it. Other test modules may have registered losses named test_...
OF_ENCODERS = sorted(
    name
    for name in {*AUXILIARY_LOSSES} - {*OF_BONUSES, "behavior_cloning"}
    if not name.startswith("test_")
)


def demonstrations(name: str, folder: Path) -> dict[str, Any]:
    """The options of a loss that reads demonstrations."""
    if not issubclass(AUXILIARY_LOSSES[name].Config, DemonstrationOptions):
        return {}
    more: dict[str, dict[str, Any]] = {
        "gail": {"allow_variable_horizon": True},
        "demonstration_progress": {"spacing": 3},
    }
    return {"demonstrations": str(folder), **more.get(name, {})}


@pytest.mark.parametrize("name", OF_ENCODERS)
def test_every_loss_that_trains_the_encoder_moves_it(tmp_path: Path, name: str) -> None:
    spaces = "chw" if name in OF_FRAMES else "vectors"
    bench = PretrainBench(small_pretrain(tmp_path / "data", {name: {}}, spaces=spaces))
    moved = bench.moved_by_an_update()
    assert {key.split(".")[0] for key in bench.state()} == {"encoder", "auxiliary"}
    assert {key for key in bench.state() if key.startswith("encoder.")} <= moved


@pytest.mark.parametrize("name", OF_BONUSES)
def test_losses_that_leave_the_encoder_alone_are_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    config = small_pretrain(data, {name: {}})
    config.auxiliary(**{name: demonstrations(name, data)})
    with pytest.raises(SpecError, match=f"auxiliary {name}: none of these losses trains the enc"):
        PretrainBench(config)


@pytest.mark.parametrize("spaces", SPACES)
@pytest.mark.parametrize("tau", [None, 0.1])
def test_several_losses_move_encoder_heads_and_targets_and_nothing_else(
    tmp_path: Path, spaces: str, tau: float | None
) -> None:
    losses, stack = (OF_ANY_SPACE, None) if spaces in ("dict", "mode") else (SEVERAL, 2)
    options: dict[str, Any] = {"spaces": spaces, "frame_stack": stack, "target_tau": tau}
    bench = PretrainBench(small_pretrain(tmp_path / "data", losses, **options))
    assert bench.moved_by_an_update() == set(bench.state())
    parts = {key.split(".")[0] for key in bench.state()}
    assert parts == {"encoder", "auxiliary"} | ({"target"} if tau else set())
    if stack:
        observations = bench.draw()["obs"]
        shape = SPACES[spaces][0].shape
        channels = {"hwc": -1}.get(spaces, 0)
        assert shape is not None
        assert observations.shape[1:][channels] == 2 * shape[channels]


def test_loss_is_the_weighted_sum_of_the_terms(tmp_path: Path) -> None:
    losses = {"inverse_dynamics": {"coeff": 2.0}, "curl": {"coeff": 0.5}}
    bench = PretrainBench(small_pretrain(tmp_path / "data", losses))
    bench.update()
    found = {"/".join(key): float(value) for key, value in bench.learner.latest_metrics.items()}
    terms = [found["aux/inverse_dynamics/inverse"], found["aux/curl/info_nce"]]
    assert found["total_loss"] == pytest.approx(2.0 * terms[0] + 0.5 * terms[1], rel=1e-5), found


def test_target_encoder_follows_by_its_step_size(tmp_path: Path) -> None:
    bench = PretrainBench(small_pretrain(tmp_path / "data", {"curl": {}}, target_tau=0.25))
    target = bench.module.target.target["encoder"]
    before = [parameter.clone() for parameter in target.parameters()]
    bench.update()
    online = list(bench.module.encoder.parameters())
    for old, new, at in zip(before, target.parameters(), online, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * at)


@pytest.mark.parametrize("spaces", ["vectors", "hwc"])
def test_a_windowed_plugin_trains_unchanged(tmp_path: Path, spaces: str) -> None:
    with AUXILIARY_LOSSES.undone_afterwards():
        runpy.run_path(str(PLUGIN))
        config = small_pretrain(
            tmp_path / "data", {"queued_prediction": {"size": 64}}, spaces=spaces
        )
        bench = PretrainBench(config)
        bench.update(3)
        assert {key for key in bench.state() if "encoder." in key} <= bench.moved_by_an_update()
    queue = bench.module.auxiliary["queued_prediction"].queue
    assert 0 < int(queue.count) <= 64
