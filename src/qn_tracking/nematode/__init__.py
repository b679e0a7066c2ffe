"""The built-in simulation: a worm on a grid, and the brains that steer it.

It does not depend on tracking: it yields episodes, and uses the same hooks as any plugin.
"""
