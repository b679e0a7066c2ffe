"""Where a run came from, as records: read from a record or from the document of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from qn_tracking import track
from qn_tracking.records.provenance import Code, Git, Provenance, Resources, System, provenance


def test_a_record_and_its_file_say_the_same(project: Path) -> None:
    with track("small.yml", seed=1) as run:
        run.episode(success=True)
    document = orjson.loads(Path(f"experiments/{run.id}.json").read_bytes())
    read = provenance(document)
    assert run.experiment is not None
    assert provenance(run.experiment).system == read.system
    assert read.system.python is not None
    assert read.packages.count
    assert read.resources.wall_seconds is not None
    assert read.facts is document["facts"]["metadata"]


def test_each_section_has_its_fields() -> None:
    git = {"commit": "a" * 40, "dirty": "unknown", "patch": {"file": "p"}, "more": 1}
    facts = {
        "git": git,
        "code": [{"name": "p", "digest": "d", "dirty": False}],
        "system": {"python": "3.12.1", "cpus": 2},
        "resources": {"wall_seconds": 2, "jobs": 4},
    }
    read = provenance({"facts": {"metadata": facts}})
    assert read.git == Git(commit="a" * 40, dirty="unknown", patch={"file": "p"})
    assert read.code == (Code(name="p", digest="d", dirty=False),)
    assert read.system == System(python="3.12.1", cpus=2)
    assert read.resources == Resources(wall_seconds=2, jobs=4)


@pytest.mark.parametrize(
    "facts",
    [
        None,
        {},
        {"metadata": None},
        {"metadata": "text"},
        {"metadata": {"git": None, "code": None, "system": []}},
        {"metadata": {"git": {"commit": 7, "dirty": "maybe", "config_tracked": 1}, "code": ["x"]}},
        {"metadata": {"resources": {"wall_seconds": True, "jobs": 1.5}, "code": {"name": "x"}}},
    ],
)
def test_what_another_program_wrote_reads_as_absent(facts: Any) -> None:
    read = provenance({"facts": facts})
    assert (read.git, read.code, read.packages, read.system, read.resources) == (
        Provenance().git, (), Provenance().packages, System(), Resources(),
    )  # fmt: skip
