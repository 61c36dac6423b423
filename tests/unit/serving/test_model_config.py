"""TensorFlow Serving's configuration files, read and written."""

from pathlib import Path

import pytest

from services.analysis.errors import SettingsError
from services.analysis.results import NETWORKS
from serving.model_config import ModelConfig, config_file, read_config, write_config

SHIPPED = Path(__file__).parents[3] / "serving" / "tensorflow-serving"


def test_what_is_written_is_what_is_read(tmp_path):
    config = ModelConfig("mobilenet", "/models/mobilenet", (1, 12), {"stable": 1, "canary": 12})

    write_config(tmp_path, config)

    assert read_config(tmp_path, "mobilenet") == config
    assert [file.name for file in tmp_path.iterdir()] == ["mobilenet.config"]
    assert config_file(tmp_path, "mobilenet").stat().st_mode & 0o777 == 0o644, "the server is another user"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_shipped_file_stays_as_it_is_when_written_again(network, tmp_path):
    write_config(tmp_path, read_config(SHIPPED, network))

    assert config_file(tmp_path, network).read_text() == config_file(SHIPPED, network).read_text()


def test_tensorflow_serving_s_own_text_form_is_understood(tmp_path):
    (tmp_path / "mobilenet.config").write_text(
        'model_config_list: { config: { name : "mobilenet", base_path: "/m" # name: "x"\n'
        "model_version_policy: { specific: { versions: 3\n versions: 4 } }"
        ' version_labels: { key: "stable", value: 3 } version_labels { key: "canary"\n value: 4 } } }'
    )

    assert read_config(tmp_path, "mobilenet") == ModelConfig("mobilenet", "/m", (3, 4), {"stable": 3, "canary": 4})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("model_config_list {}", "does not describe one network"),
        (
            'config { name: "densenet121" base_path: "/m" model_version_policy { specific { versions: 1 } } }',
            "is about densenet121",
        ),
        ('config { name: "mobilenet" base_path: "/m" model_version_policy { specific { } } }', "names no version"),
        (
            """config { name: "mobilenet" base_path: "/m" model_version_policy { specific { versions: 1 } }
            version_labels { key: "canary" value: 2 } }""",
            "version 2, which is not loaded",
        ),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path, text, why):
    if text is not None:
        (tmp_path / "mobilenet.config").write_text(text)

    with pytest.raises(SettingsError, match=why):
        read_config(tmp_path, "mobilenet")
