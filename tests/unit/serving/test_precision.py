"""A precision other than f32 is offered only for what was measured: these networks, this stack, this report."""

import json
from pathlib import Path

import openvino
import pytest

from services.analysis.errors import SettingsError
from serving.answers import NETWORKS, longest_first
from serving.embedded import precision as module
from serving.embedded.precision import Precision, Source, choose, offered, sources, subject


@pytest.fixture
def models(tmp_path):
    for name in NETWORKS:
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "1" / "saved_model.pb").write_bytes(name.encode())
    stack = {
        "networks": [{"name": name, "version": 1} for name in NETWORKS],
        "malignant": {"coefficients": [1, 1, 1, 1], "intercept": 0},
        "bands": {"low_below": 0.1, "high_from": 0.2},
    }
    (tmp_path / "models" / "stack.json").write_text(json.dumps(stack))
    return tmp_path / "models"


@pytest.fixture
def calibrated(tmp_path, models, monkeypatch):
    monkeypatch.setattr(module, "capabilities", lambda: frozenset({"FP32", "BF16", "INT8"}))
    monkeypatch.setattr(module, "has_integer_products", lambda: True)
    report = {
        "subject": subject(models),
        "openvino": openvino.__version__,
        "precisions": {
            "f32": {"offered": True, "ensemble_ms": 60.0, "networks": dict.fromkeys(NETWORKS, "f32")},
            "bf16": {
                "offered": True,
                "ensemble_ms": 36.0,
                "networks": {**dict.fromkeys(NETWORKS, "bf16"), "mobilenet": "f32"},
            },
            "int8": {
                "offered": False,
                "ensemble_ms": 25.0,
                "networks": {**dict.fromkeys(NETWORKS, "int8"), "nasnetmobile": "bf16"},
                "ranges": {name: {"0": [-1.0, 1.0], "7": [0.0, 6.0]} for name in NETWORKS[:3]},
            },
        },
    }
    folder = tmp_path / "calibrated"
    folder.mkdir()
    (folder / "precision.json").write_text(json.dumps(report))
    return folder


def test_without_a_report_there_is_f32_alone(models, tmp_path):
    assert offered(None, models) == offered(tmp_path, models) == (Precision.F32,)
    assert choose(Precision.AUTO, None, models) is Precision.F32
    with pytest.raises(SettingsError, match="lesionlens calibrate"):
        choose(Precision.BF16, None, models)


def test_the_quickest_that_passed_is_taken_and_what_failed_is_refused(models, calibrated):
    assert offered(calibrated, models) == (Precision.F32, Precision.BF16)
    assert choose(Precision.AUTO, calibrated, models) is Precision.BF16
    assert choose(Precision.F32, calibrated, models) is Precision.F32
    with pytest.raises(SettingsError, match="int8 is not offered"):
        choose(Precision.INT8, calibrated, models)


def test_what_was_published_with_the_networks_counts_where_nothing_was_measured(models, calibrated):
    (calibrated / "precision.json").rename(models / "precision.json")
    assert choose(Precision.AUTO, None, models) is choose(Precision.AUTO, calibrated, models) is Precision.BF16
    (models / "mobilenet" / "1" / "saved_model.pb").write_bytes(b"trained anew")
    assert choose(Precision.AUTO, None, models) is Precision.F32


def test_the_report_that_comes_along_is_about_the_networks_that_come_along():
    models = Path(__file__).resolve().parents[3] / "serving" / "models"
    report = json.loads((models / "precision.json").read_text())
    assert report["subject"] == subject(models), "after an export: lesionlens calibrate --publish"
    assert report["images"] > 2_000
    for measured in report["precisions"].values():
        within = measured["auc_fall"] <= 0.002 and measured["bands_changed"] <= 0.01
        assert measured["offered"] is within


def test_what_was_measured_here_counts_before_what_was_published(models, calibrated):
    report = json.loads((calibrated / "precision.json").read_text())
    (models / "precision.json").write_text(json.dumps(report))
    report["precisions"]["bf16"]["offered"] = False
    (calibrated / "precision.json").write_text(json.dumps(report))
    assert choose(Precision.AUTO, calibrated, models) is Precision.F32


def test_a_processor_without_bf16_is_not_offered_it(models, calibrated, monkeypatch):
    monkeypatch.setattr(module, "capabilities", lambda: frozenset({"FP32"}))
    assert choose(Precision.AUTO, calibrated, models) is Precision.F32


