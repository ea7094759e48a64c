"""Writes `events` and `counts` as Parquet and CSV. Works without Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jde_ray.pipelines.counting.counts import Series, counts_table
from jde_ray.pipelines.storage.base import ObjectStore

_TEXT = pa.string()


def write_tables(store: ObjectStore, events: pa.Table, series: Sequence[Series]) -> None:
    """Replace `events` and `counts` in the store, each as `.parquet` and `.csv`."""
    for name, table in (("events", events), ("counts", counts_table(series))):
        with tempfile.TemporaryDirectory(prefix="jde-count-") as folder:
            parquet, csv = Path(folder, f"{name}.parquet"), Path(folder, f"{name}.csv")
            pq.write_table(table, parquet, compression="zstd")
            with pa.csv.CSVWriter(csv, _plain(table.schema)) as writer:
                for batch in table.to_batches(1 << 16):
                    writer.write_table(pa.table(batch).cast(_plain(table.schema)))
            store.put(parquet.name, parquet)
            store.put(csv.name, csv)


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema with texts as such, which is what the writer of CSV knows."""
    is_text = pa.types.is_dictionary
    return pa.schema([(one.name, _TEXT if is_text(one.type) else one.type) for one in schema])
