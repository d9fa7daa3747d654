import random

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from inference import Recommender, UserError
from inference.model.artifact import Artifact
from inference.model.onnx_reader import OnnxFile
from tests.support.tiny_models import TERMS, random_weights, save_model

N = len(TERMS)


@pytest.fixture
def path(tmp_path):
    return save_model(tmp_path / "model.onnx", random_weights(widths=(4, 3)))


def rewritten(path, change):
    """Let `change` alter the model in a file, and give it the digest of the graph it then has."""
    model = onnx.load(path)
    change(model)
    skeleton = onnx.GraphProto()
    skeleton.CopyFrom(model.graph)
    path.write_bytes(model.SerializeToString())
    digest = OnnxFile(path).graph_sha256
    for entry in model.metadata_props:
        if entry.key == "graph_sha256":
            entry.value = digest
    path.write_bytes(model.SerializeToString())
    return path


def with_metadata(key, value):
    def change(model):
        entries = [entry for entry in model.metadata_props if entry.key != key]
        del model.metadata_props[:]
        model.metadata_props.extend(entries)
        if value is not None:
            model.metadata_props.add(key=key, value=value)

    return change


def test_weights_are_read_as_they_were_exported(tmp_path):
    weights = random_weights(widths=(4, 3), embedding=6)
    artifact = Artifact(save_model(tmp_path / "model.onnx", weights))
    np.testing.assert_array_equal(artifact.output_weight(), weights.output_table)
    np.testing.assert_array_equal(artifact.output_bias(), weights.output_bias)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, world\n" * 20, "not an ONNX file"),
        (b"\x00" * 1000, "not an ONNX file"),
        (b"\xff" * 1000, "not an ONNX file"),
        (b"\x08\x0a", "not an ONNX file"),
    ],
)
def test_a_file_that_is_no_onnx_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        Artifact(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Artifact(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="folder"):
        Artifact(tmp_path)


def test_a_folder_in_the_place_of_a_model_file_is_told_where_the_file_is_or_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"got the folder .*; write it with gru4rec export .* --out FILE\.onnx$"):
        Artifact(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UserError, match=r"name the file in it, .*/model\.onnx$"):
        Artifact(tmp_path)


def test_an_onnx_file_of_somebody_else_is_refused(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="not one that `gru4rec export` wrote"):
        Artifact(tmp_path / "model.onnx")


@pytest.mark.parametrize("version", ["2", "0", "1.0", "", "one"])
def test_another_format_version_is_refused(path, version):
    with pytest.raises(UserError, match="format version"):
        Artifact(rewritten(path, with_metadata("format_version", version)))


KEYS = """vocab vocab_sha256 weights_sha256 graph_sha256 n_items num_layers hidden_size layer_widths score_activation
exporter config metrics"""


@pytest.mark.parametrize("key", KEYS.split())
def test_missing_metadata_is_an_error_that_names_it(path, key):
    model = onnx.load(path)
    with_metadata(key, None)(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=key):
        Artifact(path).verify()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_items", str(N + 1)),
        ("n_items", "-1"),
        ("n_items", "9" * 30),
        ("num_layers", "1"),
        ("hidden_size", "3"),
        ("layer_widths", "4"),
        ("layer_widths", "4,0"),
        ("layer_widths", "3,4"),
        ("layer_widths", ""),
        ("score_activation", "cubic"),
        ("config", "[]"),
        ("config", "{"),
        ("config", "[" * 100_000),
        ("vocab", "\n".join(sorted(TERMS)[:-1])),
        ("vocab", ""),
        ("vocab_sha256", "0" * 64),
    ],
)
def test_metadata_that_disagree_with_the_rest_are_refused(path, key, value):
    with pytest.raises(UserError):
        Artifact(rewritten(path, with_metadata(key, value)))


@pytest.mark.parametrize("name", ["output_weight", "output_bias"])
def test_tables_of_another_size_are_refused(path, name):
    def change(model):
        for tensor in model.graph.initializer:
            if tensor.name == name:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values[:-1], name))

    with pytest.raises(UserError, match=name):
        Artifact(rewritten(path, change))


def test_a_graph_with_other_inputs_is_one_error(path):
    def change(model):
        model.graph.input[-1].name = "top_k"
        model.graph.node.insert(0, helper.make_node("Identity", ["top_k"], ["k"]))

    with pytest.raises(UserError, match="top_k"):
        Recommender.load(rewritten(path, change)).recommend([["7"]], k=1)


