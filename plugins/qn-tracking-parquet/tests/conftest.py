"""Runs to export, and queries on what was exported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qn_tracking import Experiment, Recorder, Subject, make_manager


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the datasets go without an option."""
    return tmp_path / "exports" / "parquet"


@pytest.fixture
def record(experiments: Path) -> Callable[..., Experiment]:
    """Records a run of these episodes with the sink on, and returns its record."""

    def make(
        episodes: Iterable[Mapping[str, Any]],
        environment: str = "maze",
        brain: str = "mlp",
        config: Mapping[str, Any] = {"brain": {"gamma": 0.5}},
        plugins: Mapping[str, Mapping[str, Any]] = {"json_storage": {}, "parquet": {}},
        **fields: Any,
    ) -> Experiment:
        recorder = Recorder(
            config,
            manager=make_manager(plugins),
            subject=Subject(environment=environment, brain=brain, family="classical"),
            experiments_dir=experiments,
            **fields,
        )
        with recorder as run:
            for episode in episodes:
                run.episode(**episode)
        assert recorder.experiment is not None
        return recorder.experiment

    return make


@pytest.fixture
def query(folder: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    """Rows of a query on `runs` and `episodes`, read with no option at all."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            for table in ("runs", "episodes"):
                files = f"{folder}/{table}/**/*.parquet"
                connection.execute(f"create view {table} as select * from '{files}'")
            return connection.execute(sql).fetchall()

    return ask


@pytest.fixture
def files(folder: Path) -> Callable[[], list[str]]:
    """Every file that is anywhere in the folder."""
    return lambda: sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of the programs, in the folder above the experiments."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name(f"qn-{name}"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
