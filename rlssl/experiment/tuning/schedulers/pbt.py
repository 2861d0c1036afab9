"""Population-based training: at fixed env steps, bad members continue from good ones."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rlssl.analysis.lineage import Exploit, read_lineage
from rlssl.analysis.objective import Objective
from rlssl.analysis.points import point_key, read_points
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints.inherit import EXPLOITS, inherit, restore_replaced
from rlssl.experiment.checkpoints.manifest import CheckpointInfo, check, newest_valid
from rlssl.experiment.tuning.schedulers.explore import Explorer, quantiles
from rlssl.experiment.tuning.schedulers.point_scheduler import in_words
from rlssl.experiment.tuning.trial_config import point_of
from rlssl.run_files import LINEAGE_FILE, SCHEDULER_FILE, TRIAL_FILE
from rlssl.system.files import append, flush, replace_text
from rlssl.system.json_output import readable_json

_logger = logging.getLogger(__name__)

#: Seconds after which files that could not be written are tried again.
_RETRY_S = 10.0


@dataclass
class Member:
    """What the scheduler knows about a member.

    Example:
        >>> member = Member(0, {"training.lr": 0.1})
        >>> member.values
        {'training.lr': 0.1}
    """

    index: int
    point: Mapping[str, Any]
    exploits: list[Exploit] = field(default_factory=list)
    # Env steps at which members are compared -> score there; NaN without a score.
    scores: dict[int, float] = field(default_factory=dict)
    env_steps: int = 0
    # The folder of its trial; None before its trial has begun.
    folder: Path | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that the member trains with."""
        return self.exploits[-1].new if self.exploits else self.point


