"""A folder in memory: it is one, it is empty at first, and nothing of it is left."""

from pathlib import Path

from shopstream_stack.chaos import memory


def test_a_folder_in_memory_is_empty_at_first_and_gone_at_the_end(tmp_path: Path) -> None:
    place, folder = tmp_path / "memory", tmp_path / "data" / "dynamodb"
    place.mkdir()
    memory.put(folder, place)
    (folder / "shared-local-instance.db").write_text("of a run that was killed")
    assert [one.name for one in place.glob("*/*")] == ["shared-local-instance.db"]
    memory.put(folder, place)
    assert list(folder.iterdir()) == []
    memory.drop(folder, place)
    assert not folder.is_symlink()
    assert list(place.iterdir()) == []
    memory.drop(folder, place)


def test_where_no_file_system_is_in_memory_it_is_a_folder_as_any(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "dynamodb"
    memory.put(folder, tmp_path / "none")
    assert folder.is_dir()
    assert not folder.is_symlink()
    (folder / "file").touch()
    memory.drop(folder, tmp_path / "none")
    assert not folder.exists()
