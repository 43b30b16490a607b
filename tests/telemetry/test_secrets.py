from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from telemetry.errors import SettingsError, StoreError
from telemetry.secrets import SecretBox, load_secret_key
from telemetry.settings import CommonSettings


def test_round_trip_with_any_text_as_key() -> None:
    for key in ("k", "khóa bí mật của tỉnh", "x" * 500):
        token = SecretBox(key).encrypt(b"whsec_abc")
        assert b"whsec" not in token
        assert SecretBox(key).decrypt(token) == b"whsec_abc"


def test_rotation_the_first_key_encrypts_all_decrypt() -> None:
    old = SecretBox("old").encrypt(b"secret")
    both = SecretBox("new, old")
    assert both.decrypt(old) == b"secret"
    assert SecretBox("new").decrypt(both.encrypt(b"secret")) == b"secret"


def test_a_wrong_key_and_a_damaged_token_name_the_setting() -> None:
    token = SecretBox("one").encrypt(b"secret")
    with pytest.raises(StoreError, match="QUANTRAC_SECRET_KEY"):
        SecretBox("another").decrypt(token)
    with pytest.raises(StoreError, match="QUANTRAC_SECRET_KEY"):
        SecretBox("one").decrypt(b"\x00nonsense")


def test_no_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="QUANTRAC_SECRET_KEY"):
        SecretBox(" , ")


def test_the_setting_comes_first(tmp_path: Path) -> None:
    assert load_secret_key(CommonSettings(data_dir=tmp_path, secret_key="given")) == "given"
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = CommonSettings(data_dir=tmp_path / "new" / "data")
    key = load_secret_key(settings)
    assert len(key) >= 32
    assert load_secret_key(settings) == key
    (file,) = settings.data_dir.iterdir()
    assert file.name == "secret.key"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    settings = CommonSettings(data_dir=tmp_path)
    load_secret_key(settings)
    (tmp_path / "secret.key").chmod(mode)
    with pytest.raises(SettingsError, match=r"chmod 600 .*secret\.key"):
        load_secret_key(settings)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="holds no key"):
        load_secret_key(CommonSettings(data_dir=tmp_path))


def test_a_data_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="QUANTRAC_SECRET_KEY"):
        load_secret_key(CommonSettings(data_dir=tmp_path / "file" / "below"))


def _key_of(folder: str) -> str:
    return load_secret_key(CommonSettings(data_dir=Path(folder)))


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("forkserver").Pool(8) as processes:
        for round_number in range(5):
            folder = str(tmp_path / str(round_number))
            assert len(set(processes.map(_key_of, [folder] * 16, chunksize=1))) == 1
            assert [file.name for file in Path(folder).iterdir()] == ["secret.key"]
