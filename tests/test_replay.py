"""`qn-exp replay`: the frames of an episode are those of the record, and what is drawn is them."""

from __future__ import annotations

import io
import itertools
import json
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Program, command
from qn_tracking import Experiments, run, track
from qn_tracking.api.replay import Replay
from qn_tracking.errors import UnsupportedError, UsageError
from qn_tracking.nematode import world
from qn_tracking.nematode_view.frames import FACINGS, WHOLE
from qn_tracking.render import progress

DYNAMIC = """\
max_steps: 60
body_length: 3
brain:
  name: mlp
  config: {hidden_dim: 8, num_hidden_layers: 1}
environment:
  type: dynamic
  dynamic:
    {grid_size: 8, num_initial_foods: 3, max_active_foods: 5, min_food_distance: 2, agent_exclusion_radius: 2}
satiety: {initial_satiety: 50}
"""
LARGE = DYNAMIC.replace("grid_size: 8", "grid_size: 100").replace("radius: 2", "radius: 30")
QUANTUM = SMALL.replace(
    "name: mlp\n  config: {hidden_dim: 8, num_hidden_layers: 1}", "name: modular"
)
CONFIGS = {"static": SMALL, "dynamic": DYNAMIC, "large": LARGE, "quantum": QUANTUM}
EPISODES = 4
HOSTILE = """<script>alert(1)</script>"'&\x1b[31m"""


def recorded(config: str, **options: Any) -> str:
    """The id of a run with a configuration of that name."""
    Path(f"{config}.yml").write_text(CONFIGS[config])
    return run(f"{config}.yml", episodes=EPISODES, seed=5, warn=lambda _: None, **options).id


def seen(id: str, episode: int | None = None) -> Replay:
    return Experiments("experiments").replay(id, episode)


# ------------------------------------------------------------------------------------- the record


@pytest.mark.parametrize("config", CONFIGS)
def test_frames_are_the_steps_of_the_record(project: Path, config: str) -> None:
    id = recorded(config)
    for number, episode in enumerate(Experiments("experiments").episodes(id)):
        found = seen(id, number)
        first, *steps = found.frames
        assert found.outcome == "identical"
        assert found.first_difference is None
        assert [frame["step"] for frame in found.frames] == list(range(len(found.frames)))
        assert (first["step"], first["reward"], first["termination"]) == (0, 0.0, None)
        assert len(steps) == episode.steps == found.episode.steps
        assert steps[-1]["reward"] == episode.reward
        assert steps[-1]["termination"] == episode.termination
        assert {frame["termination"] for frame in steps[:-1]} <= {None}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_step_moves_the_worm_by_the_rules(project: Path, config: str) -> None:
    found = seen(recorded(config))
    for before, after in zip(found.frames, found.frames[1:], strict=False):
        turn = world.TURNS[world.ACTIONS.index(after["action"])]
        if after["head"] == before["head"]:
            assert after["facing"] == before["facing"]
            assert after["body"] == before["body"]
        else:
            facing = (FACINGS.index(before["facing"]) + turn) % 4
            assert after["facing"] == FACINGS[facing]
            moved = [a + b for a, b in zip(before["head"], world.STEPS[facing], strict=True)]
            assert after["head"] == moved
            assert after["body"] == [before["head"], *before["body"]][: len(before["body"])]
        eaten = [cell for cell in before["targets"] if cell not in after["targets"]]
        assert eaten in ([], [after["head"]])
        assert all(0 <= at < after["size"] for at in after["head"])


def test_the_last_episode_is_shown_if_none_is_named(project: Path) -> None:
    id = recorded("static")
    done: list[tuple[int, int]] = []
    store = Experiments("experiments", progress=lambda what: lambda *now: done.append(now))
    assert store.replay(id).episode.index == EPISODES - 1
    assert done[-EPISODES:] == [(n, EPISODES) for n in range(1, EPISODES + 1)]


def test_evaluations_in_between_are_not_needed(project: Path) -> None:
    id = recorded("static", evaluate_every=2, evaluate_episodes=3)
    assert Experiments("experiments").get(id).phases
    assert seen(id).outcome == "identical"


def test_nothing_is_stored(project: Path) -> None:
    id = recorded("static")
    seen(id)
    before = {path: path.read_bytes() for path in Path("experiments").rglob("*") if path.is_file()}
    seen(id)
    assert before == {
        path: path.read_bytes() for path in Path("experiments").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("factor", "outcome", "code"), [(2.0, "different", 1), (1 + 1e-12, "same outcome", 0)]
)
def test_another_result_is_named_with_its_first_difference(
    project: Path, monkeypatch: pytest.MonkeyPatch, factor: float, outcome: str, code: int
) -> None:
    """The code has changed since: what a goal is worth."""
    id = recorded("static")
    reached = next(
        episode.index
        for episode in Experiments("experiments").episodes(id)
        if episode.termination == "goal_reached"
    )
    bonus = world._bonus
    monkeypatch.setattr(world, "_bonus", lambda *args: factor * bonus(*args))
    done = command("qn-exp", "replay", id, "--episode", str(reached), process=False)
    assert done.returncode == code, done.stderr
    *_, said, first = done.stdout.splitlines()
    assert said.startswith(f"{outcome}: ")
    assert first.startswith(f"first at episode {reached}: reward: ")
    plain = json.loads(command("qn-exp", "replay", id, "--json", process=False).stdout)
    assert (plain["outcome"], plain["first_difference"]["episode"]) == (outcome, reached)


