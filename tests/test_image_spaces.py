"""The axis of channels: decided once; equal in stacks, replay, encoders, augmentations, exports."""

import logging
import pickle
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule

import rlssl
from rlssl.auxiliary.views import make_views
from rlssl.connectors.frame_stack import FrameStack, stacked_space
from rlssl.connectors.stack_observations import AddStackedObservations, StackObservationsEnvToModule
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.image_spaces import (
    ImageSpace,
    ambiguous_images,
    channels_first,
    image_layout,
    is_ambiguous,
    stacked_with_layout,
    with_layout,
)
from rlssl.networks.rl_encoder import build_rl_encoder
from rlssl.policy import Policy
from rlssl.registry import ALGORITHMS
from rlssl.replay import ReplayBuffer
from tests.replay.episodes import ACTIONS, all_steps, chunk

#: Frame, user's word, stack of four, channels of the stack. By hand: the channels of the frame,
#: which are 3, 3, 6, 5, 3 and 4, times four.
CASES: list[tuple[tuple[int, ...], str | None, tuple[int, ...], int]] = [
    ((10, 8, 3), None, (10, 8, 12), 12),
    ((3, 10, 8), None, (12, 10, 8), 12),
    ((5, 7, 6), "HWC", (5, 7, 24), 24),
    ((5, 7, 6), None, (20, 7, 6), 20),
    ((3, 64, 3), "HWC", (3, 64, 12), 12),
    ((4, 4, 4), "HWC", (4, 4, 16), 16),
]


def image(*shape: int, dtype: Any = np.uint8) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, shape, dtype)


def settings_of(word: str | None, **others: Any) -> dict[str, Any]:
    config = {} if word is None else {"layout": word}
    defaults = {"encoder": None, "augmentation": None, "precision": None}
    return {**defaults, "encoder_config": config, **others}


def first_convolution(module: torch.nn.Module) -> torch.nn.Conv2d:
    return next(layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d))


def built_module(
    space: gym.Space, word: str | None, frame_stack: int, *, acts_only: bool = False
) -> RLModule:
    """PPO's module for stacks of frames of a space, with an augmentation."""
    config = rlssl.PPOConfig().model(
        frame_stack=frame_stack,
        augmentation="shift",
        encoder_config={} if word is None else {"layout": word},
    )
    stacked = stacked_space(space, frame_stack, config.network["encoder_config"])
    spaces = {DEFAULT_MODULE_ID: (stacked, ACTIONS)}
    return config.get_rl_module_spec(spaces=spaces, inference_only=acts_only).build()


def policy_settings(space: gym.Space, module: RLModule) -> dict[str, Any]:
    return {
        "algorithm": "ppo",
        "model": {**module.model_config, "auxiliary": {}},
        "observation_space": space,
        "action_space": ACTIONS,
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": {},
    }


def slow_stack(frames: list[np.ndarray], layout: str) -> np.ndarray:
    """The reference: frame by frame, channel by channel."""
    frames = [frame if layout == "CHW" else np.moveaxis(frame, 2, 0) for frame in frames]
    channels = [channel for frame in frames for channel in frame]
    return np.stack(channels, 0 if layout == "CHW" else -1)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("shape, word, stack, channels", CASES)
def test_module_reads_every_frame_as_channels(
    algorithm: str,
    shape: tuple[int, ...],
    word: str | None,
    stack: tuple[int, ...],
    channels: int,
) -> None:
    config = ALGORITHMS[algorithm]()
    config.model(frame_stack=4, **({} if word is None else {"encoder_config": {"layout": word}}))
    continuous = algorithm in ("sac", "ddpg")
    actions = gym.spaces.Box(-1, 1, (2,)) if continuous else gym.spaces.Discrete(3)
    config.adapt_to(EnvSpaces(image(*shape), actions))
    space = stacked_space(image(*shape), 4, config.network["encoder_config"])
    assert space.shape == stack
    spaces = {DEFAULT_MODULE_ID: (space, actions)}
    module = config.get_rl_module_spec(spaces=spaces, inference_only=False).build()
    assert first_convolution(module.encoder).in_channels == channels


