"""Benchmarks: the protocol, submissions made of runs, their validation and ranking."""
