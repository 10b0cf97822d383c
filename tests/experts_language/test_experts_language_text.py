"""Which text is read, and that nothing held out is learned from."""

from __future__ import annotations

import shutil

import pytest

from aura.experts.language.text import DOCUMENT_BYTES, INSTALLED, TextError, installed_files, read_text


def documents(split):
    return [d for side in (split.training, split.held_out) for each in side.values() for d in each]


def test_sub_directories_are_domains_and_every_file_is_on_one_side(text_directory):
    split = read_text(str(text_directory))
    assert split.domains == ("cities", "numbers")
    for domain in split.domains:
        assert len(split.training[domain]) + len(split.held_out[domain]) == 30
        assert split.held_out[domain]
    learned = {document.digest for each in split.training.values() for document in each}
    judged = {document.digest for each in split.held_out.values() for document in each}
    assert not learned & judged


def test_a_directory_without_sub_directories_is_one_domain(text_directory):
    assert read_text(str(text_directory / "cities")).domains == ("cities",)


def test_what_differs_in_white_space_alone_or_lies_in_two_domains_is_read_once(text_directory, tmp_path):
    copied = shutil.copytree(text_directory, tmp_path / "text")
    first = (copied / "cities" / "00.txt").read_text()
    (copied / "cities" / "again.txt").write_text(first.replace("\n", "\r\n  ") + "\n\n")
    (copied / "numbers" / "again.txt").write_text(first)
    split = read_text(str(copied))
    assert split.digest == read_text(str(text_directory)).digest
    assert len({document.digest for document in documents(split)}) == len(documents(split)) == 60


def test_names_and_places_of_the_files_do_not_move_them_to_the_other_side(text_directory, tmp_path):
    for domain in ("cities", "numbers"):
        (tmp_path / "text" / domain / "deeper").mkdir(parents=True)
        for path in (text_directory / domain).iterdir():
            shutil.copy(path, tmp_path / "text" / domain / "deeper" / f"renamed {path.name}.md")
    assert read_text(str(tmp_path / "text")).digest == read_text(str(text_directory)).digest


def test_a_new_file_does_not_move_the_others(text_directory, tmp_path):
    copied = shutil.copytree(text_directory, tmp_path / "text")
    (copied / "cities" / "new.txt").write_text("Something quite new, which nobody has said before.")
    before, after = read_text(str(text_directory)), read_text(str(copied))
    assert {d.digest for d in documents(before)} < {d.digest for d in documents(after)}
    moved = {d.digest for d in before.held_out["cities"]} ^ {d.digest for d in after.held_out["cities"]}
    assert len(moved) <= 2


def test_what_is_no_text_or_too_large_is_left_out(text_directory, tmp_path):
    copied = shutil.copytree(text_directory, tmp_path / "text")
    (copied / "cities" / "picture.bin").write_bytes(b"\x89PNG\xff\xfe")
    (copied / "cities" / "zeros.txt").write_bytes(b"a\0b")
    (copied / "cities" / "blank.txt").write_text(" \n\t ")
    (copied / "cities" / "long.txt").write_text("words " * DOCUMENT_BYTES)
    (copied / "cities" / "link.txt").symlink_to(copied / "numbers" / "00.txt")
    assert read_text(str(copied)).digest == read_text(str(text_directory)).digest


def test_domains_are_balanced(text_directory):
    split = read_text(str(text_directory), domain_bytes=6000)
    for domain in split.domains:
        size = sum(document.size for document in documents(split) if document.domain == domain)
        assert 4500 <= size <= 6000


def test_a_domain_with_too_little_is_left_out_and_named(text_directory, tmp_path):
    copied = shutil.copytree(text_directory, tmp_path / "text")
    (copied / "alone").mkdir()
    (copied / "alone" / "one.txt").write_text("a single document")
    split = read_text(str(copied))
    assert split.domains == ("cities", "numbers")
    assert "1 documents" in split.left_out["alone"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_without_text_the_error_says_what_to_give(tmp_path, make):
    make(tmp_path / "nothing")
    with pytest.raises(TextError, match="give"):
        read_text(str(tmp_path / "nothing"))


def test_what_is_installed_has_python_and_the_headers_of_torch():
    files = installed_files()
    assert set(files) == {"cpp", "documentation", "perl", "python"}
    assert len(files["python"]) > 400
    assert len(files["cpp"]) > 1000
    assert not [path for path in files["python"] if "site-packages" in path.parts or "test" in path.parts]
    assert INSTALLED == "installed"
