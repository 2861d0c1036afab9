"""The name of every file and folder of a run, in one place.

Needs the standard library alone, because `rlssl.analysis` reads runs without torch and Ray.
"""

#: In the folder of a sweep: its spec, and what a later `rlssl resume` needs besides.
SWEEP_SPEC_FILE = "sweep.yaml"
RUN_FILE = "run.json"
#: In the folder of a sweep, when it has ended: the table and the picture of the learning curves.
TABLE_FILE = "table.csv"
CURVES_FILE = "learning_curves.png"

#: In the folder of a trial: one row an episode; the searched values and the seed; the resolved
#: spec; and Tune's own results, one JSON object a line.
EPISODES_FILE = "episodes.csv"
TRIAL_FILE = "trial.json"
SPEC_FILE = "spec.yaml"
RESULTS_FILE = "result.json"

#: In the folder of a checkpoint: every file with its checksum, and how far the run had come.
#: Written last.
MANIFEST = "rlssl_checkpoint.json"
#: RLlib's own checkpoint: everything that training needs between two episodes.
ALGORITHM_FOLDER = "algorithm"
#: The rest that a run needs to go on exactly; see `rlssl.experiment.checkpoints.exact_state`.
RUN_STATE_FILE = "run_state.pkl"
#: The policy alone, as `rlssl.load_policy` reads it.
POLICY_FOLDER = "policy"

#: The two files of a saved policy.
POLICY_FILE = "policy.json"
WEIGHTS_FILE = "weights.safetensors"
