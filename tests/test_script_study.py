"""A script of one's own as a study: `qn-run --sweep … --seeds … -- python train.py …`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, Program, wait_until
from qn_tracking import Experiments, Leaderboard, Study
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.render.report import markdown
from qn_tracking.tracking.joining import VARIABLE

PYTHON = sys.executable
SCRIPT = """
import os, random, sys, time
from qn_tracking import track
rate, seed = float(sys.argv[1]), int(sys.argv[2])
print("rate", rate)
rng = random.Random(seed)
with track({"rate": rate}, episodes=20) as run:
    assert run.seed == seed
    for i in range(20):
        if os.path.exists("slow"):
            time.sleep(0.1)
        run.episode(success=rng.random() < rate, reward=rate)
"""
COMMAND = [PYTHON, "train.py", "{rate}", "{seed}"]


@pytest.fixture(autouse=True)
def train(project: Path) -> None:
    Path("train.py").write_text(SCRIPT)


def study(**options: Any) -> Study:
    return Study.script(COMMAND, **{"sweep": {"rate": [0.1, 0.9]}, "seeds": [1, 2, 3], **options})


def quiet(text: str) -> None:
    """Warnings, such as that there is no repository."""


def test_the_runs_of_a_script_are_the_runs_of_the_study(qn_run: Program, qn_exp: Program) -> None:
    options = ("--sweep", "rate=0.1,0.9", "--seeds", "1-6", "--jobs", "2", "--name", "rates")
    done = qn_run(*options, "--quiet", "--", *COMMAND)
    assert done.returncode == 0, done.stderr
    found = Experiments("experiments").find()
    assert len(found) == 12
    assert {one.config.data["rate"] for one in found} == {0.1, 0.9}
    assert {one.seed for one in found} == {1, 2, 3, 4, 5, 6}
    shown = qn_exp("show", "rates").stdout
    assert "rate=0.9 usually beats rate=0.1" in shown
    (first,) = Path("experiments/runs").glob("*.s000")
    assert (first / "output.txt").read_text().startswith("rate 0.1\n")


def test_arms_are_named_by_what_was_set_in_a_report_and_for_a_submission(qn_exp: Program) -> None:
    made = study(seeds=[1])
    made.run(warn=quiet)
    causes = Leaderboard("benchmarks").missing(made.record, experiments="experiments")
    assert "rate=0.9: 1 run of another configuration than rate=0.1" in causes
    report = Experiments("experiments").report(made.id)
    text = markdown(report.blocks, dict.fromkeys(report.pictures, "x.svg"))
    assert "| rate=0.9 | rate=0.9 |" in text
    assert f"    qn-exp rerun {made.id} --at-commit\n" in text  # as of a simulation


def test_what_is_declared_is_the_command_and_where_it_runs() -> None:
    made = study(name="rates", tags={"by": "me"}, experiments_dir="elsewhere/experiments")
    assert made.about["arms"][1]["command"] == [PYTHON, "train.py", "0.9", "1"]
    made.run(warn=quiet)
    again = Study.load("rates", experiments_dir="elsewhere/experiments")
    assert again.record.digest == made.record.digest
    assert again.record.script == tuple(COMMAND)
    assert again.record.folder == "../.."
    assert again.record.episodes is None
    assert {one.tags["by"] for one in again.results()} == {"me"}


def test_derived_seeds_are_the_same_for_all_arms() -> None:
    one, other = (study(seeds=None, n_seeds=4, seed=7).record for _ in range(2))
    assert one.seeds == other.seeds
    assert len(set(one.seeds)) == 4


@pytest.mark.parametrize(
    ("command", "sweep", "error"),
    [
        ([], {}, "no command after --"),
        (["nothing-is-called-so"], {}, "nothing-is-called-so: no such program"),
        (["no-{word}"], {"word": ["thing"]}, "no-thing: no such program"),
        (
            ["python a.py {seed}"],
            {},
            "no such program (each word of the command is one of its own)",
        ),
        ("python a.py", {}, "command: expected a list of words"),  # type: ignore[list-item]
        ([PYTHON, "{rat}"], {"rate": [1, 2]}, "{rat} in the command is no swept field"),
        ([PYTHON, "{seed}"], {"rate": [1, 2]}, "--sweep rate: the command has no {rate}"),
        ([PYTHON, "{rate"], {"rate": [1, 2]}, "{rate: { alone"),
        ([PYTHON, "{rate.__class__}"], {"rate": [1]}, "{rate.__class__} in the command is no"),
        ([PYTHON, "--api-key=AKIAIOSFODNN7EXAMPLE"], {}, "looks like a secret"),
        ([PYTHON, "{rate}"], {"rate": [1, 1]}, "--sweep rate: 1 is given twice"),
        ([PYTHON, "{rate}"], {"rate": "nothing(1)"}, "unknown function 'nothing'"),
    ],
)
def test_a_command_that_does_not_fit_is_refused_before_anything_runs(
    command: list[str], sweep: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError) as raised:
        Study.script(command, sweep=sweep, seeds=[1])
    assert error in str(raised.value)
    assert not Path("experiments").exists()


def test_values_are_words_of_their_own_and_braces_can_be_written() -> None:
    odd = "a b'; $(rm -rf x) {x}"
    made = Study.script([PYTHON, "-c", "{{}}", "--t={text}"], sweep={"text": [odd]}, seeds=[5])
    assert made.about["arms"][0]["command"] == [PYTHON, "-c", "{}", f"--t={odd}"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--seeds", "1", "--episodes", "5"), "--episodes cannot be combined with a command"),
        (("--seeds", "1", "--set", "a=1"), "--set cannot be combined with a command"),
        (("--seeds", "1", "--plugins", "metadata"), "--plugins cannot be combined"),
        (("--seeds", "1", "small.yml"), "small.yml: a configuration beside a command"),
        ((), "a command after -- needs --seeds or --n-seeds"),
        (("--resume", "x"), "--resume cannot be combined with a command"),
    ],
)
def test_options_that_a_script_decides_itself_are_refused(
    qn_run: Program, options: tuple[str, ...], error: str
) -> None:
    done = qn_run(*options, "--", PYTHON, "train.py", "0.5", "{seed}")
    assert done.returncode == 2
    assert error in done.stderr


@pytest.mark.slow
def test_a_script_with_another_seed_does_not_join() -> None:
    Path("train.py").write_text(SCRIPT.replace("episodes=20", "episodes=20, seed=99"))
    said: list[str] = []
    outcome = study().run(warn=said.append)
    assert outcome.finished == 0
    assert any("the script runs 99, study" in text for text in said)
    assert [state.status for state in outcome.runs] == ["missing"] * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('did nothing')", "ended with 0, and recorded nothing: it must call track()"),
        ("raise SystemExit('no data')", "the script ended with 1, before a run began: no data"),
        (SCRIPT + "\nraise ValueError('too late')", None),
        (
            SCRIPT.replace("rng.random() < rate", "1 / 0"),
            "ended with 1, and its run is failed: ZeroDivisionError: division by zero",
        ),
        (
            SCRIPT.replace("rng.random() < rate", "os.kill(os.getpid(), 9)"),
            "was killed by signal 9, and its run is crashed",
        ),
    ],
)
def test_each_way_of_failing_is_said_with_the_last_line_of_the_script(
    script: str, said: str | None
) -> None:
    Path("train.py").write_text(script)
    warnings: list[str] = []
    outcome = study(seeds=[1]).run(warn=warnings.append)
    if said is None:  # its run was complete by then
        assert outcome.finished == 2
        return
    assert outcome.finished == 0
    assert said in warnings[0]
    assert warnings[1].startswith("run 1: ")
    assert len(warnings) == 2
    Path("train.py").write_text(SCRIPT)
    assert Study.load(warnings and outcome.runs[0].id.partition(".s")[0]).resume().finished == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "raise SystemExit('no data')",
            ["run 0: the script ended with 1", "runs 1, 2, 3, 4 and 5: as run 0:"],
        ),
        (
            "import sys; raise SystemExit(f'no data for {sys.argv[1:]}')",
            [
                "run 0: the",
                "run 1: the",
                "run 2: the",
                "runs 3, 4 and 5: failed as well, each with",
            ],
        ),
    ],
)
def test_what_all_runs_fail_by_is_said_once(script: str, said: list[str]) -> None:
    Path("train.py").write_text(script)
    warnings: list[str] = []
    study().run(warn=warnings.append)
    assert len(warnings) == len(said)
    assert all(text.startswith(start) for text, start in zip(warnings, said, strict=True))


def test_a_script_that_is_missing_is_said_before_anything_is_declared(qn_run: Program) -> None:
    done = qn_run("--seeds", "1-3", "--", PYTHON, "trian.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: trian.py: no such file (the script runs in this folder)\n"
    assert not Path("experiments").exists()


@pytest.mark.slow
def test_seeds_are_added_and_each_look_counts(qn_run: Program, qn_exp: Program) -> None:
    made = study(seeds=[1, 2, 3, 4, 5, 6], name="rates")
    assert made.expected_seconds() is None  # nothing is known of a script before it has run
    made.run(warn=quiet)
    before = made.compare().shown[0][0].adjusted_p
    assert qn_run("--extend", "rates", "--seeds", "7-8", "--quiet").returncode == 0
    again = Study.load("rates")
    assert again.record.seeds == (1, 2, 3, 4, 5, 6, 7, 8)
    assert [state.status for state in again.runs()] == ["completed"] * 16
    assert "extended once after its results could be seen" in qn_exp("show", "rates").stdout
    pair = again.compare().shown[0][0]
    assert pair.adjusted_p == pytest.approx(2 * (pair.p or 0))
    assert before is not None
    assert again.expected_seconds() == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--seeds", "2-4"), "error: --seeds: 2 is in the study already"),
        (("--seeds", "9,2", "--dry-run"), "error: --seeds: 2 is in the study already"),
        (("--n-seeds", "2"), "--n-seeds: its seeds were chosen: choose more (such as --seeds 4-5)"),
        ((), "--extend needs --seeds or --n-seeds"),
        (("--seeds", "9", "--sweep", "rate=1"), "--extend cannot be combined with --sweep"),
        (("--seeds", "9", "small.yml"), "--extend cannot be combined with a configuration"),
    ],
)
def test_an_extension_changes_the_seeds_only(
    qn_run: Program, options: tuple[str, ...], error: str
) -> None:
    study(name="rates").save()
    done = qn_run("--extend", "rates", *options)
    assert (done.returncode, error in done.stderr) == (2, True), done.stderr
    assert Study.load("rates").record.extended == 0


def test_a_dry_run_shows_what_an_extension_would_be(qn_run: Program) -> None:
    study(name="rates").save()
    done = qn_run("--extend", "rates", "--seeds", "8-9", "--dry-run")
    assert "2 arms x 5 seeds = 10\n" in done.stdout
    assert "every p is multiplied by 2" in done.stdout
    assert Study.load("rates").record.extended == 0
    shown = Study.load("rates", dry_run=True)
    shown.extend(seeds=[8])
    with pytest.raises(UsageError, match="a dry run is not executed"):
        shown.run()  # its seeds are written nowhere


def test_further_seeds_derive_as_the_first_did() -> None:
    made, longer = (study(seeds=None, n_seeds=n, seed=7) for n in (2, 5))
    made.extend(n_seeds=3)
    assert made.record.seeds == longer.record.seeds
    assert Study.load(made.id).record.seeds == longer.record.seeds


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"seeds": [1]}, "seeds: 1 is given twice"),
        ({"seeds": []}, "seeds: none"),
        ({"study": "other"}, "study: is of 'other'"),
        ({"schema": 9}, "schema: schema 9 is newer than this program's 1"),
    ],
)
def test_an_extension_that_was_changed_is_refused(wrong: dict[str, Any], error: str) -> None:
    made = study()
    made.extend(seeds=[8])
    path = Path(f"experiments/studies/{made.id}/extension-1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(StorageError) as raised:
        Study.load(made.id)
    assert f"extension-1.json: {error}" in str(raised.value)


def test_a_file_holds_the_options_of_a_study(qn_run: Program) -> None:
    Path("study.yml").write_text(
        "study:\n  sweep: {rate: [0.1, 0.9]}\n  seeds: 1-3\n  name: rates\n  jobs: 2\n"
        f"  command: {json.dumps(COMMAND)}\n"
    )
    about = json.loads(qn_run("study.yml", "--dry-run", "--json").stdout)
    assert about["arms"][1]["command"] == [PYTHON, "train.py", "0.9", "1"]
    assert (about["name"], about["runs"]) == ("rates", 6)
    about = json.loads(qn_run("study.yml", "--seeds", "4", "--dry-run", "--json").stdout)
    assert about["seeds"] == [4]


def test_a_file_of_a_study_names_configurations_beside_it(qn_run: Program) -> None:
    Path("deep").mkdir()
    Path("small.yml").rename("deep/small.yml")
    Path("deep/study.yaml").write_text(
        'study:\n  configs: small.yml\n  sweep: {brain.config.gamma: "linspace(0.9, 0.99, 3)"}\n'
        "  n-seeds: 2\n  episodes: 3\n  tag: {a: b}\n  set: [brain.config.learning_rate=0.01]\n"
    )
    done = qn_run("deep/study.yaml", "--dry-run", "--json")
    about = json.loads(done.stdout)
    assert [arm["name"] for arm in about["arms"]] == ["gamma=0.9", "gamma=0.945", "gamma=0.99"]
    assert about["episodes"] == 3


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("study: [1]", "study.yml: study: expected options by name"),
        ("study: {seed: 1, seedz: 2}", "study.yml: study.seedz: is no option of a study (did you"),
        ("study: {name: [a]}", "study.yml: study.name: expected a text or a number"),
        ("study: {seeds: 1}\njobs: 2", "jobs: beside the options of a study (as an option of the"),
        ("study: {seeds: 1}\nother: 2", "study.yml: other: beside the options of a study (only"),
        ("study: {sweep: [a=1,2]}", "study.yml: study.sweep: expected fields, each with its value"),
        ("study: {sweep: {a: []}}", "study.yml: study.sweep.a: no values"),
        ("study: {command: 'python a.py {seed}'}", "study.command: expected a list of words"),
        ("study: {configs: [[a]]}", "study.yml: study.configs: expected a list of texts"),
        (
            "study: {seeds: x, configs: small.yml}",
            "study.yml: study.seeds: expected a whole number",
        ),
    ],
)
def test_a_file_of_a_study_with_a_mistake_is_one_line(
    qn_run: Program, text: str, error: str
) -> None:
    Path("study.yml").write_text(text)
    done = qn_run("study.yml")
    assert (done.returncode, error in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("\n") == 1


def test_what_the_command_line_says_replaces_what_the_file_says(qn_run: Program) -> None:
    Path("study.yml").write_text(
        "study:\n  configs: small.yml\n  seeds: 1-3\n  episodes: 5\n"
        "  sweep: {brain.config.gamma: [0.9, 0.99], brain.config.learning_rate: [0.1, 0.2]}\n"
    )
    words = ("--n-seeds", "2", "--seed", "7", "--episodes", "4", "--sweep")
    done = qn_run("study.yml", *words, "brain.config.gamma=0.5", "--dry-run", "--json")
    about = json.loads(done.stdout)
    assert [arm["name"] for arm in about["arms"]] == [
        "learning_rate=0.1 gamma=0.5", "learning_rate=0.2 gamma=0.5"
    ]  # fmt: skip
    assert (about["runs"], about["seed"], about["episodes"]) == (4, 7, 4)
    done = qn_run("study.yml", "small.yml", "--seeds", "1-2")
    assert done.stderr.startswith("error: study.yml: is the file of a study: it cannot be combined")


def test_values_of_a_file_may_be_any_text(qn_run: Program) -> None:
    texts = ["a, b", "=1+1", "\U0001fab1", "it's", "[1", "true"]
    Path("train.py").write_text("")
    made = {"command": [PYTHON, "train.py", "{text}"], "sweep": {"text": texts}, "seeds": "1"}
    Path("study.yml").write_text(json.dumps({"study": made}, ensure_ascii=False))
    done = qn_run("study.yml", "--dry-run", "--json")
    assert [arm["command"][-1] for arm in json.loads(done.stdout)["arms"]] == texts


CHILD = """
import subprocess
code = "from qn_tracking import track; track({'a': 1}).start().end()"
subprocess.run([sys.executable, "-c", code], check=True)
"""
OTHERS = """
for number in range(3):
    with track({"number": number}) as run:
        run.episode(success=True)
