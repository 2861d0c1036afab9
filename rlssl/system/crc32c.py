"""CRC-32C, the checksum of TensorBoard's event files, computed with numpy."""

import functools

import numpy as np

#: Castagnoli's polynomial, its bits reversed.
_POLYNOMIAL = 0x82F63B78

#: Bytes that are looked up at once. Fewer than `_FEW` are faster in Python.
_BLOCK, _FEW = 1024, 64

_ALL_ONES = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    crc = _ALL_ONES
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        crc = _few(crc, block) if len(block) < _FEW else _block(crc, block)
    return crc ^ _ALL_ONES


def _few(crc: int, data: bytes) -> int:
    table = _tables()[0]
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def _block(crc: int, data: bytes) -> int:
    """The CRC is linear: the exclusive or of what each byte adds at its position."""
    _, adds, offsets = _tables()
    indices = np.frombuffer(data, np.uint8) + offsets[-len(data) :]
    # The CRC so far acts like bytes at the start of the block.
    indices[:4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
    return int(np.bitwise_xor.reduce(adds.take(indices)))


@functools.cache
def _tables() -> tuple[list[int], np.ndarray, np.ndarray]:
    """What a byte adds to the CRC: as the last one; [_BLOCK * 256] at each position; its rows."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, (last >> 1) ^ np.uint32(_POLYNOMIAL), last >> 1)
    rows = [last]
    for _ in range(_BLOCK - 1):
        rows.append((rows[-1] >> np.uint32(8)) ^ last[rows[-1] & 0xFF])
    offsets = np.arange(_BLOCK, dtype=np.intp) * 256
    return last.tolist(), np.concatenate(rows[::-1]), offsets
