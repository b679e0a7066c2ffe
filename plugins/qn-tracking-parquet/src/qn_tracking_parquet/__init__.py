"""Writes runs and episodes to two Parquet datasets that DuckDB, Polars and Arrow read.

    plugins:
      parquet: {folder: exports/parquet, compression: zstd}

`tables` has the columns, `dataset` the files and their publication; `sink` writes during a run,
`export` from a stored record.
"""
