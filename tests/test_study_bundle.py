"""A study in one file: exported, imported and run again on another machine."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Program, command
from qn_tracking import Experiments, StorageError, Study

RATE = "brain.config.learning_rate"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study was run, extended and tagged, and its bundle: made once."""
    place = tmp_path_factory.mktemp("study")
    (place / "small.yml").write_text(SMALL)
    here = os.getcwd()
    os.chdir(place)
    try:
        done = command("qn-run", "small.yml", "--sweep", f"{RATE}=0.1,0.2", "--seeds", "1-2",
                       "--episodes", "3", "--name", "lr", "--jobs", "2")  # fmt: skip
        assert done.returncode == 0, done.stderr
        study = Study.load("lr")
        study.extend(seeds=[7])
        assert study.run(jobs=2).finished == 6
        Experiments().tag("lr", {"checked": "yes"})
        done = command("qn-exp", "export", "lr", "--format", "bundle", "-o", "lr.zip")
        assert done.returncode == 0, done.stderr
    finally:
        os.chdir(here)
    return place


@pytest.fixture
def lr(project: Path, made: Path) -> Study:
    """A study of two arms and two seeds, extended by one, and tagged."""
    shutil.copytree(made / "experiments", "experiments")
    return Study.load("lr")


@pytest.fixture
def bundle(project: Path, made: Path) -> str:
    """The study in a file."""
    shutil.copy(made / "lr.zip", "lr.zip")
    return "lr.zip"


def files_below(folder: str) -> dict[str, bytes]:
    """Every file of studies, by its path below the folder."""
    found = Path(folder, "studies").rglob("*.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_study_comes_back_as_it_was(lr: Study, bundle: str, qn_exp: Program) -> None:
    page = qn_exp("show", "lr").stdout
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    assert (done.returncode, done.stdout) == (0, f"6 imported, study {lr.id} imported\n")
    assert files_below("other") == files_below("experiments")
    names = sorted(Path(name).name for name in files_below("other"))
    assert names == ["extension-1.json", "study.json"]
    assert Experiments("other").study("lr").tags == lr.tags != {}
    assert qn_exp("show", "lr", "--experiments-dir", "other").stdout == page
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    assert done.stdout == f"0 imported, 6 already here, study {lr.id} already here\n"
    assert qn_exp("fsck", "--experiments-dir", "other").returncode == 0
    assert json.loads(qn_exp("import", bundle, "--json").stdout)["studies"] == [
        {"id": lr.id, "outcome": "here"}
    ]


def test_the_same_study_makes_the_same_bytes(lr: Study, bundle: str, qn_exp: Program) -> None:
    assert qn_exp("export", "lr", "--format", "bundle", "-o", "again.zip").returncode == 0
    assert Path("again.zip").read_bytes() == Path(bundle).read_bytes()


def test_all_of_a_folder_has_all_of_its_studies(lr: Study, qn_exp: Program) -> None:
    qn_exp("gather", "lr", "--name", "later", "--by", RATE)
    assert qn_exp("export", "--format", "bundle", "-o", "all.zip").returncode == 0
    assert qn_exp("import", "all.zip", "--experiments-dir", "other").returncode == 0
    assert qn_exp("import", "experiments", "--experiments-dir", "third").returncode == 0
    for folder in ("other", "third"):
        assert files_below(folder) == files_below("experiments")
        assert {study.name for study in Experiments(folder).studies()} == {"lr", "later"}
        assert len(Experiments(folder).ids("later")) == 6
    ids = Experiments().ids("lr")[:2]
    assert qn_exp("export", *ids, "--format", "bundle", "-o", "two.zip").returncode == 0
    assert not any(name.startswith("studies/") for name in zipfile.ZipFile("two.zip").namelist())


def test_an_extension_that_is_missing_here_is_added(
    lr: Study, bundle: str, qn_exp: Program
) -> None:
    shutil.copytree("experiments", "other")
    place = Path("other/studies", lr.id)
    (place / "extension-1.json").unlink()
    assert len(Study.load("lr", experiments_dir="other").record.seeds) == 2
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    assert done.stdout == f"0 imported, 6 already here, study {lr.id} completed\n"
    assert len(Study.load("lr", experiments_dir="other").record.seeds) == 3


def rewritten(bundle: str, change: Any) -> None:
    """The bundle with its files as the function returns them."""
    with zipfile.ZipFile(bundle) as old:
        files, comment = {name: old.read(name) for name in old.namelist()}, old.comment
    change(files)
    with zipfile.ZipFile(bundle, "w") as new:
        new.comment = comment
        for name, data in files.items():
            new.writestr(name, data)


def test_another_study_of_the_same_id_is_refused(lr: Study, bundle: str, qn_exp: Program) -> None:
    path = Path("experiments/studies", lr.id, "extension-1.json")
    path.write_text(path.read_text().replace("7", "8"))
    before = files_below("experiments")
    done = qn_exp("import", bundle)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "another study of this id is here" in done.stderr
    assert files_below("experiments") == before


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("study.json", b"{", "/study.json: truncated"),
        ("study.json", None, "expected one of study.json, gathered.json"),
        ("gathered.json", b"{}", "expected one of study.json, gathered.json"),
        ("extension-1.json", None, ""),
        ("extension-3.json", b"{}", "an extension is missing before another one"),
        (
            "labels.json",
            b'{"schema": 1, "tags": 3}',
            "/labels.json: tags: expected a mapping of text",
        ),
    ],
)
def test_a_study_that_is_none_is_refused_and_leaves_nothing(
    lr: Study, bundle: str, qn_exp: Program, name: str, text: bytes | None, cause: str
) -> None:
    def change(files: dict[str, bytes]) -> None:
        if text is None:
            del files[f"studies/{lr.id}/{name}"]
        else:
            files[f"studies/{lr.id}/{name}"] = text

    rewritten(bundle, change)
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    if not cause:  # a study as it was before it was extended
        assert done.returncode == 0
        assert len(Study.load("lr", experiments_dir="other").record.seeds) == 2
        return
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert cause in done.stderr
    assert f"error: lr.zip/studies/{lr.id}" in done.stderr
    assert files_below("other") == {}
    assert [one for one in os.listdir("other/runs") if one.startswith(".import")] == []


