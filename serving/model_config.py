"""Which versions of a network are loaded and what its labels name: TensorFlow Serving's configuration files.

One file for each network, `<folder>/<network>.config`, a ModelServerConfig in protobuf's text form. TensorFlow Serving
reads it (`--model_config_file`), the embedded model server reads it (`--config`), `lesionlens models` changes it.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.analysis.errors import SettingsError

#: The version that answers are made from.
STABLE = "stable"
#: The version that is loaded beside it, and asked by the shadow alone.
CANARY = "canary"
#: The version that was `stable` before, still loaded, so that there is a way back.
PREVIOUS = "previous"

_NAME = re.compile(r'\bname\s*:\s*"([^"]+)"')
_BASE_PATH = re.compile(r'\bbase_path\s*:\s*"([^"]+)"')
_SPECIFIC = re.compile(r"\bmodel_version_policy\s*:?\s*\{\s*specific\s*:?\s*\{([^}]*)\}\s*\}")
_VERSION = re.compile(r"\bversions\s*:\s*(\d+)")
_LABEL = re.compile(r'\bversion_labels\s*:?\s*\{\s*key\s*:\s*"([^"]+)"\s*,?\s*value\s*:\s*(\d+)\s*\}')

_TEMPLATE = """\
# Which versions of this network are loaded, and which of them the labels name (docs/deploy.md, "A new model").
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{base_path}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ {versions} }} }}
{labels}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What is served of one network. Each label names one of `versions`."""

    name: str
    base_path: str
    versions: tuple[int, ...]
    labels: Mapping[str, int]

    def labelled(self, labels: Mapping[str, int]) -> "ModelConfig":
        """The same network with these labels, and just the versions that they name."""
        return ModelConfig(self.name, self.base_path, tuple(sorted(set(labels.values()))), dict(labels))


def config_file(folder: Path, network: str) -> Path:
    """Where the configuration of `network` stands."""
    return folder / f"{network}.config"


def read_config(folder: Path, network: str) -> ModelConfig:
    """What is served of `network`.

    Raises:
        SettingsError: the file cannot be read, is another network's, names no versions, or a label names a version
            that is not loaded.
    """
    file = config_file(folder, network)
    try:
        text = re.sub(r"#[^\n]*", "", file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    name, base_path, specific = _NAME.search(text), _BASE_PATH.search(text), _SPECIFIC.search(text)
    if name is None or base_path is None or specific is None or len(_NAME.findall(text)) > 1:
        raise SettingsError(f"{file} does not describe one network with a name, a base_path and specific versions")
    if name[1] != network:
        raise SettingsError(f"{file} is about {name[1]}, not about {network}")
    versions = tuple(sorted({int(version) for version in _VERSION.findall(specific[1])}))
    labels = {label: int(version) for label, version in _LABEL.findall(text)}
    if not versions:
        raise SettingsError(f"{file} names no version to load")
    for label, version in labels.items():
        if version not in versions:
            raise SettingsError(f"{file}: the label {label!r} names version {version}, which is not loaded")
    return ModelConfig(network, base_path[1], versions, labels)


def write_config(folder: Path, config: ModelConfig) -> None:
    """Replace the file of a network at once: a server that reads it meanwhile sees the old one or the new one."""
    text = _TEMPLATE.format(
        name=config.name,
        base_path=config.base_path,
        versions=" ".join(f"versions: {version}" for version in config.versions),
        labels="\n".join(
            f'    version_labels {{ key: "{label}" value: {version} }}' for label, version in config.labels.items()
        ),
    )
    replace_file(config_file(folder, config.name), text.encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write all of a file or nothing: where that fails, or is interrupted, what was there stays."""
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        # mkstemp's own would be for the owner alone, and the server is somebody else.
        Path(made).chmod(0o644)
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
