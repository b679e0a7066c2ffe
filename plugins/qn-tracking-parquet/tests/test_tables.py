"""What the tables say: the same as the records, in every reader, whatever the runs measured."""

from math import inf, isnan, nan
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pyarrow.parquet
import pytest

from qn_tracking_parquet import dataset, tables

WHOLE = 2**53 - 1


def test_counts_and_sums_are_those_of_the_records(program, query, experiments):
    for seed in ("1", "2"):
        done = program(
            "run", "mlp_dynamic_small", "--episodes", "30", "--seed", seed, "--track-experiment",
            "--plugins", "parquet", "--quiet",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "plugin parquet: " not in done.stderr
    from qn_tracking.store.read import experiment

    records = {path.stem: experiment(str(path)) for path in experiments.glob("*.json")}
    assert len(records) == 2
    rows = query(
        """
        select id, r.environment, r.brain, r.episodes, count(*), r.total_steps,
          sum(e.steps)::bigint, r.avg_reward, avg(e.reward), r.success_rate, avg(e.success::int),
          r.metrics['loss'].mean, avg(e.metrics['loss']), r.metrics['foods_collected'].n,
          count(e.counts['foods_collected']), r.digest_exact, r.terminations, max(e.timing['at'])
        from runs r join episodes e using (id) group by all
        """
    )
    assert {row[0] for row in rows} == records.keys()
    for row in rows:
        record = records[row[0]]
        results = record.results
        assert row[1:3] == (record.subject.environment, record.subject.brain)
        assert row[3] == row[4] == results.episodes == 30
        assert row[5] == row[6] == results.total_steps
        assert row[7] == results.avg_reward == pytest.approx(row[8], rel=1e-12)
        assert row[9] == results.success_rate == pytest.approx(row[10], rel=1e-12)
        assert row[11] == results.metrics["loss"].mean == pytest.approx(row[12], rel=1e-9)
        assert row[13] == row[14] == results.metrics["foods_collected"].n
        assert row[15] == record.digests.exact
        assert row[16] == dict(results.terminations)
        assert 0 < row[17] <= record.wall_seconds


def test_runs_with_different_metrics_are_one_table(record, query, folder):
    loss = record([{"success": True, "loss": 1.5}, {"loss": 2.5, "counts": {"foods": 3}}])
    value = record([{"reward": 1.0, "value": 7.0, "a.b/c d": 1.0}], brain="lstm")
    assert query(
        "select id, avg(metrics['loss']), sum(counts['foods']), max(metrics['a.b/c d'])"
        " from episodes group by id order by id = ?".replace("?", f"'{value.id}'")
    ) == [(loss.id, 2.0, 3, None), (value.id, None, None, 1.0)]
    assert query("select distinct unnest(map_keys(metrics)) from episodes order by 1") == [
        ("a.b/c d",),
        ("loss",),
        ("value",),
    ]
    episodes = pl.scan_parquet(folder / "episodes")
    found = episodes.group_by("id").agg(pl.col("metrics").map.get("loss").mean()).collect()
    assert dict(found.rows()) == {loss.id: 2.0, value.id: None}
    runs = pl.scan_parquet(folder / "runs").select("id", pl.col("metrics").map.get("value"))
    spreads = dict(runs.collect().rows())
    assert spreads[loss.id] is None
    assert spreads[value.id] == {"n": 1, "mean": 7.0, "sd": None, "min": 7.0, "max": 7.0}


def test_numbers_arrive_exact(record, query):
    record(
        [
            {"reward": nan, "loss": inf, "steps": WHOLE, "counts": {"foods": -WHOLE}},
            {"reward": -inf, "loss": -0.0, "seed": WHOLE},
            {},
        ],
        seed=WHOLE,
    )
    first, second, third = query(
        "select reward, metrics['loss'], steps, counts['foods'], seed from episodes"
        " order by episodes.index"
    )
    assert isnan(first[0])
    assert first[1:] == (inf, WHOLE, -WHOLE, None)
    assert (second[0], str(second[1]), second[4]) == (-inf, "-0.0", WHOLE)
    assert third == (None,) * 5
    ((seed, mean),) = query("select seed, avg_reward from runs")
    assert seed == WHOLE
    assert isnan(mean)


def test_configuration_and_facts_are_json(record, query, folder):
    record([], config={"brain": {"gamma": 0.25, "layers": [1, 2]}, "θ": "π"}, tags={"sweep": "a"})
    assert query(
        "select (config->>'$.brain.gamma')::double, config->>'$.θ', tags['sweep'], tags['none'],"
        " facts, git_commit from runs"
    ) == [(0.25, "π", "a", None, "{}", None)]
    config = pl.col("config").str.json_path_match("$.brain.gamma").cast(pl.Float64)
    assert pl.scan_parquet(folder / "runs").select(config).collect().item() == 0.25


def test_times_are_utc(record, folder):
    made = record([])
    (row,) = pl.read_parquet(folder / "runs").select("started", "ended").rows()
    assert row[0].isoformat(timespec="microseconds").replace("+00:00", "Z") == made.started
    assert row[1] >= row[0]


def test_every_file_has_the_one_schema(record, folder):
    record([{"loss": 1.0}, {"reward": 1.0}])
    record([], environment="")
    for table, schema in (
        ("runs", tables.runs_schema()),
        ("episodes", tables.episodes_schema()),
    ):
        found = [pyarrow.parquet.read_schema(path) for path in (folder / table).rglob("*.parquet")]
        assert len(found) == 2
        assert all(one.equals(schema) and one.metadata == schema.metadata for one in found)


# ---------------------------------------------------------------------------------- partitions

NAMES = ("maze", "../x", "a/b", "/etc", "..", ".", "a=b", "100%", "%2F", "a b", "θ", "🧠", "a\nb",
         "'; drop", "*", "null", "~")  # fmt: skip


def test_any_name_is_a_partition_that_reads_back(record, query, folder, tmp_path):
    before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    ids = {record([{"steps": 1}], environment=name, brain=name).id: name for name in NAMES}
    outside = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    assert not [path for path in outside - before if path.suffix == ".parquet"]
    for path in folder.rglob("*.parquet"):
        assert path.parts[-3].startswith("environment=")
        assert path.parts[-2].startswith("brain=")
    for table in ("runs", "episodes"):
        assert query(f"select id, environment, brain from {table} order by id") == sorted(
            (id, name, name) for id, name in ids.items()
        )
        frame = pl.scan_parquet(folder / table).select("id", "environment", "brain").collect()
        assert sorted(frame.rows()) == sorted((id, name, name) for id, name in ids.items())
        arrow = pyarrow.dataset.dataset(folder / table, partitioning="hive")
        assert set(arrow.to_table(["environment"])["environment"].to_pylist()) == set(NAMES)


READERS = {
    "duckdb": lambda place: duckdb.sql(f"from '{place}/**/*.parquet'").to_arrow_table().to_pylist(),
    "polars": lambda place: pl.scan_parquet(place).collect().to_dicts(),
    "pandas": lambda place: pd.read_parquet(place).to_dict("records"),
    "pyarrow": lambda place: pyarrow.parquet.read_table(place).to_pylist(),
    "pyarrow.dataset": lambda place: (
        pyarrow.dataset.dataset(place, partitioning="hive").to_table().to_pylist()
    ),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("table", ["runs", "episodes"])
def test_every_reader_reads_names_that_nobody_said(name, table, record, folder):
    def read():
        rows = READERS[name](str(folder / table))
        return sorted((row["environment"], row["brain"]) for row in rows)

    record([{"steps": 1, "loss": 0.1}], environment="", brain="")  # as track() records it
    assert read() == [("unnamed", "unnamed")]
    record([{"success": True}], environment="maze", brain="")
    record([{"reward": 1.0}], environment="7", brain="mlp")
    assert read() == [("7", "mlp"), ("maze", "unnamed"), ("unnamed", "unnamed")]


@pytest.mark.parametrize("letter", ["x", "θ", "🧠", "/"])
def test_a_name_that_is_too_long_is_cut_and_stays_its_own(record, query, letter):
    names = [letter * 300 + end for end in ("a", "b")]
    for name in names:
        record([{"steps": 1}], environment=name)
    found = [row[0] for row in query("select environment from runs")]
    assert len(set(found)) == 2
    assert all(name.startswith(letter * 10) and len(name.encode()) <= 200 for name in found)


def test_a_query_on_a_partition_opens_no_other_file(record, query, folder):
    for environment in ("maze", "zoo"):
        record([{"steps": 1}, {"steps": 2}], environment=environment)
    (other,) = (folder / "episodes" / "environment=zoo").rglob("*.parquet")
    other.write_bytes(b"no Parquet at all")
    assert query("select sum(steps)::int from episodes where environment = 'maze'") == [(3,)]
    with pytest.raises(duckdb.Error):
        query("select sum(steps) from episodes where environment = 'zoo'")


def test_placing_refuses_what_is_no_id(record):
    made = record([])
    with pytest.raises(Exception, match="is not an id"):
        dataset.place("folder", "runs", made.subject, "../../x")
    assert Path(dataset.place("folder", "runs", made.subject, made.id)).name == f"{made.id}.parquet"
