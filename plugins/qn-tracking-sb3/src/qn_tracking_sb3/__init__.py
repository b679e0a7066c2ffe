"""Records the training of a Stable-Baselines3 model.

with track(settings(model), seed=1) as run:
    model.learn(10_000, callback=Track(run))
"""

from qn_tracking_sb3.callback import Track
from qn_tracking_sb3.settings import settings

__all__ = ["Track", "settings"]
