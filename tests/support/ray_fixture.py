"""What the tests of the search share: one small Ray, and a plug-in that is gone again after a test."""

import importlib
import os
import sys
from collections.abc import Iterator

import pytest

PLUGIN = "tests.support.example_plugin"


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Two processors, no GPU, nothing on the terminal."""
    import ray

    from tune.cluster.cluster import QUIET

    os.environ.update(QUIET)

    if ray.is_initialized():  # by this fixture, in another module
        yield
        return
    ray.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="CRITICAL",
        object_store_memory=80 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture
def plugged_in() -> Iterator[str]:
    """The name of a module that registers losses and a sampler; what it registers is forgotten afterwards."""
    from gru4rec.model.losses import LOSSES
    from gru4rec.training.samplers import SAMPLERS

    before = set(LOSSES), set(SAMPLERS)
    sys.modules.pop(PLUGIN, None)
    importlib.import_module(PLUGIN)
    yield PLUGIN
    for registry, names in zip((LOSSES, SAMPLERS), before, strict=True):
        for name in set(registry) - names:
            del registry[name]
    sys.modules.pop(PLUGIN, None)
