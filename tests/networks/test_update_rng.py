"""UpdateRNG: one generator per update, and the state of a restored run."""

import torch
from torch import Tensor

from rlssl.networks.update_rng import UpdateRNG


def draw(rng: UpdateRNG) -> Tensor:
    return torch.rand(3, generator=rng.generator())


def test_draws_change_only_with_the_update_and_the_seed() -> None:
    rng = UpdateRNG(seed=1)
    first = draw(rng)
    torch.rand(5)  # other users of the global generator have no effect
    assert torch.equal(draw(rng), first)
    assert not torch.equal(draw(UpdateRNG(seed=2)), first)
    rng.after_update()
    assert rng.num_updates == 1
    assert not torch.equal(draw(rng), first)


def test_restored_generator_continues_with_the_same_draws() -> None:
    rng, restored = UpdateRNG(seed=1), UpdateRNG(seed=2)
    rng.after_update()
    restored.load_state_dict(rng.state_dict())
    assert torch.equal(draw(restored), draw(rng))
    restored.after_update()
    rng.after_update()
    assert torch.equal(draw(restored), draw(rng))


def test_default_seed_is_the_last_seed_of_the_global_generator() -> None:
    torch.manual_seed(7)
    assert torch.equal(draw(UpdateRNG()), draw(UpdateRNG(seed=7)))
