"""An application of Hydra that records its runs; `pip install hydra-core` first.

    python examples/hydra_app.py optimizer.lr=0.1 seed=2
    python examples/hydra_app.py --multirun optimizer.lr=0.01,0.1 seed=1,2,3

Each job is a run with its resolved configuration. The task: walk downhill on noisy ground.
"""

import random
from dataclasses import dataclass, field

import hydra
from hydra.core.config_store import ConfigStore

from qn_tracking import track


@dataclass
class Optimizer:
    """How steps are made."""

    lr: float = 0.05
    momentum: float = 0.5


@dataclass
class Settings:
    """The configuration of a job."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    noise: float = 0.1
    episodes: int = 20
    steps: int = 30
    seed: int = 1
    name: str = "downhill-${optimizer.lr}"


ConfigStore.instance().store(name="settings", node=Settings)


@hydra.main(version_base=None, config_name="settings")
def main(cfg: Settings) -> None:
    """One job: start at 1, follow the noisy slope of x², end near 0."""
    rng = random.Random(cfg.seed)
    with track(cfg, seed=cfg.seed, name=cfg.name, environment="downhill", brain="sgd") as run:
        for _ in range(cfg.episodes):
            x, speed = 1.0, 0.0
            for _ in range(cfg.steps):
                slope = 2 * x + rng.gauss(0, cfg.noise)
                speed = cfg.optimizer.momentum * speed - cfg.optimizer.lr * slope
                x += speed
            run.episode(reward=-(x**2), steps=cfg.steps, success=abs(x) < 0.1)


if __name__ == "__main__":
    main()
