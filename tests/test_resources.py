"""The sink `resources`: series of processor, memory and GPUs, which are no results."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Program, command, wait_until
from qn_tracking import Experiments, Recorder, devices, make_manager, track
from qn_tracking.errors import ConfigError
from test_job import smi

FOLDER = Path("experiments")
OF_MACHINE = [
    f"resources/{name}"
    for name in ("cpu_percent", "memory_bytes", "system_cpu_percent", "system_memory_bytes")
]


def sampling(**options: Any) -> Recorder:
    given = {"every": 0.05, **options.pop("given", {})}
    plugins = {"resources": given}
    return track({"a": 1}, seed=1, plugins=plugins, warn=lambda text: None, **options)


def samples(id: str) -> int:
    path = FOLDER / "runs" / id / "resources.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_it_samples_at_its_rate_and_at_the_end(project: Path) -> None:
    with sampling() as run:
        run.log({"loss": 0.5})
        run.episode(success=True)
        wait_until(lambda: samples(run.id) >= 2)
    record = run.experiment
    assert record is not None
    said = record.facts["resources"]
    assert (list(said["series"]), said["every"]) == (OF_MACHINE, 0.05)
    count = said["series"]["resources/memory_bytes"]["n"]
    assert count == samples(run.id) >= 3
    assert 1e6 < said["series"]["resources/memory_bytes"]["mean"] < 1e12
    points = Experiments(FOLDER).series(run.id, ["resources/memory_bytes"]).columns()
    assert points["step"] == list(range(count))
    assert points["at"] == sorted(points["at"])
    assert points["episode"][-1] == 1
    assert list(record.series) == ["loss"]
    assert Experiments(FOLDER).check().findings == ()
    shown = command("qn-exp", "show", run.id).stdout
    assert "\nresources\n  resources/cpu_percent " in shown
    exported = command("qn-exp", "export", run.id, "--rows", "series", "--format", "csv").stdout
    assert exported.count("resources/memory_bytes") == count
    drawn = command("qn-exp", "plot", run.id, "--metric", "resources/memory_bytes")
    assert drawn.returncode == 0, drawn.stderr


def test_it_changes_no_digest(project: Path) -> None:
    with sampling() as one:
        one.episode(success=True)
    with track({"a": 1}, seed=1, warn=lambda text: None) as other:
        other.episode(success=True)
    assert one.experiment is not None
    assert other.experiment is not None
    assert one.experiment.digests == other.experiment.digests
    assert samples(one.id) >= 1
    assert samples(other.id) == 0


def test_gpus_are_sampled_where_there_are_any(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(project, monkeypatch, 'case "$1" in *utilization*) echo "0, 97, 1024"; '
        'echo "1, [N/A], 3" ;; *) echo "T4, 5, 6"; esac')  # fmt: skip
    with sampling() as run:
        wait_until(lambda: samples(run.id) >= 1)
    assert run.experiment is not None
    series = run.experiment.facts["resources"]["series"]
    assert list(series)[4:] == [f"resources/gpu{n}" for n in ("0/percent", "0/memory_bytes",
                                                               "1/memory_bytes")]  # fmt: skip
    assert series["resources/gpu0/percent"]["last"] == 97
    assert series["resources/gpu0/memory_bytes"]["last"] == 1 << 30


@pytest.mark.parametrize(
    ("said", "facts", "use"),
    [
        ("0, \u00b2, \u00b3", [("0", None)], {}),
        (f"0, {'9' * 5000}, {'9' * 400}", [("0", None)], {}),
        ("\x1b[31mX, 5, 1", [("\x1b[31mX", 1 << 20)], {}),
        ("a, b\n" * 1000, [], {}),
        ("\x00\ufffd, ,", [("\x00\ufffd", None)], {}),
    ],
)
def test_what_is_no_answer_of_a_driver_is_left_out(
    said: str, facts: list[Any], use: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may have its name."""
    monkeypatch.setattr(devices, "_found", {})
    found = devices.facts(said.encode())
    assert [(one["name"], one["memory_bytes"]) for one in found] == facts
    assert devices.use(said.encode()) == use


def test_of_an_answer_without_end_the_beginning_is_read() -> None:
    said = b"".join(b"%d, 5, 1\n" % n for n in range(100_000))
    assert len(devices.rows(said, 3)) == devices.MOST_ROWS
    assert devices.rows(b"x" * devices.MOST_BYTES + b"\n0, 5, 1", 3) == []


def test_what_a_program_has_started_ends_with_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(project, monkeypatch, f"sleep 60 & echo $! > {project}/pid; wait")
    command = devices.start(devices.USE)
    assert command is not None
    pid = project / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    command.stop()
    number = int(pid.read_text())

    def ended() -> bool:
        with suppress(psutil.Error):
            return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
        return True

    wait_until(ended)


def test_a_program_that_hangs_holds_up_no_episode(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qn_tracking.devices.SOON", 0.1)
    monkeypatch.setattr("qn_tracking.devices.SECONDS", 0.1)
    calls = smi(project, monkeypatch, "exec sleep 60")
    with sampling() as run:
        wait_until(lambda: calls.exists() and "utilization" in calls.read_text())
        run.episode(success=True)
        wait_until(lambda: samples(run.id) >= 1)
    assert run.experiment is not None
    assert list(run.experiment.facts["resources"]["series"]) == OF_MACHINE


def test_a_disk_that_is_full_is_a_warning(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, data: bytes) -> None:
        from qn_tracking.errors import StorageError

        raise StorageError("no space left on device", hint="ENOSPC")

    monkeypatch.setattr("qn_tracking.builtin.resources.Lines.commit", full)
    run = sampling().start()
    wait_until(lambda: any("only summaries" in text for text in run.warnings))
    monkeypatch.undo()
    run.episode(success=True)
    run.end()
    assert run.experiment is not None
    assert run.experiment.facts["resources"]["series"]["resources/memory_bytes"]["n"] >= 1


def test_a_run_that_is_resumed_goes_on_sampling(project: Path) -> None:
    with sampling() as run:
        run.episode(success=True)
        run.end("interrupted")
    with sampling(resume=run.id) as again:
        again.episode(success=True)
    points = Experiments(FOLDER).series(run.id, ["resources/memory_bytes"]).columns()
    assert points["step"] == list(range(len(points["step"])))
    assert points["at"] == sorted(points["at"])
    assert points["episode"][-1] == 2
    bundle = command("qn-exp", "export", run.id, "--format", "bundle", "-o", "b.zip")
    assert (bundle.returncode, bundle.stderr) == (0, "")
    shutil.rmtree(FOLDER)
    assert command("qn-exp", "import", "b.zip").returncode == 0
    assert samples(run.id) == len(points["step"])


@pytest.mark.parametrize("every", [0, -1, True, "10", float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(project: Path, every: Any) -> None:
    with pytest.raises(ConfigError, match=r"plugin resources: every: expected seconds from"):
        make_manager({"resources": {"every": every}})


def test_by_an_option_of_the_command(qn_run: Program) -> None:
    done = qn_run(
        "small.yml",
        "--episodes",
        "3",
        "--seed",
        "1",
        "--track-experiment",
        "--plugins",
        "resources",
    )
    assert done.returncode == 0, done.stderr
    (path,) = FOLDER.glob("*.json")
    assert json.loads(path.read_text())["facts"]["resources"]["every"] == 10.0
    assert not [one for one in threading.enumerate() if one.name == "qn-tracking-resources"]
