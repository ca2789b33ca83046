"""The European Commission's own validator (DSS, Java) says yes to our containers, and no to the tampered ones.

Its default policy knows no EdDSA, which ETSI has not listed; the policy here is that one with EdDSA added.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.formats.timestamp import token_of
from ledger.interchange.asic import asic_container
from ledger.interchange.cades import sign_detached
from tests.fixtures.tsa import make_authority
from tests.interchange.test_asic import AT, FILES, TAMPERED, authority

HERE = Path(__file__).parent / "dss"
UNSEEN = {"a file put in"}
"""What DSS only warns of: that not all files are signed."""


@pytest.fixture(scope="module")
def dss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the validator's libraries and policy."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        pytest.skip("no Maven or no Java on this machine")
    directory = tmp_path_factory.mktemp("dss")
    command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    done = subprocess.run([*command, f"-DoutputDirectory={directory}"], capture_output=True, check=False, timeout=900)
    if done.returncode:
        pytest.skip("Maven does not get the validator here")
    with zipfile.ZipFile(next(directory.glob("dss-policy-jaxb-*.jar"))) as jar:
        policy = jar.read("policy/constraint.xml").decode()
    for known in ("<Algo>PLAIN-ECDSA</Algo>", '<Algo Size="160">PLAIN-ECDSA</Algo>'):
        assert known in policy
        policy = policy.replace(known, known + known.replace("PLAIN-ECDSA", "EdDSA").replace("160", "0"))
    (directory / "policy.xml").write_text(policy)
    return directory


@pytest.mark.slow
def test_what_dss_says(dss: Path, tmp_path: Path) -> None:
    tsa = make_authority(tmp_path / "tsa", kind="ec")
    (tmp_path / "root.der").write_bytes(authority().certificate().public_bytes(Encoding.DER))
    (tmp_path / "tsa.der").write_bytes(tsa.root.public_bytes(Encoding.DER))
    bare = asic_container(FILES, lambda manifest: sign_detached(manifest, authority(), AT))
    stamped = asic_container(
        FILES, lambda m: sign_detached(m, authority(), AT, lambda signature: token_of(tsa.stamp(signature)))
    )
    containers = {"bare": bare, "stamped": stamped} | {name: change(bare) for name, change in TAMPERED.items()}
    for number, content in enumerate(containers.values()):
        (tmp_path / f"{number}.asice").write_bytes(content)
    names = [f"{number}.asice" for number in range(len(containers))]
    command = ["java", "-cp", f"{dss}/*", str(HERE / "Validate.java"), f"{dss}/policy.xml", "root.der,tsa.der", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True, timeout=600)
    said = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if ".asice " in line}
    assert said["0.asice"] == ["TOTAL_PASSED", "CAdES-BASELINE-B"]
    assert said["1.asice"] == ["TOTAL_PASSED", "CAdES-BASELINE-T"]
    passed = {case for case, name in zip(containers, names, strict=True) if said.get(name, [""])[0] == "TOTAL_PASSED"}
    assert passed == {"bare", "stamped"} | UNSEEN
