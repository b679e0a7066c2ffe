"""How a run has ended: its status, its error, and what plugins raised at the end."""

from __future__ import annotations

import sys

from qn_tracking.errors import PluginError, QnError, StorageError, describe, storable
from qn_tracking.records.limits import MAX_ERROR
from qn_tracking.records.model import ErrorInfo, Failure
from qn_tracking.redact import cut, redact_within


def last_error() -> BaseException | None:
    """The error that ended the program, or a statement at a prompt, if one did."""
    found = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return found if isinstance(found, BaseException) else None


def at_prompt() -> bool:
    """Whether this Python, or IPython, asks for statements."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def _cancelled() -> tuple[type[BaseException], ...]:
    """The exceptions by which an event loop that is in use here stops a task."""
    names = (("asyncio.exceptions", "CancelledError"), ("trio", "Cancelled"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(kind for kind in found if kind is not None)


def _ctrl_c_pending() -> bool:
    """Whether asyncio has taken a Ctrl-C, cancelled its main task, and will raise it later."""
    import signal

    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return bool(getattr(runner, "_interrupt_count", 0))


def status_of(error: BaseException | None) -> tuple[str, BaseException | None]:
    """What an exception that ends the `with` block says of the run."""
    if error is None:
        return "completed", None
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "interrupted", error
    if isinstance(error, cancelled := _cancelled()):
        return "interrupted", KeyboardInterrupt() if _ctrl_c_pending() else error
    if isinstance(error, BaseExceptionGroup):
        # What stopped the others of the group, if something did.
        others: tuple[type[BaseException], ...]
        others = (BaseExceptionGroup, KeyboardInterrupt, SystemExit, GeneratorExit, *cancelled)
        failed = error.subgroup(lambda one: not isinstance(one, others))
        return ("failed" if failed else "interrupted"), error
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "completed", None
        # A shell's convention: a program that a signal ended exits with 128 and its number.
        if type(error.code) is int and error.code > 128:
            return "interrupted", error
    return "failed", error


def error_info(error: BaseException | ErrorInfo) -> ErrorInfo:
    """What a record keeps of an error, without its secrets."""
    if isinstance(error, ErrorInfo):
        name, message, text = error.type, error.message, error.traceback
    else:
        import traceback

        text = storable("".join(traceback.format_exception(error)))
        name, _, message = describe(error).partition(": ")
        if isinstance(error, QnError):
            name, message = type(error).__name__, str(error)
    return ErrorInfo(
        type=cut(name, MAX_ERROR),
        message=redact_within(message, MAX_ERROR),
        traceback=redact_within(text, MAX_ERROR),
    )


def together(failed: list[tuple[Failure, BaseException]]) -> QnError:
    """All failures of the end as one error: of storage if one is, the exit code being its own."""
    storage = [error for _, error in failed if isinstance(error, StorageError)]
    if len(failed) == 1 and isinstance(alone := failed[0][1], QnError):
        alone.file = alone.file or f"plugin {failed[0][0].plugin}"
        return alone
    causes = "; ".join(f"plugin {failure.plugin}: {failure.error}" for failure, _ in failed)
    kind = StorageError if storage else PluginError
    return kind(causes, field="run_end")