def test_a_changed_node_is_noticed_by_its_digest(path):
    model = onnx.load(path)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 0
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="its graph is not the one that was exported"):
        Artifact(path)


def test_changed_weights_are_noticed_on_request(path):
    content = bytearray(path.read_bytes())
    place = content.index(random_weights(widths=(4, 3)).output_table.tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    artifact = Artifact(path)
    with pytest.raises(UserError, match="weights do not match"):
        artifact.verify()


@pytest.mark.parametrize("shape", [[1 << 40, 3], [-1, 3], [N + 1, 1 << 62], [1 << 31, 1 << 31, 1 << 31]])
@pytest.mark.parametrize("name", ["output_weight", "gru_0_W"])
def test_a_model_that_claims_to_be_larger_than_it_is_is_refused(path, name, shape):
    def change(model):
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.dims[:] = shape

    with pytest.raises(UserError):
        Artifact(rewritten(path, change)).create_session()


@pytest.mark.parametrize("change", ["domain", "opset", "op", "cycle"])
def test_a_graph_that_onnxruntime_refuses_is_one_error(path, change):
    def alter(model):
        if change == "domain":
            model.graph.node[0].domain = "com.example.evil"
        elif change == "opset":
            model.opset_import[0].version = 9999
        elif change == "op":
            model.graph.node[0].op_type = "Frobnicate"
        else:
            model.graph.node[0].input[0] = model.graph.node[-1].output[0]

    with pytest.raises(UserError) as caught:
        Artifact(rewritten(path, alter)).create_session()
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    content = path.read_bytes()
    for length in [*range(1, 200), *range(200, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError):
            Artifact(path)


def test_a_flipped_bit_is_refused_or_changes_no_recommendation(path):
    sessions = [["7", "a b"], [], ["🛒"]]
    expected = Recommender.load(path).recommend(sessions, k=N)
    content = path.read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            recommender = Recommender.load(path)
            recommender.artifact.verify()
        except UserError:
            continue
        assert recommender.recommend(sessions, k=N) == expected


@pytest.fixture
def outside(path):
    """A model whose weights lie in weights.data beside it."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.data", size_threshold=64)
    return path


def test_weights_in_another_file_are_read_and_verified(outside):
    artifact = Artifact(outside)
    artifact.verify()
    np.testing.assert_array_equal(artifact.output_weight(), random_weights(widths=(4, 3)).output_table)
    data = outside.parent / "weights.data"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="weights do not match"):
        Artifact(outside).verify()


@pytest.mark.parametrize("size", [None, 0, 100])
def test_a_missing_or_truncated_file_of_weights_is_refused(outside, size):
    data = outside.parent / "weights.data"
    if size is None:
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:size])
    with pytest.raises(UserError, match=r"weights\.data"):
        Artifact(outside)


@pytest.mark.parametrize(
    "location", ["../weights.data", "folder/../weights.data", "/etc/passwd", "", "..", ".", "link"]
)
def test_weights_outside_the_folder_of_the_model_are_refused(outside, location):
    (outside.parent / "link").symlink_to("/etc/passwd")

    def change(model):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location

    model = onnx.load(outside, load_external_data=False)
    change(model)
    outside.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="model's folder"):
        Artifact(outside)


@pytest.mark.parametrize("place", ["above", "link"])
def test_the_installed_onnxruntime_refuses_weights_outside_the_folder_as_well(outside, place):
    data = outside.parent / "weights.data"
    folder = outside.parent / "folder"
    folder.mkdir()
    if place == "link":
        (folder / "weights.data").symlink_to(data)
    model = onnx.load(outside, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and place == "above":
                entry.value = "../weights.data"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match=r"(?i)escapes|outside|symlink|external data"):
        onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "entry", [("offset", "-1"), ("length", "x"), ("offset", str(1 << 60)), ("length", str(10**30))]
)
def test_an_impossible_place_in_the_file_of_weights_is_refused(outside, entry):
    model = onnx.load(outside, load_external_data=False)
    for tensor in model.graph.initializer:
        for existing in tensor.external_data:
            if existing.key == entry[0]:
                existing.value = entry[1]
    outside.write_bytes(model.SerializeToString())
    with pytest.raises(UserError):
        Artifact(outside)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_an_onnx_file_or_one_error(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError):
        Artifact(path)