def test_what_is_no_file_of_a_study_is_left_out(lr: Study, bundle: str, qn_exp: Program) -> None:
    names = (f"studies/{lr.id}/evil.py", f"studies/{lr.id}/a/study.json", "studies/-x/study.json")
    rewritten(bundle, lambda files: files.update(dict.fromkeys(names, b"1")))
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    assert done.returncode == 0
    assert "lr.zip: studies: left out" in done.stderr
    assert files_below("other") == files_below("experiments")
    assert not list(Path("other").rglob("*.py"))


def test_a_name_that_two_studies_have_is_not_guessed(
    lr: Study, bundle: str, qn_exp: Program, qn_run: Program
) -> None:
    """Else a study of another machine could take the place of one's own."""
    run = ("small.yml", "--seeds", "1", "--episodes", "1", "--name", "lr", "--jobs", "1")
    assert qn_run(*run, "--experiments-dir", "other").returncode == 0
    done = qn_exp("import", bundle, "--experiments-dir", "other")
    assert done.returncode == 0
    assert f"warning: study {lr.id}: 2 studies are called lr (by id: " in done.stderr
    for name in ("show", "rerun"):
        done = qn_exp(name, "lr", "--experiments-dir", "other")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "2 studies are called lr" in done.stderr
    assert qn_run("--resume", "lr", "--experiments-dir", "other").returncode == 2
    assert qn_exp("show", lr.id, "--experiments-dir", "other").returncode == 0
    assert qn_exp("list", "--studies", "--experiments-dir", "other").stdout.count("lr") == 2


