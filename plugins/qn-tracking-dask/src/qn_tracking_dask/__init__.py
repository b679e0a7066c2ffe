"""Runs of a study as tasks of a Dask cluster: `qn-run --executor dask://HOST:PORT`."""
