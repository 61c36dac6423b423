"""Stored images can be encrypted, keys exchanged, and blobs not passed off as others."""

from __future__ import annotations

import base64
import os
import uuid

import numpy as np
import pytest

from services.analysis.blobs import BlobStore
from services.analysis.errors import BlobUnreadableError, SettingsError
from services.analysis.sealing import sealing_from


def key(name: str) -> str:
    return f"{name}:{base64.b64encode(os.urandom(32)).decode()}"


OLD, NEW = key("2026-01"), key("2026-11")
IMAGE = b"\xff\xd8\xff photograph of somebody's skin" * 40


def store(folder, keys: str) -> BlobStore:
    return BlobStore(folder.as_uri(), sealing_from(keys))


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_nothing_of_the_image_lies_in_the_store_and_all_of_it_comes_out(tmp_path):
    blobs, analysis_id = store(tmp_path, NEW), uuid.uuid4()
    tensor = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    blobs.put_upload(analysis_id, IMAGE)
    blobs.put_tensor(analysis_id, tensor)
    for file in files(tmp_path):
        content = file.read_bytes()
        assert b"photograph" not in content
        assert tensor[0].tobytes()[:64] not in content
    assert blobs.get_upload(analysis_id) == IMAGE
    np.testing.assert_array_equal(blobs.get_tensor(analysis_id), tensor)


def test_the_same_image_is_never_sealed_alike(tmp_path):
    blobs = store(tmp_path, NEW)
    for _ in range(2):
        blobs.put_upload(uuid.uuid4(), IMAGE)
    first, second = (file.read_bytes() for file in files(tmp_path))
    assert first != second


def test_keys_are_exchanged_while_old_blobs_stay_readable(tmp_path):
    before, after = uuid.uuid4(), uuid.uuid4()
    store(tmp_path, OLD).put_upload(before, IMAGE)
    both = store(tmp_path, f"{NEW},{OLD}")
    both.put_upload(after, IMAGE)
    assert both.get_upload(before) == both.get_upload(after) == IMAGE
    assert store(tmp_path, NEW).get_upload(after) == IMAGE, "the newest key seals"
    with pytest.raises(BlobUnreadableError, match=r"“2026-01”, which BLOB_KEYS lacks"):
        store(tmp_path, NEW).get_upload(before)


def test_another_key_under_the_same_id_is_told_in_a_sentence(tmp_path):
    analysis_id = uuid.uuid4()
    store(tmp_path, key("k")).put_upload(analysis_id, IMAGE)
    with pytest.raises(BlobUnreadableError, match="another key has this id, or it was changed"):
        store(tmp_path, key("k")).get_upload(analysis_id)


def test_a_blob_cannot_be_passed_off_as_another_one_or_changed(tmp_path):
    blobs, mine, yours = store(tmp_path, NEW), uuid.uuid4(), uuid.uuid4()
    blobs.put_upload(mine, IMAGE)
    blobs.put_upload(yours, b"another image")
    (tmp_path / "uploads" / str(yours)).write_bytes((tmp_path / "uploads" / str(mine)).read_bytes())
    with pytest.raises(BlobUnreadableError):
        blobs.get_upload(yours)
    file = tmp_path / "uploads" / str(mine)
    whole = file.read_bytes()
    for at in (0, 5, 15, 30, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        with pytest.raises(BlobUnreadableError):
            blobs.get_upload(mine)
    for length in (0, 3, 4, 5, 12, 20):
        file.write_bytes(whole[:length])
        with pytest.raises(BlobUnreadableError):
            blobs.get_upload(mine)


def test_images_from_before_encryption_are_read_only_when_the_setting_says_so(tmp_path):
    analysis_id = uuid.uuid4()
    store(tmp_path, "").put_upload(analysis_id, IMAGE)
    assert store(tmp_path, "").get_upload(analysis_id) == IMAGE
    assert store(tmp_path, f"{NEW},plain").get_upload(analysis_id) == IMAGE
    with pytest.raises(BlobUnreadableError, match="not encrypted"):
        store(tmp_path, NEW).get_upload(analysis_id)


@pytest.mark.parametrize(
    "setting",
    ["x", "plain", "id:", ":" + NEW.partition(":")[2], "id:AAAA", f"id:{base64.b64encode(bytes(32)).decode()}",
     f"{NEW},{NEW}", f"plain,{NEW}", f"{'x' * 65}:{NEW.partition(':')[2]}"],
    ids=["no id", "plain alone", "no key", "empty id", "short key", "weak key", "id twice", "plain first", "long id"],
)  # fmt: skip
def test_a_wrong_setting_is_refused_and_not_repeated(setting):
    with pytest.raises(SettingsError, match="BLOB_KEYS") as refused:
        sealing_from(setting)
    assert NEW.partition(":")[2] not in str(refused.value)
