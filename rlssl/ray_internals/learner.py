"""The private names of ray 2.60 that the Learners rely on, in one place.

A test looks for them on RLlib's own classes and fails, naming the name, when ray renames one.
"""

#: Methods and attributes of RLlib's TorchLearner that ours call or override.
LEARNER_METHODS = (
    "_compute_off_policyness",
    "_make_batch_if_necessary",
    "_make_modules_ddp_if_necessary",
)
LEARNER_ATTRIBUTES = ("_is_built", "_learner_connector", "_weights_seq_no")

#: Attribute of RLlib's AlgorithmConfig: rows of an update.
BATCH_SIZE_ATTRIBUTE = "_train_batch_size_per_learner"
#: Attributes of RLlib's AlgorithmConfig: the user's own Learner connectors; rows of an update.
CONFIG_ATTRIBUTES = ("_learner_connector", BATCH_SIZE_ATTRIBUTE)

#: Tag of the requests with which an EnvRunnerGroup sends weights.
WEIGHTS_TAG = "set_state"

#: Methods of TorchRLModule that Learners and EnvRunners call without its switch of modes.
MODULE_METHODS = ("_forward_exploration", "_forward_inference", "_forward_train")
