"""The private names of ray 2.60 under which it logs, in one place; this module imports nothing."""

#: Logger of the warnings that something of Ray's is deprecated.
DEPRECATIONS = "ray._common.deprecation"

#: Logger of the copies of an experiment's state to the storage.
SYNC = "ray.train._internal.syncer"
