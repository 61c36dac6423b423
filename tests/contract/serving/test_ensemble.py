"""Four networks asked at once: over gRPC, in process, and when one of them does not answer."""

import multiprocessing
import socket
import threading
import time

import grpc
import numpy as np
import pytest

from serving import wire
from serving.answers import NETWORKS, NetworkAnswer, NetworkFailure
from serving.client import RemoteEnsemble
from serving.in_process import LocalEnsemble
from serving.tensors import to_proto_values

DEADLINE_S = 60.0


def answer(count: int = 1, version: int = 5, logit: float = 0.25):
    response = wire.PredictResponse()
    response.model_spec.version.value = version
    for name, shape in (("logit", (count,)), ("class_logits", (count, 7)), ("attention", (count, 7, 7))):
        response.outputs[name].CopyFrom(to_proto_values(np.full(shape, logit, np.float32)))
    return response


def test_the_four_calls_are_under_way_together(fake, images):
    all_four = threading.Barrier(4)

    def predict(_request, _context):
        all_four.wait(DEADLINE_S)  # nobody is answered before all four have arrived
        return answer(2)

    with RemoteEnsemble({name: fake(predict) for name in NETWORKS}) as networks:
        answers = networks.ask_all(images, DEADLINE_S)
    assert [found.name for found in answers] == list(NETWORKS)
    assert all(isinstance(found, NetworkAnswer) and found.version == 5 for found in answers)


def test_a_network_may_be_shown_only_the_first_images(fake, images):
    seen = {}

    def predict(request, _context):
        tensor = request.inputs["image"].tensor_shape.dim[0].size
        seen[request.model_spec.name] = tensor
        return answer(tensor)

    with RemoteEnsemble({name: fake(predict) for name in NETWORKS}) as networks:
        answers = networks.ask_all(images, DEADLINE_S, {"densenet121": 1})
    wanted = dict.fromkeys(NETWORKS, len(images)) | {"densenet121": 1}
    assert seen == {found.name: len(found.logit) for found in answers} == wanted


def test_one_deadline_ends_all_calls_and_the_quick_answers_stay(fake, images):
    released = threading.Event()

    def never(_request, _context):
        released.wait(DEADLINE_S)
        return answer(2)

    addresses = {name: fake(lambda *_: answer(2)) for name in NETWORKS}
    addresses |= {name: fake(never) for name in NETWORKS[1:3]}
    with RemoteEnsemble(addresses) as networks:
        began = time.monotonic()
        answers = networks.ask_all(images, 1.0)
        took = time.monotonic() - began
        released.set()
    assert took < 1.9, "two slow networks must share the deadline, not add theirs up"
    assert [type(found) for found in answers] == [NetworkAnswer, NetworkFailure, NetworkFailure, NetworkAnswer]
    assert answers[1].code == "DEADLINE_EXCEEDED"
    assert "densenet121" in answers[1].sentence
    assert "did not answer within 1 s" in answers[1].sentence


def test_a_network_nobody_serves_is_a_failure_with_its_address(fake, images):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    with RemoteEnsemble({"mobilenet": fake(lambda *_: answer(2)), "densenet121": nowhere}) as networks:
        there, gone = networks.ask_all(images, DEADLINE_S)
    assert isinstance(there, NetworkAnswer)
    assert (gone.name, gone.code) == ("densenet121", "UNAVAILABLE")
    assert nowhere in gone.sentence


