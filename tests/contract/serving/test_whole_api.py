"""The rest of the API, which only stubs reach: asked with ours and with tensorflow-serving-api's."""

import grpc
import numpy as np
import pytest

from serving.tensors import to_proto, to_proto_values

NETWORK = "mobilenet"
TIMEOUT_S = 60.0


@pytest.fixture
def request_for(stubs):
    """Makes a PredictRequest of these stubs for the images of a TensorProto of ours."""

    def make(proto, **spec):
        request = stubs.messages.PredictRequest()
        request.model_spec.name = NETWORK
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        if "label" in spec:
            request.model_spec.version_label = spec["label"]
        request.model_spec.signature_name = spec.get("signature", "")
        request.inputs["image"].ParseFromString(proto.SerializeToString())
        return request

    return make


def refusal(method, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=TIMEOUT_S)
    return caught.value.code().name, caught.value.details()


def test_a_response_says_which_version_and_signature_answered(stubs, request_for, images):
    spec = stubs.predict(request_for(to_proto(images)), timeout=TIMEOUT_S).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (NETWORK, 2, "serving_default")


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2)])
def test_a_label_picks_its_version(stubs, request_for, images, label, version):
    response = stubs.predict(request_for(to_proto(images), label=label), timeout=TIMEOUT_S)
    assert response.model_spec.version.value == version


def test_an_unknown_label_is_an_invalid_argument(stubs, request_for, images):
    code, text = refusal(stubs.predict, request_for(to_proto(images), label="beta"))
    assert (code, text) == ("INVALID_ARGUMENT", "Unrecognized servable version label: beta")


def test_pixels_one_by_one_answer_like_pixels_in_bytes(stubs, request_for, images):
    in_bytes = stubs.predict(request_for(to_proto(images[:1])), timeout=TIMEOUT_S)
    one_by_one = stubs.predict(request_for(to_proto_values(images[:1])), timeout=TIMEOUT_S)
    assert list(in_bytes.outputs["class_logits"].float_val) == list(one_by_one.outputs["class_logits"].float_val)


def test_one_value_stands_for_a_whole_grey_image(stubs, request_for):
    grey = np.full((1, 224, 224, 3), 90, np.uint8)
    short = to_proto_values(grey)
    del short.int_val[1:]
    whole = stubs.predict(request_for(to_proto(grey)), timeout=TIMEOUT_S).outputs["logit"]
    assert stubs.predict(request_for(short), timeout=TIMEOUT_S).outputs["logit"] == whole


def test_answers_come_in_float_val_as_tensorflow_serving_sends_them(stubs, request_for, images):
    output = stubs.predict(request_for(to_proto(images)), timeout=TIMEOUT_S).outputs["class_logits"]
    assert len(output.float_val) == 14
    assert not output.tensor_content
    assert [dim.size for dim in output.tensor_shape.dim] == [2, 7]


def test_a_filter_gives_only_the_outputs_asked_for(stubs, request_for, images):
    request = request_for(to_proto(images))
    request.output_filter.extend(["attention", "logit"])
    assert set(stubs.predict(request, timeout=TIMEOUT_S).outputs) == {"attention", "logit"}


@pytest.mark.parametrize(
    ("aliases", "words"),
    [
        (["probability"], "output tensor alias not found in signature: probability Outputs expected to be in the set"),
        (["logit", "logit"], "duplicate output tensor alias: logit"),
    ],
)
def test_a_filter_for_what_there_is_not_or_twice_is_refused(stubs, request_for, images, aliases, words):
    request = request_for(to_proto(images))
    request.output_filter.extend(aliases)
    code, text = refusal(stubs.predict, request)
    assert code == "INVALID_ARGUMENT"
    assert words in text


def test_an_unknown_signature_is_a_failed_precondition(stubs, request_for, images):
    code, text = refusal(stubs.predict, request_for(to_proto(images), signature="train"))
    assert (code, text) == ("FAILED_PRECONDITION", 'Serving signature key "train" not found.')


def test_a_missing_input_and_one_too_many_are_named(stubs, request_for, images):
    request = request_for(to_proto(images))
    request.inputs["mask"].CopyFrom(request.inputs["image"])
    code, text = refusal(stubs.predict, request)
    assert code == "INVALID_ARGUMENT"
    assert "2!=1" in text
    assert "Sent extra: {mask}" in text
    request.inputs.clear()
    code, text = refusal(stubs.predict, request)
    assert code == "INVALID_ARGUMENT"
    assert "Missing but required: {image}" in text


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda proto: setattr(proto, "tensor_content", b"short"), "image: tensor_content has 5 bytes"),
        (lambda proto: setattr(proto.tensor_shape.dim[0], "size", 0), "must hold 1 to 64 images; this holds 0"),
        (lambda proto: setattr(proto.tensor_shape.dim[0], "size", 2**40), "must hold 1 to 64 images"),
        (lambda proto: setattr(proto, "dtype", 7), "image must be uint8 [-1, 224, 224, 3]; this is string"),
    ],
    ids=["bytes", "no image", "a shape of terabytes", "string"],
)
def test_a_damaged_tensor_is_an_invalid_argument(stubs, request_for, images, damage, words):
    proto = to_proto(images)
    damage(proto)
    code, text = refusal(stubs.predict, request_for(proto))
    assert code == "INVALID_ARGUMENT"
    assert words in text


def test_a_request_without_a_model_spec_is_refused_by_every_method(stubs):
    missing = ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refusal(stubs.predict, stubs.messages.PredictRequest()) == missing
    assert refusal(stubs.metadata, stubs.messages.GetModelMetadataRequest()) == missing
    assert refusal(stubs.status, stubs.messages.GetModelStatusRequest()) == missing


def test_metadata_carries_every_signature_and_the_version(stubs):
    request = stubs.messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = NETWORK
    response = stubs.metadata(request, timeout=TIMEOUT_S)
    assert response.model_spec.version.value == 2
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = stubs.messages.SignatureDefMap()
    assert packed.Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert set(signature.outputs) == {"logit", "class_logits", "attention", "embedding"}
    assert signature.inputs["image"].dtype == 4  # DT_UINT8
    assert signature.method_name == "tensorflow/serving/predict"


def test_other_metadata_is_refused_and_none_at_all_too(stubs):
    request = stubs.messages.GetModelMetadataRequest(metadata_field=["signature_def", "weights"])
    request.model_spec.name = NETWORK
    assert refusal(stubs.metadata, request) == ("INVALID_ARGUMENT", "Metadata field weights is not supported")
    del request.metadata_field[:]
    assert refusal(stubs.metadata, request)[0] == "INVALID_ARGUMENT"


def test_status_of_an_available_version_is_ok(stubs):
    request = stubs.messages.GetModelStatusRequest()
    request.model_spec.name = NETWORK
    for entry in stubs.status(request, timeout=TIMEOUT_S).model_version_status:
        assert entry.HasField("status")
        assert (entry.status.error_code, entry.status.error_message) == (0, "")


def test_the_largest_batch_there_may_be_is_answered(stubs, request_for, images):
    largest = np.repeat(images, 32, axis=0)
    response = stubs.predict(request_for(to_proto(largest)), timeout=TIMEOUT_S)
    assert len(response.outputs["logit"].float_val) == 64
