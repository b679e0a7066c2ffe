"""What the package does, from Python; the commands and notebooks use the same classes.

Import the names from `qn_tracking`: `from qn_tracking import Experiments`.
"""
