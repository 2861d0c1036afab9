"""PPO on images: defaults by kind of observations, augmentation, crops in acting, precision."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from ray.rllib.connectors.learner.learner_connector_pipeline import LearnerConnectorPipeline
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.devices.transfers import pin_transfers
from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.auxiliary import AuxiliaryLoss
from rlssl.errors import SpecError
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.rl_encoder import BFloat16, CenterCropped
from rlssl.registry import register_auxiliary_loss, register_env
from tests.algorithms.bench import Bench, small_ppo


class Noise(gym.Env):
    """Random frames; episodes of 9 steps."""

    observation_space = gym.spaces.Box(0, 255, (1, 44, 44), np.uint8)
    action_space = gym.spaces.Discrete(3)
    suggested_frame_stack = 2
    action_repeat = 4

    def __init__(self, config: Any) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._frame(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self._frame(), 1.0, self.steps == 9, False, {}

    def _frame(self) -> np.ndarray:
        return self.np_random.integers(256, size=(1, 44, 44), dtype=np.uint8)


register_env("test/Noise", Noise)

CROP = {"crop": {"size": 40}}


def pixels(augmentation: Any = None, **network: Any) -> PPOConfig:
    config = small_ppo("test/Noise")
    return config.model(encoder_config={}, augmentation=augmentation, **network)


def test_defaults_depend_on_the_kind_of_observations() -> None:
    config = PPOConfig().environment("CartPole-v1")
    config.validate()
    assert (config.lr, config.num_epochs, config.minibatch_size) == (1e-3, 10, 128)
    assert (config.clip_param, config.entropy_coeff, config.frame_stack) == (0.2, 0.0, 1)
    # With another environment, the defaults of the first one are gone.
    config.environment("test/Noise")
    config.validate()
    assert (config.lr, config.num_epochs, config.minibatch_size) == (2.5e-4, 4, 256)
    assert (config.clip_param, config.entropy_coeff, config.frame_stack) == (0.1, 0.01, 2)
    assert config.action_repeat == 4


def test_settings_of_the_user_stay() -> None:
    config = PPOConfig().environment("test/Noise").training(lr=0.5, entropy_coeff=0.0)
    config.model(frame_stack=3)
    config.validate()
    assert (config.lr, config.entropy_coeff, config.frame_stack) == (0.5, 0.0, 3)
    config.environment("CartPole-v1")
    config.validate()
    assert (config.lr, config.frame_stack, config.num_epochs) == (0.5, 3, 10)


def test_suggested_frames_are_stacked_everywhere() -> None:
    bench = Bench(pixels())
    assert bench.batch(bench.sample())[Columns.OBS].shape[1:] == (2, 44, 44)
    assert bench.module.observation_space.shape == (2, 44, 44)


@pytest.mark.parametrize(
    "env, variant", [("atari/Pong", "atari"), ("dmc-pixels/cheetah-run", "dmc")]
)
def test_variant_of_curl_is_the_published_one_of_the_suite(env: str, variant: str) -> None:
    config = PPOConfig().environment(env).auxiliary(curl={}).model(frame_stack=2)
    config.validate()
    bench = Bench(config.env_runners(num_envs_per_env_runner=1))
    assert bench.module.auxiliary["curl"].config.variant == variant
    config.auxiliary(curl={"variant": "dmc"})
    assert config.module_settings["auxiliary"]["curl"]["variant"] == "dmc"


def test_dm_control_is_rendered_larger_if_a_crop_follows() -> None:
    def size(**env: Any) -> Any:
        return PPOConfig().environment({"id": "dmc-pixels/cheetah-run", **env})

    assert "size" not in size().model(augmentation="shift").env_settings
    assert size().model(augmentation="crop").env_settings["size"] == 100
    assert size().model(augmentation={"crop": {"size": 42}}).env_settings["size"] == 50
    assert size(size=90).model(augmentation="crop").env_settings["size"] == 90
    both_ways = PPOConfig().model(augmentation="crop")
    assert both_ways.environment("dmc-pixels/cheetah-run").env_settings["size"] == 100


class _Spy(AuxiliaryLoss):
    """A loss that keeps its inputs."""

    reads = frozenset({Columns.OBS})
    trains = "none"

    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        self.seen = dict(batch)
        return {"zero": torch.zeros(len(batch[Columns.OBS]))}


register_auxiliary_loss("test_spy")(_Spy)


@pytest.mark.parametrize("shared_encoder", [True, False])
def test_rl_loss_reads_augmented_frames_and_losses_read_both(shared_encoder: bool) -> None:
    config = pixels(CROP, shared_encoder=shared_encoder).auxiliary(test_spy={})
    bench = Bench(config)
    batch = bench.batch(bench.sample())
    fwd_out = bench.module.forward_train(batch)
    augmented = fwd_out[AUGMENTED_OBS]
    assert augmented.shape[1:] == (2, 40, 40) and augmented.dtype == torch.uint8
    # The center of a crop is the crop itself, so the networks read what the RL loss read.
    values = bench.module.compute_values({Columns.OBS: augmented})
    given = {**batch, AUGMENTED_OBS: augmented}
    embeddings = fwd_out.get(Columns.EMBEDDINGS)
    torch.testing.assert_close(bench.module.compute_values(given, embeddings), values)
    logits = bench.module.pi(bench.module.encoder(augmented))
    torch.testing.assert_close(fwd_out[Columns.ACTION_DIST_INPUTS], logits)
    bench.learner.compute_loss(batch, fwd_out)
    seen = bench.module.auxiliary["test_spy"].seen
    assert torch.equal(seen[Columns.OBS], batch[Columns.OBS])
    assert torch.equal(seen[AUGMENTED_OBS], augmented)


def test_acting_and_advantages_read_the_center_crop() -> None:
    bench = Bench(pixels(CROP))
    obs = bench.batch(bench.sample())[Columns.OBS]
    middle = obs[:, :, 2:42, 2:42]
    acted = bench.runner.module.forward_inference({Columns.OBS: obs})
    expected = bench.module.forward_inference({Columns.OBS: middle})
    for key, value in acted.items():
        torch.testing.assert_close(value, expected[key])
    assert not any("augmentation" in key for key in bench.runner.module.state_dict())


def test_every_update_draws_new_crops_and_a_restored_run_continues() -> None:
    trained = Bench(pixels("shift"))
    trained.update(trained.sample())
    restored = Bench(pixels("shift").debugging(seed=5))
    obs = torch.as_tensor(np.stack([trained.module.observation_space.sample()] * 3))
    assert not torch.equal(restored.module.augmentation(obs), trained.module.augmentation(obs))
    restored.learner.set_state(trained.learner.get_state())
    assert torch.equal(restored.module.augmentation(obs), trained.module.augmentation(obs))


@pytest.mark.parametrize(
    "network, wrapper",
    [({"precision": "bfloat16"}, BFloat16), ({"augmentation": CROP}, CenterCropped)],
)
def test_update_moves_the_encoder_with(network: dict[str, Any], wrapper: type) -> None:
    bench = Bench(pixels(**network).auxiliary(curl={}))
    encoder: Any = bench.module.encoder
    assert [type(part) for part in (encoder, bench.runner.module.encoder)] == [wrapper] * 2
    before = [parameter.clone() for parameter in encoder.parameters()]
    result = bench.update(bench.sample())
    after = list(encoder.parameters())
    assert all(p.dtype == torch.float32 for p in after)
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert "nonfinite_updates" not in result.get("faults", {})


def test_precision_is_refused_by_key_and_value() -> None:
    with pytest.raises(SpecError, match=r"model.precision must be one of .*; got 'float16'"):
        pixels(precision="float16")


def test_only_transfers_to_a_gpu_are_pinned() -> None:
    for device, pinned in (("cpu", False), ("cuda", True)):
        pipeline = LearnerConnectorPipeline(connectors=[NumpyToTensor()])
        pin_transfers(pipeline, device)
        assert [piece._pin_memory for piece in pipeline.connectors] == [pinned]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_updates_on_a_gpu_take_uint8_and_agree_with_the_cpu(precision: str) -> None:
    on_cpu = Bench(pixels("shift").auxiliary(curl={}))
    on_gpu = Bench(pixels("shift", precision=precision).learners(num_gpus_per_learner=1))
    episodes = on_gpu.sample()
    batch = on_gpu.batch(episodes)
    assert batch[Columns.OBS].dtype == torch.uint8 and batch[Columns.OBS].is_cuda
    on_gpu.module.load_state_dict(on_cpu.module.state_dict(), strict=False)
    rows = {key: value.cpu() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    expected = on_cpu.module.forward_train(rows)[Columns.ACTION_DIST_INPUTS]
    actual = on_gpu.module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=1e-2)
    on_gpu.update(on_gpu.sample())