def test_without_the_episodes_of_the_record_nothing_is_compared(
    project: Path, qn_exp: Program
) -> None:
    id = recorded("static")
    Path(f"experiments/runs/{id}/episodes.jsonl").unlink()
    done = qn_exp("replay", id)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("not compared")


# ---------------------------------------------------------------------------------- what is refused


def test_an_episode_that_there_is_not_is_an_error_of_one_line(
    project: Path, qn_exp: Program
) -> None:
    id = recorded("static")
    done = qn_exp("replay", id, "--episode", str(EPISODES))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {id}: no episode {EPISODES} (they are 0 to {EPISODES - 1})\n"


def test_a_run_of_a_script_cannot_be_shown(project: Path, qn_exp: Program) -> None:
    with track({"a": 1}, seed=1) as loop:
        loop.episode(success=True)
    done = qn_exp("replay", loop.id)
    assert done.returncode == 4
    assert "was recorded by a script" in done.stderr


def test_a_wrong_ending_or_a_file_in_the_way_is_refused(project: Path, qn_exp: Program) -> None:
    id = recorded("static")
    done = qn_exp("replay", id, "-o", "worm.png")
    assert done.returncode == 2
    assert "worm.png: the ending names no animation (one of .svg, .gif)" in done.stderr
    Path("worm.svg").write_text("mine")
    assert qn_exp("replay", id, "-o", "worm.svg").returncode == 2
    assert Path("worm.svg").read_text() == "mine"
    assert qn_exp("replay", id, "-o", "worm.svg", "--force").returncode == 0
    for speed in ("0", "-1", "nan", "inf", "fast"):
        assert qn_exp("replay", id, f"--speed={speed}").returncode == 2


def test_an_environment_without_a_view_is_an_error_of_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = recorded("static")
    monkeypatch.delitem(sys.modules["qn_tracking.tracking.installed"].BUILTIN, "view.static")
    with pytest.raises(UnsupportedError, match="view.static: no plugin shows this simulation"):
        seen(id)


VIEW = """
from qn_tracking.plugin import hookimpl


class Views:
    @hookimpl
    def make_view(self, simulation):
        return self

    def watch(self):
        return [{"n": 0}]

    def text(self, frame, **how):
        return f"frame {frame['n']}\\n"

    def draw(self, frames, format, **how):
        return {"svg": b"<svg/>"}[format]
"""


def test_a_plugin_shows_a_simulation_of_its_own(
    project: Path, monkeypatch: pytest.MonkeyPatch, qn_exp: Program
) -> None:
    id = recorded("static")
    Path("site/views-1.0.dist-info").mkdir(parents=True)
    Path("site/views-1.0.dist-info/METADATA").write_text("Name: views\nVersion: 1.0\n")
    entry = "[qn_tracking]\nview.static = worldviews:Views\n"
    Path("site/views-1.0.dist-info/entry_points.txt").write_text(entry)
    Path("site/worldviews.py").write_text(VIEW)
    monkeypatch.syspath_prepend(str(project / "site"))
    monkeypatch.delitem(sys.modules["qn_tracking.tracking.installed"].BUILTIN, "view.static")
    done = command("qn-exp", "replay", id, process=False)
    assert done.stdout.startswith("frame 0\n"), done.stderr
    done = command("qn-exp", "replay", id, "-o", "a.gif", process=False)
    assert (done.returncode, done.stderr) == (1, "error: plugin view.static: KeyError: 'gif'\n")


# ------------------------------------------------------------------------------------ what is drawn


def test_a_pipe_gets_the_last_frame_in_characters(project: Path, qn_exp: Program) -> None:
    id = recorded("static")
    done = qn_exp("replay", id, env={"PYTHONIOENCODING": "ascii"}, process=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    *rows, about, caption, said = done.stdout.splitlines()
    last = seen(id).frames[-1]
    cells = [row.split(" ") for row in reversed(rows)]
    x, y = last["head"]
    assert [len(row) for row in cells] == [6] * 6
    assert cells[y][x] in "^<v>"
    assert all(cells[y][x] == "o" for x, y in last["body"] if [x, y] != last["head"])
    assert about.startswith(f"step {last['step']}, {last['termination']}, ")
    assert caption.startswith(f"episode {EPISODES - 1}: {last['termination']} after ")
    assert said == f"identical: episodes 0 to {EPISODES - 1} and the record"


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (20, 8), (1, 1), (400, 400)])
def test_a_frame_fits_the_terminal(project: Path, columns: int, lines: int) -> None:
    found = seen(recorded("large"))
    text = found.text(-1, columns=columns, lines=lines, unicode=False)
    rows = text.splitlines()
    assert any(set(row) & set("^<v>") for row in rows[:-1])
    assert len(rows) <= max(lines, 4)
    assert max(map(len, rows)) <= max(columns, 5)
    assert ("of 100 x 100 cells" in text) == (columns == 80)


