"""The names of Ray and torch that we use and their documentation does not promise, in one place.

Tested with ray 2.60.0, torch 2.13.0 and optuna 5.0.0, of which nothing private is used. After an upgrade the first test
names what is gone, and what needed it.
"""

import re
from pkgutil import resolve_name

import pytest
from ray.tune.experiment import Trial

from tests.support.paths import ROOT

pytestmark = pytest.mark.ray

PRIVATE = {
    "ray._private.utils:get_num_cpus": "tune.cluster.cluster counts the processors that a container may use",
    "ray._private.utils:_get_docker_cpus": "tests/tune/cluster/test_cluster.py imitates a container",
    "torch._dynamo:config": "tests/model/test_device.py compiles a gradient",
    "torch.utils._python_dispatch:TorchDispatchMode": "tests/model/test_device.py sees on which device tensors are",
    "torch.utils._pytree:tree_leaves": "tests/model/test_device.py sees on which device tensors are",
}
"""Names with an underscore, and who uses them."""
UNDOCUMENTED = {
    "ray.tune.search:SearchGenerator.save_to_dir": "tune.trials.recovery writes a manifest after it",
    "ray.tune.execution.tune_controller:TuneController.save_to_dir": "it saves the trials before the searcher",
    "ray.tune:ExperimentAnalysis": "tune.trials.results reads an older state than the newest",
}
FILES = {
    "ray.tune.execution.tune_controller:TuneController.CKPT_FILE_TMPL": "experiment_state-{}.json",
    "ray.tune.callback:CallbackList.CKPT_FILE_TMPL": "callback-states-{}.pkl",
    "ray.tune.search:SearchGenerator.CKPT_FILE_TMPL": "search_gen_state-{}.json",
    "ray.tune.search:Searcher.CKPT_FILE_TMPL": "searcher-state-{}.pkl",
    "ray.tune.result:EXPR_ERROR_FILE": "error.txt",
}
"""Names of files that tune.trials.recovery and tune.trials.trial expect."""


@pytest.mark.parametrize(("name", "user"), [*PRIVATE.items(), *UNDOCUMENTED.items()])
def test_a_private_name_is_still_there(name, user):
    try:
        resolve_name(name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{name} is gone ({error}): {user}")


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_ray_still_names_its_files_so(name, file):
    assert resolve_name(name) == file


def test_a_trial_still_names_the_file_of_its_pickled_error():
    """So that tune.trials.results can keep Ray from loading one that a full disk has cut off."""
    assert Trial("name", stub=True).run_metadata.pickled_error_filename is None


def test_no_other_private_names_are_used():
    libraries = "ray|torch|optuna|numba|onnx|onnxruntime|polars|cyclopts|rich|filelock|matplotlib"
    private = re.compile(rf"\b(?:from |import )?((?:{libraries})(?:\.\w+)*\._[a-z]\w*(?:\.\w+)*)(?: import (\w+))?")
    listed = {name.replace(":", ".") for name in PRIVATE}
    for folder in ("gru4rec", "inference", "tune", "tests", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "test_private_names.py":
                continue
            for module, name in private.findall(path.read_text(encoding="utf-8")):
                used = f"{module}.{name}".removesuffix(".")
                assert any(used.startswith(known) for known in listed), f"{path}: {used} is not in the table"
