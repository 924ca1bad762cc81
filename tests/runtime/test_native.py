"""Compiling and loading the kernels: the cache, missing compilers, and what C and Python must have in common."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.runtime import constants, native, structs, variants


@pytest.fixture
def unloaded() -> Iterator[None]:
    """No library is loaded yet."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None) -> Path:
    """The folder of an empty cache, and no library is loaded yet."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_kernels_are_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library().distill_lanes() in (8, 16)
    (compiled,) = fresh.iterdir()
    assert compiled.name.startswith("kernels-")
    native.library.cache_clear()
    monkeypatch.setattr(native, "build", None)  # would fail if it was called
    assert native.library().distill_lanes() in (8, 16)


def remove_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", lambda _: None)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("chosen", ["", "nosuch", "nosuch -O1"])
def test_no_compiler(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_compiler(monkeypatch)
    monkeypatch.setenv("CC", chosen)
    with pytest.raises(UserError, match="need a C compiler once") as error:
        native.library()
    assert "apt install gcc" in error.value.hint


def test_ziglang_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", {"ziglang": object()}.get)
    assert native._compiler()[1:] == ["-m", "ziglang", "cc"]


def test_a_compiler_that_fails_leaves_no_files(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UserError, match="the C compiler failed: it printed no message"):
        native.library()
    assert not list(fresh.iterdir())


def test_a_cache_that_cannot_be_written(fresh: Path) -> None:
    fresh.write_text("a file where a folder is needed")
    with pytest.raises(UserError, match="cannot be kept here") as error:
        native.library()
    assert "DISTILL_CACHE" in error.value.hint


@pytest.fixture
def compiled(fresh: Path) -> Path:
    """A library that was compiled into the cache; none is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "build", copy_of_the_kernels())
        native.library()
    native.library.cache_clear()
    (path,) = fresh.iterdir()
    return path


