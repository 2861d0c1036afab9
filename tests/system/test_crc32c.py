"""CRC-32C with numpy equals a reference that takes one byte after the other."""

import os

import pytest
from tensorboardX.crc32c import crc32c as one_byte_after_the_other

from rlssl.system.crc32c import crc32c


def test_of_the_digits() -> None:
    # The check value of CRC-32C in the catalog of CRC algorithms.
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("length", [0, 1, 3, 4, 63, 64, 65, 1023, 1024, 1025, 1088, 5000])
def test_every_length(length: int) -> None:
    data = os.urandom(length)
    assert crc32c(data) == one_byte_after_the_other(data)