@pytest.mark.parametrize("word", ["CHW", "HWC"])
@pytest.mark.parametrize("encoder", ["mlp", "small_cnn", "impala"])
def test_the_users_word_decides_with_every_encoder(word: str, encoder: str) -> None:
    space = stacked_space(image(6, 7, 6), 2, {"layout": word})
    assert space.shape == ((12, 7, 6) if word == "CHW" else (6, 7, 12))
    built = build_rl_encoder(space, settings_of(word, encoder=encoder))
    assert built(torch.zeros(2, *space.shape, dtype=torch.uint8)).shape == (2, built.output_dim)


shapes = st.tuples(*[st.integers(5, 9)] * 2)
channel_counts = st.integers(1, 12)


@st.composite
def images(draw: st.DrawFn) -> tuple[gym.spaces.Box, str | None, str, list[np.ndarray]]:
    """A frame's space, the user's word, the layout by which it is read, and five frames."""
    height, width = draw(shapes)
    channels = draw(channel_counts)
    real = draw(st.sampled_from(["CHW", "HWC"]))
    shape = (channels, height, width) if real == "CHW" else (height, width, channels)
    dtype: Any = draw(st.sampled_from([np.uint8, np.float32]))
    space = gym.spaces.Box(0, 255, shape, dtype)
    word = draw(st.sampled_from([None, real]))
    layout = word or image_layout(space)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    frames = [rng.integers(0, 256, shape).astype(dtype) for _ in range(5)]
    return space, word, layout, frames


@settings(max_examples=40, deadline=None)
@given(images(), st.integers(1, 4))
def test_runner_replay_and_learner_stack_alike(
    drawn: tuple[gym.spaces.Box, str | None, str, list[np.ndarray]], frame_stack: int
) -> None:
    space, word, layout, frames = drawn
    config = {} if word is None else {"layout": word}
    padded = [frames[0]] * (frame_stack - 1) + frames
    expected = [slow_stack(padded[t : t + frame_stack], layout) for t in range(5)]

    labeled = with_layout(space, config)
    stack = FrameStack(frame_stack, 1, labeled)
    stack.reset(frames[0][None], np.array([True]))
    acted = [stack.stacked()[0]]
    for frame in frames[1:]:
        stack.push(frame[None])
        acted.append(stack.stacked()[0])
    np.testing.assert_array_equal(acted, expected)

    episode = chunk(np.stack(frames), range(4), terminated=True)
    buffer = ReplayBuffer(20, labeled, ACTIONS, frame_stack=frame_stack, seed=0)
    buffer.add([episode])
    for row in all_steps(buffer).values():
        t = int(row["rewards"])
        np.testing.assert_array_equal(row["obs"], expected[t])
        np.testing.assert_array_equal(row["new_obs"], expected[t + 1])

    if frame_stack > 1:
        options: dict[str, Any] = {"frame_stack": frame_stack, "encoder_config": config}
        runner = StackObservationsEnvToModule(space, ACTIONS, **options)
        assert runner.observation_space == stacked_space(space, frame_stack, config)
        assert image_layout(runner.observation_space) == layout
        learner = AddStackedObservations(space, ACTIONS, next_obs=True, **options)
        episode.observation_space = space
        rows = learner(rl_module=None, batch={}, episodes=[episode])
        for column, first in (("obs", 0), ("new_obs", 1)):
            (items,) = rows[column].values()
            np.testing.assert_array_equal(np.concatenate(items), expected[first : first + 4])


