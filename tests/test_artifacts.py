"""Files and folders of runs: kept by digest or referred to, found, fetched, checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Experiments, StorageError, UnsupportedError, UsageError, track
from qn_tracking.records.model import Artifact
from qn_tracking.store import artifacts


@pytest.fixture(autouse=True)
def _stand_in_a_project(project: Path) -> None:
    Path("weights.pt").write_bytes(b"w" * 3000)
    Path("model/layers").mkdir(parents=True)
    Path("model/a.bin").write_bytes(b"a" * 10)
    Path("model/layers/b.bin").write_bytes(b"w" * 3000)


def tracked(**options: Any) -> Any:
    return track({"a": 1}, blocked=("metadata",), **options)


def logged(*paths: str, **options: Any) -> str:
    with tracked() as run:
        for path in paths:
            run.log_artifact(path, **options)
    return str(run.id)


def kept() -> list[str]:
    return sorted(name for name in os.listdir("experiments/.artifacts") if name[0] != ".")


def warnings_of(id: str) -> tuple[str, ...]:
    return Experiments("experiments").get(id).warnings


# -------------------------------------------------------------------------------------- keeping


def test_a_run_without_files_says_so(qn_exp: Program) -> None:
    with track({}, seed=1) as run:
        run.episode(reward=1.0)
    assert qn_exp("artifact", run.id).stdout == f"{run.id} has no files (qn-exp attach adds one)\n"


def test_a_file_is_kept_and_fetched_after_the_original_is_gone(qn_exp: Program) -> None:
    id = logged("weights.pt", type="weights")
    os.unlink("weights.pt")
    listed = qn_exp("artifact", id).stdout
    assert listed.split() == ["weights.pt", "weights", "3,000", "bytes", "kept"]
    assert "weights, 3,000 bytes, kept" in qn_exp("show", id).stdout
    assert qn_exp("artifact", id, "weights.pt", "-o", "new.pt").returncode == 0
    assert Path("new.pt").read_bytes() == b"w" * 3000
    again = qn_exp("artifact", id, "weights.pt", "-o", "new.pt")
    assert (again.returncode, again.stderr) == (
        3, "error: new.pt: is there already (-o names another path)\n"
    )  # fmt: skip
    assert qn_exp("artifact", id, "wieghts.pt").returncode == 2


def test_what_two_runs_keep_is_there_once() -> None:
    logged("weights.pt")
    logged("weights.pt", "model")
    # The file, which is in the folder as well, the other file of the folder, and the list of both.
    assert len(kept()) == 3


def test_a_folder_comes_back_as_it_was(qn_exp: Program) -> None:
    id = logged("model")
    shutil.rmtree("model")
    assert "2 files, 3,010 bytes, kept" in qn_exp("show", id).stdout
    assert Experiments("experiments").artifact(id, "model", "back") == "back"
    assert Path("back/a.bin").read_bytes() == b"a" * 10
    assert Path("back/layers/b.bin").read_bytes() == b"w" * 3000


def test_git_does_not_see_what_is_kept() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    logged("weights.pt")
    done = subprocess.run(["git", "status", "--porcelain", "-uall"], capture_output=True, text=True)
    assert "experiments/20" in done.stdout
    assert ".artifacts" not in done.stdout


@pytest.mark.parametrize("way", ["keep", "limit"])
def test_a_reference_holds_as_long_as_the_file_does(way: str) -> None:
    id = logged("weights.pt", **({"keep": False} if way == "keep" else {"keep_up_to": 2999}))
    assert len(warnings_of(id)) == (way == "limit")
    store = Experiments("experiments")
    (found,) = store.artifacts(id)
    assert not found.kept
    store.artifact(id, "weights.pt", "copy.pt")
    assert Path("copy.pt").read_bytes() == b"w" * 3000
    Path("weights.pt").write_bytes(b"other")
    with pytest.raises(UnsupportedError, match="is not what the run recorded"):
        store.artifact(id, "weights.pt", "copy2.pt")
    os.unlink("weights.pt")
    with pytest.raises(UnsupportedError, match="is gone"):
        store.artifact(id, "weights.pt", "copy2.pt")


def test_a_record_without_artifacts_of_the_new_kind_is_as_before() -> None:
    with tracked() as run:
        run.artifact("weights.pt")
    (one,) = json.loads(Path(f"experiments/{run.id}.json").read_text())["artifacts"]
    assert one.keys() == {"path", "size", "sha256"}
    assert not Path("experiments/.artifacts").exists()


def test_after_the_run_files_are_attached(qn_exp: Program) -> None:
    id = logged()
    record = Path(f"experiments/{id}.json").read_bytes()
    assert qn_exp("attach", id, "weights.pt", "--type", "weights").stdout.startswith("kept weights")
    assert qn_exp("attach", id, "model", "--name", "all", "--reference").returncode == 0
    assert qn_exp("attach", id, "not-there").returncode == 3
    assert [(one.name, one.kept) for one in Experiments("experiments").artifacts(id)] == [
        ("weights.pt", True),
        ("all", False),
    ]
    assert Path(f"experiments/{id}.json").read_bytes() == record
    assert "weights, 3,000 bytes, kept" in qn_exp("show", id).stdout
    assert qn_exp("fsck").returncode == 0


def test_sinks_get_it_and_a_run_that_is_killed_keeps_it(qn_exp: Program) -> None:
    code = (
        "import os, signal\nfrom qn_tracking import track\n"
        "run = track({'a': 1}, blocked=('metadata',)).start()\n"
        "run.log_artifact('weights.pt', 'weights'); print(run.id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    id = done.stdout.strip()
    store = Experiments("experiments")
    (before,) = store.artifacts(id)
    assert qn_exp("recover", id).returncode == 0
    assert store.artifacts(id) == (before,)
    assert (before.name, before.type, before.kept) == ("weights.pt", "weights", True)
    assert store.check().faults == 0


# -------------------------------------------------------------------------------------- lineage


def test_what_a_run_used_is_shown_as_a_chain(qn_exp: Program) -> None:
    first = logged("weights.pt", type="weights")
    with tracked() as second:
        path = second.use_artifact(first, "weights.pt")
        assert Path(path).read_bytes() == b"w" * 3000
        Path("tuned.pt").write_bytes(b"t")
        second.log_artifact("tuned.pt")
    with tracked() as third:
        assert third.use_artifact(second.id, "tuned.pt", into="here.pt") == "here.pt"
    store = Experiments("experiments")
    assert store.lineage(third.id) == [((second.id, "tuned.pt"), (first, "weights.pt"))]
    assert store.lineage(first) == []
    shown = qn_exp("show", third.id).stdout
    assert f"tuned.pt of {second.id}" in shown
    assert f"weights.pt of {first}" in shown
    with tracked() as fourth, pytest.raises(UsageError, match=r"no artifact 'x' \(there: weights"):
        fourth.use_artifact(first, "x")


def test_a_circle_of_runs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Artifact(path="a", size=1, sha256="0" * 64, name="a")
    both = {
        "x": Artifact(**{**vars_of(one), "source": "y"}),
        "y": Artifact(**{**vars_of(one), "source": "x"}),
    }
    monkeypatch.setattr(artifacts, "of", lambda root, id: (both[id],))
    assert artifacts.chain("experiments", "x") == [(("y", "a"), ("x", "a"))]


def vars_of(one: Artifact) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("path", "size", "sha256", "name")}


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("not-there", "no such file"),
        ("fifo", "is a FIFO, not a file"),
        ("many", "more than 20 files"),
        ("loop", "too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, path: str, cause: str
) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILES", 20)
    os.mkfifo("fifo")
    os.mkdir("many")
    for i in range(21):
        Path(f"many/{i}").touch()
    os.symlink("loop", "loop")
    with tracked() as run:
        assert run.log_artifact(path) is None
        run.episode(success=True)
    (warning,) = warnings_of(run.id)
    assert cause in warning
    assert run.experiment.results.episodes == 1
    with pytest.raises(StorageError):
        Experiments("experiments").attach(run.id, path)


def test_links_in_a_folder_are_left_out_and_a_named_one_is_followed() -> None:
    os.symlink("/etc/hostname", "model/link")
    os.symlink("..", "model/up")
    os.symlink("weights.pt", "latest")
    id = logged("model", "latest")
    folder, file = Experiments("experiments").artifacts(id)
    assert (folder.files, file.size) == (2, 3000)
    (warning,) = warnings_of(id)
    assert "model/link and 1 more: left out" in warning


def test_a_folder_around_the_experiments_is_kept_without_what_is_kept() -> None:
    """Otherwise every copy would hold all copies before it."""
    for _ in range(3):
        id = logged(".", "weights.pt")
    (around, _) = Experiments("experiments").artifacts(id)
    assert around.files is not None
    assert around.size < 3 * 6010 + 100_000
    names = json.loads(Path(f"experiments/.artifacts/{around.sha256}").read_bytes())["files"]
    assert "weights.pt" in names
    assert not [name for name in names if ".artifacts" in name]
    assert any("left out: what runs keep" in text for text in warnings_of(id))


def test_a_run_is_named_as_anywhere_else() -> None:
    id = logged("weights.pt")
    with tracked() as run:
        path = run.use_artifact("@2", "weights.pt")
        with pytest.raises(UsageError, match="no experiment 'zzz'"):
            run.use_artifact("zzz", "weights.pt")
    assert Path(path).read_bytes() == b"w" * 3000
    assert Experiments("experiments").lineage(run.id) == [((id, "weights.pt"),)]


def test_each_of_several_files_of_one_name_is_fetched_by_its_digest(qn_exp: Program) -> None:
    with tracked() as run:
        for text in ("first", "second"):
            Path("weights.pt").write_text(text)
            run.log_artifact("weights.pt")
        assert Path(run.use_artifact(run.id, "weights.pt")).read_text() == "second"
    lines = [line.split() for line in qn_exp("artifact", run.id).stdout.splitlines()]
    assert [(words[0], words[-1]) for words in lines] == [("weights.pt", "kept")] * 2
    for words, text in zip(lines, ("first", "second"), strict=True):
        assert qn_exp("artifact", run.id, words[1], "-o", text).returncode == 0
        assert Path(text).read_text() == text
    assert qn_exp("artifact", run.id, lines[0][1][:5], "-o", "none").returncode == 2


def test_a_file_that_changes_while_it_is_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_all = artifacts.write_all

    def meanwhile(fd: int, data: bytes) -> None:
        with open("weights.pt", "ab") as stream:
            stream.write(b"more")
        write_all(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "write_all", meanwhile)
        id = logged("weights.pt")
    assert "weights.pt: changed while it was read" in warnings_of(id)[0]
    Experiments("experiments").artifact(id, "weights.pt", "copy")
    assert Path("copy").read_bytes() == b"w" * 3000


@pytest.mark.parametrize("path", ["weights.pt", "model"])
def test_on_a_full_device_it_is_referred_to(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "write_all", full)
    id = logged(path)
    (found,) = Experiments("experiments").artifacts(id)
    assert not found.kept
    assert "cannot be kept: no space left on device" in warnings_of(id)[0]
    assert os.listdir("experiments/.artifacts") == [".gitignore"]


def test_threads_that_keep_the_same_agree() -> None:
    with tracked() as run:
        threads = [threading.Thread(target=run.log_artifact, args=("model",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({one.sha256 for one in run.experiment.artifacts}) == 1
    assert len(run.experiment.artifacts) == 8
    assert run.experiment.warnings == ()


def test_fsck_names_what_was_changed_and_what_is_not_here(qn_exp: Program) -> None:
    logged("weights.pt", "model")
    assert qn_exp("fsck").returncode == 0
    for name in kept():
        os.chmod(f"experiments/.artifacts/{name}", 0o644)
    biggest = max(kept(), key=lambda name: os.path.getsize(f"experiments/.artifacts/{name}"))
    Path(f"experiments/.artifacts/{biggest}").write_bytes(b"other")
    done = qn_exp("fsck")
    assert done.returncode == 1
    assert f"{biggest}: is not what its name says" in done.stdout
    shutil.rmtree("experiments/.artifacts")
    done = qn_exp("fsck")
    assert done.returncode == 0
    assert "that is not here" in done.stdout


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a//b"])
def test_a_list_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    from hashlib import sha256

    text = json.dumps({"files": {name: {"size": 1, "sha256": "0" * 64}}}).encode()
    digest = sha256(text).hexdigest()
    Path("experiments/.artifacts").mkdir(parents=True)
    Path(f"experiments/.artifacts/{digest}").write_bytes(text)
    bad = Artifact(path="model", size=1, sha256=digest, files=1, kept=True)
    with pytest.raises(StorageError, match="leads out of the folder"):
        artifacts.fetch("experiments", bad, "back")
    assert not Path("out").exists()


# -------------------------------------------------------------------------------------- moving


@pytest.mark.parametrize("way", ["bundle", "folder"])
def test_what_is_kept_travels(way: str) -> None:
    id = logged("weights.pt", "model")
    store, there = Experiments("experiments"), Experiments("there")
    Path("later").write_text("later")
    store.attach(id, "later")
    source = "experiments"
    if way == "bundle":
        source = "all.zip"
        store.export(source, format="bundle")
    (arrived,) = there.import_(source)
    assert getattr(arrived, "outcome", arrived) == "imported"
    for name in ("weights.pt", "model", "later"):
        there.artifact(id, name, f"back/{name}")
    assert Path("back/model/layers/b.bin").read_bytes() == b"w" * 3000
    assert there.check().findings == ()


def test_a_bundle_with_other_bytes_than_it_says_is_refused() -> None:
    id = logged("weights.pt")
    (name,) = kept()
    os.chmod(f"experiments/.artifacts/{name}", 0o644)
    Path(f"experiments/.artifacts/{name}").write_bytes(b"other")
    Experiments("experiments").export("all.zip", format="bundle")
    refused, arrived = Experiments("there").import_("all.zip")
    assert "is not what its name says" in str(getattr(refused, "error", ""))
    assert getattr(arrived, "id", None) == id
    assert not Path(f"there/.artifacts/{name}").exists()


def test_a_bundle_without_artifacts_makes_no_folder_of_them() -> None:
    logged()
    Experiments("experiments").export("all.zip", format="bundle")
    Experiments("there").import_("all.zip")
    assert not Path("there/.artifacts").exists()
