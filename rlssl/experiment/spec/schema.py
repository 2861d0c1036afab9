"""The typed form of a spec file: its keys, their types and defaults."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, default_period, every_key
from rlssl.errors import DEFAULT_STORAGE, SpecError, suggest
from rlssl.experiment.spec.foreign_words import paths_called
from rlssl.experiment.spec.yaml_reader import plain
from rlssl.registry import COUNTING_UPDATES, WITHOUT_POLICY

#: Keys of ``model`` that say with which weights a run begins; its networks do not read them.
START_KEYS = ("from", "load")

NonNegativeInt = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LSTMSpec(_Section):
    """An LSTM behind the encoder. None: the default of `rlssl.networks.recurrent.LSTMConfig`."""

    # Number of features of the output and of the cells.
    hidden: PositiveInt | None = None
    # Number of rows of a sequence in a minibatch.
    sequence_length: PositiveInt | None = None


class ModelSpec(_Section):
    """The networks. None: the algorithm's default, which may depend on the observation space."""

    # Registered name of the encoder.
    encoder: str | None = None
    # Keyword arguments of the encoder.
    encoder_config: dict[str, Any] = {}
    # Number of observations in a stack.
    frame_stack: PositiveInt | None = None
    # Whether policy and value function share their encoder.
    shared_encoder: bool | None = None
    # Augmentation of the RL loss's observations: "shift", {crop: {size: 84}}, ...
    augmentation: str | dict[str, Any] | None = None
    # Floating-point format in which the encoder computes.
    precision: Literal["float32", "bfloat16"] | None = None
    # An LSTM behind the encoder, for on-policy algorithms; {} takes its defaults.
    lstm: LSTMSpec | None = None
    # Whether vectors are normalized by their running mean and standard deviation; or the options of
    # the normalizer: {min_std: 0.01, clip: 5}.
    normalize_observations: bool | dict[str, Any] | None = None
    # A run, a trial or a checkpoint, of any algorithm, whose weights training starts from. Of a run
    # with several trials: the trial with the same seed. null: new weights.
    from_: Annotated[str, Field(min_length=1)] | None = Field(default=None, alias="from")
    # What is taken of it: the encoder; the encoder and what acts; the encoder and all networks of
    # the RL loss; or every weight. null: the encoder.
    load: Literal["encoder", "policy", "heads", "everything"] | None = None
    # Whether the encoder does not train. Without `from`, it is a random encoder.
    freeze: bool | None = None


class DataSpec(_Section):
    """A data set of episodes to learn from. None: the default of `DataSettings`."""

    # Folder or URI of the data set.
    path: str
    # Share of each batch that comes from the data set, in [0, 1]; the rest are the run's own steps.
    mix: Annotated[float, Field(ge=0, le=1)] | None = None
    # Whether to learn from the data set alone, without steps of the run; its clock are updates.
    offline: bool | None = None
    # Share of the episodes that is not trained on; evaluations measure the losses on it.
    holdout: Annotated[float, Field(ge=0, lt=1)] | None = None
    # Number of episodes that are trained on, drawn by the trial's seed; None: all that are not held
    # out.
    episodes: PositiveInt | None = None


class EnvRunnersSpec(_Section):
    """Settings of the sampling. None: the algorithm's default."""

    # Number of environments that an EnvRunner steps together.
    num_envs: PositiveInt | None = None
    # Agent steps of each environment in one fragment.
    fragment_length: PositiveInt | Literal["auto"] | None = None
    # native: the suite's own vector environment; sync, async: gymnasium's.
    vectorize: Literal["native", "sync", "async"] | None = None
    # Whether half of the environments step while the policy acts for the other half.
    double_buffering: bool | None = None


class ConnectorsSpec(_Section):
    """Users' own ConnectorV2 pieces, as "module:attr"."""

    env_to_module: list[str] = []
    learner: list[str] = []


