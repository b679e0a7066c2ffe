"""A plugin that records the settings of torch on which the repeatability of a training depends."""

from __future__ import annotations

from typing import Any

from qn_tracking import hookimpl


class TorchFacts:
    """Facts about torch, under the name `torch` in the record."""

    @hookimpl
    def run_facts(self) -> dict[str, Any]:
        import torch

        return {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        }
