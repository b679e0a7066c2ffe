"""Benchmarks: the protocol, submissions made of sessions, their judges, their ranking."""
