"""The examples for clusters: a search submitted as a job survives the loss of a node, and the manifests are right."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from packaging.requirements import Requirement

from tests.support.paths import ROOT
from tests.support.ray_cluster import end_session, processes_of, running_cluster, wait_until
from tests.support.small_logs import frame_of, markov_sessions
from tune.trials.recovery import read_finished

pytestmark = pytest.mark.ray

EXAMPLES = ROOT / "examples" / "cluster"
SCHEMA = json.loads((ROOT / "tests" / "support" / "rayjob_schema.json").read_text())
SMALL = ["--layers=16", "--n-sample=16", "--batch-size=8", "--no-seeds", "--threads=1"]


@pytest.fixture(scope="module")
def cluster():
    """A head and two workers with one processor each."""
    with running_cluster(n_workers=2) as cluster:
        yield cluster


def log_in(folder, n_sessions):
    log = folder / "clicks.tsv"
    frame_of(markov_sessions(n_sessions, 60, seed=6)).write_csv(log, separator="\t")
    return log


@pytest.mark.slow
def test_a_search_submitted_as_a_job_survives_the_loss_of_a_node(cluster, tmp_path):
    environment = yaml.safe_load((EXAMPLES / "runtime-env.yaml").read_text())
    del environment["pip"]  # the nodes of this cluster have the packages
    (tmp_path / "env.yaml").write_text(yaml.safe_dump(environment))
    out = tmp_path / "out"
    flags = [f"--train={log_in(tmp_path, 2000)}", f"--out={out}", "--trials=4", "--epochs=4", *SMALL]
    said = tmp_path / "job.log"
    with open(said, "w") as file:
        job = subprocess.Popen(
            ["bash", EXAMPLES / "submit.sh", cluster.jobs, *flags],
            env=cluster.environment | {"RUNTIME_ENV": str(tmp_path / "env.yaml")},
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
        )

    def goes_on():
        assert job.poll() is None, said.read_text()
        return True

    def trials_on(worker):
        return [title for title in processes_of(worker).values() if title.startswith("ray::ImplicitFunc")]

    def both_are_training():
        return all(trials_on(worker) for worker in cluster.workers) and list(out.glob("trials/*/*/checkpoint_*"))

    wait_until(both_are_training, still=goes_on)
    over_before = read_finished(out / "trials" / "round-1")
    end_session(cluster.workers[0])
    assert job.wait(timeout=400) == 0, said.read_text()
    assert "succeeded" in said.read_text()
    assert "next: gru4rec-infer" in said.read_text()
    rows = pl.read_parquet(out / "results.parquet")
    assert sorted(rows["trial"]) == [1, 2, 3, 4]
    assert rows["status"].is_in(["finished", "stopped"]).all()
    assert len(over_before) < 4  # it was killed in the middle
    assert (out / "model.onnx").exists()


@pytest.mark.slow
def test_a_search_from_outside_sends_our_code_along(cluster, tmp_path):
    out = tmp_path / "out"
    flags = [f"--train={log_in(tmp_path, 100)}", f"--out={out}", f"--address={cluster.address}", "--trials=1"]
    command = [sys.executable, "-m", "tune.search", *flags, "--epochs=1", *SMALL]
    search = subprocess.run(command, cwd=tmp_path, env=cluster.environment, capture_output=True, text=True, timeout=400)
    assert search.returncode == 0, search.stderr
    assert pl.read_parquet(out / "results.parquet")["status"].to_list() == ["finished"]


def manifest():
    return yaml.safe_load((EXAMPLES / "rayjob.yaml").read_text())


def test_the_rayjob_is_what_its_definition_asks_for():
    jsonschema.validate(manifest(), SCHEMA)


@pytest.mark.skipif("GRU4REC_RAYJOB_CRD" not in os.environ, reason="GRU4REC_RAYJOB_CRD names no ray.io_rayjobs.yaml")
def test_the_rayjob_is_what_the_whole_definition_asks_for():
    definition = yaml.safe_load(Path(os.environ["GRU4REC_RAYJOB_CRD"]).read_text())
    (schema,) = (
        found["schema"]["openAPIV3Schema"] for found in definition["spec"]["versions"] if found["name"] == "v1"
    )
    jsonschema.validate(manifest(), closed(schema))


def closed(schema):
    """A schema that allows only the fields it names, as a server does that validates strictly."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        inner["properties"] = {name: closed(part) for name, part in schema["properties"].items()}
        return {**inner, "additionalProperties": False}
    return inner


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["apiVersion"], "ray.io/v1alpha1"),
        (["spec", "entrypoint"], ["python", "-m", "tune.search"]),
        (["spec", "ttlSecondsAfterFinish"], 300),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"], "4"),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers"], []),
    ],
)
def test_a_mistake_in_the_rayjob_would_be_seen(path, value):
    changed = manifest()
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, SCHEMA)


def test_the_nodes_of_the_rayjob_see_the_folder_that_the_search_writes_to():
    spec = manifest()["spec"]
    (out,) = re.findall(r"--out (\S+)", spec["entrypoint"])
    cluster = spec["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert out.startswith(f"{mount['mountPath']}/")
        assert claims[mount["name"]] == "gru4rec-shared"


def test_one_version_of_ray_is_named_everywhere():
    spec = manifest()["spec"]["rayClusterSpec"]
    image = (EXAMPLES / "Dockerfile").read_text()
    assert re.findall(r"rayproject/ray:([\d.]+)-", image) == [spec["rayVersion"]] * 2
    assert re.findall(r"ray\[default\]==([\d.]+)", image) == [spec["rayVersion"]]
    assert spec["rayVersion"] == version("ray")


def test_the_runtime_environment_holds_what_the_base_and_the_extra_do():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    wanted = [*declared["dependencies"], *extras["train"], *extras["tune"]]
    shipped_or_there = ("gru4rec", "ray", "onnxruntime", "onnxruntime-gpu")
    wanted = [text for text in wanted if Requirement(text).name not in shipped_or_there]
    listed = yaml.safe_load((EXAMPLES / "runtime-env.yaml").read_text())["pip"]
    onnxruntime = [text for text in listed if text.startswith("onnxruntime")]
    assert set(listed) - set(onnxruntime) == set(wanted)
    assert len(onnxruntime) == 1


def test_submitting_without_arguments_says_how():
    ended = subprocess.run(["bash", EXAMPLES / "submit.sh"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "submit.sh http://HEAD:8265 --train" in ended.stderr
