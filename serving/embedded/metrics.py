"""What the embedded model server counts, for Prometheus."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "lesionlens_serving_requests",
    "Requests answered, by network, method and gRPC status code.",
    ["network", "method", "code"],
)

INFERENCE_SECONDS = Histogram(
    "lesionlens_serving_inference_seconds",
    "Seconds a network computed at a time, for one request or for two together, without the wait for a lane.",
    ["network"],
    # From MobileNet on a free core (about 10 ms) to a full batch on a slow one.
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24),
)
