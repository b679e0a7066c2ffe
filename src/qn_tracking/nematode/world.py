"""The grid, the worm on it, and the two built-in environments.

Cells are (x, y), x to the right, y up. A facing counts quarter turns anticlockwise: right 0, up 1,
left 2, down 3. Every length is in cells, every angle in radians.
"""

from __future__ import annotations

from math import atan2, exp, hypot, pi, tanh
from typing import Protocol

import numpy as np
from attrs import field, frozen

from qn_tracking.nematode.schema import DynamicSection, RewardSection, SatietySection

ACTIONS = ("forward", "left", "right", "stay")
FORWARD, LEFT, RIGHT, STAY = range(4)
UP = 1
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""The neighbour (dx, dy) in front of each facing."""
TURNS = (0, 1, 3, 0)
"""The quarter turns anticlockwise of each action."""

TRIES = 100
"""How many random cells are tried for a food before it is postponed."""

Cell = tuple[int, int]
Step = tuple[float, float, float, str | None]


@frozen(kw_only=True)
class Outcome:
    """The result of an episode: whether it succeeded, its counts and its metrics.

    A metric that does not apply is omitted; it is never zero instead.
    """

    success: bool
    counts: dict[str, int] = field(factory=dict)
    metrics: dict[str, float] = field(factory=dict)


class Environment(Protocol):
    """A task for a brain; a plugin's `make_environment(config)` returns one.

    For each episode: `begin(seed)` once, `step(action)` until it names a termination, `end()` once.
    An episode must end by itself and must depend on `seed` and the actions alone: no clock, no
    global random state. `begin` resets all state of an episode.
    """

    name: str
    """Its name in records and rankings."""

    def begin(self, seed: int) -> tuple[float, float]:
        """Start an episode; all its randomness derives from `seed` (below 2**53).

        Returns the first signal: its strength (usually 0 to 1) and its angle relative to the
        facing, in [-π, π], positive to the left.
        """
        ...

    def step(self, action: int) -> Step:
        """Take an action (index into `ACTIONS`).

        Returns strength and angle of the signal afterwards, the reward of this step, and the reason
        for which the episode is over (`goal_reached`, `starved`, …) or None.
        """
        ...

    def end(self) -> Outcome:
        """The result of the episode that just ended."""
        ...


def relative(direction: float, facing: int) -> float:
    """The angle in [-π, π) from a facing to an absolute direction in radians."""
    return (direction - facing * (pi / 2) + pi) % (2 * pi) - pi


class Worm:
    """A head, its facing, and the body that follows it."""

    __slots__ = ("body", "facing", "size", "x", "y")

    def __init__(self, size: int, cell: Cell, body_length: int) -> None:
        """On the grid `size` × `size`, facing up, the body still coiled up under the head."""
        self.size = size
        self.x, self.y = cell
        self.facing = UP
        self.body = [cell] * body_length

    def move(self, action: int) -> bool:
        """Turn and move one cell; False, and nothing changed, for `stay` or if blocked."""
        if action == STAY:
            return False
        facing = (self.facing + TURNS[action]) % 4
        dx, dy = STEPS[facing]
        x, y = self.x + dx, self.y + dy
        body = self.body
        if not (0 <= x < self.size and 0 <= y < self.size) or (x, y) in body:
            return False
        if body:
            body.insert(0, (self.x, self.y))
            body.pop()
        self.x, self.y, self.facing = x, y, facing
        return True


class _Walk:
    """The part of the reward that depends on the path alone, the same in every environment."""

    __slots__ = ("_before", "_last", "_reward", "_still")

    def __init__(self, reward: RewardSection, start: Cell) -> None:
        self._reward = reward
        self._last = start
        self._before: Cell | None = None
        self._still = 0

    def step(self, cell: Cell, moved: bool) -> float:
        """The penalties of a move to this cell, or of staying."""
        r = self._reward
        worth = -r.penalty_step
        if cell == self._before:
            worth -= r.penalty_anti_dithering
        if moved:
            self._still = 0
        else:
            self._still += 1
            excess = self._still - r.stuck_position_threshold
            if excess > 0:
                worth -= r.penalty_stuck_position * min(excess, 10)
        self._before, self._last = self._last, cell
        return worth


class StaticEnvironment:
    """Find one goal, diagonally across the grid."""

    name = "static"

    def __init__(
        self, size: int, *, max_steps: int, body_length: int, reward: RewardSection
    ) -> None:
        self._size, self._max_steps, self._body_length = size, max_steps, body_length
        self._reward = reward
        # goal → cell → (strength, angle for each facing, distance): the same in every episode
        self._signals: dict[Cell, dict[Cell, tuple[float, tuple[float, ...], int]]] = {}

    def begin(self, seed: int) -> tuple[float, float]:
        """Start in a random inner corner; the goal is the opposite one."""
        near, far = 1, self._size - 2
        # Two random bits are all that is needed; a generator would cost as much as ten steps.
        corner = int(np.random.SeedSequence(seed).generate_state(1)[0]) & 3
        start = (far if corner & 1 else near, far if corner & 2 else near)
        self._goal = (near + far - start[0], near + far - start[1])
        self._known = self._signals.setdefault(self._goal, {})
        self.worm = Worm(self._size, start, self._body_length)
        self._walk = _Walk(self._reward, start)
        self._steps = 0
        self._reached = False
        strength, angles, self._distance = self._signal(start)
        self._shortest = self._distance
        return strength, angles[UP]

    def _signal(self, cell: Cell) -> tuple[float, tuple[float, ...], int]:
        known = self._known.get(cell)
        if known is None:
            dx, dy = self._goal[0] - cell[0], self._goal[1] - cell[1]
            distance = abs(dx) + abs(dy)
            strength = tanh(max(0.0, 1 - distance / (2 * self._size)))
            direction = atan2(dy, dx)
            angles = tuple(relative(direction, facing) for facing in range(4))
            known = self._known[cell] = (strength, angles, distance)
        return known

    def step(self, action: int) -> Step:
        """See `Environment.step`; ends with `goal_reached` or `max_steps`."""
        worm = self.worm
        moved = worm.move(action)
        self._steps += 1
        cell = (worm.x, worm.y)
        strength, angles, distance = self._signal(cell)
        reward = self._walk.step(cell, moved)
        termination = None
        if moved:
            reward += self._reward.reward_distance_scale * (self._distance - distance)
            self._distance = distance
            if distance == 0:
                reward += _bonus(self._reward, self._steps, self._max_steps)
                termination = "goal_reached"
                self._reached = True
        if termination is None and self._steps >= self._max_steps:
            termination = "max_steps"
        return strength, angles[worm.facing], reward, termination

    def end(self) -> Outcome:
        """`path_efficiency` is the SPL of one episode, success · l / max(p, l) with the shortest
        path l and the path taken p (Anderson et al., 2018, arXiv:1807.06757).
        """
        shortest = self._shortest
        efficiency = shortest / max(self._steps, shortest) if self._reached else 0.0
        return Outcome(
            success=self._reached,
            metrics={"shortest_steps": float(shortest), "path_efficiency": efficiency},
        )


def _bonus(reward: RewardSection, step: int, max_steps: int) -> float:
    return reward.reward_goal * max(0.1, 1 - step / max_steps)


class _Pulls(dict[int, tuple[float, float, int]]):
    """The pull (east, north) of a food and its Manhattan distance, by its offset.

    The key is dx · `width` + dy: one number hashes faster than two. Only offsets that occur are
    computed. A food under the head does not pull.
    """

    def __init__(self, size: int, strength: float, decay: float) -> None:
        self.width = 2 * size
        self._strength, self._decay = strength, decay

    def __missing__(self, key: int) -> tuple[float, float, int]:
        half = self.width // 2
        dx = (key + half) // self.width
        dy = key - dx * self.width
        distance = hypot(dx, dy)
        strength = self._strength * exp(-distance / self._decay) / distance if distance else 0.0
        pull = self[key] = (strength * dx, strength * dy, abs(dx) + abs(dy))
        return pull


class DynamicEnvironment:
    """Collect foods, which respawn at other cells, before hunger or time end the episode."""

    name = "dynamic"

    def __init__(
        self,
        section: DynamicSection,
        *,
        max_steps: int,
        body_length: int,
        reward: RewardSection,
        satiety: SatietySection,
    ) -> None:
        """Raises ValueError if an exclusion radius leaves no cell for a food."""
        size = section.grid_size
        # From anywhere, the farthest corner is at least as far as from the centre.
        if hypot(size // 2, size // 2) < section.agent_exclusion_radius:
            raise ValueError(
                f"{section.agent_exclusion_radius} leaves no cell for food on a grid of {size}"
            )
        self._section, self._max_steps, self._body_length = section, max_steps, body_length
        self._reward, self._satiety_section = reward, satiety
        self._gain = satiety.satiety_gain_per_food * satiety.initial_satiety
        self._pulls = _Pulls(size, section.gradient_strength, section.gradient_decay_constant)

    def begin(self, seed: int) -> tuple[float, float]:
        """Start at the centre of the grid with foods at random cells."""
        section = self._section
        size = section.grid_size
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._numbers: list[int] = []
        start = (size // 2, size // 2)
        self.worm = Worm(size, start, self._body_length)
        self._walk = _Walk(self._reward, start)
        self._steps = 0
        self._satiety = self._satiety_section.initial_satiety
        self._visited = {start}
        self.foods: list[Cell] = []
        self._offered = self._collected = 0
        self._spawn()
        self._efficiencies: list[float] = []
        strength, direction, self._nearest = self._sense(start)
        self._search = (self._nearest, 0)
        return strength, relative(direction, UP)

    def _cell(self) -> Cell:
        numbers = self._numbers
        if not numbers:
            numbers[:] = self._rng.integers(self._section.grid_size, size=256).tolist()
        return numbers.pop(), numbers.pop()

    def _fits(self, cell: Cell) -> bool:
        section, worm = self._section, self.worm
        if (cell[0] - worm.x) ** 2 + (cell[1] - worm.y) ** 2 < section.agent_exclusion_radius**2:
            return False
        apart = section.min_food_distance**2
        return all((cell[0] - x) ** 2 + (cell[1] - y) ** 2 >= apart for x, y in self.foods)

    def _spawn(self) -> None:
        """Bring the foods up to `num_initial_foods`, as long as there are any left to offer.

        A food that finds no place is tried again at the next call, so that the task can be done.
        """
        section = self._section
        self._known: dict[Cell, tuple[float, float, int]] = {}
        wanted = min(
            section.num_initial_foods - len(self.foods), section.max_active_foods - self._offered
        )
        for _ in range(wanted):
            for _ in range(TRIES):
                cell = self._cell()
                if self._fits(cell):
                    break
            else:
                if self.foods:
                    continue
                # No food is left: search every cell, one of them is far enough.
                size = section.grid_size
                every = ((x, y) for x in range(size) for y in range(size))
                free = [cell for cell in every if self._fits(cell)]
                cell = free[int(self._rng.integers(len(free)))]
            self.foods.append(cell)
            self._offered += 1
        self._codes = [x * self._pulls.width + y for x, y in self.foods]

    def _sense(self, cell: Cell) -> tuple[float, float, int]:
        """Strength and direction of the summed signal, and Manhattan distance of the nearest food.

        Each food pulls with strength · exp(-d / decay) toward itself, d Euclidean. (0, 0, 0) once
        nothing is left.
        """
        known = self._known.get(cell)
        if known is not None:
            return known
        pulls = self._pulls
        width = pulls.width
        here = cell[0] * width + cell[1]
        east = north = 0.0
        nearest = 1 << 30
        for code in self._codes:
            dx, dy, distance = pulls[code - here]
            east += dx
            north += dy
            if distance < nearest:
                nearest = distance
        if not self._codes:
            nearest = 0
        known = self._known[cell] = (hypot(east, north), atan2(north, east), nearest)
        return known

    def step(self, action: int) -> Step:
        """See `Environment.step`; ends with `completed_all_food`, `starved` or `max_steps`."""
        worm = self.worm
        moved = worm.move(action)
        self._steps += 1
        cell = (worm.x, worm.y)
        strength, direction, nearest = self._sense(cell)
        reward = self._walk.step(cell, moved)
        if moved:
            reward += self._reward.reward_distance_scale * (self._nearest - nearest)
            if cell not in self._visited:
                self._visited.add(cell)
                reward += self._reward.reward_exploration
        self._satiety = max(0.0, self._satiety - self._satiety_section.satiety_decay_rate)
        termination = None
        if self._satiety <= 0:
            reward -= self._reward.penalty_starvation
            termination = "starved"
        elif nearest == 0:
            reward += _bonus(self._reward, self._steps, self._max_steps)
            self._eat(cell)
            if self._collected >= self._section.max_active_foods:
                termination = "completed_all_food"
            strength, direction, nearest = self._sense(cell)
            self._search = (nearest, self._steps)
        if termination is None and self._steps >= self._max_steps:
            termination = "max_steps"
        self._nearest = nearest
        return strength, relative(direction, worm.facing), reward, termination

    def _eat(self, cell: Cell) -> None:
        distance, since = self._search
        self._efficiencies.append(distance / (self._steps - since))
        self.foods.remove(cell)
        self._collected += 1
        self._satiety = min(self._satiety_section.initial_satiety, self._satiety + self._gain)
        self._spawn()

    def end(self) -> Outcome:
        """`distance_efficiency` is the mean over the foods eaten of (Manhattan distance of the
        nearest food when the search for it began) / (steps taken); absent if none was.
        """
        metrics = {"final_satiety": self._satiety}
        if self._efficiencies:
            metrics["distance_efficiency"] = sum(self._efficiencies) / len(self._efficiencies)
        return Outcome(
            success=self._collected >= self._section.max_active_foods,
            counts={"foods_collected": self._collected, "foods_offered": self._offered},
            metrics=metrics,
        )
