"""What commands print fits the terminal: tables, sentences and values by name, also in CJK."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from conftest import Program
from qn_tracking import track
from qn_tracking.render.table import Column, table
from qn_tracking.render.text import rows, width, wrapped

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
CASES = (
    *(
        "list",
        "show @1",
        "show @7",
        "show STUDY",
        "show SWEEP",
        "compare @1 @2",
        "compare @6 @7",
        "compare @7 @8",
    ),
    *("compare --by config", "compare --by seed", "best", "best --single", "stats", "artifact @7"),
    *("tail @1", "tail @7", "fsck", "rerun @1 --dry-run", "plot @1", "list --studies"),
)
BENCH = ("leaderboard", "leaderboard --all dynamic_small", "list", "tasks", "show ID")
BENCH = (*BENCH, "compare --quantum-vs-classical dynamic_small", "compare ID OTHER")
WIDTHS = (20, 40, 60)


def overflowing(text: str, columns: int) -> list[str]:
    """Lines that are too wide, but for single words, and those that name a file and a fault."""
    return [
        line
        for line in text.splitlines()
        if width(line) > columns and " " in line.strip() and not line.startswith("warning: ")
    ]


@pytest.fixture
def names(project: Path, qn_run: Program) -> dict[str, str]:
    """Experiments with wide names, a study and a sweep; their names in `CASES`."""
    tags = {"プロジェクト": "長い名前のタグ" * 3, "🧠🧠": "🎉" * 10}
    config = {"a_rather_long_name_of_a_setting": {"値": "値" * 20}}
    for seed in range(3):
        draw = random.Random(seed).random
        (project / "重み.bin").write_bytes(b"x" * seed)
        with track(config, seed=seed, tags=tags, notes="メモ " * 30, warn=lambda text: None) as run:
            run.describe(environment="環境名がとても長い場所", brain="量子🧠_with_a_long_name")
            run.log_artifact("重み.bin")
            for step in range(12):
                run.log({"損失/値": draw()}, step=step)
                run.episode(success=draw() > 0.5, reward=draw(), steps=3, メトリック=draw())
                with run.phase("評価フェーズ"):
                    run.episode(reward=draw())
    one = ["--track-experiment", "--episodes", "4", "--seed", "1", "--n-seeds", "2"]
    found = {}
    for name, more in (("STUDY", ()), ("SWEEP", ("--sweep", "brain.config.hidden_dim=4,8"))):
        before = set(os.listdir("experiments/studies")) if found else set()
        done = qn_run("small.yml", *more, *one)
        assert done.returncode == 0, done.stderr
        (found[name],) = set(os.listdir("experiments/studies")) - before
    return found


def test_every_line_fits_the_terminal(names: dict[str, str], qn_exp: Program) -> None:
    for case in CASES:
        words = [names.get(word, word) for word in case.split()]
        for columns in WIDTHS:
            done = qn_exp(*words, env={"COLUMNS": str(columns)})
            assert done.returncode == 0, (case, done.stderr)
            assert overflowing(done.stdout, columns) == [], (case, columns)


@pytest.mark.parametrize("case", BENCH)
def test_every_line_of_the_leaderboard_fits_the_terminal(
    case: str, project: Path, qn_bench: Program
) -> None:
    ids = {"ID": "20261126T182837Z-2960296b", "OTHER": "20261126T181738Z-94211f91"}
    words = [ids.get(word, word) for word in case.split()]
    for columns in WIDTHS:
        env = {"COLUMNS": str(columns)}
        done = qn_bench(*words, "--benchmarks-dir", BENCHMARKS, env=env)
        assert done.returncode == 0, done.stderr
        assert overflowing(done.stdout, columns) == [], columns


def test_nothing_is_cut_where_output_is_no_terminal(names: dict[str, str], qn_exp: Program) -> None:
    out = qn_exp("list").stdout
    for text in (
        "環境名がとても長い場所",
        "量子🧠_with_a_long_name",
        "長い名前のタグ" * 3,
        "🎉" * 10,
    ):
        assert text in out
    out = qn_exp("show", "@7").stdout
    assert "メモ " * 29 in out
    assert "値" * 20 in out


def test_a_text_is_wrapped_by_its_columns() -> None:
    assert wrapped("one two three", 0) == ["one two three"]
    assert wrapped("one two three", 8) == ["one two", "  three"]
    assert wrapped("  one  two", 8) == ["  one", "  two"]
    # A path can be copied; what has no spaces by nature is broken.
    assert wrapped("see /a/long/path now", 8) == ["see", "  /a/long/path", "  now"]
    assert wrapped("日本語日本語日本語", 8) == ["日本語日", "  本語日", "  本語"]
    assert wrapped("", 8) == [""]


def test_a_value_goes_below_its_name_where_it_would_not_fit() -> None:
    pairs = [("name", "a b"), ("digest", "x" * 30), ("none", None)]
    assert rows(pairs, columns=0) == f"  name    a b\n  digest  {'x' * 30}\n"
    assert rows(pairs, columns=40) == f"  name    a b\n  digest  {'x' * 30}\n"
    assert rows(pairs, columns=34) == f"  name    a b\n  digest\n    {'x' * 30}\n"
    assert rows([("量", "one two three four five")], columns=27) == (
        "  量  one two three four\n      five\n"
    )


def test_a_table_that_is_too_wide_is_a_list_of_its_rows() -> None:
    columns = [Column("NAME"), Column("MEAN", right=True), Column("RUNS", right=True)]
    cells = [["mlp", "12.5% [1, 2]", "3"], ["modular", "2%", ""]]
    assert table(columns, cells, 26).splitlines() == [
        "NAME            MEAN  RUNS",
        "mlp     12.5% [1, 2]     3",
        "modul~            2%",
    ]
    assert table(columns, cells, 20) == (
        "NAME  mlp\nMEAN  12.5% [1, 2]\nRUNS  3\n\nNAME  modular\nMEAN  2%\n"
    )
