"""Named sweeps, one YAML file each: ``rlssl sweep NAME`` finds ``NAME.yaml`` here.

Installed as the package ``rlssl_tune_configs``, whose data the files are.
"""
