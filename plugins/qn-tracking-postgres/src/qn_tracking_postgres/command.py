"""`qn-exp postgres …`: what the server has, and the ways there and back."""

from __future__ import annotations

from qn_tracking.plugin import Commands, hookimpl
from qn_tracking_postgres import command_ask as ask, command_move as move, place


class PostgresCommand:
    """Adds the commands."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        for name, help, arguments, run in (
            ("list", "what the server has, newest first", ask.list_arguments, ask.run_list),
            ("show", "one experiment of the server", ask.show_arguments, ask.run_show),
            ("pull", "bring experiments of the server here", move.pull_arguments, move.run_pull),
            ("push", "send stored experiments there", move.push_arguments, move.run_push),
            ("flush", "send the runs that wait for the server", place.arguments, move.run_flush),
            ("status", "the server, and what waits for it", place.arguments, ask.run_status),
            ("init", "create the tables, or upgrade them", place.arguments, move.run_init),
        ):
            commands.add("qn-exp", f"postgres {name}", help=help, arguments=arguments, run=run)
