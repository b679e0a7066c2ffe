"""Runs what is recorded again, somewhere else than in this process, and compares.

The parts, each usable by itself:

    with private_folder() as place:                                # scratch
        with worktree(repository, commit, patches) as tree:        # worktree
            roots = source_roots(tree, ("qn_tracking",))           # roots
            python = environment(packages_text, f"{place}/env")    # environment, or sys.executable
            replay = replay_config(                                # replay, in a sandbox
                python, roots, config, seed=7, episodes=50, place=place, sandbox=True
            )
    first_difference(recorded_episodes, replay.episodes)           # divergence

`rerun` does this for an experiment, `verification` for a submission. A repository is data: no
hook, filter or monitor that it configures is run, and nothing is fetched. No plugin that a
configuration names is loaded. What cannot be done here raises UnsupportedError (exit code 4).
"""
