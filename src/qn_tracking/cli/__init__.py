"""The three programs. Thin: arguments, plain functions, printing."""

import sys

_program = "".join(map(str, getattr(sys, "argv", ())[:1]))  # inside another program there is none
if _program == "-m" or _program.rpartition("/")[2] in ("qn-run", "qn-exp", "qn-bench"):
    # Before the first import that could find another file than that of the standard library.
    from qn_tracking.importing import leave_out_current_folder

    leave_out_current_folder()
