"""Event files are byte for byte what protobuf and tensorboardX write."""

import struct
from collections.abc import Mapping

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from rlssl.experiment.tuning import event_files


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 10**6, 2**40])
@pytest.mark.parametrize("metrics", [{}, {"loss": 0.0}, {"aux/ä": -1.5e30, "x" * 200: 0.1}])
def test_scalars_are_written_as_by_protobuf(step: int, metrics: Mapping[str, float]) -> None:
    record = event_files.scalars(metrics, step)
    read = Event.FromString(record[12:-4])
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
    expected = Event(wall_time=read.wall_time, step=step, summary=Summary(value=values))
    data = expected.SerializeToString()
    header = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (header, data)]
    assert record == header + checksums[0] + data + checksums[1]