class RandomSearchSpec(_Section):
    """Random search over the entries of ``search`` that are not grids."""

    # Number of draws for each point of the grid.
    num_samples: PositiveInt
    # Seed of the draws. The same file gives the same points.
    seed: NonNegativeInt = 0


class OptunaSpec(_Section):
    """A study of Optuna over the entries of ``search``."""

    # Number of points that it suggests.
    num_samples: PositiveInt
    sampler: Literal["tpe", "cmaes", "gp", "random"] = "tpe"
    # Whether tpe looks at all searched values together, instead of each alone; None: Optuna's
    # default, which is yes.
    multivariate: bool | None = None
    # Number of random points at the start; None: the default of the sampler.
    n_startup_trials: NonNegativeInt | None = None
    # The same file with the same seed suggests the same points, if the trials have the same scores.
    seed: NonNegativeInt = 0
    # Number of points that run at the same time; None: as many as the cluster has room for.
    max_concurrent: PositiveInt | None = None
    # URL of a database for optuna-dashboard, as sqlite:///studies.db; $NAME is replaced by the
    # environment variable. None: the study is only in the run's folder.
    storage: str | None = None
    # An earlier sweep over the same search space; the study begins with its points and scores.
    warm_start: str | None = None


class HyperoptSpec(_Section):
    """A study of HyperOpt (TPE) over the entries of ``search``."""

    # Number of points that it suggests.
    num_samples: PositiveInt
    # Number of random points at the start.
    n_startup_trials: NonNegativeInt = 20
    seed: NonNegativeInt = 0
    # Number of points that run at the same time; None: as many as the cluster has room for.
    max_concurrent: PositiveInt | None = None
    # An earlier sweep over the same search space; the study begins with its points and scores.
    warm_start: str | None = None


class SearcherSpec(_Section):
    """How the points of a search are chosen; without a searcher: all points of the grid."""

    # One of them.
    random: RandomSearchSpec | None = None
    optuna: OptunaSpec | None = None
    hyperopt: HyperoptSpec | None = None
    # These points and no others, each with a value for every path of the search.
    points: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None

    @property
    def settings(self) -> RandomSearchSpec | OptunaSpec | HyperoptSpec | None:
        """The settings of the searcher that draws; None if the points are listed."""
        return self.random or self.optuna or self.hyperopt


class ConfirmSpec(_Section):
    """A second run of the best points, after the search, with seeds that the search did not see."""

    # Number of points, the best ones by the objective.
    top: PositiveInt = 3
    # Every point runs with each of them; none may be a seed of the search.
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]


class ObjectiveSpec(_Section):
    """What the search maximizes or minimizes; searcher, scheduler and table use the same."""

    # A key of the results, as evaluation/episode_return_mean, or area: the mean return over all
    # env steps.
    metric: str = "episode_return_mean"
    mode: Literal["max", "min"] = "max"
    # The score of a trial is the mean of this many last values; of evaluations: of the last
    # evaluations. None: of one. The area has no last.
    last: PositiveInt | None = None


class AshaSpec(_Section):
    """Asynchronous successive halving, in env steps."""

    # The best trials end here; None: at stop.env_steps.
    max_env_steps: PositiveInt | None = None
    # No trial is stopped earlier than this.
    grace_env_steps: PositiveInt
    # One trial in this many continues at each rung.
    reduction_factor: Annotated[int, Field(ge=2)] = 4
    # The objective, as files of earlier versions give it; `objective` says it for the whole search.
    metric: str | None = None
    mode: Literal["max", "min"] | None = None


class MedianSpec(_Section):
    """The median stopping rule, in env steps."""

    # No point is stopped earlier than this.
    grace_env_steps: PositiveInt
    # Env steps between two comparisons; None: grace_env_steps.
    every_env_steps: PositiveInt | None = None
    # Other points that must have got as far before any point stops.
    min_points: PositiveInt = 3