"""
NESTED = """
with track({"rate": rate}) as run, track({"inner": 1}):
    run.episode(success=True)
"""


@pytest.mark.parametrize(
    ("code", "others"),
    [(SCRIPT + OTHERS, 3), (SCRIPT + CHILD, 1), (SCRIPT.partition("rng")[0] + NESTED, 1)],
)
def test_only_the_first_run_of_a_script_joins_and_the_others_are_warned_of(
    code: str, others: int
) -> None:
    Path("train.py").write_text(f"{code}\nassert {VARIABLE!r} not in os.environ\n")
    made = study(seeds=[1])
    said: list[str] = []
    assert made.run(warn=said.append).finished == 2
    assert [text for text in said if "track()" in text] == [
        "runs 0 and 1: only the first track() of a script joins the study; its other runs are"
        " recorded outside of it"
    ]
    outside = [one for one in Experiments("experiments").find() if one.study is None]
    assert len(outside) == 2 * others
    warned = [text for one in outside for text in one.warnings if "track()" in text]
    assert warned == 2 * [
        f"study {made.id}: this run is not of it: only the first track() of a script joins it"
    ]


def test_a_script_that_tracks_once_is_warned_of_nothing() -> None:
    said: list[str] = []
    assert study(seeds=[1]).run(warn=said.append).finished == 2
    assert not any("track()" in text for text in said)


def test_a_variable_that_no_study_has_set_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qn_tracking import track

    for text in ("", "{}", "[1]", '{"membership": 1}', '{"membership": ["a", 0, 0], "x": 1}'):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(UsageError, match="is not what a study sets"):
            track({"a": 1})


def _begun(number: int) -> bool:
    journals = Path("experiments/runs").glob("*/episodes.jsonl")
    return sum(journal.stat().st_size > 0 for journal in journals) >= number


def _start() -> subprocess.Popen[str]:
    Path("slow").touch()
    options = ["--sweep", "rate=0.1,0.9", "--seeds", "1-2", "--jobs", "2", "--name", "rates"]
    return subprocess.Popen(
        [str(BIN / "qn-run"), *options, "--", *COMMAND], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_ctrl_c_interrupts_the_scripts_and_resume_runs_them_again(qn_run: Program) -> None:
    process = _start()
    wait_until(lambda: _begun(2))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT
    assert "go on with: qn-run --resume" in said
    records = [json.loads(path.read_text()) for path in Path("experiments").glob("*.json")]
    assert {record["status"] for record in records} == {"interrupted"}
    os.unlink("slow")
    assert qn_run("--resume", "rates", "--quiet").returncode == 0
    assert [state.status for state in Study.load("rates").runs()] == ["completed"] * 4


@pytest.mark.slow
def test_a_study_whose_runner_was_killed_is_resumed(qn_run: Program) -> None:
    process = _start()
    wait_until(lambda: _begun(2))
    process.kill()
    process.communicate()
    os.unlink("slow")
    # Its scripts go on by themselves, and finish what they have begun.
    wait_until(lambda: len(list(Path("experiments").glob("*.json"))) == 2)
    assert qn_run("--resume", "rates", "--quiet").returncode == 0
    runs = Study.load("rates").runs()
    assert [(state.status, state.attempt) for state in runs] == [("completed", 0)] * 4


@pytest.mark.slow
def test_what_a_script_prints_is_kept_without_secrets_and_within_bounds() -> None:
    Path("train.py").write_text(
        "print('password=hunter2hunter2'); print('x' * 3_000_000)\n" + SCRIPT + "\nprint('the end')"
    )
    made = study(seeds=[1])
    made.run(warn=quiet)
    for state in made.runs():
        text = Path(f"experiments/runs/{state.id}/output.txt").read_text()
        assert "hunter2" not in text
        assert "bytes are left out" in text
        assert text.rstrip().endswith("the end")
        assert len(text) < 2_200_000
