"""Algorithms: each a folder with its config and Algorithm, its Learner and its RLModule."""

from rlssl.registry import Registry

#: name -> "module:attribute" of the algorithm's config class.
ALGORITHMS: Registry = Registry("algorithm")
ALGORITHMS.register("a3c", "rlssl.algorithms.a3c.a3c:A3CConfig")
ALGORITHMS.register("ddpg", "rlssl.algorithms.ddpg.ddpg:DDPGConfig")
ALGORITHMS.register("ppo", "rlssl.algorithms.ppo.ppo:PPOConfig")
ALGORITHMS.register("rainbow", "rlssl.algorithms.rainbow.rainbow:RainbowConfig")
ALGORITHMS.register("sac", "rlssl.algorithms.sac.sac:SACConfig")
