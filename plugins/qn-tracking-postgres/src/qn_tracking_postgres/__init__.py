"""Runs and episodes of qn-tracking in a team's PostgreSQL, while they happen, and back again."""
