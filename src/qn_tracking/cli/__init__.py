"""The three programs. Thin: arguments, plain functions, printing."""
