"""What the runs of a benchmark say: metrics, intervals, tests, ranks; pure functions.

The unit is the run: one seed, one learning run. Episodes of a run depend on each other, so
every interval and every test is over the values of the runs.
"""
