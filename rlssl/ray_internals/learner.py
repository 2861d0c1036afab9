"""The private names of ray 2.60 that the Learners use.

If ray renames one, a test fails and shows the name.
"""

#: Methods and attributes of RLlib's TorchLearner that our Learners use or override.
LEARNER_METHODS = (
    "_compute_off_policyness",
    "_make_batch_if_necessary",
    "_make_modules_ddp_if_necessary",
)
LEARNER_ATTRIBUTES = ("_is_built", "_learner_connector", "_weights_seq_no")

#: Attribute of RLlib's AlgorithmConfig: rows of an update.
BATCH_SIZE_ATTRIBUTE = "_train_batch_size_per_learner"
#: Attributes of RLlib's AlgorithmConfig: the user's Learner connectors; rows of an update.
CONFIG_ATTRIBUTES = ("_learner_connector", BATCH_SIZE_ATTRIBUTE)

#: Tag of an EnvRunnerGroup's requests that send weights.
WEIGHTS_TAG = "set_state"

#: Methods of TorchRLModule that we call directly, because the public ones switch the mode.
MODULE_METHODS = ("_forward_exploration", "_forward_inference", "_forward_train")
