"""The verifier as one file: what is in it, that its bytes are always the same, that it runs alone and offline."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from ledger.verifier_zipapp import build_verifier, closure, imports_of
from tests.verify.factory import PHOTO, evidence, trust

ALLOWED = {"ledger.errors", "ledger.formats", "ledger.crypto", "ledger.verify", "cryptography"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_verifier(tmp_path_factory.mktemp("dist") / "yunxi-verify.pyz")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    record, state = evidence()
    (tmp_path / "trust.json").write_bytes(trust().serialize())
    (tmp_path / "a.sd-jwt").write_bytes(record.present())
    (tmp_path / "a.tlog-proof").write_bytes(state.receipt(5))
    (tmp_path / "exit.png").write_bytes(PHOTO)
    return tmp_path


def start(command: list[str | Path], place: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False)


GOOD = ["a.sd-jwt", "a.tlog-proof", "exit.png", "--trust", "trust.json"]


def test_it_needs_the_standard_library_and_cryptography_only() -> None:
    for name, path in closure().items():
        for imported in imports_of(path):
            top = imported.partition(".")[0]
            known = top in sys.stdlib_module_names or any(
                imported.startswith(a) or imported == "ledger" for a in ALLOWED
            )
            assert known, f"{name} imports {imported}"


def test_it_holds_what_it_imports_and_nothing_else(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    assert names == sorted(names)
    assert {n for n in names if n.startswith("ledger/verify/")} >= {"ledger/verify/verifier.py"}
    assert len(names) == len(closure()) + 1
    assert not [n for n in names if n.endswith((".pyc", "store.py")) or n.startswith("ledger/chain")]


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    assert build_verifier(tmp_path / "again.pyz").read_bytes() == built.read_bytes()


def test_the_script_builds_the_same(built: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "build_verifier.py"
    done = start([sys.executable, script, tmp_path / "by-script.pyz"], tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "by-script.pyz").read_bytes() == built.read_bytes()
    assert hashlib.sha256(built.read_bytes()).hexdigest() in done.stdout


def test_it_runs_isolated(built: Path, files: Path) -> None:
    # -I: no current directory, no PYTHONPATH, no user packages, so `ledger` can only be the one in the archive
    done = start([sys.executable, "-I", "-W", "error", built, *GOOD], files)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Result: VERIFIED" in done.stdout


@pytest.mark.parametrize(("arguments", "code"), [(["a.sd-jwt", "--trust", "trust.json"], 1), (["a.sd-jwt"], 2)])
def test_its_exit_codes(built: Path, files: Path, arguments: list[str], code: int) -> None:
    done = start([sys.executable, "-I", built, *arguments], files)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr


def test_a_terminal_without_chinese_does_not_stop_it(built: Path, files: Path) -> None:
    command = [sys.executable, "-I", built, *GOOD, "--lang", "zh"]
    environment = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii"}
    command.remove("-I")  # it would ignore the encoding
    done = subprocess.run(command, cwd=files, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_goes_away_does_not_make_it_complain(built: Path, files: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [sys.executable, "-I", built, *GOOD]
        done = subprocess.run(command, cwd=files, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


FULL = Path("/dev/full")


@pytest.mark.parametrize(("options", "closed"), [([], True), (["--json"], False)], ids=["closed", "full"])
def test_a_report_that_cannot_be_written_is_no_verdict(
    built: Path, files: Path, options: list[str], closed: bool
) -> None:
    command = " ".join(shlex.quote(str(word)) for word in [sys.executable, "-I", built, *GOOD, *options])
    if not closed and not FULL.exists():
        pytest.skip("this system has no device that is always full")
    done = start(["sh", "-c", f"{command} " + (">&-" if closed else f"> {FULL}")], files)
    assert done.returncode == 2
    assert done.stderr.startswith("The report could not be written (")
    assert done.stderr.count("\n") == 1


def test_stopped_in_the_middle_it_says_so(built: Path, files: Path) -> None:
    with (files / "large").open("wb") as stream:
        stream.truncate(2**36)  # takes half a minute to read
    command = [sys.executable, "-I", built, "large", "a.sd-jwt", "--trust", "trust.json", "--lang", "zh"]
    opened = files / "large"
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
    running = subprocess.Popen(
        command, cwd=files, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    while not any(_is(link, opened) for link in Path(f"/proc/{running.pid}/fd").iterdir()):
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    assert err == "程序在完成之前被中止，未作任何判断。请重新运行。\n"


def _is(link: Path, target: Path) -> bool:
    try:
        return link.samefile(target)
    except OSError:
        return False


def test_without_cryptography_it_says_what_to_install(built: Path, files: Path) -> None:
    # -S leaves site-packages out
    done = start([sys.executable, "-I", "-S", built, *GOOD], files)
    assert done.returncode == 2
    assert done.stderr.startswith("This program needs the Python package cryptography")


def test_without_a_network(built: Path, files: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or start([unshare, "-rn", "true"], files).returncode != 0:
        pytest.skip("this machine does not let us make a namespace without network")
    done = start([unshare, "-rn", sys.executable, "-I", built, *GOOD], files)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_in_a_fresh_environment_with_cryptography_alone(built: Path, files: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True, system_site_packages=False)
    python = place / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "cryptography"],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip("cryptography cannot be installed here: " + installed.stderr.strip()[-200:])
    listed = start([python, "-I", "-m", "pip", "list", "--format=freeze"], files).stdout.lower()
    assert not {"web3", "orjson", "sqlalchemy", "yunxi"} & {line.partition("==")[0] for line in listed.split()}
    unshare = shutil.which("unshare")
    offline = [unshare, "-rn"] if unshare and start([unshare, "-rn", "true"], files).returncode == 0 else []
    done = start([*offline, python, "-I", "-W", "error", built, *GOOD, "--lang", "zh"], files)
    assert (done.returncode, done.stderr) == (0, "")
    assert "核验结论：核验通过" in done.stdout
