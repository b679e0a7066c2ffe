"""Imported only by the process that workers are forked from.

A scheduler that ends a job, and a terminal that closes, send a signal to every process of it. The
workers end after their episode, but without the process that they were forked from they are given
up for dead; it ends with the program that started it.
"""

from __future__ import annotations

import os
import signal

from qn_tracking.importing import leave_out_current_folder, unsafe_again


def _outlast(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    os.register_at_fork(after_in_child=lambda: signal.signal(number, before))


for _number in (signal.SIGTERM, signal.SIGHUP):
    _outlast(_number)

# What workers and their children inherit is as the user has it.
unsafe_again()
leave_out_current_folder()
