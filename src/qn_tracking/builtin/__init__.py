"""The built-in plugins; they use the same hooks as any other plugin."""
