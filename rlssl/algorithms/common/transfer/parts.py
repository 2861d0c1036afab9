"""Which weights of a module are its encoder's, whatever the algorithm."""

from collections.abc import Mapping

from torch import Tensor, nn

from rlssl.networks.pixel_encoders import ImageEncoder
from rlssl.networks.rl_encoder import BFloat16, CenterCropped, NormalizedEncoder
from rlssl.networks.shared_encoder import SharedEncoder

#: Prefix of the names of the layers behind an image encoder's convolutions.
HEAD = "head."


def encoder_tensors(encoder: nn.Module) -> dict[str, Tensor]:
    """The parameters and saved buffers of an encoder, named as without any wrapper.

    A wrapper crops, normalizes, computes in bfloat16, or splits the encoder behind its
    convolutions. Algorithms differ in their wrappers, so the names in ``state_dict`` differ, too.

    Args:
        encoder: From ``BaseModule.build_encoder``, or split by ``share_convolutions``.

    Returns:
        Name -> the live tensor. The layers behind convolutions begin with ``head.``.

    Example:
        >>> import gymnasium as gym
        >>> from rlssl.networks.pixel_encoders import CURLCNN
        >>> from rlssl.networks.shared_encoder import share_convolutions
        >>> space = gym.spaces.Box(0, 255, (3, 21, 21), "uint8")
        >>> plain, split = CURLCNN(space), share_convolutions(CURLCNN(space))
        >>> encoder_tensors(plain).keys() == encoder_tensors(split).keys()
        True
        >>> [name for name in encoder_tensors(split) if name.startswith("head.")]
        ['head.0.weight', 'head.0.bias', 'head.1.weight', 'head.1.bias']
    """
    behind: dict[str, Tensor] = {}
    while True:
        if isinstance(encoder, SharedEncoder):
            behind |= _prefixed(_tensors(encoder.projection))
            encoder = encoder.body
        elif isinstance(encoder, NormalizedEncoder | BFloat16 | CenterCropped):
            encoder = encoder.encoder
        else:
            break
    found = _tensors(encoder)
    if isinstance(encoder, ImageEncoder):
        found = {_image_name(name, encoder): tensor for name, tensor in found.items()}
    return found | behind


def encoder_parts(module: nn.Module) -> dict[str, nn.Module]:
    """The encoder of the RL loss and its copies in other networks: attribute -> network.

    Besides ``encoder``, these are the attributes that end in ``_encoder`` and have the same layers:
    the encoder of a critic or an actor that does not share. A copy may also have only the layers
    behind the convolutions, if the convolutions are shared.

    Args:
        module: An RLModule with an ``encoder``.
    """
    whole = encoder_tensors(module.encoder)  # type: ignore[arg-type]
    return {
        name: part
        for name, part in module.named_children()
        if name == "encoder"
        or (name.endswith("_encoder") and copied_tensors(part, whole) is not None)
    }


def copied_tensors(part: nn.Module, whole: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors of a copy of an encoder, or of its layers behind the convolutions.

    Args:
        part: A network of a module.
        whole: From ``encoder_tensors`` of the module's encoder.

    Returns:
        Name in ``whole`` -> the live tensor of ``part``; None if ``part`` is no copy.
    """
    own = encoder_tensors(part)
    if sizes(own) == sizes(whole):
        return own
    behind = {name: tensor for name, tensor in whole.items() if name.startswith(HEAD)}
    own = _prefixed(own)
    return own if behind and sizes(own) == sizes(behind) else None


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape; the axes of a linear layer's feature maps are joined."""
    return {name: joined(name, tensor).shape for name, tensor in tensors.items()}


def joined(name: str, tensor: Tensor) -> Tensor:
    """The weight of a linear layer on feature maps [out, C, H, W] as [out, C * H * W].

    ``MapLinear`` has such a weight in place of an ``nn.Linear``; see ``share_convolutions``.
    """
    return tensor.flatten(1) if name.startswith(HEAD) and tensor.ndim == 4 else tensor


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {HEAD + name: tensor for name, tensor in tensors.items()}


def _image_name(name: str, encoder: ImageEncoder) -> str:
    """``head.0.weight`` for the first layer behind the convolutions, as after ``take_head``."""
    group, _, rest = name.partition(".")
    index, _, inner = rest.partition(".")
    first = encoder.head_start()
    if group != "layers" or not index.isdigit() or int(index) < first:
        return name
    return f"{HEAD}{int(index) - first}.{inner}"
