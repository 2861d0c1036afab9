"""Takes weights from a trained module of any algorithm: its encoder, its heads, or everything."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.algorithms.common.transfer.description import OBSERVATIONS, describe_encoder
from rlssl.algorithms.common.transfer.parts import (
    copied_tensors,
    encoder_parts,
    encoder_tensors,
    joined,
)
from rlssl.errors import SpecError
from rlssl.networks.layers.vector_normalizer import NORMALIZER
from rlssl.networks.target_networks import EMACopy

#: What a run takes: the encoder; the encoder and the networks that act; the encoder and all
#: networks of the RL loss; every weight, with those of auxiliary losses and target networks.
Load = Literal["encoder", "policy", "heads", "everything"]
LOADS: tuple[Load, ...] = get_args(Load)


@dataclasses.dataclass(frozen=True)
class StartWeights:
    """The weights of a trained module, and what its encoder reads; plain data, to be pickled."""

    #: Name in ``RLModule.get_state`` -> array.
    state: Mapping[str, Any]
    #: Name in ``encoder_tensors`` -> array. Empty if only ``state`` is known.
    encoder: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    #: From ``describe_encoder``; empty if only ``state`` is known.
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Auxiliary losses whose weights are not here, as ``auxiliary.spr``.
    losses: Sequence[str] = ()

    @classmethod
    def of(cls, module: Any, losses: Iterable[str] = ()) -> "StartWeights":
        """Copies the weights of a module.

        Args:
            module: A ``BaseModule``.
            losses: Names of weights of auxiliary losses that the module was built without.
        """
        encoder = encoder_tensors(module.encoder)
        return cls(
            state=module.get_state(),
            encoder={name: _array(joined(name, tensor)) for name, tensor in encoder.items()},
            description=describe_encoder(module),
            losses=_parts(losses),
        )

    def take(self, module: Any, load: Load) -> "Taken":
        """Copies weights into a module, in place; checks all shapes before it changes anything.

        After all but "everything", target networks are copies of the online networks, as at the
        start of a run.

        Args:
            module: A new ``BaseModule``, built for learning.
            load: What is taken; see ``Load``.

        Returns:
            What was taken and what was not.

        Raises:
            SpecError: If the two encoders read other observations or have other settings, or if
                shapes differ; names both sides.
        """
        taken, pairs = self._plan(module, load)
        if load == "everything":
            module.set_state(dict(self.state))
            return taken
        with torch.no_grad():
            for _, tensor, value in pairs:
                tensor.copy_(torch.as_tensor(np.array(value)).reshape(tensor.shape))
        if module.normalizer is not None:
            names = module.normalizer.statistics()
            module.normalizer.set_statistics({key: self.state[NORMALIZER + key] for key in names})
        for part in module.modules():
            if isinstance(part, EMACopy):
                part.copy_online()
        return taken

    def check(self, module: Any, load: Load) -> "Taken":
        """Checks all that ``take`` checks; changes nothing.

        Returns:
            As ``take``.

        Raises:
            SpecError: As ``take``.
        """
        taken, _ = self._plan(module, load)
        return taken

    def _plan(self, module: Any, load: Load) -> tuple["Taken", list["_Pair"]]:
        if load == "everything":
            self._check_equal(module)
            return Taken(_parts(self.state), [], []), []
        pairs = list(self._pairs(module, load))
        return self._taken(module, [name for name, _, _ in pairs]), pairs

    def _pairs(self, module: Any, load: Load) -> Iterator["_Pair"]:
        """All weights that are taken."""
        self._check_description(describe_encoder(module))
        known = set[int]()
        for attribute, part in encoder_parts(module).items():
            own = self._own_copy(attribute, part) if load != "encoder" else []
            for pair in own or self._of_encoder(module, attribute, part):
                known.add(id(pair[1]))
                yield pair
        if load == "encoder":
            return
        wanted = head_names(module, known, only_policy=load == "policy")
        found = [name for name in wanted if name in self.state]
        if not found or (load == "policy" and len(found) < len(wanted)):
            missing = next(name for name in wanted if name not in self.state)
            raise SpecError(
                f"the network with the weight '{missing}' is missing there, so model.load: {load} "
                "has nothing to take for it; set model.load: encoder."
            )
        for name in found:
            tensor, value = wanted[name], self.state[name]
            if np.shape(value) != tuple(tensor.shape):
                raise _misfit(name, value, tensor, " With model.load: encoder, heads may differ.")
            yield name, tensor, value

    def _of_encoder(self, module: Any, attribute: str, part: nn.Module) -> Iterator["_Pair"]:
        """The tensors of a copy of the encoder, with the weights of the encoder there."""
        tensors = copied_tensors(part, encoder_tensors(module.encoder)) or {}
        for name, tensor in tensors.items():
            value = self.encoder.get(name)
            if value is None or value.shape != joined(name, tensor).shape:
                raise _misfit(f"{attribute}.{name}", value, tensor)
            yield f"{attribute}.{name}", tensor, value

    def _own_copy(self, attribute: str, part: nn.Module) -> list["_Pair"]:
        """The same with the weights of the same copy there, as of an actor; [] without it."""
        found: list[_Pair] = []
        for name, tensor in part.state_dict(keep_vars=True).items():
            value = self.state.get(f"{attribute}.{name}")
            if attribute == "encoder" or value is None or np.shape(value) != tuple(tensor.shape):
                return []
            found.append((f"{attribute}.{name}", tensor, value))
        return found

    def _check_description(self, own: Mapping[str, Any]) -> None:
        for key, value in own.items():
            there = self.description[key]
            if value != there:
                where = "the observations are" if key == OBSERVATIONS else f"model.{key} is"
                raise SpecError(f"{where} {there} there, {value} here.")

    def _check_equal(self, module: Any) -> None:
        saved = {name: np.shape(value) for name, value in self.state.items()}
        wanted = {name: np.shape(value) for name, value in module.get_state().items()}
        for name in [*wanted, *saved]:
            if saved.get(name) != wanted.get(name):
                here, there = _size(wanted, name), _size(saved, name)
                raise SpecError(f"weight '{name}' is {there} there, {here} here.")

    def _taken(self, module: Any, names: list[str]) -> "Taken":
        taken = [*_parts(names), *(["normalizer"] if module.normalizer is not None else [])]
        own = _parts(name for name, _ in module.named_parameters())
        targets = [name for name, part in module.named_children() if isinstance(part, EMACopy)]
        new = [name for name in own if name not in taken and name not in targets]
        left = [
            name for name in [*_parts(self.state), *self.losses] if name not in (*taken, *targets)
        ]
        return Taken(taken, new, left)


#: Name in the module, live tensor, new value.
_Pair = tuple[str, Tensor, Any]


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a module took: names of its networks, those of losses as ``auxiliary.spr``."""

    #: Networks with weights of the other run.
    taken: list[str]
    #: Networks with new weights.
    new: list[str]
    #: Networks of the other run that nothing was taken of.
    left: list[str]


def head_names(module: Any, encoder: set[int], *, only_policy: bool) -> dict[str, Tensor]:
    """The parameters of the RL loss behind the encoder: name -> live tensor.

    Args:
        module: A ``BaseModule``.
        encoder: The ids of the tensors of the encoder and its copies.
        only_policy: Whether only what the policy needs to act is meant.
    """
    acting = module.acting_state()
    copies = [name for name, part in module.named_modules() if isinstance(part, EMACopy)]
    outside = ("auxiliary.", *(f"{name}." for name in copies))
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if id(parameter) not in encoder
        and not name.startswith(outside)
        and (not only_policy or name in acting)
    }


def _parts(names: Iterable[str]) -> list[str]:
    """The networks to which weights belong, each once: the first word; of losses also the next."""
    found: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        found[".".join(words[: 2 if words[0] == "auxiliary" else 1])] = None
    return list(found)


def _misfit(name: str, value: Any, tensor: nn.Parameter | Tensor, fix: str = "") -> SpecError:
    there = "missing" if value is None else str(list(np.shape(value)))
    return SpecError(f"weight '{name}' is {there} there, {list(tensor.shape)} here.{fix}")


def _size(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "missing"


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
