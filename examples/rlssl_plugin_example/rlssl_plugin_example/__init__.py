"""An rlssl plug-in: the import registers names; their modules are imported on first use."""

import rlssl

rlssl.register_env("example/Corridor", "rlssl_plugin_example.corridor:Corridor")
rlssl.register_auxiliary_loss(
    "reward_prediction", "rlssl_plugin_example.reward_prediction:RewardPrediction"
)
