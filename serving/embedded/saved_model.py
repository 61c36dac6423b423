"""What lies in a SavedModel folder, read without TensorFlow: versions, signatures, warm-up requests."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from services.analysis.errors import SettingsError
from serving.wire import Message, PredictionLog, SavedModel, SignatureDefMap

log = logging.getLogger(__name__)

#: Where TensorFlow Serving looks for requests to replay before a version takes traffic.
WARMUP_PATH = Path("assets.extra") / "tf_serving_warmup_requests"

#: Warm-up requests replayed at most. TensorFlow Serving allows 1000; OpenVINO allocates everything in the
#: first one, so more would only delay the start.
MAX_WARMUP_REQUESTS = 8

#: The meta graph TensorFlow Serving loads.
_SERVE_TAG = "serve"


def versions_in(folder: Path) -> list[int]:
    """Versions under a network's folder, oldest first: the sub-folders named by a number from 1 that hold a model.

    Raises SettingsError when there is none.
    """
    found = sorted(
        int(entry.name)
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.isdecimal() and int(entry.name) > 0 and (entry / "saved_model.pb").is_file()
    )
    if not found:
        raise SettingsError(f"no version of a model in {folder}: expected {folder}/<number>/saved_model.pb")
    return found


def signatures_of(version_folder: Path) -> dict[str, Message]:
    """SignatureDef by key of the meta graph tagged `serve`. Raises SettingsError when there is no such graph."""
    path = version_folder / "saved_model.pb"
    try:
        saved = SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a SavedModel: {error}") from error
    for graph in saved.meta_graphs:
        if _SERVE_TAG in graph.meta_info_def.tags:
            # Copied out, because a view would keep the whole graph, weights and all, in memory.
            kept = SignatureDefMap()
            for key, signature in graph.signature_def.items():
                kept.signature_def[key].CopyFrom(signature)
            return dict(kept.signature_def)
    raise SettingsError(f"{path} has no graph tagged {_SERVE_TAG!r}")


def warmup_requests(version_folder: Path) -> Iterator[Message]:
    """The recorded PredictRequests, none where there are no records. A damaged file ends the iteration with a
    warning.

    The file is a TFRecord of PredictionLogs: length (8 bytes), its checksum (4), data, checksum (4).
    Checksums are not compared: a damaged request fails to parse or is refused like any other.
    """
    path = version_folder / WARMUP_PATH
    if not path.is_file():
        return
    records = path.read_bytes()
    at = 0
    for _ in range(MAX_WARMUP_REQUESTS):
        if at == len(records):
            return
        try:
            (length,) = struct.unpack_from("<Q", records, at)
            (data,) = struct.unpack_from(f"{length}s", records, at + 12)
            entry = PredictionLog.FromString(data)
        except (struct.error, DecodeError) as error:
            log.warning("warm-up requests in %s are damaged at byte %d: %s", path, at, error)
            return
        if entry.WhichOneof("log_type") == "predict_log":
            yield entry.predict_log.request
        at += length + 16
