"""The blob store: durable names, no leftovers, clear words when a file is not what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import PayloadInvalid, RecordRefused, StorageFailed
from ledger.store.blobs import CHUNK_BYTES, BlobStore


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_there_and_back(store: BlobStore, size: int) -> None:
    data = os.urandom(size)
    name = store.put([data[:10], data[10:]])
    assert b"".join(store.get(name)) == data
    assert len(name) == 32
    assert store.path(name).parent.name == name[:2]


def test_names_are_never_the_same(store: BlobStore, tmp_path: Path) -> None:
    assert len({store.put([b"same"]) for _ in range(20)}) == 20
    assert len(files_in(tmp_path)) == 20


def failing(error: Exception) -> Iterator[bytes]:
    yield b"some"
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [(RecordRefused("attachments", "changed"), RecordRefused), (OSError(28, "No space left on device"), StorageFailed)],
)
def test_a_blob_that_was_not_finished_is_not_left_behind(
    store: BlobStore, tmp_path: Path, error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        store.put(failing(error))
    assert files_in(tmp_path) == []


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file stands where the directory should be")
    with pytest.raises(StorageFailed, match="an attachment could not be stored: "):
        BlobStore(tmp_path / "blobs").put([b"x"])


def test_a_blob_that_is_gone(store: BlobStore) -> None:
    name = store.put([b"x"])
    store.path(name).unlink()
    with pytest.raises(PayloadInvalid, match=f"attachment blob {name} is missing"):
        list(store.get(name))


def test_a_blob_that_cannot_be_read(store: BlobStore) -> None:
    name = store.put([b"x"])
    store.path(name).unlink()
    store.path(name).mkdir()
    with pytest.raises(PayloadInvalid, match=f"attachment blob {name} cannot be read: Is a directory"):
        list(store.get(name))
