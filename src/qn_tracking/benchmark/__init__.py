"""Benchmarks: the protocol, submissions made of runs, their judges, their ranking."""
