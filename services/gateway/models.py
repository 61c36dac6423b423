"""Which models answer: what was exported together with them (`stack.json`), for whoever wants to judge or cite them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from services.gateway.errors import ModelsUnavailableError


class ModelCatalogue:
    """Reads `stack.json`, again whenever the file changed."""

    def __init__(self, models_dir: Path) -> None:
        self._path = models_dir / "stack.json"
        self._lock = threading.Lock()
        self._read: tuple[int, dict[str, Any]] | None = None

    def describe(self) -> dict[str, Any]:
        """Versions, digests, operating points and metrics.

        Raises:
            ModelsUnavailableError: the file is missing or damaged.
        """
        stack = self._stack()
        try:
            return {
                "model_version": str(stack["version"]),
                "networks": [
                    {
                        "name": entry["name"],
                        "version": entry["version"],
                        "sha256": entry["sha256"],
                        "test_time_augmentation": entry.get("turns") or stack["test_time_augmentation"],
                    }
                    for entry in stack["networks"]
                ],
                "classes": list(stack["classes"]["names"]),
                "bands": stack["bands"],
                "test_time_augmentation": stack["test_time_augmentation"],
                "out_of_distribution": stack.get("out_of_distribution") is not None,
                "age": stack.get("age") is not None,
                "metrics": stack.get("metrics", {}),
            }
        except (KeyError, TypeError) as error:
            raise ModelsUnavailableError("The description of the models is damaged.") from error

    def _stack(self) -> dict[str, Any]:
        with self._lock:
            try:
                changed_ns = self._path.stat().st_mtime_ns
                if self._read is None or self._read[0] != changed_ns:
                    self._read = (changed_ns, json.loads(self._path.read_text()))
                return self._read[1]
            except (OSError, ValueError) as error:
                raise ModelsUnavailableError("The description of the models cannot be read.") from error
