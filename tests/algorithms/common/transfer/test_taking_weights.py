"""Weights of another run: the encoder goes to every copy of it, in every algorithm."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlssl.auxiliary
import rlssl.networks  # noqa: F401
from rlssl.algorithms.common.transfer.parts import encoder_tensors, joined
from rlssl.algorithms.common.transfer.weights import StartWeights
from rlssl.errors import SpecError
from rlssl.networks.target_networks import EMACopy
from rlssl.registry import ALGORITHMS
from tests.algorithms.common.transfer.modules import VECTORS, all_weights, module_of

PAIRS = [(one, other) for one in ALGORITHMS for other in ALGORITHMS]
FRAMES = gym.spaces.Box(0, 255, (3, 24, 24), np.uint8)
PIXELS: dict[str, Any] = {"encoder": "curl", "encoder_config": {}, "frame_stack": 2}

#: Module with encoders of their own -> the attributes that hold an encoder.
COPIES = {
    "ppo": ["encoder", "critic_encoder"],
    "a3c": ["encoder", "critic_encoder"],
    "rainbow": ["encoder"],
    "sac": ["encoder", "actor_encoder"],
    "ddpg": ["encoder", "actor_encoder"],
    "iql": ["encoder", "actor_encoder", "value_encoder"],
}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_encoder_of_any_algorithm_goes_to_any_other(source: str, target: str) -> None:
    trained, module = module_of(source, seed=1), module_of(target, seed=2)
    before = all_weights(module)
    taken = StartWeights.of(trained).take(module, "encoder")
    expected = encoder_tensors(trained.encoder)
    for name, value in expected.items():
        assert not value.equal(before[f"encoder.{name}"]) or value.ndim == 1  # biases start at 0
    copies = COPIES.get(target, ["encoder"])
    for attribute in copies:
        own = encoder_tensors(getattr(module, attribute))
        assert own.keys() == expected.keys()
        assert all(own[name].equal(value) for name, value in expected.items())
    assert taken.taken == copies
    others = [name for name in before if name.split(".")[0] not in (*copies, "target")]
    assert all(before[name].equal(module.state_dict()[name]) for name in others)


@pytest.mark.parametrize("target", ["rainbow", "sac"])
def test_target_networks_start_as_copies_of_the_trained_encoder(target: str) -> None:
    module = module_of(target, seed=2)
    StartWeights.of(module_of("ppo", seed=1)).take(module, "encoder")
    for part in module.modules():
        if isinstance(part, EMACopy):
            for (name, own), online in zip(
                part.target.state_dict().items(),
                part.__dict__["_online"].state_dict().values(),
                strict=True,
            ):
                assert own.equal(online), name


@pytest.mark.parametrize("loss", ["spr", "curl", "atc"])
def test_momentum_copies_of_losses_start_as_copies_of_the_trained_encoder(loss: str) -> None:
    trained = module_of("ppo", FRAMES, seed=1, **PIXELS)
    module = module_of("ppo", FRAMES, seed=2, losses={loss: {}}, **PIXELS)
    StartWeights.of(trained).take(module, "encoder")
    whole = module.encoder.state_dict()
    copies = [part for part in module.auxiliary.modules() if isinstance(part, EMACopy)]
    of_encoder = [it for it in copies if it.target.state_dict().keys() == whole.keys()]
    assert len(of_encoder) == 1
    for name, value in of_encoder[0].target.state_dict().items():
        assert value.equal(trained.encoder.state_dict()[name])


@pytest.mark.parametrize(("source", "target"), [("ppo", "sac"), ("sac", "ppo"), ("sac", "ddpg")])
def test_split_encoder_of_images_computes_the_same_latents(source: str, target: str) -> None:
    # SAC splits the encoder behind its convolutions, and keeps its weights channels-last.
    trained = module_of(source, FRAMES, seed=1, **PIXELS)
    module = module_of(target, FRAMES, seed=2, **PIXELS)
    taken = StartWeights.of(trained).take(module, "encoder")
    assert taken.taken[0] == "encoder"
    images = torch.randint(0, 256, (5, 6, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(module.encoder(images), trained.encoder(images))
    if target != "ppo":  # the actor's own layers behind the shared convolutions
        head = encoder_tensors(trained.encoder)
        own = module.actor_encoder.state_dict()
        for name, value in own.items():
            name = f"head.{name}"
            assert joined(name, value).equal(joined(name, head[name]))
        assert taken.taken == ["encoder", "actor_encoder"]


def test_statistics_of_observations_come_along() -> None:
    trained = module_of("ppo", seed=1, normalize_observations=True)
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 3.0, 8.0]])
    trained.normalizer.update(trained.normalizer.moments(rows))
    module = module_of("sac", seed=2, normalize_observations=True)
    taken = StartWeights.of(trained).take(module, "encoder")
    # Means of 1, 3 and 2, 2 and 3, 3 and 4, 8.
    assert module.normalizer.statistics()["mean"].tolist() == [2.0, 2.0, 3.0, 6.0]
    assert module.normalizer.statistics()["count"] == 2
    assert "normalizer" in taken.taken
    with torch.no_grad():
        assert module.encoder(rows).equal(trained.encoder(rows))


def test_policy_and_heads_are_taken_where_both_have_them() -> None:
    trained, module = module_of("ppo", seed=1), module_of("a3c", seed=2)
    before = all_weights(module)
    assert StartWeights.of(trained).take(module, "policy").taken == [
        *("encoder", "critic_encoder", "pi"),
    ]
    assert module.pi.weight.equal(trained.pi.weight)
    assert module.vf.weight.equal(before["vf.weight"])
    assert StartWeights.of(trained).take(module, "heads").taken[-1] == "vf"
    assert module.vf.weight.equal(trained.vf.weight)


def test_actor_and_trunk_of_the_critic_transfer_and_its_values_do_not() -> None:
    # What URLB's fine-tuning keeps of a pretrained agent.
    trained = module_of("ddpg", FRAMES, seed=1, **PIXELS)
    module = module_of("ddpg", FRAMES, seed=2, **PIXELS)
    before = all_weights(module)
    StartWeights.of(trained).take(module, "policy")
    own, theirs = all_weights(module), all_weights(trained)
    for name in ("encoder.body", "encoder.projection", "actor_encoder", "actor"):
        names = [key for key in own if key.startswith(f"{name}.")]
        assert names and all(own[key].equal(theirs[key]) for key in names)
    values = [key for key in own if key.startswith("critic.")]
    assert values and all(own[key].equal(before[key]) for key in values)
    # The target networks are copies of the online networks.
    target = own["target.target.encoder.projection.0.weight"]
    assert target.equal(theirs["encoder.projection.0.weight"])


REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "activation": (
        {"encoder_config": {"hidden": [16], "activation": "relu"}},
        "encoder",
        ("model.encoder_config is", "'tanh'} there", "'relu'} here"),
    ),
    "size": (
        {"encoder_config": {"hidden": [32]}},
        "encoder",
        ("'hidden': [16]", "'hidden': [32]"),
    ),
    "stack": ({"frame_stack": 3}, "encoder", ("float32 [4] there", "float32 [12] here")),
    "normalizer": (
        {"normalize_observations": True},
        "encoder",
        ("model.normalize_observations is False there, {'min_std': 0.0, 'clip': 10.0} here",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_encoder_that_differs_is_refused_naming_both_sides(case: str) -> None:
    model, load, words = REFUSED[case]
    weights = StartWeights.of(module_of("ppo"))
    module = module_of("ppo", **model)
    before = all_weights(module)
    with pytest.raises(SpecError) as raised:
        weights.take(module, load)  # type: ignore[arg-type]
    assert all(word in str(raised.value) for word in words), raised.value
    assert all(value.equal(module.state_dict()[name]) for name, value in before.items())


def test_other_observations_are_refused() -> None:
    weights = StartWeights.of(module_of("ppo"))
    other = gym.spaces.Dict({"position": VECTORS})
    with pytest.raises(SpecError, match=r"float32 \[4\] there, \{position: float32 \[4\]\} here"):
        weights.check(module_of("ppo", other, encoder="dict", encoder_config={}), "encoder")


def test_bounds_of_integer_images_are_compared_and_those_of_floats_are_not() -> None:
    weights = StartWeights.of(module_of("ppo"))
    wide = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    assert weights.check(module_of("sac", wide), "encoder").taken[0] == "encoder"
    images = StartWeights.of(module_of("ppo", FRAMES, **PIXELS))
    dark = gym.spaces.Box(0, 127, (3, 24, 24), np.uint8)
    with pytest.raises(SpecError, match=r"up to 255, CHW there.*up to 127, CHW here"):
        images.check(module_of("ppo", dark, **PIXELS), "encoder")


def test_policy_of_another_kind_is_refused() -> None:
    weights = StartWeights.of(module_of("ppo"))
    with pytest.raises(SpecError, match=r"weight 'head.*missing there.*model.load: encoder"):
        weights.check(module_of("rainbow"), "policy")


def test_head_of_another_size_is_refused() -> None:
    trained, module = module_of("sac"), module_of("sac", losses={})
    weights = StartWeights.of(trained)
    state = dict(weights.state)
    name = next(name for name in state if name.startswith("actor."))
    state[name] = np.zeros((1, 1))
    changed = StartWeights(state, weights.encoder, weights.description)
    with pytest.raises(SpecError, match=r"is \[1, 1\] there, .* here. With model.load: encoder"):
        changed.check(module, "heads")


def test_everything_needs_the_same_weights() -> None:
    weights = StartWeights.of(module_of("ppo", seed=1))
    module = module_of("ppo", seed=2)
    weights.take(module, "everything")
    assert module.vf.weight.equal(torch.as_tensor(weights.state["vf.weight"]))
    with pytest.raises(SpecError, match=r"weight 'auxiliary.icm.* is missing there"):
        weights.check(module_of("ppo", losses={"icm": {}}), "everything")
