"""Exploration: noise on continuous actions, random choice of discrete actions; without RLlib."""

from rlssl.exploration.discrete import boltzmann, epsilon_greedy
from rlssl.exploration.gaussian import GaussianNoise
from rlssl.exploration.noise import ActionNoise, add_noise
from rlssl.exploration.ornstein_uhlenbeck import OrnsteinUhlenbeckNoise

__all__ = [
    "ActionNoise",
    "GaussianNoise",
    "OrnsteinUhlenbeckNoise",
    "add_noise",
    "boltzmann",
    "epsilon_greedy",
]
