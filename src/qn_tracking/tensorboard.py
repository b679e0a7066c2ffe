"""`SummaryWriter` that records a run of qn-tracking: change the import line of a script alone.

    from qn_tracking.tensorboard import SummaryWriter

It needs no TensorBoard. docs/coming-from.md says what becomes of each call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from os.path import basename, join, normpath
from typing import Any, Self

from qn_tracking.dropin import DropIn
from qn_tracking.files import os_error
from qn_tracking.tracking.ending import status_of
from qn_tracking.tracking.recorder import Recorder

WITHOUT_MEANING = frozenset(
    (
        *("add_audio", "add_custom_scalars", "add_custom_scalars_marginchart"),
        *("add_custom_scalars_multilinechart", "add_embedding", "add_figure", "add_graph"),
        *("add_histogram", "add_histogram_raw", "add_image", "add_image_with_boxes", "add_images"),
        *("add_mesh", "add_onnx_graph", "add_pr_curve", "add_pr_curve_raw", "add_tensor"),
        "add_video",
    )
)
"""Methods that record nothing here, and say so once."""

_shared: list[DropIn] = []


def share(held: DropIn | None) -> None:
    """Writers that are made from now on write into this run (`sync_tensorboard` of W&B)."""
    _shared[:] = [] if held is None else [held]


class SummaryWriter:
    """Records scalars as series of a run, and returns and lengths of episodes as its episodes.

    The folder `log_dir` (default: `runs/<id>`) is made, because scripts save their own files in
    it; its name becomes the tag `name`. The run begins with the first value: hyperparameters that
    were given before are the configuration. The other arguments have no meaning here.
    Raises StorageError if the folder cannot be made.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        **others: Any,
    ) -> None:
        given = others.pop("logdir", None) if log_dir is None else log_dir  # of tensorboardX
        if given is not None:
            _make(os.fspath(given))
        shared = _shared[0] if _shared and not _shared[0].over else None
        tags = {} if given is None else {"name": basename(normpath(os.fspath(given)))}
        if comment:
            tags["comment"] = comment
        self._shares = shared is not None
        self._held = shared or DropIn("tensorboard", "close()", tags=tags)
        self.log_dir = join("runs", self.run.id) if given is None else os.fspath(given)
        if given is None:
            _make(self.log_dir)
        if purge_step is not None:
            self._held.meaningless("purge_step")

    @property
    def run(self) -> Recorder:
        """The recorder of the run."""
        return self._held.run

    @property
    def logdir(self) -> str:
        """The folder `log_dir`, as tensorboardX calls it."""
        return self.log_dir

    def get_logdir(self) -> str:
        """The folder `log_dir`."""
        return self.log_dir

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
        **others: Any,
    ) -> None:
        """A value of a series at a step; without one, one further than the last value."""
        self._held.log({tag: scalar_value}, global_step)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """A value each of the series `main_tag/NAME`."""
        values = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        self._held.log(values, global_step)

    def add_text(
        self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None
    ) -> None:
        """A fact of the record; a table of two columns is the configuration.

        CleanRL writes its hyperparameters so, before the first value; a table that comes later is
        a fact.
        """
        found = table(text_string)
        if found:
            self._held.config.update(found)
        else:
            self._held.text(str(tag), str(text_string))

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Any = None,
        run_name: str | None = None,
        global_step: Any = None,
    ) -> None:
        """The configuration if no value was logged before, else facts; metrics are values."""
        self._held.config.update({str(key): value for key, value in hparam_dict.items()})
        if metric_dict:
            self._held.log(metric_dict, global_step)

    def flush(self) -> None:
        """Nothing: a value is on disk when it is logged."""

    def close(self) -> None:
        """Ends the run: `completed`, or as the exception says that is being handled.

        A run that is shared with `qn_tracking.wandb` ends with that, or with the program.
        """
        if self._shares:
            self._held.complete = True
        else:
            self._held.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or self._shares:
            self.close()
        else:
            self._held.end(*status_of(error))

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in WITHOUT_MEANING:
            raise AttributeError(f"SummaryWriter has no attribute {name!r}")

        def call(*args: Any, **options: Any) -> None:
            self._held.meaningless(name)

        return call


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise os_error(folder, error) from None


_ROW = re.compile(r"\|\s*([^|]+?)\s*\|(.*)\|\s*")


def table(text: Any) -> dict[str, Any]:
    """The rows of a Markdown table of two columns, by name; empty if the text is another one."""
    lines = [line for line in str(text).strip().splitlines() if line.strip()]
    if len(lines) < 3 or not re.fullmatch(r"\|\s*:?-+:?\s*\|\s*:?-+:?\s*\|\s*", lines[1].strip()):
        return {}
    found = [_ROW.fullmatch(line.strip()) for line in lines]
    return {row[1]: _value(row[2].strip()) for row in found[2:] if row}


def _value(text: str) -> Any:
    """What Python has printed: a number, True, None, a list of these; otherwise text."""
    from ast import literal_eval

    try:
        found = literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return text if isinstance(found, (str, bytes, set, complex)) else found
