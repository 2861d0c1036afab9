"""The builder methods that every rlssl config adds to RLlib's AlgorithmConfig."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.models.catalog import MODEL_DEFAULTS
from ray.util.debug import log_once

from rlssl.algorithms.common.action_spaces import ActionKind, check_actions
from rlssl.algorithms.common.model_settings import MODEL_KEYS, ModelSettings, check_model
from rlssl.algorithms.common.sections.evaluation import WithEvaluation
from rlssl.algorithms.common.settings import InputKind, TrainingSettings, builder, may_be_none
from rlssl.auxiliary.building import (
    ineffective_options,
    loss_options,
    no_effect_words,
    options_for,
    parse_auxiliary,
)
from rlssl.connectors.env_actions import with_clipped_actions
from rlssl.diagnostics.settings import WithDiagnostics
from rlssl.environments.building import Vectorize
from rlssl.environments.env_check import EnvSpaces, preflight
from rlssl.environments.make_calls import TakesOneDict
from rlssl.environments.rewards.options import check_learnable, with_agent_gamma
from rlssl.errors import SpecError
from rlssl.image_spaces import ambiguous_images, with_layout
from rlssl.networks.encoders import are_frames
from rlssl.networks.layers.vector_normalizer import check_vectors, parse_normalizer
from rlssl.networks.recurrent import LSTMConfig
from rlssl.networks.rl_encoder import crop_size
from rlssl.old_names import current_value
from rlssl.plugins import load_plugins, resolve
from rlssl.ray_internals.env_runner import custom_connectors, tune_environment
from rlssl.ray_internals.learner import BATCH_SIZE_ATTRIBUTE
from rlssl.registry import ENVIRONMENTS, local_registrations, register_env, restore_registrations
from rlssl.rollouts.faults import MAX_CRASHES_PER_1000_ENV_STEPS
from rlssl.rollouts.stock_env_runner import StockEnvRunner, choose_env_runner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner

logger = logging.getLogger(__name__)


class _ModelBuilder(dict):
    """RLlib's old-stack ``model`` dict, but callable: RLlib uses the same name as `.model()`."""

    def __init__(self, build: Callable[..., Any]) -> None:
        super().__init__(MODEL_DEFAULTS)
        self._build = build

    def __call__(self, **settings: Any) -> Any:
        return self._build(**settings)


