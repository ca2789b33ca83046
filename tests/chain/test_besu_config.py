"""What `yunxi consortium config --engine besu` writes, against Besu's own documentation."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain.consortium import besu, clique, qbft
from ledger.chain.consortium.besu import write_config
from ledger.chain.consortium.keys import ValidatorKey, ValidatorPublic
from ledger.errors import CouldNotRun, Malformed
from ledger.formats import rlp
from ledger.formats.jwk import to_public_key

# The genesis files of hyperledger/besu-docs, docs/private-networks/how-to/configure/consensus/qbft.md (CC-BY-4.0):
# four validators in the block header, and a validator contract with none.
PUBLISHED = {
    "four validators": (
        [
            "0x64a702e6263b7297a96638cac6ae65e6541f4169",
            "0x3923390ad55e90c237593b3b0e401f3b08a03185",
            "0xaefdb9a738c9f433e5b6b212a6d62f6370c2f692",
            "0xc7eeb9a4e00ce683cf93039b212648e01c6c6b78",
        ],
        "f87aa00000000000000000000000000000000000000000000000000000000000000000f8549464a702e6263b7297a96638cac6ae65e65"
        "41f4169943923390ad55e90c237593b3b0e401f3b08a0318594aefdb9a738c9f433e5b6b212a6d62f6370c2f69294c7eeb9a4e00ce683"
        "cf93039b212648e01c6c6b78c080c0",
    ),
    "a validator contract": ([], "e5a00000000000000000000000000000000000000000000000000000000000000000c0c080c0"),
}

# go-ethereum's well-known test key b71c71… (cmd and p2p tests), and the address that every tool derives from it
TEST_KEY = bytes.fromhex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291")
TEST_ADDRESS = "0x71562b71999873DB5b286dF957af199Ec94617F7"
TEST_ENODE = (
    "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be0081290"
    "4767bf5ccd1fc7f"
)

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_published_extra_data_is_ours_to_the_byte(case: str) -> None:
    validators, published = PUBLISHED[case]
    data = bytes.fromhex(published)
    assert qbft.encode_extra_data(validators) == data
    found = qbft.decode_extra_data(data)
    assert [address.lower() for address in found.validators] == validators
    assert (found.vanity, found.vote, found.round, found.seals) == (bytes(32), None, 0, ())


@given(st.sets(addresses, max_size=30))
def test_decoding_undoes_encoding(validators: set[str]) -> None:
    data = qbft.encode_extra_data(sorted(validators))
    assert [address.lower() for address in qbft.decode_extra_data(data).validators] == sorted(validators)


@given(st.sets(addresses, min_size=1, max_size=30))
def test_decoding_undoes_encoding_for_clique(signers: set[str]) -> None:
    data = clique.encode_extra_data(signers)
    assert len(data) == 32 + 20 * len(signers) + 65
    assert [address.lower() for address in clique.decode_extra_data(data)] == sorted(signers)


def sealed(vote: Any, number: bytes, seals: list[bytes]) -> bytes:
    return rlp.encode((bytes(32), [bytes([1]) * 20], vote, number, seals))


def test_a_sealed_block_with_a_vote_is_read() -> None:
    found = qbft.decode_extra_data(sealed([bytes([7]) * 20, b"\xff"], b"\x01\x00", [bytes(65)] * 3))
    assert (found.vote, found.round, len(found.seals)) == (("0x" + "07" * 20, True), 256, 3)
    assert qbft.decode_extra_data(sealed([bytes([7]) * 20, b"\x00"], b"", [])).vote == ("0x" + "07" * 20, False)


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "not RLP": bytes(32),
    "Clique's": clique.encode_extra_data(["0x" + "01" * 20]),
    "four items": rlp.encode((bytes(32), [], [], b"")),
    "a short vanity": rlp.encode((bytes(31), [], [], b"", [])),
    "a short validator": rlp.encode((bytes(32), [bytes(19)], [], b"", [])),
    "a round with a leading zero": rlp.encode((bytes(32), [], [], b"\x00\x01", [])),
    "a short seal": sealed([], b"", [bytes(64)]),
    "a vote for something else": sealed([bytes(20), b"\x01"], b"", []),
    "bytes behind": qbft.encode_extra_data([]) + b"\x00",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_extra_data_is_refused(case: str) -> None:
    with pytest.raises(Malformed, match="QBFT extraData"):
        qbft.decode_extra_data(MALFORMED[case])


def test_a_validator_named_twice_is_refused() -> None:
    for encode in (qbft.encode_extra_data, clique.encode_extra_data):
        with pytest.raises(Malformed):
            encode(["0x" + "aB" * 20, "0x" + "Ab" * 20])


def test_address_and_enode_of_a_known_key() -> None:
    public = ValidatorKey.of(TEST_KEY).public
    assert public.address == TEST_ADDRESS == Account.from_key(TEST_KEY).address
    assert public.enode("10.0.0.1", 30303) == f"enode://{TEST_ENODE}@10.0.0.1:30303"
    assert to_public_key(public.jwk) == to_public_key(ValidatorPublic.of(bytes.fromhex(TEST_ENODE)).jwk)


def test_a_private_key_does_not_show() -> None:
    assert TEST_KEY.hex() not in repr(ValidatorKey.of(TEST_KEY))


# -- what is written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> besu.Written:
    return write_config(tmp_path_factory.mktemp("besu") / "out", accounts=[TEST_ADDRESS])


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_genesis_names_the_validators_and_asks_no_fee(written: besu.Written) -> None:
    genesis = read(written.directory / "genesis.json")
    assert genesis["config"]["chainId"] == written.chain_id
    assert genesis["config"]["zeroBaseFee"] is True
    assert {"epochlength", "blockperiodseconds", "requesttimeoutseconds"} == set(genesis["config"]["qbft"])
    assert genesis["mixHash"] == "0x" + b"ctical byzantine fault tolerance".hex()
    found = qbft.decode_extra_data(bytes.fromhex(genesis["extraData"][2:]))
    assert [address.lower() for address in found.validators] == sorted(map(str.lower, written.validators))


def test_every_node_has_its_key_its_peers_and_its_permissions(written: besu.Written) -> None:
    enodes = set()
    for index, address in enumerate(written.validators):
        path = written.directory / f"node-{index}"
        public = ValidatorKey.of(bytes.fromhex((path / "key").read_text()[2:])).public
        assert (public.address, "0x" + public.public_key.hex()) == (address, (path / "key.pub").read_text())
        peers, allowed = read(path / "static-nodes.json"), tomllib.loads((path / "permissions_config.toml").read_text())
        assert allowed["accounts-allowlist"] == [TEST_ADDRESS.lower()]
        (own,) = set(allowed["nodes-allowlist"]) - set(peers)
        assert own.startswith(f"enode://{public.public_key.hex()}@")
        assert len(peers) == 3
        enodes.add(frozenset(allowed["nodes-allowlist"]))
    assert len(enodes) == 1


def test_the_trust_file_gets_addresses_keys_and_threshold(written: besu.Written) -> None:
    found = read(written.directory / "validators.json")
    assert (found["threshold"], found["addresses"]) == (3, list(written.validators))
    for index, jwk in enumerate(found["keys"]):
        to_public_key(jwk)
        key = ValidatorKey.of(bytes.fromhex((written.directory / f"node-{index}" / "key").read_text()[2:]))
        assert key.public.jwk == jwk


def test_no_secret_is_readable_by_others_and_no_file_knows_this_machine(written: besu.Written) -> None:
    keys = [(written.directory / f"node-{index}" / "key").read_text()[2:] for index in range(4)]
    for path in (found for found in written.directory.rglob("*") if found.is_file()):
        text, mode = path.read_text("utf-8"), stat.S_IMODE(path.stat().st_mode)
        secret = any(key in text for key in keys) or re.search("PASSWORD=.", text)
        assert mode == 0o600 if secret else path.name not in ("key", ".env"), path
        assert str(written.directory) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"^[^#]*\s/(home|work|tmp|root)/", text, re.MULTILINE), path


def test_the_compose_file_holds_the_whole_trial(written: besu.Written) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    services = yaml.safe_load((written.directory / "compose.yaml").read_text())["services"]
    assert set(services) == {*(f"validator-{n}" for n in range(4)), "postgres", "gateway-0", "gateway-1"}
    for index in range(4):
        service = services[f"validator-{index}"]
        assert service["ports"] == [f"127.0.0.1:{8545 + index}:8545"]
        assert f"./node-{index}:/data" in service["volumes"]
        host = service["networks"]["consortium"]["ipv4_address"]
        assert f"--p2p-host={host}" in service["command"]
        assert f"@{host}:30303" in (written.directory / "node-0" / "permissions_config.toml").read_text()
        # methods that vote on validators or change permissions are not for whoever reaches the port
        assert "--rpc-http-api=ETH,NET,WEB3" in service["command"]
    variables = set(re.findall(r"\$\{(\w+)", (written.directory / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"^(\w+)=", (written.directory / ".env").read_text(), re.MULTILINE))


def test_operators_who_drew_their_own_keys_give_only_the_public_half(tmp_path: Path) -> None:
    keys = [ValidatorKey.create() for _ in range(4)]
    hosts = [f"10.1.0.{n}:3030{n}" for n in range(1, 5)]
    found = write_config(
        tmp_path / "out", hosts=hosts, public_keys=["0x" + key.public.public_key.hex() for key in keys]
    )
    assert found.validators == tuple(key.public.address for key in keys)
    assert not list((tmp_path / "out").glob("node-*/key"))
    assert keys[1].public.enode("10.1.0.2", 30302) in read(tmp_path / "out" / "node-0" / "static-nodes.json")


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "three validators": ({"validators": 3}, CouldNotRun, "only from four on"),
    "a period of zero": ({"period": 0}, CouldNotRun, "at least one second"),
    "too few hosts": ({"hosts": ["10.0.0.1"]}, CouldNotRun, "one for each"),
    "a host by name": ({"hosts": ["a.example"] * 4}, Malformed, "not an IPv4 address"),
    "more keys than validators": ({"public_keys": [TEST_ENODE] * 5}, CouldNotRun, "5 public keys"),
    "one key twice": ({"public_keys": [TEST_ENODE] * 2}, Malformed, "named twice"),
    "a key off the curve": ({"public_keys": ["01" * 64]}, Malformed, "not a secp256k1 public key"),
    "a short key": ({"public_keys": ["01" * 63]}, Malformed, "63 bytes are not 64"),
    "a key that is no hex": ({"public_keys": ["zz"]}, Malformed, "not hexadecimal"),
    "an account that is none": ({"accounts": ["0x12"]}, Malformed, "40 hex digits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is(tmp_path: Path, case: str) -> None:
    arguments, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        write_config(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_taken_directory_is_not_written_to(tmp_path: Path) -> None:
    write_config(tmp_path / "out")
    before = (tmp_path / "out" / "node-0" / "key").read_text()
    with pytest.raises(CouldNotRun, match="not an empty directory"):
        write_config(tmp_path / "out")
    assert (tmp_path / "out" / "node-0" / "key").read_text() == before


def test_the_command_writes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "yunxi", "consortium", "config", "--engine", "besu", "--out", str(tmp_path / "o")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["validators"]) == 4
    assert (tmp_path / "o" / "genesis.json").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "not an empty directory" in again.stderr) == (2, True)
