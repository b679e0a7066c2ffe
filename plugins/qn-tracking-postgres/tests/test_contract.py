"""What every sink must do, with a real server at the other end."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qn_tracking.testing import SinkContract
from qn_tracking_postgres.sink import Postgres

if TYPE_CHECKING:
    from conftest import Query

_numbers = count()


class TestPostgres(SinkContract):
    @pytest.fixture(autouse=True)
    def _database(self, dsn: str, query: Query) -> None:
        self.dsn = dsn
        self.query = query
        self.schemas: dict[int, str] = {}

    def make_sink(self, tmp_path: Path) -> Postgres:
        schema = f"of_sink_{next(_numbers)}"
        sink = Postgres(dsn=self.dsn, schema=schema)
        self.schemas[id(sink)] = schema
        return sink

    def received(self, sink: Any) -> int:
        schema = self.schemas[id(sink)]
        ((records, episodes),) = self.query(
            f"SELECT (SELECT count(*) FROM {schema}.experiments),"
            f" (SELECT count(*) FROM {schema}.episodes)"
        )
        assert records == 1
        return int(episodes)
