"""Sessions of a campaign as tasks of a Dask cluster: `qn-run --executor dask://HOST:PORT`."""
