"""One run of the tiny preset, for all tests that look at what a run leaves."""

from __future__ import annotations

import pytest
import torch

from models.busgen.presets import tiny
from tests.models.busgen.pipeline import Run, run_pipeline

torch.set_num_threads(1)  # as a worker of one core has it; on networks as small as these more are slower


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pipeline(tiny(), tmp_path_factory.mktemp("busgen"))
