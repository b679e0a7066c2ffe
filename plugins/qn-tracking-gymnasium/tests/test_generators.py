"""What a run draws from the generators of the process is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSIDE = """
with generators.active():
    import torch
    torch.manual_seed(5)
    drawn = [torch.rand(1).item()]
torch.manual_seed(6)
theirs = torch.get_rng_state()
with generators.active():
    assert torch.get_num_threads() == 1
    drawn.append(torch.rand(1).item())
assert torch.equal(torch.get_rng_state(), theirs)
torch.manual_seed(5)
assert drawn == [torch.rand(1).item(), torch.rand(1).item()]
"""

BETWEEN = """
with generators.active():
    pass
import torch
torch.manual_seed(6)
theirs = torch.get_rng_state()
with generators.active():
    torch.rand(1)
assert torch.equal(torch.get_rng_state(), theirs)
"""


@pytest.mark.parametrize("then", [INSIDE, BETWEEN], ids=["by the run", "by others"])
def test_torch_may_be_imported_later(then: str) -> None:
    pytest.importorskip("torch")
    program = (
        "import sys\nfrom qn_tracking_gymnasium.generators import Generators\n"
        "generators = Generators()\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program + then], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