class PbtSpec(_Section):
    """Population-based training: bad members continue from good ones, with changed values."""

    # Env steps between two comparisons of all members.
    every_env_steps: PositiveInt
    # Env steps of the first comparison; None: every_env_steps.
    start_env_steps: PositiveInt | None = None
    # Share of the members that are replaced by as many of the best.
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    # Probability that a value is drawn again from its space, instead of a small change.
    resample_probability: Annotated[float, Field(ge=0, le=1)] = 0.25
    # A small change multiplies a number by one of them.
    factors: Annotated[list[PositiveFloat], Field(min_length=1)] = [0.8, 1.2]
    # Whether a replaced member keeps its replay buffer and environments, or copies them, too.
    replay: Literal["keep", "copy"] = "keep"
    # Seed of the choices.
    seed: NonNegativeInt = 0


class SchedulerSpec(_Section):
    """Stops or replaces bad points early; without a scheduler: no point."""

    # One of them.
    asha: AshaSpec | None = None
    median: MedianSpec | None = None
    pbt: PbtSpec | None = None


class VideoSpec(_Section):
    """Videos in training."""

    # Env steps between videos.
    every_env_steps: PositiveInt | None = None
    # Updates between videos, for a run that learns from a data set alone.
    every_updates: PositiveInt | None = None
    # Number of episodes in a video: those with the seeds 0, 1, ...
    episodes: PositiveInt = 1


class EvaluationSpec(_Section):
    """Evaluation during training."""

    # Env steps between evaluations; None: none, but data.holdout is measured at tenths of the run.
    every_env_steps: PositiveInt | None = None
    # Updates between evaluations, for a run that learns from a data set alone; None: as above.
    every_updates: PositiveInt | None = None
    # Number of episodes of each evaluation; 0: none is played, and held-out episodes are measured.
    episodes: NonNegativeInt = 10
    # Whether actions are sampled, instead of taking the policy's mode.
    explore: bool = False
    # Options of the environment that differ from those in training.
    env: dict[str, Any] = {}
    # any: an episode is a success if one of its steps is; last: if its last step is. Training's
    # success_rate counts in the same way. None: the default, any.
    success: Literal["any", "last"] | None = None
    # Videos of episodes, below the trial's folder. None: none.
    video: VideoSpec | None = None


class CheckpointSpec(_Section):
    """Checkpoints of a run. There is always one at the end."""

    # Env steps between checkpoints; None: a tenth of stop.env_steps.
    every_env_steps: PositiveInt | None = None
    # Updates between checkpoints, for a run that learns from a data set alone; None: a tenth of
    # stop.updates.
    every_updates: PositiveInt | None = None
    # Seconds between checkpoints; whichever comes first counts. 0: only by env steps.
    every_s: Annotated[float, Field(ge=0)] = 600
    # Seconds that the last checkpoints may take after Ctrl-C or SIGTERM.
    interrupt_s: PositiveFloat = 20
    # Number of newest checkpoints that are kept.
    keep: PositiveInt = 2
    # Whether a checkpoint contains the replay buffer, if the algorithm has one.
    replay_buffer: bool = True


class ResourcesSpec(_Section):
    """The resources that one trial needs."""

    # CPUs, and threads of torch, of the trial's own process. More than one helps if this process
    # learns from pixels; networks for vectors are as fast on one.
    cpus: PositiveInt = 1
    # Number of remote processes that sample; 0: the trial's own process samples.
    env_runners: NonNegativeInt = 0
    cpus_per_env_runner: PositiveFloat = 1
    # Number of GPUs, or share of one, of each remote process that samples.
    gpus_per_env_runner: Annotated[float, Field(ge=0)] = 0
    # Number of remote Learners; 0: the trial's own process learns.
    learners: NonNegativeInt = 0
    # 1, or the share of one GPU that each Learner needs; 0.25: four trials on a GPU.
    gpus_per_learner: Annotated[float, Field(ge=0)] = 0
    # Whether Learners use only kernels of a GPU that give the same bits every time; slower.
    deterministic: bool = False


