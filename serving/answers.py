"""What one network answers about a batch of lesions, and what stands there when it does not.

The networks are asked through `serving.client` (over gRPC) or `serving.in_process` (in this process); both
are an `Ensemble` and give the same answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Order of the networks everywhere: requests, answers, the columns of the stack.
NETWORKS = ("mobilenet", "densenet121", "densenet169", "nasnetmobile")

#: Processor time of one image, with MobileNet's as the unit (one thread, bf16, a Xeon with AMX).
PROCESSOR_TIME: Mapping[str, float] = MappingProxyType(
    {"mobilenet": 1.0, "densenet121": 2.7, "densenet169": 3.7, "nasnetmobile": 2.3}
)

#: The seven diagnoses of `class_logits`: mel, nv, bcc, akiec, bkl, df, vasc.
CLASS_COUNT = 7

#: Side of the class activation map: 224 pixels after five halvings, the same in all four networks.
ATTENTION_SIDE = 7

#: Every network sees every image.
EVERYTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class NetworkAnswer:
    """One network's answer for n images.

    `version` is the version that answered. `logit` f32 [n]: malignant against benign, log-odds before
    calibration. `class_logits` f32 [n,7]. `attention` f32 [n,7,7]: class activation map of `logit`, rows from
    the top. `embedding` f32 [n,d], or None where the network gives none.
    """

    name: str
    version: int
    logit: NDArray[np.float32]
    class_logits: NDArray[np.float32]
    attention: NDArray[np.float32]
    embedding: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class NetworkFailure:
    """No answer from one network: gRPC's name of the status (UNAVAILABLE, DEADLINE_EXCEEDED, …) and a sentence."""

    name: str
    code: str
    sentence: str


def longest_first(counts: Mapping[str, int]) -> list[str]:
    """The networks that are asked at once, each about so many images, in the order in which they should begin.

    Whoever shares cores ends soonest when the longest begins first (Graham 1969). One that is not known comes last.
    """
    return sorted(counts, key=lambda name: -counts[name] * PROCESSOR_TIME.get(name, 0.0))


class Ensemble(Protocol):
    """The networks that are asked together, in the order of their names."""

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        """Ask every network about `tensor` (uint8 [n,224,224,3], RGB); one answer or failure each, in order.

        `shown`: of how many images a network sees only the first; one that is not named sees all.
        """
        ...

    def readiness(self, timeout_s: float) -> dict[str, bool]:
        """Which networks would answer now."""
        ...

    def close(self) -> None:
        """Give back channels, threads and memory."""
        ...


def read_answer(
    name: str, version: int, outputs: Mapping[str, NDArray[Any]], count: int
) -> NetworkAnswer | NetworkFailure:
    """The outputs of one network as an answer for `count` images.

    A failure with the code MALFORMED_ANSWER where an output is missing, has another shape or type, or is not
    finite: a NaN that reached the stack would come out as a probability.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "logit": (count,),
        "class_logits": (count, CLASS_COUNT),
        "attention": (count, ATTENTION_SIDE, ATTENTION_SIDE),
    }
    for output, shape in shapes.items():
        array = outputs.get(output)
        if array is None:
            return _malformed(name, version, f"has no output {output}")
        if array.shape != shape or array.dtype != np.float32:
            return _malformed(
                name,
                version,
                f"gave {output} as {array.dtype.name} {list(array.shape)}, not float32 {list(shape)}",
            )
        if not np.isfinite(array).all():
            return _malformed(name, version, f"gave {output} that is not finite")
    embedding = outputs.get("embedding")
    if embedding is not None and (embedding.ndim != 2 or len(embedding) != count):
        return _malformed(name, version, f"gave embedding as {list(embedding.shape)}, not [{count}, d]")
    return NetworkAnswer(name, version, outputs["logit"], outputs["class_logits"], outputs["attention"], embedding)


def _malformed(name: str, version: int, what: str) -> NetworkFailure:
    return NetworkFailure(name, "MALFORMED_ANSWER", f"{name} version {version} {what}")
