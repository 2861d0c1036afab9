"""How RLlib seeds torch. If Ray changes it, a test fails."""

import inspect
import subprocess
import sys

from ray.rllib.utils import torch_utils
from ray.rllib.utils.debug import deterministic

#: Prints what a seed leaves in a new process.
SEED = """
import sys
import torch
from ray.rllib.utils.debug import deterministic
if {quickly}:
    from rlssl.ray_internals.seeding import seed_without_compiler
    seed_without_compiler()
deterministic.update_global_seed_if_necessary("torch", 7)
state = (
    torch.get_deterministic_debug_mode(),
    torch.backends.cudnn.deterministic,
    torch.backends.cudnn.benchmark,
    torch.rand(3).tolist(),
)
print(state, "torch._inductor" in sys.modules, sep="|")
"""


def _left_by(*, quickly: bool) -> tuple[str, str]:
    code = SEED.format(quickly=quickly)
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    state, imported = shown.strip().splitlines()[-1].split("|")
    return state, imported


def test_rllib_still_seeds_in_this_way() -> None:
    assert "set_torch_seed(seed=seed)" in inspect.getsource(
        deterministic.update_global_seed_if_necessary
    )
    source = inspect.getsource(torch_utils.set_torch_seed)
    assert source.count("torch.") == 10, "RLlib seeds otherwise: see seeding.py"


def test_a_seed_leaves_what_rllib_leaves_but_not_the_compiler() -> None:
    state, imported = _left_by(quickly=True)
    assert (state, "True") == _left_by(quickly=False)
    assert imported == "False"


def test_a_built_algorithm_has_not_imported_the_compiler() -> None:
    code = """
import sys
import rlssl.rollouts.stock_env_runner
from rlssl.algorithms.ppo.ppo import PPOConfig
config = PPOConfig().environment("CartPole-v1").debugging(seed=3)
config.training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1)
algorithm = config.build_algo()
algorithm.train()
assert "torch._inductor" not in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
