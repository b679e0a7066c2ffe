"""For tests of plugins: contracts to subclass, builders of records, and a manual clock.

    from qn_tracking.testing import SinkContract

    class TestMySink(SinkContract):
        def make_sink(self, tmp_path):
            return MySink(file=tmp_path / "episodes.txt")

pytest collects the tests that the subclass inherits. All of them use a real `Recorder`.
"""

from qn_tracking.testing.builders import (
    EPISODE as EPISODE,
    HOSTILE as HOSTILE,
    FakeClock as FakeClock,
    make_config as make_config,
    make_episode as make_episode,
    make_experiment as make_experiment,
    make_run as make_run,
    record as record,
)
from qn_tracking.testing.executor import ExecutorContract as ExecutorContract
from qn_tracking.testing.simulation import SimulationContract as SimulationContract
from qn_tracking.testing.sink import SinkContract as SinkContract
