"""Docstrings as a corpus: what is taken, what is not, and the fair choice among packages."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from aura.corpus.errors import TextItemError
from aura.corpus.python_docs import MAX_ITEMS, MIN_CHARACTERS, Module, PythonDocsSource, documents, installed_modules

LONG = "This sentence stands for documentation that somebody wrote with care, and it goes on until it is long enough: "


def module(tmp_path: Path, name: str, source: str | bytes) -> Module:
    path = tmp_path / f"{name}.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return Module(name, path)


def package(tmp_path: Path, name: str, functions: int) -> Module:
    source = "\n".join(f'def f{n:03}():\n    """{LONG}{name} {n}"""' for n in range(functions))
    return module(tmp_path, name, source)


def uris(rows) -> list[str]:
    return [row.uri for row in rows]


def test_docstrings_of_modules_classes_functions_and_methods_are_taken(tmp_path):
    source = f'''"""{LONG}module"""
import sys
raise SystemExit("this file must never be run")
class A:
    """{LONG}class

    indented
    """
    def method(self):
        """{LONG}method"""
        def inner():
            """{LONG}inner function, which nobody can reach"""
    class B:
        """{LONG}nested class"""
if sys.platform:
    async def f():
        """{LONG}function"""
def undocumented(): ...
def short():
    """Short."""
'''
    rows = documents(module(tmp_path, "pkg.mod", source))
    assert sorted(uris(rows)) == [
        "python:pkg.mod",
        "python:pkg.mod.A",
        "python:pkg.mod.A.B",
        "python:pkg.mod.A.method",
        "python:pkg.mod.f",
    ]
    by_uri = {row.uri: row for row in rows}
    assert by_uri["python:pkg.mod.A"].text == f"{LONG}class\n\nindented"
    assert {(row.label, row.sublabel) for row in rows} == {("pkg", "pkg.mod")}


@pytest.mark.parametrize(("length", "taken"), [(MIN_CHARACTERS - 1, 0), (MIN_CHARACTERS, 1)])
def test_a_docstring_counts_from_its_shortest_length_on(tmp_path, length, taken):
    assert len(documents(module(tmp_path, "m", f'"""{"x" * length}"""'))) == taken


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('"""doc"""\ndef (:\n', "does not parse (SyntaxError"),
        ('"""doc"""\nprint "python 2"\n', "does not parse (SyntaxError"),
        ('"""grüße"""\n'.encode("latin-1"), "does not parse (SyntaxError"),
        (b'"""doc"""\0', "does not parse ("),
        ('"""doc"""\nx = ' + "-" * 200_000 + "1\n", "does not parse ("),
        ('"""doc"""\n' + "#" * 2**20, "oversized"),
    ],
)
def test_a_file_that_does_not_parse_is_set_aside_and_the_run_goes_on(tmp_path, source, reason):
    modules = (module(tmp_path, "bad", source), package(tmp_path, "good", 2))
    manifest = PythonDocsSource(modules=modules).scan()
    (row,) = manifest.set_aside().to_pylist()
    assert row["uri"] == "python:bad"
    assert reason in row["reason"]
    assert manifest.items("text")["label"].to_pylist() == ["good", "good"]


def test_a_file_listed_by_its_distribution_but_missing_is_set_aside(tmp_path):
    (row,) = documents(Module("gone", tmp_path / "gone.py"))
    assert row.reason == "unreadable: no such file or directory"


def test_invalid_escapes_in_foreign_code_raise_no_warning(tmp_path, recwarn):
    documents(module(tmp_path, "m", f'"""{LONG}\\d"""\n'))
    assert not recwarn.list


def test_packages_take_turns_so_that_a_large_one_does_not_crowd_out_a_small_one(tmp_path):
    modules = (package(tmp_path, "large", 50), package(tmp_path, "medium", 8), package(tmp_path, "small", 2))
    manifest = PythonDocsSource(modules=modules, max_items=20).scan()
    assert Counter(manifest.table["label"].to_pylist()) == {"large": 10, "medium": 8, "small": 2}


def test_no_package_gives_more_than_its_limit(tmp_path):
    modules = (package(tmp_path, "large", 50), package(tmp_path, "small", 2))
    manifest = PythonDocsSource(modules=modules, max_per_package=7).scan()
    assert Counter(manifest.table["label"].to_pylist()) == {"large": 7, "small": 2}


def test_a_docstring_given_twice_is_kept_once(tmp_path):
    same = f'def f():\n    """{LONG}"""\n'
    manifest = PythonDocsSource(modules=(module(tmp_path, "b", same), module(tmp_path, "a", same + same))).scan()
    assert manifest.table["uri"].to_pylist() == ["python:a.f"]


def test_public_modules_come_before_private_ones_and_outer_before_inner(tmp_path):
    modules = tuple(package(tmp_path, name, 1) for name in ("p._a", "p.z.deep", "p.z"))
    for wanted, expected in enumerate(["p.z", "p.z.deep", "p._a"], start=1):
        manifest = PythonDocsSource(modules=modules, max_items=wanted).scan()
        assert expected in manifest.table["sublabel"].to_pylist()


def test_installed_modules_are_found_without_tests_and_vendored_copies():
    found = {one.name: one.path for one in installed_modules()}
    assert found["json.decoder"].name == "decoder.py"
    assert found["numpy"].name == "__init__.py"
    assert not any({"tests", "test", "_vendor", "site-packages"} & set(name.split(".")[:-1]) for name in found)


def some_installed(*packages: str) -> tuple[Module, ...]:
    return tuple(one for one in installed_modules() if one.package in packages)


def test_the_documents_of_this_python_are_real_and_the_same_every_time():
    progress: list[tuple[int, int]] = []
    source = PythonDocsSource(max_items=150, modules=some_installed("argparse", "json", "logging", "filelock", "numpy"))
    manifest = source.scan(lambda done, total: progress.append((done, total)))
    assert manifest.items("text").num_rows == 150
    assert progress[-1] == (150, 150)
    assert source.scan() == manifest
    rows = {row["uri"]: row for row in manifest.table.to_pylist()}
    assert rows["python:argparse"]["text"].startswith("Command-line parsing library")
    assert {row["label"] for row in rows.values()} == {"argparse", "json", "logging", "filelock", "numpy"}
    assert min(row["bytes"] for row in rows.values()) >= MIN_CHARACTERS


@pytest.mark.slow
def test_by_default_this_python_gives_thousands_of_documents_with_many_labels_of_20_and_more():
    manifest = PythonDocsSource().scan()
    sizes = Counter(manifest.items("text")["label"].to_pylist())
    assert 5_000 <= sizes.total() <= MAX_ITEMS
    assert sum(size >= 20 for size in sizes.values()) >= 100


def test_no_module_is_imported_by_a_scan():
    before = set(sys.modules)
    PythonDocsSource(modules=some_installed("antigravity", "this", "turtle")).scan()
    assert not {"antigravity", "this", "turtle"} & (set(sys.modules) - before)


def test_docstrings_are_taken_from_the_manifest_and_not_read():
    with pytest.raises(TextItemError, match="column 'text'"):
        PythonDocsSource().read("python:json", "0" * 32)
