"""An rlssl plug-in: importing it registers; what is named by a string is imported when used."""

import rlssl

rlssl.register_env("example/Corridor", "rlssl_plugin_example.corridor:Corridor")
rlssl.register_auxiliary_loss(
    "reward_prediction", "rlssl_plugin_example.reward_prediction:RewardPrediction"
)
