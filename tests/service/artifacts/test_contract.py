"""Every store keeps the same contract."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest

from service.artifacts.store import CHUNK_BYTES, ArtifactStore, digested, fetch, verified
from service.errors import FileDamaged, FileMissing
from storage.records import Artifact

KEY = "ft_1/checkpoint-2-ab/model.safetensors"


def a_file(tmp_path: Path, content: bytes, name: str = "source") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def row(path: Path, key: str = KEY) -> Artifact:
    size, sha256 = digested(path)
    return Artifact(name="checkpoint/model.safetensors", key=key, bytes=size, sha256=sha256)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 11 * CHUNK_BYTES + 3])
def test_what_is_put_is_read(store: ArtifactStore, tmp_path: Path, size: int) -> None:
    """The longest takes several parts on S3."""
    path = a_file(tmp_path, os.urandom(size))
    store.put(KEY, path)
    chunks = list(store.read(KEY))
    assert b"".join(chunks) == path.read_bytes()
    assert max(map(len, chunks), default=0) < 2 * CHUNK_BYTES, "never all of it at once"
    assert store.sizes() == {KEY: size}
    fetch(store, row(path), tmp_path / "copies" / "model.safetensors")
    assert (tmp_path / "copies" / "model.safetensors").read_bytes() == path.read_bytes()
    assert os.listdir(tmp_path / "copies") == ["model.safetensors"]


def test_a_file_replaces_one_of_its_key(store: ArtifactStore, tmp_path: Path) -> None:
    for content in (b"first and longer", b"second"):
        store.put(KEY, a_file(tmp_path, content))
    assert b"".join(store.read(KEY)) == b"second"
    assert store.sizes() == {KEY: 6}


def test_what_is_not_there_is_missing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        next(iter(store.read(KEY)))
    assert (store.sizes(), store.sizes("ft_1"), store.job_ids(), store.remove("ft_1")) == ({}, {}, (), 0)
    store.put(KEY, a_file(tmp_path, b"x"))
    with pytest.raises(FileMissing):
        next(iter(store.read("ft_1/checkpoint-2-ab/other")))


def test_prefixes_are_whole_names(store: ArtifactStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, b"four")
    keys = ("ft_1/training/owner-1/a", "ft_1/training/owner-10/a", "ft_1/factors.json", "ft_10/factors.json")
    for key in keys:
        store.put(key, path)
    assert set(store.sizes("ft_1")) == set(keys[:3])
    assert set(store.sizes("ft_1/training/owner-1")) == {keys[0]}
    assert store.job_ids() == ("ft_1", "ft_10")
    assert store.remove("ft_1/training/owner-1") == 4
    assert set(store.sizes()) == set(keys[1:])
    assert store.remove("ft_1/factors.json") == 4, "a file, too"
    assert store.remove("ft_1") == 4
    assert (set(store.sizes()), store.job_ids()) == ({keys[3]}, ("ft_10",))


def test_a_reader_never_sees_half_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    contents = [bytes([number]) * (6 * CHUNK_BYTES) for number in range(2)]
    paths = [a_file(tmp_path, content, f"source-{number}") for number, content in enumerate(contents)]
    store.put(KEY, paths[0])
    done = threading.Event()

    def write() -> None:
        for number in (1, 0, 1, 0, 1):
            store.put(KEY, paths[number])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    sizes = set()
    while not done.is_set():
        sizes.add(store.sizes("ft_1").get(KEY))
    writer.join()
    assert sizes <= {6 * CHUNK_BYTES}
    assert b"".join(store.read(KEY)) == contents[1]


def test_another_content_is_told_before_its_last_chunk(store: ArtifactStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, os.urandom(2 * CHUNK_BYTES))
    file = row(path)
    for other in (os.urandom(2 * CHUNK_BYTES), path.read_bytes()[:-1], b""):
        store.put(KEY, a_file(tmp_path, other, "other"))
        seen: list[bytes] = []
        with pytest.raises(FileDamaged, match=r"checkpoint-2-ab/model\.safetensors must have the 2097152 bytes"):
            seen.extend(verified(store.read(KEY), file))
        with pytest.raises(FileDamaged):
            fetch(store, file, tmp_path / "copies" / "file")
        assert os.listdir(tmp_path / "copies") == []


def test_it_can_be_sent_to_other_processes(store: ArtifactStore, tmp_path: Path) -> None:
    store.put(KEY, a_file(tmp_path, b"x"))
    sent: ArtifactStore = pickle.loads(pickle.dumps(store))
    assert b"".join(sent.read(KEY)) == b"x"
    assert (sent.place, sent.url(KEY)) == (store.place, store.url(KEY))
    assert sent.url(KEY) == f"{sent.place}/{KEY}"


def test_a_check_leaves_nothing(store: ArtifactStore) -> None:
    store.check()
    store.finish()
    assert (store.sizes(), store.job_ids()) == ({}, ())
