"""What the sessions of a benchmark say: metrics, intervals, tests, ranks; pure functions.

The unit is the session: one seed, one learning run. Episodes of a session depend on each other, so
every interval and every test is over the values of the sessions.
"""
