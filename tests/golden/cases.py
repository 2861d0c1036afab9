"""What the golden record trains: every algorithm with every loss, and variants of their code."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import rlssl
from tests.golden import environments  # noqa: F401  (registers)

Options = dict[str, Any]

#: Algorithm -> its config in rlssl's public interface.
CONFIGS = {
    "ppo": "PPOConfig",
    "a3c": "A3CConfig",
    "rainbow": "RainbowConfig",
    "ddpg": "DDPGConfig",
    "sac": "SACConfig",
}
CONTINUOUS = ("ddpg", "sac")
LOSSES = ("icm", "curl", "deepmdp", "bisimulation")

#: Algorithm -> settings of `.training()` that keep a case short.
TRAINING: dict[str, Options] = {
    "ppo": {
        "train_batch_size_per_learner": 64,
        "minibatch_size": 32,
        "num_epochs": 2,
        "lr": [[0, 1e-3], [2000, 0.0]],
    },
    "a3c": {"agent_steps_per_iteration": 100},
    "rainbow": {"num_atoms": 21, "head_hidden": [16], "sigma0": 0.5},
    "ddpg": {"critic_hidden": [16], "actor_hidden": [16]},
    "sac": {"critic_hidden": [16], "actor_hidden": [16]},
}
#: Of algorithms with a replay; its capacity is smaller than the number of steps of a case.
REPLAY: Options = {
    "train_batch_size_per_learner": 16,
    "replay_capacity": 150,
    "learning_starts_agent_steps": 40,
    "agent_steps_per_iteration": 60,
    "updates_per_agent_step": 0.25,
    "target_update_every_updates": 3,
}
MLP: Options = {"encoder_config": {"hidden": [16]}}
LSTM: Options = {"lstm": {"hidden": 8, "sequence_length": 8}}
#: Two small convolutions, as of CURL.
SMALL_CURL: Options = {
    "encoder": "curl",
    "encoder_config": {"num_layers": 2, "num_filters": 4, "feature_dim": 8},
}
CROP: Options = {"augmentation": {"crop": {"size": 12}}}


@dataclass(frozen=True)
class Case:
    """One short training."""

    name: str
    algorithm: str
    env: Any
    losses: Options = field(default_factory=dict)
    model: Options = field(default_factory=dict)
    training: Options = field(default_factory=dict)
    env_runners: Options = field(default_factory=dict)
    learners: Options = field(default_factory=dict)
    vectorization: Options = field(default_factory=dict)
    evaluation: Options = field(default_factory=dict)
    iterations: int = 3

    @property
    def is_remote(self) -> bool:
        """Whether the policy acts in another process."""
        return bool(self.env_runners.get("num_env_runners"))

    def config(self) -> Any:
        """The config, through the public interface alone."""
        shared = REPLAY if self.algorithm not in ("ppo", "a3c") else {}
        training = {**TRAINING[self.algorithm], **shared, **self.training}
        config = getattr(rlssl, CONFIGS[self.algorithm])().environment(self.env)
        config.env_runners(**{"num_envs_per_env_runner": 2, **self.env_runners})
        config.model(**self.model).training(**training).auxiliary(**self.losses)
        config.vectorization(**self.vectorization).evaluation(**self.evaluation)
        return config.learners(**self.learners).debugging(seed=7, log_level="ERROR")


def all_cases() -> list[Case]:
    """Every case, with a name of its own."""
    cases = [*_matrix(), *_ppo(), *_a3c(), *_rainbow(), *_ddpg(), *_sac(), *_options(), *_envs()]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), sorted(names)
    return cases


def vectors(algorithm: str) -> str:
    """The environment with vectors for an algorithm."""
    return "golden/pendulum" if algorithm in CONTINUOUS else "golden/cartpole"


def _matrix() -> Iterator[Case]:
    """Every algorithm with no loss and with each, on vectors, on small images and on frames."""
    for algorithm in CONFIGS:
        prefix = "" if algorithm in CONTINUOUS else "discrete-"
        inputs = {
            "vectors": (vectors(algorithm), MLP),
            "images": (f"golden/{prefix}dot", {}),
            "frames": (f"golden/{prefix}frames", {}),
        }
        for kind, (env, model) in inputs.items():
            for loss in ("none", *LOSSES):
                losses: Options = {} if loss == "none" else {loss: {}}
                if loss in ("deepmdp", "bisimulation") and kind == "frames":
                    model = SMALL_CURL
                iterations = 2 if kind == "frames" else 3
                name = f"{algorithm}-{kind}-{loss}"
                yield Case(name, algorithm, env, losses, model, iterations=iterations)


def _ppo() -> Iterator[Case]:
    cartpole, pendulum = "golden/cartpole", "golden/pendulum"
    adaptive: Options = {"variant": "adaptive_kl"}
    recurrent = {**MLP, **LSTM}
    frames, small = "golden/discrete-frames", "golden/discrete-dot"
    yield Case("ppo-adaptive_kl-lstm", "ppo", cartpole, {}, recurrent, adaptive)
    for loss in LOSSES:
        yield Case(f"ppo-adaptive_kl-lstm-{loss}", "ppo", cartpole, {loss: {}}, recurrent, adaptive)
    yield Case("ppo-lstm-images-curl", "ppo", small, {"curl": {}}, {**SMALL_CURL, **LSTM})
    for loss in ("none", *LOSSES):
        losses: Options = {} if loss == "none" else {loss: {}}
        yield Case(f"ppo-both-pendulum-{loss}", "ppo", pendulum, losses, MLP, {"variant": "both"})
    everything: Options = {loss: {} for loss in LOSSES}
    yield Case("ppo-all-losses", "ppo", cartpole, everything, MLP)
    yield Case("ppo-shared-encoder", "ppo", cartpole, {"icm": {}}, {**MLP, "shared_encoder": True})
    yield Case("ppo-frame-stack", "ppo", cartpole, {"icm": {}}, {**MLP, "frame_stack": 3})
    yield Case("ppo-crop-curl", "ppo", small, {"curl": {}}, {**SMALL_CURL, **CROP})
    yield Case("ppo-shift-frames", "ppo", frames, {}, {"augmentation": "shift"}, iterations=2)
    separate: Options = {"shared_encoder": False, "augmentation": {"intensity": {"scale": 0.1}}}
    yield Case("ppo-separate-encoders", "ppo", small, {"curl": {}}, separate)
    half: Options = {**SMALL_CURL, "precision": "bfloat16"}
    yield Case("ppo-bfloat16", "ppo", small, {"curl": {}}, half)
    for encoder in ("impala", "icm", "data_efficient"):
        yield Case(f"ppo-{encoder}", "ppo", frames, {}, {"encoder": encoder}, iterations=1)
    for loss in ("icm", "deepmdp"):
        yield Case(f"ppo-mixed-{loss}", "ppo", "golden/mixed", {loss: {}})
    remote: Options = {"num_env_runners": 1}
    yield Case("ppo-remote-runner", "ppo", cartpole, {"icm": {}}, MLP, env_runners=remote)
    yield Case(
        "ppo-remote-learner", "ppo", cartpole, {"icm": {}}, MLP, learners={"num_learners": 1}
    )
    evaluation: Options = {"every_env_steps": 100, "episodes": 3}
    yield Case("ppo-evaluation", "ppo", cartpole, {}, MLP, evaluation=evaluation)
    for way in ("sync", "async"):
        yield Case(f"ppo-{way}", "ppo", cartpole, {}, MLP, vectorization={"vectorize": way})
    halves: Options = {"vectorize": "async", "double_buffering": True}
    yield Case("ppo-double-buffering", "ppo", cartpole, {}, MLP, vectorization=halves)


def _a3c() -> Iterator[Case]:
    cartpole, pendulum = "golden/cartpole", "golden/pendulum"
    adam: Options = {"optimizer": "adam", "optimizer_state": "per_worker"}
    for loss in ("none", *LOSSES):
        losses: Options = {} if loss == "none" else {loss: {}}
        yield Case(f"a2c-{loss}", "a3c", cartpole, losses, MLP, {"synchronous": True})
    yield Case("a3c-adam-lstm-icm", "a3c", cartpole, {"icm": {}}, {**MLP, **LSTM}, adam)
    annealed: Options = {"lr": [[0, 1e-3], [1000, 0.0]], "normalize_advantages": True}
    yield Case("a3c-pendulum-deepmdp", "a3c", pendulum, {"deepmdp": {}}, MLP, annealed)
    remote: Options = {"num_env_runners": 1}
    for mode in (False, True):
        name = f"a{2 if mode else 3}c-remote-runner"
        yield Case(name, "a3c", cartpole, {}, MLP, {"synchronous": mode}, env_runners=remote)


def _rainbow() -> Iterator[Case]:
    cartpole, frames = "golden/cartpole", "golden/discrete-frames"
    dqn: Options = {
        **{"double": False, "dueling": False, "distributional": False, "noisy": False},
        **{"n_step": 1, "replay": {"prioritized": False}},
    }
    efficient: Options = {
        **{"n_step": 20, "sigma0": 0.1, "bias_sigma_fan": "out", "priority": "cross_entropy"},
        **{"eval_epsilon": 0.001, "updates_per_agent_step": 1.0, "v_min": -10.0, "v_max": 10.0},
    }
    one: Options = {"num_envs_per_env_runner": 1, "rollout_fragment_length": 1}
    for loss in ("none", *LOSSES):
        losses: Options = {} if loss == "none" else {loss: {}}
        yield Case(f"rainbow-dqn-{loss}", "rainbow", cartpole, losses, MLP, dqn)
    atari: Options = {"curl": {"variant": "atari"}}
    encoder: Options = {"encoder": "data_efficient"}
    for loss, losses in {"none": {}, "curl": atari}.items():
        name = f"rainbow-data_efficient-{loss}"
        yield Case(name, "rainbow", frames, losses, encoder, efficient, one, iterations=2)
    variants: dict[str, Options] = {
        "boltzmann": {"exploration": "boltzmann", "temperature": [[0, 1.0], [500, 0.1]]},
        "noise-per-episode": {"noise_redraw": "episode", "noise": "independent"},
        "soft-target": {"target_tau": 0.05, "td_loss": "mse", "distributional": False},
        "uniform-for-auxiliary": {"replay": {"uniform_for_auxiliary": True, "alpha": 0.7}},
        "auxiliary-in-priorities": {"auxiliary_in_priorities": True},
        "prefetch": {"replay": {"prefetch": 2}},
    }
    for name, training in variants.items():
        yield Case(f"rainbow-{name}", "rainbow", cartpole, {"icm": {}}, MLP, training)
    burda: Options = {"icm": {"variant": "burda"}, "curl": {}}
    yield Case("rainbow-frame-stack", "rainbow", cartpole, burda, {**MLP, "frame_stack": 3})
    remote: Options = {"num_env_runners": 1}
    yield Case("rainbow-remote-runner", "rainbow", cartpole, {}, MLP, env_runners=remote)


def _ddpg() -> Iterator[Case]:
    pendulum, frames = "golden/pendulum", "golden/frames"
    plain: Options = {"encoder": "mlp", "encoder_config": {"hidden": []}}
    td3: Options = {
        **{"num_critics": 2, "target_noise_std": 0.2, "target_noise_clip": 0.5},
        **{"exploration_std": 0.1, "actor_update_every_updates": 2},
        **{"target_update_every_updates": 2},
    }
    for loss in ("none", "icm", "deepmdp"):
        losses: Options = {} if loss == "none" else {loss: {}}
        model = plain if loss == "none" else MLP
        yield Case(f"ddpg-td3-{loss}", "ddpg", pendulum, losses, model, td3)
    walk: Options = {
        **{"exploration": "ornstein_uhlenbeck", "final_bound": 3e-3, "actor_lr": 1e-4},
        **{"critic_weight_decay": 1e-2, "saturation_penalty": 0.1},
    }
    yield Case("ddpg-lillicrap", "ddpg", pendulum, {}, MLP, walk)
    drq: Options = {
        **{"num_critics": 2, "network_init": "orthogonal", "target_actor": False},
        **{"target_encoder": False, "reuse_features": True, "target_noise_std": None},
        **{"actor_noise": True, "actor_critics": "min", "random_agent_steps": 30},
        **{"exploration_std": [[0, 1.0], [500, 0.1]], "updates_per_agent_step": 0.5},
    }
    model = {**SMALL_CURL, "augmentation": {"shift_bilinear": {"pad": 4}}}
    for loss in ("none", "curl", "bisimulation"):
        losses = {} if loss == "none" else {loss: {}}
        yield Case(f"ddpg-drq_v2-{loss}", "ddpg", frames, losses, model, drq, iterations=2)
    prioritized: Options = {"replay": {"prioritized": True}}
    yield Case("ddpg-prioritized", "ddpg", pendulum, {"bisimulation": {}}, MLP, prioritized)


def _sac() -> Iterator[Case]:
    pendulum, dot = "golden/pendulum", "golden/dot"
    separate: Options = {
        **{"network_init": "orthogonal", "log_std_bounds": [-10.0, 2.0], "log_std_mode": "tanh"},
        **{"initial_alpha": 0.1, "alpha_lr": 1e-4, "alpha_beta1": 0.5, "encoder_tau": 0.05},
        **{"actor_update_every_updates": 2, "random_agent_steps": 30},
        **{"auxiliary_step": "separate"},
    }
    for name, options in {"": {}, "-twice": {"double_encoder_step": True}}.items():
        losses: Options = {"curl": options}
        yield Case(f"sac-curl{name}", "sac", dot, losses, {**SMALL_CURL, **CROP}, separate)
    yield Case(
        "sac-separate-icm", "sac", pendulum, {"icm": {}}, MLP, {"auxiliary_step": "separate"}
    )
    fixed: Options = {"learn_alpha": False, "replay": {"prioritized": True}, "n_step": 3}
    yield Case("sac-prioritized", "sac", pendulum, {"deepmdp": {}}, MLP, fixed)
    yield Case("sac-frame-stack", "sac", dot, {}, {**SMALL_CURL, "frame_stack": 3})


#: Loss -> options that take other branches than its defaults.
OPTIONS: dict[str, list[Options]] = {
    "icm": [
        {"variant": "pathak", "features": "shared"},
        {"variant": "pathak", "features": "random"},
        {"variant": "burda"},
        {"variant": "burda", "features": "own"},
        {"intrinsic_coeff": 0.01, "lr": 1e-4},
    ],
    "curl": [
        {"variant": "atari"},
        {"variant": "atari", "trained_layernorm": True},
        {"shuffled_positives": True},
        {"isolated": True},
    ],
    "deepmdp": [
        {"decoder": "next_observation", "gradient_penalty": 1.0, "transition": "probabilistic"},
        {"features": "own", "decoder": "observation"},
        {"transition": "ensemble"},
    ],
    "bisimulation": [
        {"variant": "paper", "transition": "probabilistic"},
        {"transition": "ensemble", "mask_terminals": True, "normalize_rewards": True},
        {"features": "own"},
        {"shuffled_positives": True},
    ],
}


def _options() -> Iterator[Case]:
    """Options of the losses, in PPO and SAC, on vectors; decoders on images, too."""
    for loss, sets in OPTIONS.items():
        for number, options in enumerate(sets):
            for algorithm in ("ppo", "sac"):
                name = f"{algorithm}-{loss}-options-{number}"
                yield Case(name, algorithm, vectors(algorithm), {loss: options}, MLP, iterations=2)
    for number, options in enumerate(OPTIONS["deepmdp"][:2]):
        name = f"sac-images-decoder-{number}"
        yield Case(name, "sac", "golden/dot", {"deepmdp": options}, iterations=2)


def _envs() -> Iterator[Case]:
    """Built-in environments, through the ways in which rlssl vectorizes them."""
    ids = ("CartPole-v1", "memory/cue", "minatar/Breakout", "MiniGrid-Empty-5x5-v0", "atari/Pong")
    for env in (*ids, "dmc/cartpole-swingup"):
        curl: Options = {"curl": {}} if env == "minatar/Breakout" else {}
        yield Case(f"ppo-env-{env.replace('/', '-')}", "ppo", env, curl, iterations=2)
    yield Case("sac-env-Pendulum-v1", "sac", "Pendulum-v1", {"icm": {}}, MLP)