def test_a_study_of_a_script_says_what_it_would_run(project: Path, qn_exp: Program) -> None:
    Path("train.py").write_text("import sys\n"
                                "from qn_tracking import track\n"
                                "with track({'rate': sys.argv[1]}) as run:\n"
                                "    run.episode(success=True, steps=1)\n")  # fmt: skip
    study = Study.script([sys.executable, "train.py", "{rate}", "{seed}"], sweep={"rate": [1, 2]},
                         seeds=[1], name="own")  # fmt: skip
    assert study.run(jobs=2).finished == 2
    assert qn_exp("export", "own", "--format", "bundle", "-o", "own.zip").returncode == 0
    done = qn_exp("import", "own.zip", "--experiments-dir", "other")
    assert done.returncode == 0
    assert "is of a script: qn-run --resume would run " in done.stderr
    assert " train.py '{rate}' '{seed}'" in done.stderr
    done = qn_exp("rerun", "own.zip")  # by the script that is here
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "identical for 2 of 2 runs")
    done = qn_exp("rerun", "own", "--dry-run")
    assert " train.py 1 1, seed 1, in the present code\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "planned for 2 of 2 runs"
    Path("train.py").unlink()
    done = qn_exp("rerun", "own.zip")
    assert (done.returncode, done.stdout) == (4, "not run for 2 of 2 runs\n")


def test_a_bundle_is_run_again(lr: Study, bundle: str, qn_exp: Program) -> None:
    done = qn_exp("rerun", bundle, "--experiments-dir", "other")
    assert done.returncode == 0, done.stderr
    *each, last = done.stdout.splitlines()
    assert last == "identical for 6 of 6 runs"
    assert each == [f"{id}: identical" for id in Experiments().ids("lr")]
    assert qn_exp("show", "lr", "--experiments-dir", "other").returncode == 0


def test_each_first_difference_is_named(lr: Study, bundle: str, qn_exp: Program) -> None:
    """One run is said to have learned with another seed, as if its code had changed since."""
    store = Experiments("other", warn=lambda _: None)
    store.import_(bundle)
    first = store.ids("lr")[0]
    record = Path("other", f"{first}.json")
    record.write_text(record.read_text().replace('"seed": 1,', '"seed": 5,', 1))
    found: list[str] = []
    done = store.rerun_all("lr", each=lambda id, one: found.append(id))
    assert found == store.ids("lr")
    assert (done.exit_code, done.summary) == (
        1,
        "different for 1 of 6 runs; identical for 5 of 6 runs",
    )
    difference = done.done[0].first_difference
    assert difference is not None
    page = qn_exp("rerun", "lr", "--experiments-dir", "other").stdout
    assert f"{first}: different, first at episode {difference.episode}" in page


def test_what_cannot_be_run_is_said_once_for_each_cause(
    lr: Study, bundle: str, qn_exp: Program
) -> None:
    for path in Path("experiments").glob("*.json"):
        doc = json.loads(path.read_text())
        doc["subject"]["packages"] = []
        path.write_text(json.dumps(doc))
    done = qn_exp("rerun", "lr")
    assert done.returncode == 4
    assert done.stdout == "not run for 6 of 6 runs\n"
    assert [line.partition(": ")[2][:16] for line in done.stderr.splitlines()] == [
        Experiments().ids("lr")[0][:16], "5 more runs: was"
    ]  # fmt: skip
    assert done.stderr.count("was recorded by a script") == 2


def test_a_bundle_that_cannot_be_read_runs_nothing(project: Path, qn_exp: Program) -> None:
    Path("bad.zip").write_bytes(b"PK\x03\x04")
    done = qn_exp("rerun", "bad.zip")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "error: bad.zip: not a whole zip file" in done.stderr
    with pytest.raises(StorageError):
        Experiments().rerun_all("bad.zip")
    assert qn_exp("rerun", "none.zip").returncode != 0
