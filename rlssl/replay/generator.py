"""The state of a random generator as an array, without pickle."""

import numpy as np

_WORD = 2**64


def generator_state(generator: np.random.Generator) -> np.ndarray:
    """The state of a generator made by ``np.random.default_rng``: [6], uint64."""
    state = generator.bit_generator.state
    numbers = state["state"]
    words = [part for name in ("state", "inc") for part in divmod(numbers[name], _WORD)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_state(generator: np.random.Generator, words: np.ndarray) -> None:
    """Lets a generator go on where the one of `generator_state` stood."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high * _WORD + low, "inc": inc_high * _WORD + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
