"""Sends runs to MLflow, during the run or afterwards, and imports runs of MLflow as records.

    plugins:
      mlflow: {uri: http://localhost:5000, experiment: foraging}

`names` and `content` translate a run for MLflow, and `server` makes the requests. `delivery` sends
a run, for `sink` during the run and for `export` from a record. `foreign` and `arrivals` import
runs. MLflow itself is imported when a run starts or a command needs it.
"""
