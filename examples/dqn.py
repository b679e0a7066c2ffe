"""DQN in one file, in the shape of CleanRL's scripts, with NumPy alone: linear values of actions.

    python examples/dqn.py --seed 1

It was written for W&B. Its import line is all that makes it record a run of qn-tracking.
"""

import argparse

import numpy as np
from corridor import Corridor

import qn_tracking.wandb as wandb  # wandb


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--exp-name", default="dqn")
    parser.add_argument("--env-id", default="Corridor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=4_000)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--buffer-size", type=int, default=2_000)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--target-network-frequency", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-fraction", type=float, default=0.4)
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--train-frequency", type=int, default=4)
    parser.add_argument("--evaluation-episodes", type=int, default=10)
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    run = wandb.init(
        project="examples",
        name=f"{args.env_id}__{args.exp_name}__{args.seed}",
        config=vars(args),
        save_code=True,
    )
    wandb.define_metric("global_step")
    wandb.define_metric("losses/*", step_metric="global_step")
    random = np.random.default_rng(args.seed)
    env = Corridor(1000 * args.seed)
    q = np.zeros((Corridor.LENGTH, 2))
    target = q.copy()
    size = args.buffer_size
    seen, following = np.zeros((2, size, Corridor.LENGTH))
    rewards, ends = np.zeros((2, size))
    actions = np.zeros(size, int)
    obs = env.reset()

    for global_step in range(args.total_timesteps):
        done = global_step / (args.exploration_fraction * args.total_timesteps)
        epsilon = max(1 + (args.end_e - 1) * done, args.end_e)
        greedy = random.random() >= epsilon
        action = int((obs @ q).argmax()) if greedy else int(random.integers(2))
        next_obs, reward, over, info = env.step(action)
        place = global_step % size
        seen[place], following[place], actions[place] = obs, next_obs, action
        rewards[place], ends[place] = reward, over and env.steps < Corridor.LIMIT
        obs = env.reset() if over else next_obs
        if info:
            wandb.log(
                {
                    "charts/episodic_return": info["r"],
                    "charts/episodic_length": info["l"],
                    "charts/epsilon": epsilon,
                },
                step=global_step,
            )
        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            chosen = random.integers(min(global_step + 1, size), size=args.batch_size)
            best = (following[chosen] @ target).max(axis=1)
            goal = rewards[chosen] + args.gamma * best * (1 - ends[chosen])
            values = seen[chosen] @ q
            error = goal - values[np.arange(args.batch_size), actions[chosen]]
            slope = error[:, None] * np.eye(2)[actions[chosen]]
            q += args.learning_rate * seen[chosen].T @ slope / args.batch_size * Corridor.LENGTH
            if global_step % 100 == 0:
                wandb.log(
                    {
                        "losses/td_loss": (error**2).mean(),
                        "losses/q_values": values.mean(),
                        "global_step": global_step,
                    },
                    step=global_step,
                )
        if global_step % args.target_network_frequency == 0:
            target = q.copy()

    env = Corridor(1000 * args.seed + 1)
    for _ in range(args.evaluation_episodes):
        obs, over = env.reset(), False
        while not over:
            obs, _, over, info = env.step(int((obs @ q).argmax()))
        wandb.log({"eval/episodic_return": info["r"], "eval/episodic_length": info["l"]})

    np.save("dqn.npy", q)
    artifact = wandb.Artifact(run.name, type="model")
    artifact.add_file("dqn.npy")
    run.log_artifact(artifact)
    wandb.finish()
