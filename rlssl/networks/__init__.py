"""Neural networks independent of RLlib: encoders, heads, target networks, models of dynamics.

Importing this package registers the built-in encoders by name. It does not import torch; torch is
imported when an encoder is built.
"""

from typing import TYPE_CHECKING

from rlssl.registry import register_encoder
from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.image_spaces import image_layout
    from rlssl.networks.encoders import build_encoder, default_encoder_name

__all__ = ["build_encoder", "default_encoder_name", "image_layout"]

register_encoder("mlp", "rlssl.networks.encoders:MLP")
register_encoder("small_cnn", "rlssl.networks.pixel_encoders:SmallCNN")
register_encoder("nature", "rlssl.networks.pixel_encoders:NatureCNN")
register_encoder("icm", "rlssl.networks.pixel_encoders:ICMCNN")
register_encoder("curl", "rlssl.networks.pixel_encoders:CURLCNN")
register_encoder("data_efficient", "rlssl.networks.pixel_encoders:DataEfficientCNN")
register_encoder("impala", "rlssl.networks.pixel_encoders:ImpalaResNet")
register_encoder("dict", "rlssl.networks.encoders:DictEncoder")

__getattr__ = attribute_loader(__name__, dict.fromkeys(__all__, "rlssl.networks.encoders"))