def test_a_terminal_shows_frame_after_frame(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = recorded("static")
    monkeypatch.setattr(progress, "is_terminal", lambda stream: stream is sys.stdout)
    shown = command("qn-exp", "replay", id, "--speed", "1000", process=False).stdout
    steps = len(seen(id).frames)
    assert shown.startswith("\x1b[?25l")
    assert shown.count("\x1b[?25h") == 1
    assert shown.count("F") >= shown.count("\x1b[7F") == steps - 1
    assert all(f"step {number}, " in shown for number in range(steps))


def test_json_has_every_frame(project: Path, qn_exp: Program) -> None:
    id = recorded("dynamic")
    plain = json.loads(qn_exp("replay", id, "--json").stdout)
    assert plain["frames"] == list(seen(id).frames)
    assert (plain["id"], plain["outcome"], plain["path"]) == (id, "identical", None)
    assert plain["episode"]["index"] == EPISODES - 1


def numbers(element: xml.etree.ElementTree.Element, attribute: str) -> list[str]:
    (found,) = [one for one in element if one.get("attributeName") == attribute]
    return str(found.get("values")).split(";")


@pytest.mark.parametrize("config", ["static", "dynamic", "large"])
def test_an_svg_moves_by_the_numbers_in_it(project: Path, config: str) -> None:
    found = seen(recorded(config))
    assert found.save("worm.svg", speed=20) == "worm.svg"
    data = Path("worm.svg").read_bytes()
    found.save("again.svg", speed=20)
    assert Path("again.svg").read_bytes() == data
    assert str(found._repr_svg_()).startswith("<svg ")
    root = xml.etree.ElementTree.fromstring(data)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    allowed = {
        "svg",
        "title",
        "style",
        "rect",
        "path",
        "g",
        "polyline",
        "circle",
        "text",
        "animate",
    }
    assert tags <= allowed
    assert b"href" not in data
    assert b"url(" not in data
    names = "{http://www.w3.org/2000/svg}"
    moving = root.find(f"{names}g[@class='moving']")
    assert moving is not None
    (worm,) = moving.findall(f"{names}polyline")
    *_, head = moving.findall(f"{names}circle")
    places = numbers(worm, "points")
    held = 30  # one and a half seconds
    assert len(places) == len(found.frames) + held
    assert len(set(places[-held:])) == 1
    at = list(zip(numbers(head, "cx"), numbers(head, "cy"), strict=True))
    assert [place.split()[0] for place in places] == [f"{x},{y}" for x, y in at]
    stays = [a == b for a, b in itertools.pairwise(at)][: len(found.frames) - 1]
    frames = found.frames
    assert stays == [a["head"] == b["head"] for a, b in itertools.pairwise(frames)]
    (timing,) = {one.get("dur") for one in root.iter(f"{names}animate")}
    assert timing == f"{(len(places) - 1) / 20:.3f}".rstrip("0").rstrip(".") + "s"
    width, height = map(float, str(root.get("viewBox")).split()[2:])
    assert all(0 < float(x) < width and 0 < float(y) < height for x, y in at)
    assert width >= 480 or found.frames[0]["size"] > WHOLE


def test_what_a_caption_says_is_text(project: Path) -> None:
    found = seen(recorded("static"), 0)
    data = found.view.draw(found.frames, "svg", speed=10, caption=HOSTILE)
    assert b"<script>" not in data
    assert b"\x1b" not in data
    texts = [one.text for one in xml.etree.ElementTree.fromstring(data).iter() if one.text]
    assert any("<script>alert(1)</script>\"'&\\x1b[31m" in text for text in texts)


@pytest.mark.parametrize("config", ["static", "large"])
def test_a_gif_has_a_picture_for_each_step(project: Path, config: str) -> None:
    image = pytest.importorskip("PIL.Image")
    found = seen(recorded(config))
    found.save("worm.gif", speed=20)
    drawn = image.open(io.BytesIO(Path("worm.gif").read_bytes()))
    pauses = []
    for number in range(drawn.n_frames):
        drawn.seek(number)
        pauses.append(drawn.info["duration"])
    # Pictures that are the same are one that stays longer.
    assert sum(pauses) == 50 * (len(found.frames) - 1) + 1_500
    assert drawn.info["loop"] == 0


def test_without_pillow_there_is_a_hint_and_no_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    id = recorded("static")
    done = command("qn-exp", "replay", id, "-o", "worm.gif", process=False)
    assert done.returncode == 4
    hint = "pip install 'qn-tracking[gif]'; .svg needs nothing"
    assert done.stderr == f"error: a GIF needs Pillow ({hint})\n"
    assert not Path("worm.gif").exists()


def test_the_library_refuses_what_the_command_refuses(project: Path) -> None:
    found = seen(recorded("static"), 0)
    with pytest.raises(UsageError, match="the ending names no animation"):
        found.save("worm")
    with pytest.raises(UnsupportedError, match="no animation as webp"):
        found.view.draw(found.frames, "webp", speed=10, caption="")
