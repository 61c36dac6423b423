"""Run exported networks over prepared squares with OpenVINO, as the service does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.stacker.turns import pose_of, turned

Array = np.ndarray[Any, Any]


def _silent(_line: str) -> None:
    return None


# Pictures per call: large enough to fill two cores, small enough for any memory.
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Answers:
    """Class logits ``[turns,networks,n,7]`` and, where a network gives one, its embedding ``[n,d]``."""

    class_logits: Array
    embedding: Array | None


def run_networks(
    folders: Sequence[Path],
    pixels: Array,
    positions: Sequence[int] | Array,
    *,
    turns: int | Sequence[int] = 1,
    cache: Path | None = None,
    log: Callable[[str], None] = _silent,
) -> Answers:
    """Answer the squares at ``positions`` with every SavedModel of ``folders``.

    Args:
        folders: of the SavedModels, in network order.
        pixels: uint8 ``[all,224,224,3]``.
        positions: which of them.
        turns: how many of the stacker's flips and turns to look at (1, 2, 4 or 8), all networks or each. What a network
            sees less often than another is repeated as often as it takes, which changes no average over turns.
        cache: where answers are kept, by the network's and the pictures' checksums; ``None`` keeps none.
        log: receives one line per network.
    """
    class_logits, embedding = [], None
    of_each = [turns] * len(folders) if isinstance(turns, int) else turns
    for folder, count in zip(folders, of_each, strict=True):
        answered = _answered(folder, pixels, positions, count, cache)
        class_logits.append(answered["class_logits"])
        if "embedding" in answered:
            embedding = answered["embedding"]
        log(f"{folder.parent.name}: {len(positions)} images in {count} turns")
    return Answers(class_logits=side_by_side(class_logits), embedding=embedding)


def side_by_side(of_networks: Sequence[Array]) -> Array:
    """Class logits ``[t,n,7]`` by network, each in its own number of turns, as ``[turns,networks,n,7]``.

    Turns are repeated, whole, up to the largest number; numbers are powers of two, so every turn counts as often.
    """
    most = max(len(logits) for logits in of_networks)
    return np.stack([np.tile(logits, (most // len(logits), 1, 1)) for logits in of_networks], axis=1)


def _answered(
    folder: Path, pixels: Array, positions: Sequence[int] | Array, turns: int, cache: Path | None
) -> dict[str, Array]:
    if cache is None:
        return _answer(folder, pixels, positions, turns)
    seen = json.dumps(["posed", str(getattr(pixels, "filename", "")), pixels.shape, turns, [int(i) for i in positions]])
    digest = hashlib.sha256((folder / "saved_model.pb").read_bytes() + seen.encode()).hexdigest()[:20]
    path = cache / f"answers-{digest}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        answered = _answer(folder, pixels, positions, turns)
        np.savez(temporary, allow_pickle=False, **answered)
        temporary.replace(path)
    with np.load(path) as arrays:
        return dict(arrays)


def _answer(folder: Path, pixels: Array, positions: Sequence[int] | Array, turns: int) -> dict[str, Array]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(folder)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    has_embedding = any("embedding" in output.get_names() for output in compiled.outputs)
    of_turns, embedded = [], []
    for turn in range(turns):
        logits = []
        for start in range(0, len(positions), _BATCH):
            part = positions[start : start + _BATCH]
            squares = [pixels[i] for i in part]
            answer = compiled(np.stack([turned(square, turns, pose_of(square))[turn] for square in squares]))
            logits.append(np.array(answer["class_logits"]))
            if has_embedding and turn == 0:
                embedded.append(np.array(answer["embedding"]))
        of_turns.append(np.concatenate(logits))
    result = {"class_logits": np.array(of_turns)}
    if embedded:
        result["embedding"] = np.concatenate(embedded)
    return result
