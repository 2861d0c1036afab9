"""Named sweeps, one YAML file each: ``rlssl sweep NAME`` reads ``NAME.yaml`` from this folder.

The folder is installed as the package ``rlssl_tune_configs``; the files are its data.
"""
