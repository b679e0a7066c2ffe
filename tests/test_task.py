"""The task of a configuration: which keys it is made of, and that all others are brain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, strategies as st

from qn_tracking import config as configuration, hookimpl, run
from qn_tracking.api.board import validators
from qn_tracking.benchmark import files
from qn_tracking.benchmark.aggregate import columns
from qn_tracking.benchmark.task import differences, task_digest, task_of
from qn_tracking.errors import ConfigError, PluginError
from qn_tracking.nematode.circuit import depth
from qn_tracking.records.divergence import close
from qn_tracking.records.model import Config, Subject
from qn_tracking.reproduce.execution import another_environment
from qn_tracking.tracking.manager import make_manager, register
from qn_tracking.tracking.recorder import Recorder
from qn_tracking.tracking.runner import run_simulation

ROOT = Path(__file__).parent.parent

SHIPPED = [name for name in configuration.shipped() if "dynamic" in name or "simple" in name]
DYNAMIC = "mlp_dynamic_small"


def of(config: Config | str, *overrides: str) -> dict[str, Any]:
    read = configuration.load(config, overrides) if isinstance(config, str) else config
    task = task_of(read, validators(read))
    assert task is not None
    return task


def digest(config: Config | str, *overrides: str) -> str:
    return task_digest(of(config, *overrides))


# ------------------------------------------------------------------------ the built-in environments

TASK = {
    DYNAMIC: (
        "environment.dynamic.grid_size=21",
        "environment.dynamic.num_initial_foods=4",
        "environment.dynamic.max_active_foods=9",
        "environment.dynamic.min_food_distance=2",
        "environment.dynamic.agent_exclusion_radius=4",
        "environment.dynamic.gradient_decay_constant=9",
        "environment.dynamic.gradient_strength=2",
        "max_steps=501",
        "body_length=3",
        "satiety.initial_satiety=201",
        "satiety.satiety_decay_rate=0.5",
        "satiety.satiety_gain_per_food=0.3",
    ),
    "mlp_simple_medium": ("environment.static.grid_size=11", "max_steps=301", "body_length=3"),
}
BRAIN = {
    DYNAMIC: (
        "brain.name=qmlp",
        "brain.config.gamma=0.5",
        "brain.config.learning_rate=0",
        "reward.reward_goal=7",
        "reward.penalty_starvation=0",
        "environment.dynamic.viewport_size=[5, 5]",
        "shots=7",
        "learning_rate.method=adam",
        "gradient.method=clip",
        "parameter_initializer.type=zero",
        "seed=9",
        "episodes=7",
    ),
    "modular_simple_medium": (
        "qubits=2",
        "shots=3",
        "learning_rate.parameters.initial_learning_rate=2",
        "brain.config.num_layers=3",
        "satiety.initial_satiety=3",
        "environment.dynamic.grid_size=99",
    ),
}


@pytest.mark.parametrize(("name", "change"), [(n, c) for n, some in TASK.items() for c in some])
def test_what_changes_the_world_or_its_limits_makes_another_task(name: str, change: str) -> None:
    assert digest(name, change) != digest(name)
    field, _, value = change.partition("=")
    (difference,) = differences(of(name, change), of(name))
    assert difference.startswith(f"config.{field}: {value}, the task has ")


@pytest.mark.parametrize(("name", "change"), [(n, c) for n, some in BRAIN.items() for c in some])
def test_brain_learning_and_training_reward_are_free(name: str, change: str) -> None:
    assert digest(name, change) == digest(name)


def test_brains_of_one_environment_have_one_task() -> None:
    of_size: dict[str, set[str]] = {}
    for name in SHIPPED:
        of_size.setdefault(name.partition("_")[2], set()).add(digest(name))
    assert len(of_size) > 3
    assert all(len(found) == 1 for found in of_size.values())
    assert len(set().union(*of_size.values())) == len(of_size)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_default_is_the_same_written_out_and_omitted(kind: str) -> None:
    brain = {"brain": {"name": "mlp"}}
    short = configuration.from_mapping({**brain, "environment": {"type": kind}})
    long = configuration.from_mapping({**brain, **of(short)})
    assert (digest(long), long.digest) == (digest(short), long.digest)
    assert short.digest != long.digest
    if kind == "static":
        assert digest(configuration.from_mapping({**brain, "environment": {}})) == digest(short)


def test_a_task_that_cannot_be_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="grid_size"):
        of(DYNAMIC, "environment.dynamic.grid_size=1")


# ------------------------------------------------------------------------------- what providers say


class Says:
    def __init__(self, found: Any) -> None:
        self.found = found

    @hookimpl
    def task(self, config: Config) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def said(found: Any, **data: Any) -> dict[str, Any] | None:
    manager = make_manager()
    register(manager, "says", Says(found))
    return task_of(configuration.from_mapping(data or {"x": 1}), manager)


def test_a_simulation_without_the_hook_has_no_task() -> None:
    assert said(None) is None


def test_two_simulations_never_share_a_task() -> None:
    manager = make_manager()
    register(manager, "says", Says({"heads": 1}))
    tasks = [
        task_of(configuration.from_mapping({"x": 1, "simulation": name}), manager)
        for name in ("coin", "dice", "nematode")
    ]
    assert tasks == [
        {"simulation": "coin", "heads": 1},
        {"simulation": "dice", "heads": 1},
        {"heads": 1},
    ]


@pytest.mark.parametrize("found", [7, ["a"], {"a": object()}, {1: 2}, RuntimeError("no")])
def test_what_is_no_plain_data_is_an_error_of_the_plugin(found: Any) -> None:
    with pytest.raises(PluginError) as raised:
        said(found)
    assert raised.value.field == "task"


LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text()
TASKS = st.dictionaries(
    st.text(min_size=1, alphabet="abcdef"),
    LEAVES | st.dictionaries(st.text(min_size=1, alphabet="abcdef"), LEAVES, min_size=1),
)


@given(TASKS, TASKS)
def test_tasks_differ_in_a_key_exactly_if_their_digests_differ(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    assert differences(one, one) == ()
    assert bool(differences(one, other)) == (task_digest(one) != task_digest(other))
    assert len(differences(one, other)) == len(differences(other, one))


@given(TASKS)
def test_the_order_of_keys_and_the_form_of_a_number_do_not_matter(task: dict[str, Any]) -> None:
    other = {
        key: float(value) if type(value) is int else value
        for key, value in reversed(list(task.items()))
    }
    assert task_digest(other) == task_digest(task)


# ------------------------------------------------------------------------------------ what runs cost


def counted(name: str, episodes: int = 3) -> tuple[dict[str, int], int]:
    found = run(name, track=False, episodes=episodes, seed=1, warn=lambda _: None)
    assert found.results.total_steps is not None
    return dict(found.cost), found.results.total_steps


def test_a_policy_circuit_costs_one_circuit_to_act_and_two_for_each_angle_to_learn() -> None:
    cost, steps = counted("modular_simple_medium")
    angles = cost["parameters"]
    assert cost["circuits"] == steps * (1 + 2 * angles)
    assert cost["shots"] == 1500 * cost["circuits"]
    assert (cost["qubits"], angles) == (2, 3 * 2 * 2)


def test_a_value_circuit_is_counted_for_every_state_of_a_batch() -> None:
    few, few_steps = counted("qmodular_simple_medium", 1)
    many, steps = counted("qmodular_simple_medium", 3)
    batch, angles = 32, 3 * 2 * 2
    shifted = angles - 2  # the last RZ of each qubit changes nothing
    each = 2 * batch + 2 * shifted * batch
    for cost, of in ((few, few_steps), (many, steps)):
        # An action is random, or takes one circuit; an update begins when there is a batch.
        updates, acted = divmod(cost["circuits"], each)
        assert of - batch - 1 <= updates <= of - batch + 1
        assert 0 < acted <= of
        assert cost["shots"] == 1000 * cost["circuits"]


@pytest.mark.parametrize(
    "name", ["mlp_simple_medium", "qmlp_simple_medium", "spiking_simple_medium"]
)
def test_a_classical_brain_counts_its_parameters_only(name: str) -> None:
    assert list(counted(name, 1)[0]) == ["parameters"]


@given(st.integers(1, 8), st.integers(1, 9))
def test_the_depth_is_that_of_a_schedule_in_which_no_qubit_has_two_gates_at_once(
    qubits: int, layers: int
) -> None:
    """All pairs meet in the fewest rounds, as in a tournament: by turns around a circle."""
    players = qubits + qubits % 2
    rounds = [
        {
            frozenset(((r + i) % (players - 1), (r - i) % (players - 1)))
            for i in range(1, players // 2)
        }
        | {frozenset((r, players - 1))}
        for r in range(players - 1)
    ]
    pairs = {pair for one in rounds for pair in one}
    assert len(pairs) == players * (players - 1) // 2
    used = len(rounds) if qubits > 1 else 0
    assert depth(qubits, layers) == 1 + layers * (3 + used)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "static_maze").glob("*/*.json")), ids=lambda p: p.stem
)
def test_counting_changes_no_episode_of_what_was_submitted_before(path: Any) -> None:
    submission = files.load(str(path)).submission
    if other := another_environment(submission):  # with another NumPy too, `qmodular` rounds so
        pytest.skip(f"it was made with {', '.join(other)}")
    config = configuration.from_text(
        submission.text, submission.config.label, submission.config.overrides
    )
    simulation = validators(config).hook.make_simulation(
        config=config, hook=validators(config).hook
    )
    before = submission.runs[0].episodes
    after = columns_of(simulation.episodes(5, submission.runs[0].seed))
    assert after.success == before.success[:5]
    assert after.steps == before.steps[:5]
    assert after.seed == before.seed[:5]
    assert all(close(x, y) for x, y in zip(after.reward, before.reward[:5], strict=True))


def columns_of(episodes: Any) -> Any:
    from qn_tracking.testing import record

    return columns(record([dict(one) for one in episodes])[1])


class Counts:
    """A simulation that counts what is no whole number."""

    warnings = ()
    subject = Subject(environment="counts", brain="none", packages=("qn_tracking",))

    def __init__(self, found: Any) -> None:
        self.found = found

    def episodes(self, count: int, seed: int) -> Any:
        for _ in range(count):
            yield {"success": True}

    def cost(self) -> Any:
        return self.found


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ({"circuits": 7}, {"circuits": 7}),
        ({"circuits": numpy.int64(7)}, {"circuits": 7}),
        ({"circuits": 1.5}, {}),
        ({"circuits": -1}, {}),
        (7, {}),
    ],
)
def test_what_cannot_be_a_cost_is_a_warning_and_the_episodes_count(found: Any, kept: Any) -> None:
    recorder = Recorder({"x": 1}, manager=make_manager(), seed=1, episodes=2, warn=lambda _: None)
    experiment = run_simulation(Counts(found), recorder, episodes=2, seed=1)
    assert (experiment.status, experiment.results.episodes) == ("completed", 2)
    assert dict(experiment.cost) == kept
    assert bool(experiment.warnings) == (not kept)
