"""TensorBoard's event files as bytes: records of a length, an event and their checksums.

tensorboardX's own writer has a thread that writes when it likes. Here every write is visible.
"""

import functools
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.summary import hparams

from rlssl.system.crc32c import crc32c

#: Begins the tags of TensorBoard's own records of hyper-parameters.
_HPARAMS = "_hparams_/"

#: In a record: its length and the length's checksum, before the event; the event's checksum after.
_HEADER_BYTES, _CHECKSUM_BYTES = 12, 4


def beginning() -> bytes:
    """The first events of a file. They tell TensorBoard to forget the earlier files of a run."""
    version = Event(wall_time=time.time(), file_version="brain.Event:2")
    start = Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
    return _record(version) + _record(start)


def scalars(metrics: Mapping[str, float], step: int) -> bytes:
    """One event with all metrics of a result.

    Args:
        metrics: Tag -> value.
        step: Position on the x axis.
    """
    values = [_value(tag) + struct.pack("<f", value) for tag, value in metrics.items()]
    summary = b"".join(values)
    head = b"\x09" + struct.pack("<d", time.time())
    if step:  # protobuf leaves a 0 out
        head += b"\x10" + _varint(step)
    return _framed(head + b"\x2a" + _varint(len(summary)) + summary)


@functools.lru_cache(maxsize=10_000)
def _value(tag: str) -> bytes:
    """A value of a summary as protobuf writes it, up to the four bytes of its number."""
    name = tag.encode()
    content = b"\x0a" + _varint(len(name)) + name + b"\x15"
    return b"\x0a" + _varint(len(content) + 4) + content


def _varint(number: int) -> bytes:
    """A whole number >= 0 as protobuf writes it: seven bits a byte, the last ones first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def hyper_parameters(settings: Mapping[str, Any], metrics: Iterable[str]) -> bytes:
    """The events that show a run under HPARAMS.

    Args:
        settings: Name -> number, text or boolean.
        metrics: Tags that are shown beside the settings.
    """
    experiment, start, _ = hparams(dict(settings), dict.fromkeys(metrics, 0.0))
    return b"".join(_record(Event(wall_time=time.time(), summary=it)) for it in (experiment, start))


def end_of_session(*, failed: bool) -> bytes:
    """The event that tells TensorBoard how a run ended."""
    _, _, end = hparams({}, {})
    if failed:
        metadata = end.value[0].metadata.plugin_data
        data = HParamsPluginData.FromString(metadata.content)
        data.session_end_info.status = 2  # STATUS_FAILURE
        metadata.content = data.SerializeToString()
    return _record(Event(wall_time=time.time(), summary=end))


def kept_scalars(files: Iterable[bytes], *, keep_until: int) -> bytes:
    """The metrics in event files up to a step, as records.

    Args:
        files: The contents of the files of a run, oldest first. The rest of a file behind a
            damaged or incomplete record is lost.
        keep_until: Last step that is kept.
    """
    kept: list[Event] = []
    for content in files:
        for event in _events(content):
            if event.HasField("session_log"):
                # This file has all that is valid in the files before it.
                kept = [one for one in kept if one.step < event.step]
            elif event.HasField("summary") and event.step <= keep_until:
                kept.append(event)
    tags = ((event, event.summary.value[0].tag) for event in kept if event.summary.value)
    return b"".join(_record(event) for event, tag in tags if not tag.startswith(_HPARAMS))


def _record(event: Any) -> bytes:
    return _framed(event.SerializeToString())


def _framed(data: bytes) -> bytes:
    header = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", _checksum(part)) for part in (header, data))
    return header + next(checksums) + data + next(checksums)


def _checksum(data: bytes) -> int:
    """As TensorBoard masks it: a CRC of data that contains CRCs would say little."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _events(content: bytes) -> Iterator[Any]:
    position = 0
    while position + _HEADER_BYTES <= len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        data = content[position + _HEADER_BYTES : position + _HEADER_BYTES + length]
        position += _HEADER_BYTES + length + _CHECKSUM_BYTES
        if position > len(content):
            return
        (checksum,) = struct.unpack_from("<I", content, position - _CHECKSUM_BYTES)
        if checksum != _checksum(data):
            return
        yield Event.FromString(data)
