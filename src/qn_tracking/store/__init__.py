"""Where records are: paths, the atomic write, the episode journal."""
