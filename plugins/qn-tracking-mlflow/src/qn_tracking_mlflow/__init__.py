"""Runs in MLflow while they go on and afterwards, and runs of MLflow as records.

    plugins:
      mlflow: {uri: http://localhost:5000, experiment: foraging}

`names` and `content` tell what a run is called and made of there, `server` is the one that talks,
`delivery` brings a run there, for `sink` from a loop and for `export` from a record; `foreign` and
`arrivals` bring runs here. MLflow itself is imported when a run starts or a command needs it.
"""