class Spec(_Section):
    """One experiment: an algorithm on an environment, at one point or over a search.

    ``load_spec`` builds a spec from a file, a sweep's name or a dict, and checks everything that
    can be checked before a trial starts. ``at_point`` gives the spec of one trial of a sweep.
    """

    # Name of the run: its folder below `storage`.
    name: str
    algorithm: str
    # Named settings of the algorithm; variant and file override them.
    preset: str | None = None
    # Variant of the algorithm; it overrides the preset, and the file overrides it.
    variant: str | None = None
    # Modules that every process imports.
    plugins: list[str] = []
    # Folders with plug-ins, relative to the file; they are sent to every node of a cluster.
    plugins_path: list[str] = []
    # {id: ..., **options}. With data, it may be left out: then it is that of the data set.
    env: dict[str, Any]
    # None: the run learns from its own steps alone.
    data: DataSpec | None = None
    # Name of a loss -> fields of its Config; null removes a loss of the preset.
    auxiliary: dict[str, dict[str, Any] | None] = {}
    model: ModelSpec = ModelSpec()
    # Arguments of the method `training` of the algorithm's config.
    training: dict[str, Any] = {}
    env_runners: EnvRunnersSpec = EnvRunnersSpec()
    connectors: ConnectorsSpec = ConnectorsSpec()
    # Dotted path -> {kind: arguments}.
    search: dict[str, Any] = {}
    # Every point runs once with each seed.
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)] = [0]
    # The seed of a single trial; equal to seeds[0].
    seed: NonNegativeInt | None = None
    searcher: SearcherSpec | None = None
    scheduler: SchedulerSpec | None = None
    # None: the final episode_return_mean.
    objective: ObjectiveSpec | None = None
    # None: the best points do not run again.
    confirm: ConfirmSpec | None = None
    # Metric -> value at which a trial ends.
    stop: dict[str, int | float] = {}
    evaluation: EvaluationSpec = EvaluationSpec()
    # What is measured of the encoder's latents at evaluations: names of diagnostics, or
    # {name: options}; see `rlssl.diagnostics.settings`.
    diagnostics: list[str | dict[str, Any]] = []
    checkpoint: CheckpointSpec = CheckpointSpec()
    resources: ResourcesSpec = ResourcesSpec()
    # Seconds after which a step of the environment times out; None: the default.
    env_step_timeout_s: PositiveFloat | None = None
    # Crashes of environments per 1,000 env steps that end a run, judged from the tenth crash on;
    # None: the default, 1.
    max_env_crashes_per_1000_env_steps: Annotated[float, Field(ge=0)] | None = None
    # Seconds without progress after which a run fails; None: the default.
    watchdog_s: PositiveFloat | None = None
    # How often a trial is restarted from its newest checkpoint after one of its processes died.
    # Restarts before the trial's last new checkpoint do not count.
    max_failures: NonNegativeInt = 2
    # Whether a process that has ended a trial runs the next one, which then begins at once.
    # None: in sweeps without code of the user.
    reuse_processes: bool | None = None
    # Seconds between the results of a trial. The last result, evaluations, and results for the
    # scheduler or a checkpoint do not wait. 0: a result after every iteration.
    report_every_s: Annotated[float, Field(ge=0)] = 5
    # Where results are shown: names of trackers, or {name: options}; see `spec.trackers`.
    tracking: list[str | dict[str, Any]] = ["tensorboard"]
    # Folder of all results; on a cluster, a folder that every node sees.
    storage: str = DEFAULT_STORAGE

    @property
    def clock(self) -> str:
        """What stop, checkpoints and evaluations count; see `rlssl.clocks`."""
        is_offline = self.data is not None and bool(self.data.offline)
        return UPDATES if is_offline or self.algorithm in COUNTING_UPDATES else ENV_STEPS

    @property
    def end(self) -> int | float | None:
        """Where the trials end, on the clock of the run; None: no end is set."""
        return self.stop.get(self.clock)

    @property
    def end_words(self) -> str:
        """Where the trials end, in words: ``100,000 env steps``."""
        return f"{self.stop[self.clock]:,} {WORDS[self.clock]}"

    @property
    def evaluation_period(self) -> int | None:
        """Steps of the run's clock between evaluations; None: there are none."""
        period: int | None = getattr(self.evaluation, every_key(self.clock))
        is_probed = bool(self.diagnostics) and self.algorithm in WITHOUT_POLICY
        is_measured = is_probed or (self.data is not None and bool(self.data.holdout))
        if period is None and self.end and is_measured:
            return default_period(self.end)
        return period

    @property
    def evaluation_episodes(self) -> int:
        """Episodes that an evaluation plays; 0: it measures held-out episodes alone."""
        is_given = getattr(self.evaluation, every_key(self.clock)) is not None
        return self.evaluation.episodes if is_given else 0


