"""A JSON schema of spec files, with which editors complete and check their keys.

It is derived from the schema of the spec, the settings of the algorithms and the options of all
registered losses, encoders, environments, diagnostics and trackers, so it never differs from what
is accepted.
"""

from rlssl.experiment.json_schema.document import spec_schema

__all__ = ["spec_schema"]