class BaseConfig(WithDiagnostics, WithEvaluation, AlgorithmConfig):
    """Environments by registered id, auxiliary losses, networks and plug-ins.

    A subclass sets ``settings_class`` and calls ``set_defaults()`` in ``__init__``. In a list of
    base classes, this class comes before an RLlib config class.
    """

    #: The name in `rlssl.registry.ALGORITHMS`.
    algorithm_name: ClassVar[str]
    #: Whether the module and the Learner support `model.lstm`.
    may_be_recurrent: ClassVar[bool] = False
    #: What actions the algorithm can choose.
    actions: ClassVar[ActionKind] = "any"
    #: Named partial specs, e.g. {"td3": {"training": {...}}}; see `rlssl.experiment.spec.loading`.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Variants of the paper or the published code, in the same form.
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: The training settings with their defaults.
    settings_class: ClassVar[type[TrainingSettings]] = TrainingSettings
    #: "module:attribute" of the RLModule and of the Learner. They are imported late, because
    #: reading a spec should not import torch.
    module_class: ClassVar[str]
    learner_class_name: ClassVar[str]
    #: Crashes of environments per 1,000 env steps that end the run, from the tenth crash on. A
    #: default of the class, because configs of earlier versions lack it.
    max_env_crashes_per_1000_env_steps: float = MAX_CRASHES_PER_1000_ENV_STEPS
    #: Whether Learners use only kernels of a GPU that give the same bits every time.
    deterministic: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Adds a ``training`` method that takes the fields of ``settings_class``."""
        super().__init_subclass__(**kwargs)
        if "settings_class" in vars(cls):
            cls.training = builder(cls.settings_class)

    def set_defaults(self) -> None:
        """Sets the defaults of everything that rlssl adds to RLlib's config."""
        for name, value in self.settings_class().defaults().items():
            setattr(self, attribute_of(name), value)
        self.network: dict[str, Any] = dataclasses.asdict(ModelSettings())
        # What `adapt_to` set for the environment: frames in a stack, and names of attributes.
        self.suggested_frame_stack = 1
        self.adapted: list[str] = []
        self.auxiliary_losses: dict[str, Any] = {}
        self.plugin_modules: tuple[str, ...] = ()
        # Objects that this program registered itself; other processes register them, too.
        self.registrations: dict[str, dict[str, Any]] = {}
        self.vectorize: Vectorize = "native"
        # Whether half of the environments step while the policy runs on the other half; None: yes
        # if the environments step in their own threads or processes.
        self.double_buffering: bool | None = None
        # Environment frames per agent step; found by the preflight.
        self.action_repeat: int | None = None
        self.seeded_evaluation: dict[str, Any] = {
            "every_env_steps": None,
            "episodes": 10,
            "explore": False,
            "env": {},
        }
        # Seconds without new env steps before a trial fails.
        self.watchdog_s = 300.0
        # Seconds that one step or reset of an environment may take; see docs/faults.md.
        self.env_step_timeout_s = 30.0
        # Whether checkpoints hold the replay buffer, if the algorithm has one.
        self.checkpoint_replay = True
        # Env steps at which the run ends, for values annealed over the whole run; None: unknown.
        self.total_env_steps: int | None = None
        # Updates in a row with a non-finite gradient before the run fails.
        self.max_nonfinite_updates = 10
        # Folder where the last such batch is saved; None: the current folder.
        self.run_folder: str | None = None
        # By default, RLlib silently drops samples that arrive after a minute. Here the watchdog
        # and env_step_timeout_s bound the time instead.
        self.sample_timeout_s = None
        # RLlib's default is to wait a minute before it restarts a crashed runner.
        self.delay_between_env_runner_restarts_s = 1.0

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Unpickles, also a config of an earlier version."""
        self.__dict__.update(state)
        self._complete_settings()

    def _complete_settings(self) -> None:
        """Sets what a config of an earlier version lacks, and today's spellings of words.

        RLlib restores a config by writing into its ``__dict__``, so `validate` calls this, too.
        """
        types_of = self.settings_class.types()
        for name, default in self.settings_class().defaults().items():
            value = self.__dict__.get(attribute_of(name), default)
            if value is None and not may_be_none(types_of[name]):
                value = default
            self.__dict__[attribute_of(name)] = current_value(value)

    @classmethod
    def training_arguments(cls) -> dict[str, Any]:
        """The keyword arguments of ``.training()`` and their types."""
        return cls.settings_class.arguments()

    def set_training(self, given: Mapping[str, Any]) -> Self:
        """Sets training settings; passes all others on to RLlib's ``training()``."""
        given = {name: value for name, value in given.items() if value is not NotProvided}
        known = given.keys() & self.training_arguments().keys()
        for name in known:
            self.set_setting(name, given[name])
        return super().training(**{name: given[name] for name in given.keys() - known})

    def set_setting(self, name: str, value: Any) -> None:
        """Sets one training setting; also accepts a value's spelling of an earlier version."""
        setattr(self, attribute_of(name), current_value(value))

    def environment(self, env: Any = NotProvided, **kwargs: Any) -> Self:
        """RLlib's ``environment()``; ``env`` may also be ``{"id": ..., **options}``.

        A class, or a name known to ``ray.tune.register_env``, is also registered with rlssl.
        """
        if isinstance(env, Mapping):
            if "id" not in env:
                raise SpecError(f"env needs an 'id'; got {dict(env)}.")
            kwargs["env_config"] = {key: value for key, value in env.items() if key != "id"}
            env = env["id"]
        if isinstance(env, type):
            name = f"class/{env.__qualname__}"
            register_env(name, env)
            env = name
        elif isinstance(env, str) and env not in ENVIRONMENTS:
            creator = tune_environment(env)
            if creator is not None:
                register_env(env, TakesOneDict(creator))
        # Values that `adapt_to` set for another environment do not hold for this one.
        self.action_repeat = None
        for key in self.adapted:
            setattr(self, key, None)
        self.adapted = []
        self.registrations = local_registrations()
        super().environment(env, **kwargs)
        self._fit_rendering_to_crop()
        return self

    def auxiliary(self, **losses: Any) -> Self:
        """Sets the auxiliary losses: ``.auxiliary(icm={"coeff": 1.0})``; replaces earlier ones.

        Raises:
            SpecError: For an unknown loss or option, a bad value, or an option without an effect.
        """
        self.set_auxiliary(losses)
        for path, needed in ineffective_options(self.auxiliary_losses).items():
            _, name, key = path.split(".")
            raise SpecError(no_effect_words(path, losses[name][key], needed))
        return self

    def set_auxiliary(self, losses: Mapping[str, Any]) -> Self:
        """As `auxiliary`, but allows options without an effect.

        A point of a search over a loss's variants may have an option of another point's variant.
        """
        load_plugins(self.plugin_modules)
        parse_auxiliary(options_for(losses, str(self.env)))
        self.registrations = local_registrations()
        self.auxiliary_losses = {name: dict(options) for name, options in losses.items()}
        return self

    @property
    def model(self) -> Any:
        """``.model(encoder=...)`` sets the networks; its keys are the fields of `ModelSettings`."""
        return _ModelBuilder(self._set_network)

    def plugins(self, modules: Sequence[str]) -> Self:
        """Names the modules whose import registers environments, losses and encoders."""
        self.plugin_modules = tuple(modules)
        load_plugins(self.plugin_modules)
        return self

    def load_extensions(self) -> None:
        """Makes all names in the config known to this process; EnvRunners and Learners call it."""
        load_plugins(self.plugin_modules)
        restore_registrations(self.registrations)

    def vectorization(
        self, vectorize: Vectorize | None = None, *, double_buffering: bool | None = None
    ) -> Self:
        """Sets how a runner steps its environments.

        Args:
            vectorize: ``native``, ``sync`` or ``async``.
            double_buffering: Whether one half of a runner's environments step while the policy
                runs on the observations of the other half. Needs environments that step in their
                own threads or processes: Atari's, or ``async``. None: on for these.
        """
        if vectorize is not None:
            if vectorize not in ("native", "sync", "async"):
                raise SpecError(f"vectorize must be native, sync or async; got {vectorize!r}.")
            self.vectorize = vectorize
        if double_buffering is not None:
            self.double_buffering = double_buffering
        return self

    def connectors(self, *, env_to_module: Sequence[str] = (), learner: Sequence[str] = ()) -> Self:
        """Adds ConnectorV2 pieces of the user, named as ``"module:attribute"``.

        Args:
            env_to_module: Pieces before the RLModule. With them, RLlib's own EnvRunner samples.
            learner: Pieces before the defaults of the Learner's pipeline.
        """
        if env_to_module:
            pieces = functools.partial(_env_to_module_pieces, tuple(env_to_module))
            self.env_runners(env_to_module_connector=pieces)
        if learner:
            self.learners(learner_connector=functools.partial(_learner_pieces, tuple(learner)))
        return self

    def experiment(
        self,
        *,
        watchdog_s: float | None = None,
        env_step_timeout_s: float | None = None,
        max_env_crashes_per_1000_env_steps: float | None = None,
        checkpoint_replay: bool | None = None,
        total_env_steps: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """Sets timeouts, the content of checkpoints, the length of the run, and a GPU's kernels.

        Args:
            watchdog_s: Seconds without new env steps after which a trial fails; None: 300.
            env_step_timeout_s: Seconds that one step or reset may take; None: 30.
            max_env_crashes_per_1000_env_steps: Crashes of environments that end the run, judged
                from the tenth crash on; None: 1.
            checkpoint_replay: Whether checkpoints hold the replay buffer; None: yes.
            total_env_steps: Env steps at which the run ends, for values annealed over the run.
            deterministic: See the attribute; None: no.
        """
        given = {
            "watchdog_s": watchdog_s,
            "env_step_timeout_s": env_step_timeout_s,
            "max_env_crashes_per_1000_env_steps": max_env_crashes_per_1000_env_steps,
            "checkpoint_replay": checkpoint_replay,
            "total_env_steps": total_env_steps,
            "deterministic": deterministic,
        }
        for key, value in given.items():
            if value is not None:
                setattr(self, key, value)
        return self

    @property
    def env_settings(self) -> dict[str, Any]:
        """The training environment as ``{"id": ..., **options}``."""
        return with_agent_gamma({"id": self.env, **self.env_config}, self.gamma)

    @property
    def frame_stack(self) -> int:
        """Number of frames in a stacked observation."""
        return int(self.network["frame_stack"] or self.suggested_frame_stack)

    @property
    def samples_in_rounds(self) -> bool:
        """Whether each EnvRunner samples several fragments for a batch, one after the other.

        False here: an algorithm with rounds of its own tells the EnvRunners where each begins.
        """
        return False

    @property
    def normalizes_observations(self) -> bool:
        """Whether vectors are normalized; a config of an earlier version does not say."""
        return parse_normalizer(self.network.get("normalize_observations")) is not None

    @property
    def module_settings(self) -> dict[str, Any]:
        """All settings that the RLModule is built from, besides the spaces."""
        derived = {"frame_stack": self.frame_stack, "seed": self.seed}
        derived["auxiliary"] = loss_options(self)
        return {**self.network, **derived, **self.network_settings}

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """The training settings as used; a subclass resolves those that mean another setting.

        Args:
            action_space: The space of one environment, or None: some defaults depend on it.
        """
        del action_space
        return {name: getattr(self, attribute_of(name)) for name in self.settings_class.arguments()}

    @property
    def network_settings(self) -> dict[str, Any]:
        """The training settings that the networks are built from."""
        return {name: getattr(self, name) for name in self.settings_class.for_networks()}

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The algorithm's networks with this config's settings."""
        return RLModuleSpec(
            module_class=resolve(self.module_class), model_config=self.module_settings
        )

    def build_module_to_env_connector(self, env: Any = None, spaces: Any = None) -> ConnectorV2:
        """RLlib's connectors, but actions are clipped at every bound that exists."""
        return with_clipped_actions(super().build_module_to_env_connector(env, spaces))

    def get_default_learner_class(self) -> type[Learner]:
        """The algorithm's Learner."""
        learner_class: type[Learner] = resolve(self.learner_class_name)
        return learner_class

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """Sets what depends on the environment: action repeat, frame stack, some defaults.

        Args:
            spaces: From ``preflight``; None: unknown, treated as vector observations.
        """
        self.action_repeat = spaces.action_repeat if spaces else 1
        self.suggested_frame_stack = spaces.frame_stack if spaces else 1
        if spaces is not None and spaces.action_space is not None:
            check_actions(spaces.action_space, self.algorithm_name, self.actions)
        space = None if spaces is None else spaces.observation_space
        kind: InputKind = "vectors"
        if space is not None:
            if self.normalizes_observations:
                check_vectors(space)
            for warning in ambiguous_images(space, self.network["encoder_config"]):
                logger.warning("%s: %s", self.env, warning)
            if are_frames(with_layout(space, self.network["encoder_config"])):
                kind = "frames"
        self.fill_in(kind)

    def fill_in(self, kind: InputKind) -> None:
        """Sets the defaults that depend on the observations, where the user set nothing."""
        for name, value in self.settings_class().by_input(kind).items():
            attribute = attribute_of(name)
            if getattr(self, attribute) is None:
                setattr(self, attribute, value)
                self.adapted.append(attribute)

    def validate(self) -> None:
        """Checks the config and builds, resets and steps the environment once.

        Raises:
            SpecError: If the environment cannot be built or used, or if settings contradict.
            ValueError: For everything that RLlib refuses.
        """
        self._complete_settings()
        self.load_extensions()
        self.registrations = local_registrations()
        # Marks a message as logged: RLlib would advise to return to the old API stack.
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")
        if self.action_repeat is None:
            self.adapt_to(self.find_spaces())
        self.check_training()
        super().validate()
        self._refuse_unsupported()
        # Chosen at every call: a callback may have been added since the last one.
        runner_class, stock = choose_env_runner(self)
        check_learnable(self.env_settings, self.auxiliary_losses, stock)
        if vars(self)["env_runner_cls"] in (None, VectorEnvRunner, StockEnvRunner):
            self.env_runner_cls = runner_class

    def find_spaces(self) -> EnvSpaces:
        """The spaces of the environment, which is built, reset and stepped once.

        Raises:
            SpecError: If the environment cannot be built or used.
        """
        if self.env is None:
            return EnvSpaces(self.observation_space, self.action_space)
        return preflight(self.env_settings, self.env_step_timeout_s, self.vectorize)

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        names = self.settings_class.types()
        self.settings_class.check({name: getattr(self, attribute_of(name)) for name in names})

    def _refuse_unsupported(self) -> None:
        """Raises for settings that RLlib accepts but that rlssl would ignore."""
        self.check_clock()
        self.check_evaluation()
        pieces = custom_connectors(self)
        if pieces and (self.evaluation_period or self.video_period):
            raise SpecError(f"evaluation does not work with {pieces} yet.")
        if self.auxiliary_losses and not self.normalize_actions:
            raise SpecError("auxiliary losses need normalize_actions=True, which is the default.")
        for name, options in self.auxiliary_losses.items():
            if options.get("augmentation_only") and self.network["augmentation"] is None:
                raise SpecError(
                    f"auxiliary.{name}.augmentation_only=True needs an augmentation of the RL "
                    "loss's observations, and there is none: set model.augmentation (shift, crop), "
                    "or leave augmentation_only out."
                )
        if self.grad_clip_by != "global_norm":
            raise SpecError(f"grad_clip_by='{self.grad_clip_by}' is not supported: global_norm is.")

    def _set_network(self, **settings: Any) -> Self:
        for key, value in settings.items():
            if key not in MODEL_KEYS:
                raise SpecError(f"unknown option 'model.{key}'; known: {sorted(MODEL_KEYS)}.")
            self.network[key] = value
        self.registrations = local_registrations()
        check_model(self.network)
        lstm = LSTMConfig.parse(self.network["lstm"])
        if lstm and not self.may_be_recurrent:
            raise SpecError(
                f"model.lstm needs ppo, a3c, bc or dagger; {self.algorithm_name} learns "
                "from replayed steps, whose LSTM states are not stored. Leave model.lstm out."
            )
        self.network["lstm"] = lstm and lstm.options()
        self._fit_rendering_to_crop()
        return self

    def _fit_rendering_to_crop(self) -> None:
        """Renders dm_control larger if a crop follows: 100 pixels for a crop of 84, as in CURL."""
        size = crop_size(self.network["augmentation"])
        if size and str(self.env).startswith("dmc-pixels/"):
            given = vars(self)["env_config"]
            self.env_config = {"size": round(size * 100 / 84), **given}


def attribute_of(setting: str) -> str:
    """The name of the config's attribute that holds a training setting."""
    return BATCH_SIZE_ATTRIBUTE if setting == "train_batch_size_per_learner" else setting


def _env_to_module_pieces(names: Sequence[str], env: Any, spaces: Any, device: Any) -> list[Any]:
    """Called by RLlib; a module-level function, so that the config can be pickled."""
    del env, spaces, device
    return [resolve(name)() for name in names]


def _learner_pieces(
    names: Sequence[str], input_observation_space: Any, input_action_space: Any
) -> list[Any]:
    return [resolve(name)(input_observation_space, input_action_space) for name in names]
