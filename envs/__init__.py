"""The environment suites and the experts of rlssl, registered in the same way as a user's own.

This module registers names only; a suite is imported when one of its environments is built, an
expert when it is made.
"""

from rlssl.registry import register_env, register_env_option, register_expert

for family in ("MiniGrid-*", "BabyAI-*"):
    register_env(
        family,
        "rlssl_envs.minigrid:make",
        extra="minigrid",
        ids=f"rlssl_envs.minigrid:{family.partition('-')[0].lower()}_ids",
        options="rlssl_envs.options:MiniGrid",
    )
register_env(
    "dmc/*",
    "rlssl_envs.dmc:make_state",
    ids="rlssl_envs.dmc:state_ids",
    options="rlssl_envs.options:ControlSuite",
)
register_env(
    "dmc-pixels/*",
    "rlssl_envs.dmc:make_pixels",
    ids="rlssl_envs.dmc:pixel_ids",
    options="rlssl_envs.options:ControlSuitePixels",
)
register_env(
    "atari/*",
    "rlssl_envs.atari:make",
    "rlssl_envs.atari:make_vec",
    ids="rlssl_envs.atari:ids",
    options="rlssl_envs.options:Atari",
)
for module, options in (("minatar", "MinAtar"), ("vizdoom", "ViZDoom"), ("robotics", "Robotics")):
    register_env(
        f"{module}/*",
        f"rlssl_envs.{module}:make",
        extra=module,
        ids=f"rlssl_envs.{module}:ids",
        options=f"rlssl_envs.options:{options}",
    )
register_env(
    "goals/bit-flipping",
    "rlssl_envs.bit_flipping:make",
    options="rlssl_envs.options:BitFlipping",
)
for module, options in (("memory", "Memory"), ("faulty", "Faulty")):
    register_env(
        f"{module}/*",
        f"rlssl_envs.{module}:make",
        ids=f"rlssl_envs.{module}:ids",
        options=f"rlssl_envs.options:{options}",
    )
register_env_option(
    "noisy_tv",
    check="rlssl_envs.noisy_tv:check",
    wrap="rlssl_envs.noisy_tv:wrap",
    wrap_vec="rlssl_envs.noisy_tv:wrap_vec",
)
register_env_option(
    "distractors",
    check="rlssl_envs.distractors:check",
    wrap="rlssl_envs.distractors:wrap",
    wrap_vec="rlssl_envs.distractors:wrap_vec",
)
register_expert("babyai-bot", "rlssl_envs.experts.babyai_bot:Bot")
register_expert("cartpole", "rlssl_envs.experts.classic_control:CartPole")
register_expert("pendulum", "rlssl_envs.experts.classic_control:Pendulum")
