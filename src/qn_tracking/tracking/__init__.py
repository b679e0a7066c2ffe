"""Tracking a run: the hooks, the recorder that calls them, the plugins that implement them."""
