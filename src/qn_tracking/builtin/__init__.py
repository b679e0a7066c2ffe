"""The plugins that come with the package; they enter by the door that a stranger's do."""
