"""PPO in one file, in the shape of CleanRL's scripts, with NumPy alone: a linear policy and value.

    python examples/ppo.py --seed 1

It was written for TensorBoard. Its import line is all that makes it record a run of qn-tracking.
"""

import argparse

import numpy as np
from corridor import Corridor

from qn_tracking.tensorboard import SummaryWriter  # torch.utils.tensorboard


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--exp-name", default="ppo")
    parser.add_argument("--env-id", default="Corridor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=6_000)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--num-minibatches", type=int, default=4)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--clip-coef", type=float, default=0.2)
    parser.add_argument("--ent-coef", type=float, default=0.01)
    return parser.parse_args()


def policy(weights: np.ndarray, obs: np.ndarray) -> np.ndarray:
    """Probabilities of the actions, shape (n, 2), of observations of shape (n, cells)."""
    logits = obs @ weights
    unscaled = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return unscaled / unscaled.sum(axis=-1, keepdims=True)


if __name__ == "__main__":
    args = parse_args()
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}"
    writer = SummaryWriter(f"runs/{run_name}")
    writer.add_text(
        "hyperparameters",
        "|param|value|\n|-|-|\n"
        + "\n".join(f"|{key}|{value}|" for key, value in vars(args).items()),
    )
    random = np.random.default_rng(args.seed)
    envs = [Corridor(1000 * args.seed + n) for n in range(args.num_envs)]
    actor, critic = np.zeros((Corridor.LENGTH, 2)), np.zeros(Corridor.LENGTH)
    batch = args.num_envs * args.num_steps
    updates = args.total_timesteps // batch
    global_step = 0
    next_obs = np.stack([env.reset() for env in envs])

    for update in range(updates):
        rate = (1 - update / updates) * args.learning_rate
        obs = np.zeros((args.num_steps, args.num_envs, Corridor.LENGTH))
        actions = np.zeros((args.num_steps, args.num_envs), int)
        chances, rewards, ends, values = np.zeros((4, args.num_steps, args.num_envs))

        for step in range(args.num_steps):
            global_step += args.num_envs
            obs[step], values[step] = next_obs, next_obs @ critic
            probabilities = policy(actor, next_obs)
            actions[step] = random.random(args.num_envs) < probabilities[:, 1]
            chances[step] = probabilities[np.arange(args.num_envs), actions[step]]
            for n, env in enumerate(envs):
                seen, rewards[step, n], over, info = env.step(actions[step, n])
                next_obs[n] = env.reset() if over else seen
                ends[step, n] = over
                if info:
                    writer.add_scalar("charts/episodic_return", info["r"], global_step)
                    writer.add_scalar("charts/episodic_length", info["l"], global_step)

        advantages, following, next_value = np.zeros_like(rewards), 0.0, next_obs @ critic
        for t in reversed(range(args.num_steps)):
            alive = 1 - ends[t]
            delta = rewards[t] + args.gamma * next_value * alive - values[t]
            following = delta + args.gamma * args.gae_lambda * alive * following
            advantages[t], next_value = following, values[t]

        flat = obs.reshape(batch, -1)
        taken, old, gains = actions.ravel(), chances.ravel(), advantages.ravel()
        returns = gains + values.ravel()
        clipped = []
        for _ in range(args.update_epochs):
            for chosen in np.array_split(random.permutation(batch), args.num_minibatches):
                p = policy(actor, flat[chosen])
                rows = np.arange(len(chosen))
                ratio = p[rows, taken[chosen]] / old[chosen]
                gain = (gains[chosen] - gains[chosen].mean()) / (gains[chosen].std() + 1e-8)
                outside = np.abs(ratio - 1) > args.clip_coef
                clipped.append(outside.mean())
                # No gradient where clipping has the smaller objective.
                active = ~(outside & ((ratio > 1) == (gain > 0)))
                towards = np.eye(2)[taken[chosen]] - p
                entropy = -(p * np.log(p)).sum(axis=1)
                slope = (active * ratio * gain)[:, None] * towards
                slope -= args.ent_coef * p * (np.log(p) + entropy[:, None])
                actor += rate * flat[chosen].T @ slope / len(chosen)
                error = returns[chosen] - flat[chosen] @ critic
                critic += rate * flat[chosen].T @ error / len(chosen)
                policy_loss = -np.minimum(
                    gain * ratio, gain * ratio.clip(1 - args.clip_coef, 1 + args.clip_coef)
                ).mean()

        log_ratio = np.log(policy(actor, flat)[np.arange(batch), taken] / old)
        unexplained = np.var(returns - values.ravel()) / max(np.var(returns), 1e-12)
        writer.add_scalar("charts/learning_rate", rate, global_step)
        writer.add_scalar("losses/value_loss", 0.5 * (error**2).mean(), global_step)
        writer.add_scalar("losses/policy_loss", policy_loss, global_step)
        writer.add_scalar("losses/entropy", entropy.mean(), global_step)
        writer.add_scalar("losses/old_approx_kl", -log_ratio.mean(), global_step)
        writer.add_scalar(
            "losses/approx_kl", (np.exp(log_ratio) - 1 - log_ratio).mean(), global_step
        )
        writer.add_scalar("losses/clipfrac", np.mean(clipped), global_step)
        writer.add_scalar("losses/explained_variance", 1 - unexplained, global_step)

    np.savez(f"runs/{run_name}/{args.exp_name}.npz", actor=actor, critic=critic)
    writer.close()
