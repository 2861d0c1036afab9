"""Names of what behavior cloning measures."""

#: Keys of the metrics: the negative log-likelihood of the demonstrated actions, nats, and the share
#: of actions that the policy's most likely action equals (discrete) or its squared distance from
#: them (continuous; the module's units, mean over dimensions).
NLL, ACCURACY, ACTION_ERROR = "nll", "accuracy", "action_error"
