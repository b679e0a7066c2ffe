"""How often fresh seeds find out the best 10 of 50, and how often they accuse an honest 10.

    python tests/speed/replication.py [--json] [--trials N] [-m M] [--config NAME]

Every run is really run; the rule is that of `qn-bench verify --replicate`.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor

from qn_tracking import config as configuration
from qn_tracking.ids import new_seed
from qn_tracking.inference.replication import replicate, replication_power
from qn_tracking.inference.run import Rate, final_success
from qn_tracking.tracking.manager import make_manager, make_simulation

SMALL = {
    "max_steps": 30,
    "brain": {"name": "mlp", "config": {"hidden_dim": 8, "num_hidden_layers": 1}},
    "environment": {"type": "static", "static": {"grid_size": 6}},
}
SUBMITTED, TRIED, RUNS = 10, 50, 50


def run(name: str | None) -> Rate:
    """The final success of one run with a random seed."""
    config = configuration.load(name) if name else configuration.from_mapping(SMALL)
    simulation = make_simulation(config, make_manager(config=config))
    episodes = simulation.episodes(RUNS, new_seed())
    return final_success([episode["success"] for episode in episodes])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("-m", "--fresh", type=int, default=10)
    parser.add_argument("--config", metavar="NAME")
    args = parser.parse_args()
    flagged, accused, told = 0, 0, []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for _ in range(args.trials):
            tried = list(pool.map(run, [args.config] * TRIED, chunksize=5))
            fresh = list(pool.map(run, [args.config] * args.fresh, chunksize=5))
            best = sorted(tried, key=lambda rate: -rate.value)[:SUBMITTED]
            flagged += not replicate(best, fresh).accepted
            accused += not replicate(tried[:SUBMITTED], fresh).accepted
            told.append(replication_power(tried[:SUBMITTED], args.fresh))
    figures = {
        "trials": args.trials,
        "fresh runs": args.fresh,
        "best 10 of 50, found out": flagged / args.trials,
        "as it was told beforehand": sum(p.best_of_5n for p in told) / args.trials,
        "honest 10, accused": accused / args.trials,
        "as it was told": sum(p.false_alarm for p in told) / args.trials,
    }
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:26} {value:8.3g}")


if __name__ == "__main__":
    main()