class PopulationBasedTraining(FIFOScheduler):
    """Replaces the worst members of a population by the best ones, with changed values.

    A member that has reached the next comparison pauses with a checkpoint. When all have, the worst
    are replaced: each continues from the checkpoint of one of the best. So members are compared at
    the same env steps, also if they run one after another. Members that failed or ended are not
    waited for. A member without a score is not replaced and not copied.

    An exploit is first a line of ``lineage.jsonl``, then a checkpoint in the member's folder
    (`inherit`). After a kill, lines without their checkpoint are carried out again; no source
    trains on before. ``scheduler.json`` has the scores.

    Args:
        objective: What the search maximizes or minimizes.
        boundaries: Env steps of the comparisons, increasing.
        quantile: Share of the members that are replaced; in (0, 0.5].
        explorer: Changes the values.
        replay: What happens to the replay buffer; see `inherit`.
        seed: Seed of the choices. They do not depend on when the run was resumed.
        folder: The run's folder; its ``points.json`` lists the members.

    Source:
        Jaderberg et al. 2017, arXiv:1711.09846. Differs: all members are compared at once, at the
        same env steps; values stay in the search space.
    """

    #: Name of the method, for the terminal.
    name = "PBT"

    def __init__(
        self,
        *,
        objective: Objective,
        boundaries: Sequence[int],
        quantile: float,
        explorer: Explorer,
        replay: Literal["keep", "copy"],
        seed: int,
        folder: Path,
    ) -> None:
        super().__init__()
        self.objective, self.boundaries = objective, list(boundaries)
        self.quantile, self.explorer, self.replay, self.seed = quantile, explorer, replay, seed
        self.folder = folder
        # Read when the first trial is there: `points.json` may be written after the scheduler.
        self.members: dict[str, Member] = {}
        self._compared_at = 0
        # Trial id -> member; exploits whose checkpoint is not there yet.
        self._of_trial: dict[str, Member] = {}
        self._outstanding: list[Exploit] = []
        self._next_try = 0.0

    def score_at_stop(self, point: Mapping[str, Any]) -> float | None:
        """None: no member is stopped."""
        del point
        return None

    def debug_string(self) -> str:
        """A line for the terminal."""
        num = sum(len(member.exploits) for member in self.members.values())
        return f"{in_words(self.name, self.objective.metric, self.boundaries)}: {num} exploits"

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Tune's hook. A new trial is paused, so that it starts only when it is chosen."""
        if trial.trial_id in self._of_trial:
            return  # it failed, and is tried again
        if not self._of_trial:
            self._continue()
        member = self._of_trial[trial.trial_id] = self.members[point_key(point_of(trial.config))]
        self._set_values(trial, member)
        trial.set_status(Trial.PAUSED)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Tune's hook."""
        member = self._of_trial[trial.trial_id]
        member.env_steps, boundary = int(result["env_steps"]), self.boundary
        is_alone = all(
            other is trial or other.is_finished() for other in tune_controller.get_trials()
        )
        if boundary is None or member.env_steps < boundary or is_alone:
            return TrialScheduler.CONTINUE
        score = self.objective.score(result)
        member.scores[boundary] = math.nan if score is None else score
        self._save()
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Tune's hook, called several times a second: compares members; starts paused ones."""
        trials = list(tune_controller.get_trials())
        if self._all_wait(tune_controller, trials):
            self._compare([self._of_trial[each.trial_id] for each in _live(trials)])
        if self._outstanding and not self._carry_out(trials):
            return None
        for trial in trials:
            if trial.status == Trial.PAUSED and not self._waits(self._of_trial[trial.trial_id]):
                return trial
        return None

    @property
    def boundary(self) -> int | None:
        """Env steps of the next comparison; None after the last one."""
        return next((each for each in self.boundaries if each > self._compared_at), None)

    def _waits(self, member: Member) -> bool:
        return self.boundary is not None and self.boundary in member.scores

    def _all_wait(self, tune_controller: Any, trials: Sequence[Trial]) -> bool:
        live = _live(trials)
        return (
            bool(live)
            and self.boundary is not None
            and tune_controller.search_alg.is_finished()
            and time.monotonic() >= self._next_try
            and all(
                each.status == Trial.PAUSED and self._waits(self._of_trial[each.trial_id])
                for each in live
            )
        )

    def _compare(self, members: Sequence[Member]) -> None:
        """Decides who continues from whom, and writes it down."""
        boundary = self.boundary
        assert boundary is not None
        found = {each.index: self._checkpoint(each, boundary) for each in members}
        by_index = {each.index: each for each in members}
        scores = {
            each.index: each.scores[boundary]
            for each in members
            if math.isfinite(each.scores[boundary]) and found[each.index] is not None
        }
        worst, best = quantiles(scores, self.quantile, self.objective.sign)
        rng = np.random.default_rng([self.seed, boundary])
        exploits = []
        for index in worst:
            member, source = by_index[index], by_index[int(rng.choice(best))]
            new, checkpoint = self.explorer(source.values, rng), found[source.index]
            if scores[source.index] == scores[index] or checkpoint is None:
                continue
            exploits.append(
                Exploit(
                    compared_at=boundary,
                    env_steps=checkpoint.env_steps,
                    member=index,
                    source=source.index,
                    score=scores[index],
                    source_score=scores[source.index],
                    old=member.values,
                    copied=source.values,
                    new=new,
                    checkpoint=str(checkpoint.path.relative_to(self.folder)),
                )
            )
        self._commit(exploits, max(boundary, *(each.env_steps for each in members)))

    def _commit(self, exploits: Sequence[Exploit], env_steps: int) -> None:
        """Writes exploits into the lineage; if that fails, the comparison is made again later."""
        path = self.folder / LINEAGE_FILE
        try:
            if exploits:
                append(path, "".join(one.line for one in exploits).encode())
                flush(path)
        except OSError as error:
            self._wait(f"cannot write {path}: {error}")
            return
        for one in exploits:
            self._take_note(one)
            click.echo(f"PBT: {one.words}.")
        self._say_what_is_missing(exploits, env_steps)
        self._outstanding = list(exploits)
        self._compared_at = max(each for each in self.boundaries if each <= env_steps)
        self._save()

    def _say_what_is_missing(self, exploits: Sequence[Exploit], env_steps: int) -> None:
        """Prints which comparisons were made as one, and that no member was replaced."""
        passed = [at for at in self.boundaries if self._compared_at < at <= env_steps]
        words = [] if exploits else ["no member is replaced: their scores are equal or missing"]
        if len(passed) > 1:
            words.append(
                f"the comparisons at {passed[0]:,} to {passed[-1]:,} are one, because an iteration "
                "has more env steps than scheduler.pbt.every_env_steps"
            )
        if words:
            click.echo(f"PBT: at {env_steps:,} env steps, {'; '.join(words)}.")

    def _carry_out(self, trials: Sequence[Trial]) -> bool:
        """Gives members their new checkpoints and values; returns whether all have them."""
        if time.monotonic() < self._next_try:
            return False
        of_index = {member.index: member for member in self.members.values()}
        while self._outstanding:
            one = self._outstanding[0]
            member = of_index[one.member]
            try:
                self._inherit(member, one)
            except (OSError, SpecError) as error:
                self._wait(f"member {one.member} cannot continue from {one.checkpoint}: {error}")
                return False
            self._outstanding.pop(0)
            member.env_steps = one.env_steps
        for trial in _live(trials):
            self._set_values(trial, self._of_trial[trial.trial_id])
        return True

    def _inherit(self, member: Member, one: Exploit) -> None:
        folder = self._folder_of(member)
        own = None if folder is None else newest_valid(folder)
        if own is None:
            raise SpecError(f"member {member.index} has no valid checkpoint.")
        if own.progress.get(EXPLOITS, 0) < len(member.exploits):
            source = check(self.folder / one.checkpoint)
            inherit(own, source, replay=self.replay, exploits=len(member.exploits))

    def _wait(self, words: str) -> None:
        self._next_try = time.monotonic() + _RETRY_S
        _logger.warning("%s. The population waits; trying again.", words)

    def _set_values(self, trial: Trial, member: Member) -> None:
        """Puts the exploits of a member into the config of its trial."""
        history = [
            {"env_steps": one.env_steps, "source": one.source, "values": dict(one.new)}
            for one in member.exploits
        ]
        trial.set_config({**trial.config, EXPLOITS: history})

    def _take_note(self, one: Exploit) -> None:
        for member in self.members.values():
            if member.index == one.member:
                member.exploits.append(one)

    def _checkpoint(self, member: Member, boundary: int) -> CheckpointInfo | None:
        """The checkpoint with which a member waits; None if it could not be written."""
        folder = self._folder_of(member)
        found = None if folder is None else newest_valid(folder)
        return found if found is not None and found.env_steps >= boundary else None

    def _folder_of(self, member: Member) -> Path | None:
        if member.folder is None:
            key = point_key(member.point)
            for path in self.folder.glob(f"*/{TRIAL_FILE}"):
                try:
                    is_own = point_key(json.loads(path.read_bytes())["point"]) == key
                except (KeyError, TypeError, ValueError):
                    continue  # a damaged file has been named
                if is_own:
                    member.folder = path.parent
        return member.folder

    def _continue(self) -> None:
        """Reads the files of the run; finishes what a kill has interrupted."""
        points = read_points(self.folder)
        self.members = {point_key(one.values): Member(one.index, one.values) for one in points}
        self._compared_at = self._read()
        for member in self.members.values():
            folder = self._folder_of(member)
            if folder is None:
                continue
            restore_replaced(folder)
            found = newest_valid(folder)
            member.env_steps = 0 if found is None else found.env_steps
            num = 0 if found is None else found.progress.get(EXPLOITS, 0)
            if len(member.exploits) > num:
                self._outstanding.append(member.exploits[-1])
            boundary = self.boundary
            if boundary is not None and member.env_steps < boundary:
                # It was killed after the result and before its checkpoint.
                member.scores.pop(boundary, None)

    def _save(self) -> None:
        points = [
            {"values": member.point, "stopped_at": None, "scores": member.scores}
            for member in self.members.values()
        ]
        content = {"compared_at": self._compared_at, "points": points}
        try:
            replace_text(self.folder / SCHEDULER_FILE, readable_json(content, indent=2))
        except OSError as error:
            _logger.warning("cannot write %s: %s.", self.folder / SCHEDULER_FILE, error)

    def _read(self) -> int:
        """Reads the lineage and the scores; returns the env steps of the last comparison."""
        lineage = read_lineage(self.folder)
        for one in lineage:
            self._take_note(one)
        last = max((one.compared_at for one in lineage), default=0)
        path = self.folder / SCHEDULER_FILE
        if not path.is_file():
            return last
        try:
            saved = json.loads(path.read_bytes())
            for entry in saved["points"]:
                scores = {int(at): float(score) for at, score in entry["scores"].items()}
                self.members[point_key(entry["values"])].scores.update(scores)
            return max(last, int(saved["compared_at"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _logger.warning(
                "%s is damaged (%s: %s). Members that wait train on to their next result.",
                path, type(error).__name__, error,
            )  # fmt: skip
            return last


def _live(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if not trial.is_finished()]