@settings(max_examples=25, deadline=None)
@given(images(), st.integers(1, 4))
def test_encoder_augmentation_and_views_read_the_same_channels(
    drawn: tuple[gym.spaces.Box, str | None, str, list[np.ndarray]], frame_stack: int
) -> None:
    space, word, layout, frames = drawn
    module: Any = built_module(space, word, frame_stack)
    batch = torch.as_tensor(slow_stack(frames[:frame_stack], layout))[None]
    channels_axis = 0 if layout == "CHW" else 2
    num_channels = space.shape[channels_axis] * frame_stack

    # The encoder's first layer sees channels x height x width.
    seen: list[torch.Tensor] = []
    first_convolution(module.encoder).register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0])
    )
    module.encoder(batch)
    scale = 255 if space.dtype == np.uint8 else 1
    images_seen = torch.movedim(batch.float(), channels_axis + 1, 1) / scale
    torch.testing.assert_close(seen[0], images_seen)
    assert module.encoder.layers[0].in_channels == num_channels

    # Images whose channels are constant do not change by a shift with replicated borders.
    shape = [1] * 3
    shape[channels_axis] = num_channels
    constant = torch.arange(num_channels).reshape(shape).expand(batch.shape).float()
    torch.testing.assert_close(module.augmentation(constant), constant)
    space = module.observation_space
    views = make_views(space, module.encoder, pad=2, crop=None, crop_first=False, noise=0.1)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(views(constant, generator), constant)


@settings(max_examples=15, deadline=None)
@given(images(), st.integers(1, 4))
def test_an_exported_policy_reads_the_channels_of_training(
    drawn: tuple[gym.spaces.Box, str | None, str, list[np.ndarray]], frame_stack: int
) -> None:
    space, word, layout, frames = drawn
    module = built_module(space, word, frame_stack, acts_only=True)
    policy = Policy(module, policy_settings(space, module))
    with tempfile.TemporaryDirectory() as folder:
        loaded = Policy.load(policy.save(Path(folder) / "export"))
    for frame in frames[:frame_stack]:
        assert policy.act(frame) == loaded.act(frame)
    batch = torch.as_tensor(slow_stack(frames[:frame_stack], layout))[None]
    assert torch.equal(loaded.seen(frames[frame_stack - 1]), batch)
    assert image_layout(loaded.module.observation_space) == layout


def test_layout_survives_pickling_and_equals_the_plain_box() -> None:
    space = stacked_space(image(5, 7, 6), 4, {"layout": "HWC"})
    copy = pickle.loads(pickle.dumps(space))
    assert image_layout(copy) == "HWC"
    assert copy == space == image(5, 7, 24)
    assert image(5, 7, 24) == space
    assert channels_first(copy) == (24, 5, 7)


def test_each_image_of_a_dict_has_its_own_layout() -> None:
    space = gym.spaces.Dict(
        OrderedDict(
            wide=image(6, 9, 5), b=gym.spaces.Tuple([image(6, 9, 5), image(9, 6, 5)]),
            a=gym.spaces.Discrete(3),
        )
    )  # fmt: skip
    config = {
        "encoders": {
            "wide": {"config": {"layout": "CHW"}},
            "b": {"config": {"encoders": {"0": {"config": {"layout": "HWC"}}}}},
        }
    }
    labeled = with_layout(space, config)
    assert isinstance(labeled, gym.spaces.Dict)
    assert labeled == space
    assert list(labeled) == ["wide", "b", "a"]
    assert image_layout(labeled["wide"]) == "CHW"
    assert isinstance(labeled["b"], gym.spaces.Tuple)
    assert [image_layout(part) for part in labeled["b"].spaces] == ["HWC", "HWC"]
    # The encoders of a loss that has a separate encoder, such as ICM's, read the same layouts.
    module = rlssl.PPOConfig().model(encoder_config=config).auxiliary(icm={"features": "own"})
    spec = module.get_rl_module_spec(
        spaces={DEFAULT_MODULE_ID: (space, ACTIONS)}, inference_only=False
    )
    built: RLModule = spec.build()
    own = built.auxiliary["icm"].features
    assert own is not built.encoder
    for encoder in (built.encoder, own):
        # Channels of "wide" are 6 (CHW); of both parts of "b" they are 5 (HWC).
        convolutions = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
        assert [layer.in_channels for layer in convolutions[::2]] == [6, 5, 5]


