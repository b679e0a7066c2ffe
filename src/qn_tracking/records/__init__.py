"""The records: what they hold, how they are written and read, how older ones are upgraded."""
