"""Asynchronous successive halving (ASHA) that ranks points of a search by the mean over seeds."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rlssl.experiment.tuning.trainable import point_of


class SeededASHA(FIFOScheduler):
    """ASHA on env steps, where trials that differ only in the seed share one score.

    At each rung (``grace * factor^k`` env steps) a trial records its metric. The score of its point
    is the mean over the seeds that have recorded a metric at this rung. The trial stops if the
    score is below the ``1 - 1/factor`` quantile of the other points' scores.

    Args:
        metric: Key of the flat result.
        mode: "max" or "min".
        grace_env_steps: No trial stops earlier than this.
        max_env_steps: All rungs are below this number.
        reduction_factor: One trial in this many continues at each rung; >= 2.

    Source:
        Li et al. 2020, arXiv:1810.05934. Differs: scores are means over seeds.
    """

    def __init__(
        self,
        *,
        metric: str,
        mode: str,
        grace_env_steps: int,
        max_env_steps: int,
        reduction_factor: int,
    ) -> None:
        super().__init__()
        self.ranked_by = metric
        self.sign = 1.0 if mode == "max" else -1.0
        self.reduction_factor = reduction_factor
        self.rungs = []
        rung = grace_env_steps
        while rung < max_env_steps:
            self.rungs.append(rung)
            rung *= reduction_factor
        # rung -> point -> trial id -> metric
        self.recorded: dict[int, dict[str, dict[str, float]]] = {
            rung: defaultdict(dict) for rung in self.rungs
        }

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Tune's hook."""
        del tune_controller
        score = result.get(self.ranked_by)
        reached = [rung for rung in self.rungs if result["env_steps"] >= rung]
        if not reached or score is None or np.isnan(score):
            return TrialScheduler.CONTINUE
        points = self.recorded[reached[-1]]
        point = repr(sorted(point_of(trial.config).items()))
        if trial.trial_id in points[point]:
            return TrialScheduler.CONTINUE
        points[point][trial.trial_id] = self.sign * float(score)
        others = [np.mean(list(seeds.values())) for key, seeds in points.items() if key != point]
        if not others:
            return TrialScheduler.CONTINUE
        cutoff = np.quantile(others, 1 - 1 / self.reduction_factor)
        is_below = np.mean(list(points[point].values())) < cutoff
        return TrialScheduler.STOP if is_below else TrialScheduler.CONTINUE