def copy_of_the_kernels() -> Callable[[list[Path], Path], None]:
    """In place of ``build``: copies the library that this process uses, which is faster than compiling."""
    native.library.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DISTILL_CACHE", raising=False)
        library = Path(native.library()._name)
    native.library.cache_clear()
    return lambda sources, path: shutil.copyfile(library, path) and path.chmod(0o755)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "a flipped bit": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "another file": lambda content: b"not a library",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_compiled_again(damage: str, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = compiled.read_bytes()
    compiled.unlink()
    compiled.write_bytes(DAMAGE[damage](content))
    compiled.chmod(0o755)
    builds: list[Path] = []
    copy = copy_of_the_kernels()
    monkeypatch.setattr(native, "build", lambda sources, path: builds.append(path) or copy(sources, path))
    assert native.library().distill_lanes() in (8, 16)
    assert len(builds) == 1 and compiled.read_bytes() == content
    native.library.cache_clear()
    assert native.library().distill_lanes() in (8, 16) and len(builds) == 1


def test_a_library_that_cannot_be_loaded_is_compiled_once_more(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[Path] = []
    monkeypatch.setattr(native, "build", lambda sources, path: builds.append(path) or path.write_bytes(b"no library"))
    for count in (1, 2):  # the second time there is a complete file, which is tried first
        with pytest.raises(UserError, match="the compiled kernels cannot be loaded") as error:
            native.library()
        assert len(builds) == count and "DISTILL_CACHE" in error.value.hint
    assert len(list(fresh.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
@pytest.mark.parametrize("is_folder", [True, False])
def test_kernels_that_others_can_write_are_not_loaded(mode: int, is_folder: bool, compiled: Path) -> None:
    path = compiled.parent if is_folder else compiled
    path.chmod(mode)
    with pytest.raises(UserError, match="not loaded from here: other users can write it") as error:
        native.library()
    assert error.value.where == str(path) and f"chmod go-w {path}" in error.value.hint
    path.chmod(0o755)
    assert native.library().distill_lanes() in (8, 16)


@pytest.mark.parametrize("is_folder", [True, False])
def test_kernels_of_another_user_are_not_loaded(
    is_folder: bool, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = compiled.parent if is_folder else compiled, Path.stat

    def stat(asked: Path, **options: bool) -> os.stat_result:
        status = real(asked, **options)
        return os.stat_result((*status[:4], 4711, *status[5:])) if asked == path else status

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(UserError, match=r"it belongs to another user \(4711\)") as error:
        native.library()
    assert error.value.hint.startswith("set DISTILL_CACHE")


@pytest.mark.parametrize("has_compiler", [False, True])
def test_kernels_of_root_are_loaded_without_their_compiler(
    has_compiler: bool, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose image was built by root, and that runs as another user, who cannot write the folder."""
    if has_compiler:
        monkeypatch.setenv("CC", "true")
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:
        remove_compiler(monkeypatch)
    real = Path.stat

    def stat(asked: Path, **options: bool) -> os.stat_result:
        status = real(asked, **options)
        return os.stat_result((*status[:4], 0, *status[5:]))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    monkeypatch.setattr(native, "build", None)
    assert native.library().distill_lanes() in (8, 16)


def test_another_compiler_or_other_flags_are_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "mycc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    names = [native._name(native._compiler())]
    for command in (str(compiler), f"{compiler} -O1"):
        monkeypatch.setenv("CC", command)
        names.append(native._name(native._compiler()))
    compiler.write_text("#!/bin/sh\n# of another version\n")
    names.append(native._name(native._compiler()))
    monkeypatch.setenv("DISTILL_MARCH", "x86-64")
    names.append(native._name(native._compiler()))
    assert len(set(names)) == len(names)
    assert len({name.split("-")[1] for name in names}) == 2  # SOURCES changes with the flags alone


def test_no_home_folder(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISTILL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(UserError, match="there is no home folder") as error:
        native.library()
    assert "set DISTILL_CACHE" in error.value.hint


def test_a_compiler_that_cannot_be_run(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "mycc"
    compiler.write_bytes(b"\0 no program")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(UserError, match="the C compiler failed: Exec format error"):
        native.library()
    assert not list(fresh.iterdir())


def test_a_compiler_that_writes_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")
    with pytest.raises(UserError, match="the C compiler failed: it printed no message"):
        native.library()


def test_a_compiled_library_can_be_written_by_its_owner_only(tmp_path: Path) -> None:
    source, path = tmp_path / "one.c", tmp_path / "one.so"
    source.write_text("int one(void) { return 1; }\n")
    before = os.umask(0)
    try:
        native.build([source], path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o755


AVX512 = "avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    "case",  # machine, features, DISTILL_MARCH, and what is chosen
    [
        ("x86_64", f"{variants.AVX2} {AVX512} avx512_vnni", "", "x86-64-v4-vnni"),
        ("x86_64", f"{variants.AVX2} {AVX512}", "", "x86-64-v3"),
        ("x86_64", variants.AVX2, "", "x86-64-v3"),
        ("x86_64", variants.AVX2.replace(" fma", ""), "", None),
        ("x86_64", None, "", None),
        ("aarch64", "fp asimd", "", "armv8-a"),
        ("riscv64", "", "", None),
        ("x86_64", f"{variants.AVX2} {AVX512} avx512_vnni", "x86-64-v3", "x86-64-v3"),
        ("x86_64", variants.AVX2, "native", None),
        ("x86_64", variants.AVX2, "x86-64-v4", None),
    ],
)
def test_the_wheels_kernels_are_chosen_by_the_processor(
    case: tuple[str, str | None, str, str | None], packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, features, march, chosen = case
    for variant in variants.VARIANTS:
        variant.library.touch()
    cpuinfo = packages / "cpuinfo"
    if features is not None:
        cpuinfo.write_text(f"processor : 0\nmodel name : one\nflags : fpu {features}\nbugs : none\n")
    monkeypatch.setattr(native, "CPUINFO", cpuinfo)
    monkeypatch.setattr(native.platform, "machine", lambda: machine)
    monkeypatch.setenv("DISTILL_MARCH", march)
    variant = native.packaged()
    assert (variant.name if variant else None) == chosen


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the compiled kernels of an installed wheel; it is empty."""
    monkeypatch.setattr(variants, "COMPILED", tmp_path / "compiled")
    variants.COMPILED.mkdir()
    return tmp_path


@pytest.fixture
def of_a_wheel(fresh: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of an installed wheel for this processor; there is no compiler, and the cache is empty."""
    copy, library = copy_of_the_kernels(), variants.COMPILED / "kernels-copy.so"
    variant = variants.Variant("here", native.platform.machine(), ("-march=native",))
    copy([], library)
    library.rename(variant.library)
    monkeypatch.setattr(native, "VARIANTS", (variant,))
    remove_compiler(monkeypatch)
    return variant.library


def test_the_wheels_kernels_need_no_compiler_and_no_cache(of_a_wheel: Path, fresh: Path) -> None:
    of_a_wheel.chmod(0o666)  # they are the package's own files
    assert native.library()._name == str(of_a_wheel)
    assert not fresh.exists()


@pytest.mark.parametrize("change", ["other sources", "other flags", "a broken library"])
def test_kernels_that_are_not_of_these_sources_are_not_used(
    change: str, of_a_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "other sources":
        monkeypatch.setattr(variants, "KERNELS", shutil.copytree(constants.KERNELS, tmp_path / "kernels"))
        assert native.packaged()
        with (tmp_path / "kernels" / "trie.h").open("a") as header:
            header.write("\n")
    elif change == "other flags":
        monkeypatch.setattr(variants, "FLAGS", (*variants.FLAGS, "-DSIXTEEN_LANES"))
    else:
        of_a_wheel.write_bytes(b"no library")
    with pytest.raises(UserError, match="need a C compiler once"):
        native.library()


@pytest.mark.parametrize(
    ("march", "ours", "zigs"),
    [
        ("x86-64-v3", ["-march=x86-64-v3"], ["-march=x86_64_v3"]),
        ("x86-64-v4-vnni", ["-march=x86-64-v4", "-mavx512vnni"], ["-march=x86_64_v4", "-mavx512vnni"]),
        ("armv8-a", ["-march=armv8-a"], ["-march=generic"]),
        ("native", ["-march=native"], ["-march=native"]),
    ],
)
def test_zig_has_its_own_names_of_processors(march: str, ours: list[str], zigs: list[str]) -> None:
    for compiler, flags in ((["gcc"], ours), (["python", "-m", "ziglang", "cc"], zigs)):
        command = variants.compile_command(compiler, variants.flags_of(march), [Path("a.c")], Path("a.so"))
        assert command == [*compiler, *flags, "-o", "a.so", "a.c", "-lm"]


def mirror(name: str, *fields: tuple[str, Any]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


TEXTS = structs.Texts._fields_
FAULTY_MIRRORS = {
    "a field too many": mirror("Texts", *TEXTS, ("language", structs.Int32)),
    "a field too few": mirror("Texts", *TEXTS[:-1]),
    "two fields exchanged": mirror("Texts", TEXTS[1], TEXTS[0], TEXTS[2]),
    "a narrower field": mirror("Texts", *TEXTS[:-1], ("count", structs.Int32)),
    "another name": mirror("Texts", *TEXTS[:-1], ("texts", structs.Int64)),
}


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("fault", FAULTY_MIRRORS)
def test_a_struct_that_differs_from_c_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(structs.MIRRORS, "Texts", FAULTY_MIRRORS[fault])
    with pytest.raises(RuntimeError, match=r"struct Texts differs between .*kernels and its ctypes mirror"):
        native.library()


@pytest.mark.usefixtures("unloaded")
def test_a_struct_that_c_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(structs.MIRRORS, "Transformer", mirror("Transformer", ("heads", structs.Int32)))
    with pytest.raises(RuntimeError, match=r"struct Transformer differs .* are {} in C"):
        native.library()


def test_every_struct_and_function_of_c_has_its_mirror() -> None:
    source = "\n".join(path.read_text("utf-8") for path in sorted(constants.KERNELS.glob("*.c")))
    exported = set(re.findall(r"^EXPORT_LAYOUT\((\w+),", source, re.MULTILINE))
    in_tests = {"RecurrentReference", "ElementwiseReference"}
    assert exported - in_tests == structs.MIRRORS.keys() - in_tests
    functions = re.findall(r"^(?:int(?:32_t)?|void) (distill_\w+)\(([^)]*)\)", source, re.MULTILINE)
    assert set(re.findall(r"^void (distill_\w+)", source, re.MULTILINE)) == set(native.RETURN_NOTHING)
    networks = {name for name, arguments in functions if arguments.startswith("const void *network")}
    assert {name for name, _ in functions} - networks == native.ARGUMENTS.keys()
    for name, arguments in functions:
        count = 0 if arguments == "void" else arguments.count(",") + 1
        assert count == len(native.ARGUMENTS.get(name, native.FORWARD_PASS)), name


def test_constants_are_read_from_c() -> None:
    read = constants.read_constants("/* #define A 9 */\n#define NAME_H\n#define ONE 1 /* is 2 */\n#define HEX 0x10\n")
    assert read == {"ONE": 1, "HEX": 16}
    assert (constants.HAN.start, constants.HAN.stop) == (0x4E00, 0x9FD6)


NETWORK_TESTS = ("test_networks.py", "test_recurrent.py", "test_elementwise.py")


AVX512 = f"-I{Path(__file__).parent / 'avx512'} -D__AVX2__ -D__AVX512BW__ -D__AVX512VNNI__"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
@pytest.mark.parametrize("flags", ["", "-DSIXTEEN_LANES", AVX512], ids=["plain", "sixteen lanes", "AVX-512"])
def test_networks_on_other_processors(flags: str, tmp_path: Path) -> None:
    """Without AVX, with the array layout of AVX-512, and with its instructions, which are emulated."""
    if flags == AVX512 and not Path("/usr/include/simde").exists():
        pytest.skip("the emulated instructions are not installed: apt install libsimde-dev")
    variables = {"CC": f"gcc {flags}", "DISTILL_MARCH": "x86-64", "DISTILL_CACHE": str(tmp_path)}
    tests = [str(Path(__file__).with_name(name)) for name in NETWORK_TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", *tests]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("kernels-*.so"))) == 1
