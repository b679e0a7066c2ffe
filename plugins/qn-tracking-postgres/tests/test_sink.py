"""What arrives is what was recorded, bit for bit; what is sent twice changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from math import inf, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from qn_tracking import Recorder, make_manager, track
from qn_tracking.errors import StorageError
from qn_tracking.records.model import Subject
from qn_tracking.store.read import Lines
from qn_tracking.testing import EPISODE, record
from qn_tracking_postgres.sink import Postgres

if TYPE_CHECKING:
    from conftest import Program, Query

    Tree = Callable[[Path], dict[str, bytes]]
    Until = Callable[[Callable[[], object]], None]
    Spawn = Callable[..., subprocess.Popen[str]]

WITH = ("--track-experiment", "--plugins", "postgres", "--quiet")
EVERYTHING = (
    "SELECT 'runs', id, '', md5(r::text) FROM runs r"
    " UNION ALL SELECT 'experiments', id, '', md5(x::text) FROM experiments x"
    " UNION ALL SELECT 'episodes', id, index::text, md5(e::text) FROM episodes e"
    " UNION ALL SELECT 'files', id, name, md5(f::text) FROM files f ORDER BY 1, 2, 3"
)


def _record(folder: str = "experiments") -> Path:
    (path,) = Path(folder).glob("*.json")
    return path


def test_a_thousand_episodes_arrive_exact(qn_run: Program, query: Query) -> None:
    done = qn_run("small.yml", "--episodes", "1000", "--seed", "1", *WITH)
    assert done.returncode == 0, done.stderr
    path = _record()
    kept = json.loads(path.read_bytes())
    journal = list(Lines(str(path.parent / "runs" / kept["id"] / "episodes.jsonl")))
    there = query(
        "SELECT index, seed, success, termination, steps, reward, counts, metrics, at, exact,"
        " timing::text FROM episodes ORDER BY index"
    )
    assert len(there) == len(journal) == 1000
    for row, episode in zip(there, journal, strict=True):
        index, seed, success, termination, steps, reward, counts, metrics, at, exact, timing = row
        assert (index, seed, success, termination, steps, reward, counts, metrics) == (
            episode.index,
            episode.seed,
            episode.success,
            episode.termination,
            episode.steps,
            episode.reward,
            episode.counts,
            episode.metrics,
        )
        assert (exact, at) == (episode.exact, episode.timing["at"])
        assert orjson.loads(timing) == episode.timing
    # Anybody can check the digest, without us.
    assert query(
        "SELECT x.exact_digest = encode(sha256(string_agg(exact || '\\x0a', '' ORDER BY index)),"
        " 'hex') FROM experiments x JOIN episodes USING (id) GROUP BY x.id, x.exact_digest"
    ) == [(True,)]
    assert query("SELECT document, record FROM experiments") == [(path.read_bytes(), kept)]


def test_the_columns_say_what_the_record_says(qn_run: Program, query: Query) -> None:
    qn_run("small.yml", "--episodes", "3", "--seed", "1", "--tag", "k=v", *WITH)
    kept = json.loads(_record().read_bytes())
    results, config = kept["results"], kept["config"]
    assert query(
        "SELECT status, environment, brain, family, device, config_label, config_digest, seed,"
        " episodes, total_steps, success_rate, final_success_rate, avg_reward, wall_seconds,"
        " exact_digest, outcome_digest, tags, study,"
        " to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
        " to_char(ended AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM experiments"
    ) == [
        (
            "completed",
            "static",
            "mlp",
            "classical",
            "cpu",
            "small.yml",
            config["digest"],
            1,
            3,
            results["total_steps"],
            results["success_rate"],
            results["final_success_rate"],
            results["avg_reward"],
            kept["wall_seconds"],
            kept["digests"]["exact"],
            kept["digests"]["outcome"],
            {"k": "v"},
            None,
            kept["started"],
            kept["ended"],
        )
    ]


def test_episodes_are_there_while_the_run_goes_on(
    project: Path, query: Query, until: Until
) -> None:
    with track({"a": 1}, seed=1, plugins=["postgres"]) as run:
        for _ in range(7):
            run.episode(**EPISODE)
        until(lambda: query("SELECT episodes FROM unfinished") == [(7,)])
        assert query("SELECT id, seed, success_rate FROM unfinished") == [(run.id, 1, 1.0)]
        assert query("SELECT count(*) FROM experiments") == [(0,)]
    assert query("SELECT count(*) FROM unfinished") == [(0,)]
    assert query("SELECT id, episodes FROM overview") == [(run.id, 7)]


def test_sent_again_nothing_changes(qn_run: Program, qn_exp: Program, query: Query) -> None:
    qn_run("small.yml", "--episodes", "30", *WITH)
    before = query(EVERYTHING)
    assert len(before) == 1 + 1 + 30 + len({"run.json", "config.yml", "packages.txt"})
    for arguments in (["--all"], ["@1"], [_record().stem, "@1"]):
        done = qn_exp("postgres", "push", *arguments)
        assert (done.returncode, done.stdout) == (0, "1 there already\n")
    assert query(EVERYTHING) == before


def test_line_ends_that_git_has_changed_are_no_other_record(
    qn_run: Program, qn_exp: Program, query: Query
) -> None:
    qn_run("small.yml", "--episodes", "2", *WITH)
    before = query(EVERYTHING)
    _record().write_bytes(_record().read_bytes().replace(b"\n", b"\r\n"))
    assert qn_exp("postgres", "push", "--all").stdout == "1 there already\n"
    assert query(EVERYTHING) == before


def test_another_record_of_the_same_id_is_refused(
    qn_run: Program, qn_exp: Program, query: Query
) -> None:
    qn_run("small.yml", "--episodes", "2", *WITH)
    before = query(EVERYTHING)
    path = _record()
    doc = json.loads(path.read_bytes())
    path.write_text(json.dumps({**doc, "notes": "not what it was"}))
    done = qn_exp("postgres", "push", path.stem)
    assert done.returncode == 3
    assert done.stderr == (
        f"error: postgres: {path.stem}: another record with this id is on the server\n"
    )
    assert query(EVERYTHING) == before


def test_the_record_of_a_run_that_is_resumed_replaces_the_one_before(
    project: Path, qn_exp: Program, query: Query
) -> None:
    options: dict[str, Any] = {"seed": 1, "plugins": ["postgres"]}
    with track({"a": 1}, **options) as run:
        run.episode(reward=1.0)
        run.end("interrupted")
    with track({"a": 1}, resume=run.id, **options) as again:
        again.episode(reward=2.0)
    kept = _record().read_bytes()
    assert [bytes(row[0]) for row in query("SELECT document FROM experiments")] == [kept]
    assert query("SELECT id, episodes FROM overview") == [(run.id, 2)]
    assert qn_exp("postgres", "push", "--all").stdout == "1 there already\n"


def test_a_run_whose_id_is_taken_says_so_at_its_end(project: Path, query: Query) -> None:
    options: dict[str, Any] = {"seed": 1, "plugins": ["postgres"], "id": "20260101T000000Z-0a"}
    with track({"a": 1}, experiments_dir="first", **options) as run:
        run.episode(reward=1.0)
    before = query(EVERYTHING)
    with (
        pytest.raises(StorageError, match="another episode 0 with this id is on the server"),
        track({"a": 1}, experiments_dir="second", **options) as run,
    ):
        run.episode(reward=2.0)
    assert query(EVERYTHING) == before
    # What was recorded here is kept here.
    assert json.loads(Path("second/20260101T000000Z-0a.json").read_bytes())["status"] == "completed"


HOSTILE = "\x00'; DROP TABLE experiments; -- 🪱 \x1b[31m\u202e %s {x} \\u0000 \\"


def test_text_is_data_and_numbers_are_what_they_are(
    project: Path, qn_exp: Program, query: Query, tree: Tree
) -> None:
    with track(
        {HOSTILE: [HOSTILE]},
        subject=Subject(environment=HOSTILE, brain=HOSTILE),
        seed=2**53 - 1,
        plugins=["postgres"],
        tags={HOSTILE: HOSTILE},
        notes=HOSTILE,
        warn=lambda text: None,
    ) as run:
        run.episode(termination=HOSTILE, reward=nan, counts={HOSTILE: 2**53 - 1})
        run.episode(reward=inf, metrics={HOSTILE: -inf, "tiny": 5e-324, "huge": 1.7e308})
        run.episode(reward=-0.0, metrics={"tenth": 0.1, "nan": nan})
    shown = HOSTILE.replace("\x00", "\ufffd")
    rows = query("SELECT termination, reward, counts, metrics, exact FROM episodes ORDER BY index")
    assert rows[0][0] == shown
    assert isnan(rows[0][1])
    assert rows[0][2] == {shown: 2**53 - 1}
    assert rows[1][1] == inf
    assert rows[1][3] == {shown: "-Infinity", "tiny": 5e-324, "huge": 17 * 10**307}
    assert str(rows[2][1]) == "-0.0"
    assert rows[2][3] == {"tenth": 0.1, "nan": "NaN"}
    assert query("SELECT record->>'notes', tags, seed FROM experiments") == [
        (shown, {shown: shown}, 2**53 - 1)
    ]
    assert query("SELECT sum((metrics->>'nan')::float8)::text FROM episodes") == [("NaN",)]
    # What is exact is exact.
    journal = Path("experiments/runs") / run.id / "episodes.jsonl"
    assert b"".join(row[4] + b"\n" for row in rows) == b"".join(
        episode.exact + b"\n" for episode in Lines(str(journal))
    )
    done = qn_exp("postgres", "pull", run.id, "--experiments-dir", "there")
    assert done.returncode == 0, done.stderr
    assert tree(Path("there")) == tree(Path("experiments"))
    assert qn_exp("fsck", "--experiments-dir", "there").returncode == 0
    # And nothing of it reaches a terminal as it is.
    for command in (["list"], ["show", run.id]):
        out = qn_exp("postgres", *command).stdout
        assert "\\u202e" in out
        assert not {"\x00", "\x1b", "\u202e"} & set(out)


def test_without_any_other_sink(qn_run: Program, qn_exp: Program, query: Query) -> None:
    done = qn_run("small.yml", "--episodes", "40", "--plugins", "postgres", "--quiet")
    assert done.returncode == 0, done.stderr
    assert not Path("experiments").exists()
    ((id,),) = query("SELECT id FROM experiments")
    assert qn_exp("postgres", "pull", id).returncode == 0
    assert qn_exp("fsck").stdout == "no faults in 1 record, 1 journal, 40 episodes\n"


def test_a_run_that_fails_arrives_with_its_error(project: Path, query: Query) -> None:
    with (
        pytest.raises(RuntimeError),
        track({"a": 1}, seed=1, plugins=["postgres"]) as run,
    ):
        run.episode(**EPISODE)
        raise RuntimeError("the maze has no exit")
    assert query("SELECT status, episodes, record->'error'->>'message' FROM experiments") == [
        ("failed", 1, "the maze has no exit")
    ]


def test_a_run_that_is_interrupted_arrives_as_it_was_saved(
    project: Path, query: Query, until: Until, spawn: Spawn
) -> None:
    run = spawn("qn-run", "small.yml", "--episodes", "1000000", *WITH)
    until(lambda: query("SELECT to_regclass('episodes') IS NOT NULL") == [(True,)])
    until(lambda: query("SELECT coalesce(sum(episodes), 0) > 0 FROM unfinished") == [(True,)])
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    assert query("SELECT status, document FROM experiments") == [
        ("interrupted", _record().read_bytes())
    ]
    assert query(
        "SELECT count(*) = max(x.episodes) FROM episodes JOIN experiments x USING (id)"
    ) == [(True,)]


def test_what_an_episode_costs_the_loop(
    dsn: str, query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed, not asserted: a shared machine is no stopwatch."""
    many = 20_000
    seconds = []
    for episodes in (0, many):
        *_, experiment = record([EPISODE] * episodes, sinks=[Postgres(dsn=dsn)])
        assert experiment.failures == ()
        seconds.append(experiment.plugins[0].seconds)
    assert query("SELECT count(*) FROM episodes") == [(many,)]
    start, whole = seconds
    with capsys.disabled():
        print(f"\n  an episode costs the loop {(whole - start) / many * 1e6:.2f} µs", end=" ")


def test_other_phases_and_series_are_kept_as_their_files_and_come_back(
    project: Path, query: Query, qn_exp: Program
) -> None:
    run = Recorder(
        {"a": 1},
        manager=make_manager({"json_storage": {}, "postgres": {}}),
        experiments_dir="experiments",
        warn=lambda text: None,
    )
    with run:
        run.episode(success=False)
        run.log({"loss": 0.5})
        with run.phase("evaluation"):
            run.episodes(success=[True, False])
    assert query("SELECT index, success FROM episodes") == [(0, False)]
    folder = Path("experiments/runs") / run.id
    there = dict(query("SELECT name, data FROM files WHERE name LIKE '%.jsonl'"))
    names = ("phases.jsonl", "series.jsonl")
    assert there == {name: (folder / name).read_bytes() for name in names}
    done = qn_exp("postgres", "pull", run.id, "--experiments-dir", "there")
    assert done.returncode == 0, done.stderr
    for name in (*names, "episodes.jsonl"):
        assert (Path("there/runs") / run.id / name).read_bytes() == (folder / name).read_bytes()
    assert qn_exp("fsck", "--experiments-dir", "there").returncode == 0
    assert qn_exp("postgres", "push", run.id).returncode == 0
