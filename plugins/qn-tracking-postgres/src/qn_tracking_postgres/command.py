"""`qn-exp postgres …`: lists what the server has, sends experiments and brings them back."""

from __future__ import annotations

from qn_tracking.plugin import Commands, hookimpl
from qn_tracking_postgres import command_ask as ask, command_move as move, place


class PostgresCommand:
    """Adds the commands."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        for name, help, arguments, run in (
            (
                "list",
                "list the experiments on the server, newest first",
                ask.list_arguments,
                ask.run_list,
            ),
            ("show", "show one experiment of the server", ask.show_arguments, ask.run_show),
            ("pull", "download experiments from the server", move.pull_arguments, move.run_pull),
            ("push", "send stored experiments to the server", move.push_arguments, move.run_push),
            ("flush", "send the runs that wait for the server", place.arguments, move.run_flush),
            (
                "status",
                "show the server, and the runs that wait for it",
                place.arguments,
                ask.run_status,
            ),
            ("init", "create the tables, or upgrade them", place.arguments, move.run_init),
        ):
            commands.add("qn-exp", f"postgres {name}", help=help, arguments=arguments, run=run)
