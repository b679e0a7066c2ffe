"""The worm of the built-in simulation, to be looked at.

It stands beside `nematode`, because the digest of that package is in every submission.
"""
