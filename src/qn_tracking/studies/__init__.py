"""Studies: runs of several seeds or configurations, and what they say together."""
