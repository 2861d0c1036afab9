"""The name of every file and folder of a run, in one place.

This module imports only the standard library, because `rlssl.analysis` reads runs without torch
and Ray.
"""

#: In a sweep's folder: its spec, and the description of the run that `rlssl resume` reads.
SWEEP_SPEC_FILE = "sweep.yaml"
RUN_FILE = "run.json"
#: In a sweep's folder: every point of the search, written before its first trial exists.
POINTS_FILE = "points.json"
#: In a sweep's folder: what the scheduler has recorded and decided.
SCHEDULER_FILE = "scheduler.json"
#: In a sweep's folder: the exploits of a population, one JSON object a line; and their picture.
LINEAGE_FILE = "lineage.jsonl"
LINEAGE_PICTURE = "lineage.png"
#: In a sweep's folder, while a process runs it: the owner of the run; see `rlssl.experiment.lock`.
LOCK_FILE = "lock.json"
#: In the folder of a confirmation: its points, and their scores in the search.
CONFIRM_FILE = "confirm.json"
#: In a sweep's folder: what happened to the run and its processes, one JSON object a line.
FAULTS_FILE = "faults.jsonl"
#: In a sweep's folder: the weights of other runs that trials begin with, and what they take.
START_WEIGHTS_FOLDER = "start_weights"
START_WEIGHTS_FILE = "start_weights.json"
#: The JSON files in a sweep's folder that rlssl writes, not Tune.
RUN_JSON_FILES = (
    *(RUN_FILE, POINTS_FILE, SCHEDULER_FILE, LOCK_FILE, CONFIRM_FILE),
    START_WEIGHTS_FILE,
)
#: In a sweep's folder, after it has ended: the table, the plot of the learning curves, the report.
TABLE_FILE = "table.csv"
CURVES_FILE = "learning_curves.png"
REPORT_FILE = "report.html"
#: In the folder of a confirmation, after it has ended: scores in the search and confirmed.
CONFIRM_TABLE_FILE = "confirm.csv"

#: In a trial's folder: one row per episode; the searched values and the seed; the resolved spec;
#: and Tune's results, one JSON object per line.
EPISODES_FILE = "episodes.csv"
TRIAL_FILE = "trial.json"
SPEC_FILE = "spec.yaml"
RESULTS_FILE = "result.json"
#: In spec.yaml, and in params.json beside the trial's config: every setting as used. It is for
#: readers, and ignored when a spec is read.
EFFECTIVE = "effective"
PARAMETERS_FILE = "params.json"
#: In a trial's folder: the results as a table, and TensorBoard's files.
PROGRESS_FILE = "progress.csv"
EVENT_FILES = "events.out.tfevents.*"
#: In a sweep's folder: what a tracker's library printed. In a trial's folder: what a tracker got.
_TRACKING_LOG, _TRACKING_FILE = "tracking_{}.log", "tracking_{}.json"
#: In a trial's folder, if it failed: the error, as Tune writes it. A retry leaves the file there.
ERROR_FILE = "error.txt"
#: In a trial's folder: the videos that it recorded, named by env steps.
VIDEOS_FOLDER = "videos"
#: In a trial's folder: the first traceback of each kind of fault of an environment.
ENV_FAULTS_FOLDER = "env_faults"

#: In a checkpoint's folder: the checksum of every file, and the progress of the run. Written last.
MANIFEST = "rlssl_checkpoint.json"
#: In a checkpoint's folder: RLlib's own checkpoint.
ALGORITHM_FOLDER = "algorithm"
#: In the folder of RLlib's checkpoint: the replay buffer.
REPLAY_FOLDER = "replay"
#: In a checkpoint's folder: the state that a run needs besides to continue exactly; see
#: `rlssl.experiment.checkpoints.exact_state`.
RUN_STATE_FILE = "run_state.pkl"
#: In a checkpoint's folder: the policy, as `rlssl.load_policy` reads it.
POLICY_FOLDER = "policy"

#: The two files of a saved policy.
POLICY_FILE = "policy.json"
WEIGHTS_FILE = "weights.safetensors"


def tracking_log(tracker: str) -> str:
    """The file in a sweep's folder into which a tracker's library prints."""
    return _TRACKING_LOG.format(tracker)


def tracking_file(tracker: str) -> str:
    """The file in a trial's folder that says how far a tracker has got the results."""
    return _TRACKING_FILE.format(tracker)
