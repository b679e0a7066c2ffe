"""Stores runs and episodes in a PostgreSQL database during the run, and brings them back."""
