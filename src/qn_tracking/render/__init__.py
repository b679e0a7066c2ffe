"""Records as text: pure functions."""
