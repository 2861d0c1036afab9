"""Episode data sets: recorded episodes in Parquet files, whatever recorded them."""

from rlssl.data.description import Description
from rlssl.data.episode import Episode
from rlssl.data.reader import DamagedShardError, EpisodeDataset
from rlssl.data.writer import DatasetWriter

__all__ = ["DamagedShardError", "DatasetWriter", "Description", "Episode", "EpisodeDataset"]
