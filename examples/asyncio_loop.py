"""Many episodes at once in one asyncio loop, with the standard library alone.

    python examples/asyncio_loop.py --seed 1

In a notebook, where a loop runs already, it is `await main(seed=1)`. The task: find the better one
of two levers, of which each player is asked over a slow line.
"""

import argparse
import asyncio
import random

from qn_tracking import track

CHANCES = (0.3, 0.8)
"""Of a reward, for each lever."""
PULLS = 20


class Learner:
    """What all players have learned: the mean reward of each lever."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pulls, self.rewards = [0, 0], [0.0, 0.0]

    def choose(self, epsilon: float) -> int:
        """The better lever by now, or with the probability `epsilon` any of them."""
        if self.random.random() < epsilon or 0 in self.pulls:
            return self.random.randrange(2)
        return max((0, 1), key=self.mean)

    def mean(self, lever: int) -> float:
        """The mean reward of a lever."""
        return self.rewards[lever] / max(1, self.pulls[lever])

    def learn(self, lever: int, reward: float) -> None:
        """Count a reward."""
        self.pulls[lever] += 1
        self.rewards[lever] += reward


async def pull(lever: int, chance: random.Random) -> float:
    """The reward of a lever, once the answer is there."""
    await asyncio.sleep(0)
    return float(chance.random() < CHANCES[lever])


async def play(learner: Learner, seed: int, epsilon: float) -> float:
    """One episode; its sum of rewards."""
    chance, total = random.Random(seed), 0.0
    for _ in range(PULLS):
        lever = learner.choose(epsilon)
        reward = await pull(lever, chance)
        if epsilon:
            learner.learn(lever, reward)
        total += reward
    return total


async def main(seed: int, players: int = 4, episodes: int = 10) -> str:
    """Record a run, and return its id. Each player trains `episodes`, and is evaluated in two."""
    learner = Learner(seed)
    config = {"players": players, "episodes": episodes, "epsilon": 0.2}
    with track(config, seed=seed, environment="levers", brain="means") as run:

        async def player(number: int) -> None:
            for n in range(episodes):
                own = 1000 * seed + episodes * number + n
                total = await play(learner, own, config["epsilon"])
                run.log({"means/0": learner.mean(0), "means/1": learner.mean(1)})
                run.episode(reward=total, steps=PULLS, seed=own, success=total >= 0.7 * PULLS)
            # `with run.phase(…)` would hold for the episodes of all players: they share the run.
            for n in range(2):
                total = await play(learner, 10**6 + 2 * number + n, 0.0)
                run.episode(reward=total, steps=PULLS, phase="evaluation")

        async with asyncio.TaskGroup() as group:
            for number in range(players):
                group.create_task(player(number))
    return run.id


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    print(asyncio.run(main(**vars(parser.parse_args()))))
