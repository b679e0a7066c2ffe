"""Runs in TensorBoard, during a run and later, and event files of other programs as runs.

    plugins:
      tensorboard: {folder: exports/tensorboard}

`events` reads and writes event files, `content` has what is in them; `sink` writes during a run,
`export` from a stored record, `imports` reads.
"""
