"""The three programs. Thin: arguments, plain functions, printing."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def _without_interrupt(
    kind: type[BaseException], error: BaseException, trace: "TracebackType | None"
) -> None:
    """Says nothing of a Ctrl-C while modules are still imported: it has ended the program."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


_program = "".join(map(str, getattr(sys, "argv", ())[:1]))  # inside another program there is none
if _program == "-m" or _program.rpartition("/")[2] in ("qn-run", "qn-exp", "qn-bench"):
    # Before the first import that could find another file than that of the standard library.
    from qn_tracking.importing import leave_out_current_folder

    sys.excepthook = _without_interrupt
    leave_out_current_folder()
