"""The embedded server as a process: readiness, overload, deadlines, shutdown, what it says when it cannot start."""

import socket
import subprocess
import sys
import time
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import wire
from serving.tensors import to_proto

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 60.0

#: The largest batch keeps a lane busy for half a second at least.
LONG = np.zeros((64, 224, 224, 3), np.uint8)
SHORT = LONG[:1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def predict(channel: grpc.Channel, images: np.ndarray, timeout_s: float = TIMEOUT_S) -> grpc.Future:
    request = wire.PredictRequest()
    request.model_spec.name = "mobilenet"
    request.inputs["image"].CopyFrom(to_proto(images))
    call = channel.unary_unary(
        wire.PREDICT, lambda message: message.SerializeToString(), wire.PredictResponse.FromString
    )
    return call.future(request, timeout=timeout_s)


def code_of(call: grpc.Future) -> str:
    return call.exception(TIMEOUT_S).code().name if call.exception(TIMEOUT_S) else "OK"


def bare_channel(address: str) -> grpc.Channel:
    """A channel that does not send a refused call again."""
    return grpc.insecure_channel(
        address, [("grpc.enable_retries", 0), ("grpc.max_send_message_length", 64 * 1024 * 1024)]
    )


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"])
def test_health_says_serving_for_the_server_and_its_services(served, service):
    with served.channel() as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(served):
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_port_never_says_serving_before_its_network_answers(start):
    served = start(wait=False)
    with served.channel() as channel:
        seen = set()
        for update in health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S, wait_for_ready=True
        ):
            seen.add(update.status)
            if update.status == health_pb2.HealthCheckResponse.SERVING:
                break
        assert code_of(predict(channel, SHORT)) == "OK"


def test_several_ports_of_one_process_all_answer(start):
    served = start(ports=2)
    for port in served.ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert code_of(predict(channel, SHORT)) == "OK"


def test_beyond_the_queue_a_call_is_refused_at_once_and_the_rest_is_answered(start):
    served = start("--queue=2", "--cores=1")
    with bare_channel(served.address) as channel:
        calls = [predict(channel, LONG[:32]) for _ in range(8)]
        codes = [code_of(call) for call in calls]
        refused = [call for call in calls if code_of(call) == "RESOURCE_EXHAUSTED"]
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert codes.count("OK") >= 3, "one runs and two wait"
    assert "too many requests wait for mobilenet already" in refused[0].exception().details()


def test_a_call_whose_deadline_passed_in_the_queue_is_never_computed(start):
    metrics_port = free_port()
    served = start("--cores=1", f"--metrics-port={metrics_port}")
    with bare_channel(served.address) as channel:
        running = predict(channel, LONG)
        late = [predict(channel, LONG, timeout_s=0.2) for _ in range(4)]
        assert [code_of(call) for call in late] == ["DEADLINE_EXCEEDED"] * 4
        assert code_of(running) == "OK"
        assert code_of(predict(channel, SHORT)) == "OK"
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=TIMEOUT_S) as answer:
        lines = answer.read().decode().splitlines()
    computed = next(line for line in lines if line.startswith("lesionlens_serving_inference_seconds_count"))
    # The two that were answered, and at most one that had a lane when its deadline passed.
    assert float(computed.split()[1]) <= 3


def test_the_port_of_the_metrics_counts_answers_by_network_and_code(start, images):
    metrics_port = free_port()
    served = start(f"--metrics-port={metrics_port}")
    with served.channel() as channel:
        assert code_of(predict(channel, images)) == "OK"
        assert code_of(predict(channel, images[:, :9])) == "INVALID_ARGUMENT"
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=TIMEOUT_S) as answer:
        text = answer.read().decode()
    for code in ("OK", "INVALID_ARGUMENT"):
        assert f'lesionlens_serving_requests_total{{code="{code}",method="predict",network="mobilenet"}} 1.0' in text


def test_sigterm_lets_the_call_under_way_finish_and_ends_with_0_within_5_seconds(start):
    served = start()
    with bare_channel(served.address) as channel, futures.ThreadPoolExecutor(1) as pool:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        under_way = predict(channel, LONG[:16])
        assert code_of(predict(channel, SHORT)) == "OK"  # so the longer one has long arrived
        began = time.monotonic()
        ended = pool.submit(served.stop)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert code_of(under_way) == "OK"
        status, logged = ended.result(TIMEOUT_S)
    assert time.monotonic() - began < 5
    assert status == 0, logged
    assert "stopped" in logged


def _refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "serving.embedded", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_one_clear_sentence(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is taken" in _refused(f"--model=mobilenet={model_folder}", f"--port={port}")


def test_a_missing_folder_is_one_clear_sentence(tmp_path):
    assert f"no version of a model in {tmp_path}/mobilenet" in _refused(
        f"--models={tmp_path}", f"--endpoint=mobilenet={free_port()}"
    )


def test_a_damaged_model_is_one_clear_sentence(tmp_path):
    (tmp_path / "mobilenet" / "1").mkdir(parents=True)
    (tmp_path / "mobilenet" / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    assert "cannot be read as a SavedModel" in _refused(f"--models={tmp_path}", f"--endpoint=mobilenet={free_port()}")