@pytest.mark.parametrize("changed", ["network", "stack"])
def test_what_was_measured_counts_for_nothing_else(models, calibrated, changed):
    if changed == "network":
        (models / "mobilenet" / "1" / "saved_model.pb").write_bytes(b"trained anew")
    else:
        stack = json.loads((models / "stack.json").read_text())
        stack["bands"]["low_below"] = 0.11
        (models / "stack.json").write_text(json.dumps(stack))
    assert offered(calibrated, models) == (Precision.F32,)


def test_each_network_is_read_from_where_the_report_says(models, calibrated):
    find = sources(Precision.AUTO, calibrated, models)
    assert find("mobilenet", 1, models / "mobilenet" / "1").hint == "f32"
    assert find("densenet121", 1, models / "densenet121" / "1").hint == "bf16"
    # A version that nobody measured computes in f32.
    assert find("densenet121", 2, models / "densenet121" / "2").hint == "f32"


@pytest.fixture
def in_8_bits(calibrated):
    report = json.loads((calibrated / "precision.json").read_text())
    report["precisions"]["int8"]["offered"] = True
    (calibrated / "precision.json").write_text(json.dumps(report))
    return report


@pytest.mark.usefixtures("in_8_bits")
def test_in_8_bits_a_network_is_the_published_one_and_its_ranges(models, calibrated, monkeypatch):
    assert choose(Precision.AUTO, calibrated, models) is Precision.INT8
    find = sources(Precision.AUTO, calibrated, models)
    mobilenet, nasnetmobile = models / "mobilenet" / "1", models / "nasnetmobile" / "1"
    assert find("mobilenet", 1, mobilenet) == Source(mobilenet, "bf16", {0: (-1.0, 1.0), 7: (0.0, 6.0)})
    assert find("nasnetmobile", 1, nasnetmobile) == Source(nasnetmobile, "bf16")
    assert find("mobilenet", 2, models / "x") == Source(models / "x", "f32"), "nobody measured this version"
    monkeypatch.setattr(module, "capabilities", lambda: frozenset({"FP32", "INT8"}))
    assert find("nasnetmobile", 1, nasnetmobile) == Source(nasnetmobile, "f32"), "this processor has no bf16"
    assert find("mobilenet", 1, mobilenet).hint == "f32"


@pytest.mark.usefixtures("in_8_bits")
def test_a_network_from_another_folder_computes_in_f32_unless_it_is_the_measured_one(models, calibrated, tmp_path):
    folder = tmp_path / "elsewhere" / "1"
    folder.mkdir(parents=True)
    find = sources(Precision.AUTO, calibrated, models)

    (folder / "saved_model.pb").write_bytes(b"another network")
    assert find("mobilenet", 1, folder) == Source(folder, "f32")
    (folder / "saved_model.pb").write_bytes((models / "mobilenet" / "1" / "saved_model.pb").read_bytes())
    assert find("mobilenet", 1, folder) == Source(folder, "bf16", {0: (-1.0, 1.0), 7: (0.0, 6.0)})


def test_no_network_of_the_models_folder_is_read_twice_for_its_checksum(models, calibrated, monkeypatch):
    find = sources(Precision.AUTO, calibrated, models)
    monkeypatch.setattr(module, "checksum", lambda file: pytest.fail(f"{file} is read again"))
    assert find("densenet121", 1, models / "densenet121" / "1").hint == "bf16"


def test_ranges_count_for_the_library_that_counted_the_convolutions(models, calibrated, in_8_bits):
    (calibrated / "precision.json").write_text(json.dumps({**in_8_bits, "openvino": "another"}))
    assert offered(calibrated, models) == (Precision.F32, Precision.BF16)


@pytest.mark.usefixtures("in_8_bits")
@pytest.mark.parametrize(("flags", "has"), [("avx2 avx512_vnni", True), ("avx2 avx_vnni", True), ("avx512f", False)])
def test_8_bits_need_a_processor_that_sums_them_in_32(models, calibrated, monkeypatch, tmp_path, flags, has):
    monkeypatch.undo()
    monkeypatch.setattr(module, "_PROCESSOR", tmp_path / "cpuinfo")
    assert not module.has_integer_products(), "a system that does not tell"
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
    assert (Precision.INT8 in offered(calibrated, models)) is has


def test_the_longest_is_asked_first_and_strangers_last():
    once = dict.fromkeys(("another", *NETWORKS), 2)
    assert longest_first(once) == ["densenet169", "densenet121", "nasnetmobile", "mobilenet", "another"]
    assert longest_first(once | {"mobilenet": 8})[0] == "mobilenet"