def test_a_refusal_is_a_failure_with_the_servers_words(fake, images):
    def refuse(_request, context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests wait")

    with RemoteEnsemble({"mobilenet": fake(refuse)}) as networks:
        (failure,) = networks.ask_all(images, DEADLINE_S)
    assert failure.code == "RESOURCE_EXHAUSTED"
    assert "too many requests wait" in failure.sentence


def test_a_call_whose_replica_dies_is_sent_to_another(fake, images):
    killed = threading.Event()

    def replica(number: int):
        def predict(_request, context):
            if killed.is_set():
                return answer(2)
            killed.set()
            fake.kill(fake.addresses[number])
            while context.is_active():  # until the connection is gone; what is returned then reaches nobody
                threading.Event().wait(0.01)
            return answer(2)

        return predict

    with RemoteEnsemble({"mobilenet": f"ipv4:{fake(replica(0))},{fake(replica(1))}"}) as networks:
        (found,) = networks.ask_all(images, DEADLINE_S)
    assert killed.is_set()
    assert isinstance(found, NetworkAnswer)


def test_an_answer_that_is_not_finite_never_reaches_the_stack(fake, images):
    with RemoteEnsemble({"mobilenet": fake(lambda *_: answer(2, logit=float("nan")))}) as networks:
        (failure,) = networks.ask_all(images, DEADLINE_S)
    assert failure.code == "MALFORMED_ANSWER"


@pytest.mark.parametrize(
    ("settings", "choice", "value"),
    [
        ({}, None, None),
        ({"label": "canary"}, "version_label", "canary"),
        ({"versions": {"mobilenet": 3}}, "version", 3),
    ],
)
def test_the_request_names_the_network_and_the_version_wanted(fake, images, settings, choice, value):
    seen = []

    def keep(request, _context):
        seen.append(request.model_spec)
        return answer(2)

    with RemoteEnsemble({"mobilenet": fake(keep)}, **settings) as networks:
        networks.ask_all(images, DEADLINE_S)
    assert seen[0].name == "mobilenet"
    assert seen[0].WhichOneof("version_choice") == choice
    if choice:
        found = getattr(seen[0], choice)
        assert (found.value if choice == "version" else found) == value


def test_readiness_is_an_available_version(fake):
    def status(*states: int):
        def reply(_request, _context):
            response = wire.GetModelStatusResponse()
            for version, state in enumerate(states, 1):
                response.model_version_status.add(version=version, state=state)
            return response

        return reply

    loading, available, end = 20, 30, 50
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    addresses = {
        "mobilenet": fake(status=status(end, available)),
        "densenet121": fake(status=status(loading)),
        "densenet169": nowhere,
    }
    with RemoteEnsemble(addresses) as networks:
        assert networks.readiness(5.0) == {"mobilenet": True, "densenet121": False, "densenet169": False}
        assert networks.served_versions(5.0)["mobilenet"] == {2}


def _ask_in_child(networks, images, queue):
    queue.put([type(found).__name__ for found in networks.ask_all(images, DEADLINE_S)])


def test_an_ensemble_made_before_a_fork_answers_in_the_child(served, images):
    fork = multiprocessing.get_context("fork")
    networks = RemoteEnsemble({"mobilenet": served.address})
    queue = fork.SimpleQueue()
    child = fork.Process(target=_ask_in_child, args=(networks, images, queue))
    child.start()
    child.join(DEADLINE_S)
    assert child.exitcode == 0
    assert queue.get() == ["NetworkAnswer"]


@pytest.fixture(scope="module")
def folder_of_four(model_folder, tmp_path_factory):
    """A folder of models in which all four names are the smallest network."""
    folder = tmp_path_factory.mktemp("models")
    for name in NETWORKS:
        (folder / name).symlink_to(model_folder)
    return folder


def test_in_process_gives_the_floats_of_the_server(served, two_versions, images):
    local = LocalEnsemble(two_versions.parent, versions={two_versions.name: 2})
    with local, RemoteEnsemble({"mobilenet": served.address}) as remote:
        (here,) = local.ask_all(images, DEADLINE_S)
        (there,) = remote.ask_all(images, DEADLINE_S)
    assert here.version == there.version == 2
    for output in ("logit", "class_logits", "attention", "embedding"):
        np.testing.assert_array_equal(getattr(here, output), getattr(there, output), err_msg=output)


def test_in_process_answers_in_the_order_of_the_networks_and_keeps_the_deadline(folder_of_four, images):
    with LocalEnsemble(folder_of_four) as networks:
        assert networks.readiness(0.0) == dict.fromkeys(NETWORKS, True)
        assert [found.name for found in networks.ask_all(images, DEADLINE_S)] == list(NETWORKS)
        assert [len(found.logit) for found in networks.ask_all(images, DEADLINE_S, {NETWORKS[2]: 1})] == [2, 2, 1, 2]
        assert [found.code for found in networks.ask_all(images, 0.0)] == ["DEADLINE_EXCEEDED"] * 4


@pytest.mark.slow
def test_the_server_answers_what_tensorflow_itself_answers(served, model_folder, needs, images):
    tensorflow = needs("tensorflow")
    newest = max(
        (entry for entry in model_folder.iterdir() if entry.name.isdecimal()), key=lambda entry: int(entry.name)
    )
    network = tensorflow.saved_model.load(str(newest)).signatures["serving_default"]
    expected = network(image=tensorflow.constant(images))
    with RemoteEnsemble({"mobilenet": served.address}) as networks:
        (found,) = networks.ask_all(images, DEADLINE_S)
    for output in ("logit", "class_logits", "embedding"):
        np.testing.assert_allclose(getattr(found, output), expected[output], rtol=1e-4, atol=1e-4, err_msg=output)
    # Cells of the map are not averaged as logits are, and trained ones reach several units: 2.5e-4 was seen.
    np.testing.assert_allclose(found.attention, expected["attention"], rtol=1e-4, atol=5e-4)