def test_two_words_that_contradict_are_an_error() -> None:
    space = with_layout(image(5, 7, 6), {"layout": "HWC"})
    with pytest.raises(SpecError, match="'CHW' contradicts the layout 'HWC'"):
        build_rl_encoder(space, settings_of("CHW"))
    with pytest.raises(SpecError, match="layout must be 'CHW' or 'HWC'; got 'hwc'"):
        with_layout(image(5, 7, 6), {"layout": "hwc"})


def test_a_crop_keeps_the_layout() -> None:
    # By its shape, a crop of 6 x 6 from [8, 9, 6] would still be HWC, but [8, 9, 7] would not.
    for channels in (6, 7):
        space = stacked_space(image(8, 9, channels), 2, {"layout": "HWC"})
        settings = settings_of("HWC", augmentation={"crop": {"size": 6}})
        encoder = build_rl_encoder(space, settings)
        assert first_convolution(encoder).in_channels == 2 * channels


def test_a_stack_without_a_carried_layout_is_read_only_if_it_is_clear() -> None:
    # Four CHW frames [3, 8, 12] and four HWC frames [12, 8, 3] give the same stack.
    with pytest.raises(SpecError, match=r"set model.encoder_config.layout"):
        stacked_with_layout(image(12, 8, 12), 4)
    assert image_layout(stacked_with_layout(image(12, 8, 12), 4, {"layout": "HWC"})) == "HWC"
    # No frame gives this stack of four.
    with pytest.raises(SpecError, match=r"does not show which axis"):
        stacked_with_layout(image(5, 7, 6), 4)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((84, 84, 1), False),
        ((3, 96, 128), False),
        ((210, 160, 3), False),
        ((20, 7, 7), False),
        ((9, 84, 96), False),  # 9 is at most a quarter of 96
        ((10, 8, 3), False),
        ((5, 7, 6), True),
        ((3, 64, 3), True),
        ((4, 4, 4), True),
        ((84, 84, 84), True),
        ((3, 3, 8), True),  # a square of 3 x 3 with 8 channels, or 3 channels of 3 x 8?
    ],
)
def test_ambiguous_shapes(shape: tuple[int, ...], expected: bool) -> None:
    assert is_ambiguous(image(*shape)) is expected
    assert bool(ambiguous_images(image(*shape))) is expected
    assert not ambiguous_images(image(*shape), {"layout": "HWC"})


def test_an_ambiguous_image_gives_a_warning_with_the_key_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = gym.spaces.Dict({"eye": image(5, 7, 6), "speed": gym.spaces.Box(-1, 1, (2,))})
    with caplog.at_level(logging.WARNING):
        rlssl.PPOConfig().adapt_to(EnvSpaces(space, ACTIONS))
        rlssl.PPOConfig().adapt_to(EnvSpaces(image(84, 84, 3), ACTIONS))
    (record,) = caplog.records
    assert "(5, 7, 6) does not show which axis holds the channels" in record.message
    assert "model.encoder_config.encoders.eye.config.layout" in record.message


def test_an_export_of_an_earlier_version_loads_if_it_was_read_rightly(tmp_path: Path) -> None:
    def old_export(shape: tuple[int, ...], name: str) -> Path:
        module = built_module(image(*shape), None, 4, acts_only=True)
        policy = Policy(module, policy_settings(image(*shape), module))
        assert policy.settings["model"]["encoder_config"].pop("layout") == "HWC"
        return policy.save(tmp_path / name)

    loaded = Policy.load(old_export((10, 10, 3), "square"))
    assert loaded.act(np.zeros((10, 10, 3), np.uint8)) in ACTIONS
    # Earlier versions read the stack (12, 8, 12) as CHW. Its weights have the same shapes as those
    # of HWC, so nothing else would refuse it.
    with pytest.raises(SpecError, match="another axis of the stacks for the channels"):
        Policy.load(old_export((12, 8, 3), "wide"))


def test_an_image_space_is_a_box() -> None:
    assert isinstance(with_layout(image(5, 7, 6)), ImageSpace)
    assert with_layout(gym.spaces.Discrete(3)) == gym.spaces.Discrete(3)
