"""Weights & Biases: each trial is a run, and env steps are its steps."""

from pathlib import Path

import wandb

from rlssl.experiment.tracking.messages import TrackedTrial

#: W&B's exit code of a run that was interrupted; any code but 0 shows the run as failed.
_INTERRUPTED = 130


class WandbTracker:
    """Sends results to W&B, or into the run's folder ``wandb/`` in offline mode.

    Args:
        project: W&B's project.
        entity: User or team; None: the default of the account.
        mode: "online" or "offline".
        folder: The folder below which W&B writes its files.
    """

    def __init__(self, project: str, entity: str | None, mode: str, folder: str) -> None:
        self._project, self._entity, self._mode, self._folder = project, entity, mode, folder
        self._runs: dict[str, wandb.Run] = {}
        self._clocks: dict[str, str] = {}

    def start(self, trial: TrackedTrial, known: str | None) -> str:
        """Begins a run, or continues the run of the same id."""
        run_id = known or trial["id"]
        self._runs[run_id] = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,  # type: ignore[arg-type]
            dir=self._folder,
            id=run_id,
            # Offline as well: `wandb sync` sends the parts of a resumed run in their order.
            resume="allow",
            name=trial["name"],
            group=trial["group"],
            tags=[tag[:64] for tag in trial["tags"]],
            config={**trial["config"], **trial["labels"]},
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                silent=True,
                x_disable_stats=True,  # this process does not train
            ),
        )
        self._clocks[run_id] = trial["clock"]
        self._runs[run_id].define_metric("*", step_metric=trial["clock"])
        return run_id

    def log(self, run_id: str, env_steps: int, metrics: dict[str, float]) -> None:
        """Logs one result at its env steps."""
        values = {**metrics, self._clocks[run_id]: env_steps}
        self._runs[run_id].log(values, step=env_steps, commit=True)

    def log_video(self, run_id: str, env_steps: int, path: Path) -> None:
        """Adds a video at its env steps, which must not have been logged yet."""
        video = wandb.Video(str(path), format="mp4")
        self._runs[run_id].log({"video": video, self._clocks[run_id]: env_steps}, step=env_steps)

    def end(self, run_id: str, state: str) -> None:
        """Ends a run: W&B shows an interrupted one as failed until it continues."""
        codes = {"finished": 0, "failed": 1, "interrupted": _INTERRUPTED}
        self._runs.pop(run_id).finish(exit_code=codes[state])
