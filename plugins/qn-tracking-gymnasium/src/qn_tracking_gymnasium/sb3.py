"""An algorithm of Stable-Baselines3, which has its own training loop.

PyTorch takes seconds to import, so it is imported only to check or run a configuration, not to
categorise one.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from qn_tracking.plugin import ConfigError, did_you_mean
from qn_tracking_gymnasium.generators import Generators
from qn_tracking_gymnasium.schema import Sb3Section, thawed

if TYPE_CHECKING:
    import gymnasium

FIELD = "brain.config"
# Arguments that the run sets, that write files or print, or that are not plain data.
_OURS = frozenset(
    (
        *("self", "policy", "env", "seed", "device", "verbose", "tensorboard_log"),
        *("stats_window_size", "_init_setup_model", "action_noise", "rollout_buffer_class"),
        *("rollout_buffer_kwargs", "replay_buffer_class", "replay_buffer_kwargs"),
    )
)


class Sb3:
    """Learns on the CPU with the algorithm's `learn` until the run ends.

    After `total_timesteps` it continues with `learn(reset_num_timesteps=False)`.
    """

    family = "classical"

    def __init__(self, section: Sb3Section, *, file: str) -> None:
        self._section, self._file = section, file
        self.name = section.algorithm.lower()
        self.warnings: tuple[str, ...] = ()

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Make the algorithm once as a check. Raises ConfigError for invalid arguments."""
        accepted = inspect.signature(self._algorithm()).parameters.keys() - _OURS
        for key in self._section.kwargs:
            if key not in accepted:
                hint = did_you_mean(key, accepted) or f"known: {', '.join(sorted(accepted))}"
                raise self._refuse(
                    f"{self._section.algorithm} does not accept {key} here", key, hint
                )
        try:
            with warnings.catch_warnings(record=True) as caught, Generators().active():
                warnings.simplefilter("always")
                self._model(env, 0)
        except Exception as error:
            message = " ".join(str(error).split()) or type(error).__name__
            raise self._refuse(
                f"{self._section.algorithm} cannot be made: {message[:300]}"
            ) from None
        found = (" ".join(str(one.message).split()) for one in caught)
        self.warnings = tuple(dict.fromkeys(found))

    def train(self, env: gymnasium.Env[Any, Any], seed: np.random.SeedSequence) -> None:
        """Learn until the environment raises."""
        import torch

        # The number of threads is a setting of each thread, and this thread is new.
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were shown before
            model = self._model(env, int(seed.generate_state(1)[0]))
        steps = self._section.total_timesteps
        model.learn(steps, log_interval=None)
        while True:
            model.learn(steps, log_interval=None, reset_num_timesteps=False)

    def _model(self, env: gymnasium.Env[Any, Any], seed: int) -> Any:
        from stable_baselines3.common.logger import Logger

        kwargs: dict[str, Any] = thawed(self._section.kwargs)
        if isinstance(kwargs.get("train_freq"), list):
            kwargs["train_freq"] = tuple(kwargs["train_freq"])  # such as [1, episode]
        model = self._algorithm()(
            self._section.policy, env, seed=seed, device="cpu", verbose=0, **kwargs
        )
        # The default logger would make a folder for every run.
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model

    def _algorithm(self) -> Any:
        try:
            import stable_baselines3
        except ImportError as error:
            raise ConfigError(
                f"needs stable-baselines3, which cannot be imported: {error}",
                file=self._file,
                field="brain.name",
                hint="install torch's CPU build, then qn-tracking-gymnasium[sb3]",
            ) from None
        return getattr(stable_baselines3, self._section.algorithm)

    def _refuse(self, cause: str, key: str | None = None, hint: str | None = None) -> ConfigError:
        field = FIELD if key is None else f"{FIELD}.kwargs.{key}"
        return ConfigError(cause, file=self._file, field=field, hint=hint)
