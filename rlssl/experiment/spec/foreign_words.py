"""Words of other libraries, and what rlssl calls the same thing."""

from collections.abc import Iterable

#: Setting in Stable-Baselines3, CleanRL or RLlib -> paths in a spec. The first one counts that the
#: algorithm has; a path outside of `training` is in every spec.
_SETTINGS = {
    "learning_rate": ["training.lr"],
    "policy_lr": ["training.actor_lr", "training.lr"],
    "q_lr": ["training.lr"],
    "n_steps": ["training.train_batch_size_per_learner"],
    "num_steps": ["training.train_batch_size_per_learner"],
    "batch_size": ["training.minibatch_size", "training.train_batch_size_per_learner"],
    "n_epochs": ["training.num_epochs"],
    "update_epochs": ["training.num_epochs"],
    "num_sgd_iter": ["training.num_epochs"],
    "clip_range": ["training.clip_param"],
    "clip_coef": ["training.clip_param"],
    "ent_coef": ["training.entropy_coeff", "training.initial_alpha"],
    "vf_coef": ["training.vf_loss_coeff"],
    "gae_lambda": ["training.lambda_"],
    "gamma": ["training.gamma"],
    "lambda": ["training.lambda_"],
    "max_grad_norm": ["training.grad_clip"],
    "target_kl": ["training.kl_target"],
    "buffer_size": ["training.replay_capacity"],
    "learning_starts": ["training.learning_starts_agent_steps"],
    "train_freq": ["training.updates_per_agent_step"],
    "gradient_steps": ["training.updates_per_agent_step"],
    "target_update_interval": ["training.target_update_every_updates"],
    "target_network_frequency": ["training.target_update_every_updates"],
    "policy_delay": ["training.actor_update_every_updates"],
    "exploration_noise": ["training.exploration_std"],
    "net_arch": ["model.encoder_config"],
    "policy_kwargs": ["model.encoder_config"],
    "total_timesteps": ["stop.env_steps"],
    "timesteps": ["stop.env_steps"],
    "n_envs": ["env_runners.num_envs"],
    "num_envs": ["env_runners.num_envs"],
    "num_workers": ["resources.env_runners"],
}

#: Algorithm that is a preset or a variant of another one here.
_ALGORITHMS = {
    "a2c": "a3c with variant a2c",
    "c51": "rainbow",
    "dqn": "rainbow with preset dqn",
    "ddqn": "rainbow with preset dqn",
    "drqv2": "ddpg with preset drq_v2",
    "drq_v2": "ddpg with preset drq_v2",
    "impala": "a3c",
    "ppo2": "ppo",
    "td3": "ddpg with preset td3",
}


def setting_called(word: str, arguments: Iterable[str]) -> str:
    """The path of a setting that other libraries call ``word``; "" if there is none.

    Args:
        word: The unknown key.
        arguments: The settings of the algorithm.

    Example:
        >>> setting_called("clip_range", ["lr", "clip_param"])
        'training.clip_param'
        >>> setting_called("clip_range", ["lr"])
        ''
    """
    known = {f"training.{name}" for name in arguments}
    paths = _SETTINGS.get(word.lower(), [])
    usable = [path for path in paths if path in known or not path.startswith("training.")]
    return usable[0] if usable else ""


def paths_called(word: str) -> list[str]:
    """The paths of a setting that is written without its section, in any library's words.

    Args:
        word: A key that the spec itself does not have.

    Example:
        >>> paths_called("learning_rate"), paths_called("clip_param"), paths_called("nonsense")
        (['training.lr'], ['training.clip_param'], [])
    """
    paths = {path for paths in _SETTINGS.values() for path in paths}
    return _SETTINGS.get(word.lower()) or sorted(one for one in paths if one.endswith(f".{word}"))


def algorithm_called(word: str) -> str:
    """The rlssl name of an algorithm of another library; "" if rlssl does not have it.

    Example:
        >>> algorithm_called("DQN")
        'rainbow with preset dqn'
    """
    return _ALGORITHMS.get(word.lower(), "")


def environment_called(word: str) -> str:
    """The rlssl id of an Atari game with an id of ale-py; "" for another id.

    Example:
        >>> environment_called("ALE/MsPacman-v5"), environment_called("PongNoFrameskip-v4")
        ('atari/MsPacman', 'atari/Pong')
    """
    if word.startswith("ALE/"):
        return f"atari/{word.removeprefix('ALE/').partition('-')[0]}"
    name, _, version = word.partition("NoFrameskip-v")
    return f"atari/{name}" if version else ""