def parse(document: Mapping[str, Any]) -> Spec:
    """Turns the document into a Spec; checks keys and types.

    Raises:
        SpecError: If a key is wrong; one line for each wrong key.
    """
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise SpecError(_explain(error)) from None


def dump(section: BaseModel) -> dict[str, Any]:
    """A section as plain data, without keys that are None."""
    values = ((key, getattr(section, name)) for key, name in keys_of(type(section)).items())
    return {
        key: dump(value) if isinstance(value, BaseModel) else plain(value, key)
        for key, value in values
        if value is not None
    }


def keys_of(section: type[BaseModel]) -> dict[str, str]:
    """Key of a section, as a file spells it -> name of the field: `from` is a word of Python."""
    return {field.alias or name: name for name, field in section.model_fields.items()}


def _explain(error: ValidationError) -> str:
    """One line for each wrong key, although pydantic reports one error per allowed type."""
    problems: dict[str, list[Any]] = {}
    for detail in error.errors():
        path, _ = _locate(detail["loc"])
        problems.setdefault(path, []).append(detail)
    return "\n".join(_explain_key(path, details) for path, details in problems.items())


def _explain_key(path: str, details: list[Any]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        parent, _, key = path.rpartition(".")
        if not parent and (own := paths_called(key)):
            words = " or ".join(map(repr, own))
            return f"unknown key '{key}' in the spec; in rlssl it is {words}."
        _, section = _locate(first["loc"][:-1])
        close = suggest(key, keys_of(section), f"{parent}." if parent else "")
        return f"unknown key '{path}' in the spec{close}"
    if first["type"] == "missing":
        return f"the key '{path}' is missing from the spec."
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{path} must be a mapping; got {first['input']!r}."
    if first["type"] == "too_short":
        return f"{path} must not be empty; got {first['input']!r}."
    expected = dict.fromkeys(_expected(detail["msg"]) for detail in details)
    if "a number" in expected:
        expected.pop("a whole number", None)
    return f"{path} must be {' or '.join(expected)}; got {first['input']!r}."


def _expected(message: str) -> str:
    words = message.removeprefix("Input should be ").removeprefix("a valid ")
    words = words.replace("greater than or equal to", ">=").replace("greater than", ">")
    renamed = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "list": "a list",
        "dictionary": "a mapping",
    }
    return renamed.get(words, words)


def _locate(location: tuple[int | str, ...]) -> tuple[str, Any]:
    """Dotted path of an error, without pydantic's labels of union members, and its annotation."""
    path = ""
    annotation: Any = Spec
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            path = f"{path}.{part}" if path else str(part)
            field = annotation.model_fields.get(str(part))
            annotation = _single(field.annotation) if field else None
        elif isinstance(part, int):
            path += f"[{part}]"
        elif get_origin(annotation) is dict:
            path += f".{part}"
            annotation = _single(get_args(annotation)[1])
    return path, annotation


def _single(annotation: Any) -> Any:
    """``X`` for ``X | None``; any other annotation as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation
