"""Runs and episodes as two Parquet datasets that DuckDB, Polars and Arrow read without options.

    plugins:
      parquet: {folder: exports/parquet, compression: zstd}

`tables` tells the columns, `dataset` where a file goes and when it is there, `sink` writes while a
run goes on, `export` from the record of one that is over.
"""
