"""The built-in simulation: a worm on a grid, and the brains that steer it.

It knows nothing of tracking: it yields episodes, and comes in by the hooks that anybody may use.
"""
