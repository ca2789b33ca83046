"""Contract artefacts and the Solidity ABI: what to send, what came back.

The artefacts in `artifacts/` are written by `scripts/compile_contracts.py` and committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import (
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
    get_abi_input_names,
    get_abi_input_types,
    get_abi_output_types,
)

from ledger.errors import Malformed

# what the compiler leaves for the constructor to fill in: PUSH32 of zero, which no optimiser keeps as a constant
_IMMUTABLE = re.compile(rb"(?<=\x7f)\x00{32}")


@dataclass(frozen=True, slots=True)
class Function:
    """One function, error or event of a contract. `selector` is 4 bytes (an event's topic: 32)."""

    name: str
    selector: bytes
    input_names: tuple[str, ...]
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]

    def encode(self, *arguments: Any) -> bytes:
        """Calldata: selector and arguments."""
        return self.selector + encode(self.input_types, arguments)

    def decode_output(self, data: bytes) -> tuple[Any, ...]:
        """The return values. Raises Malformed if `data` is not what the function returns."""
        return _decode(self.output_types, data, f"result of {self.name}")

    def decode_input(self, data: bytes) -> dict[str, Any]:
        """The arguments by name from calldata or revert data. Raises Malformed if they do not decode."""
        values = _decode(self.input_types, data[len(self.selector) :], f"arguments of {self.name}")
        return dict(zip(self.input_names, values, strict=True))


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract: its deployment bytecode, the code that then stands on the chain, and its ABI by name."""

    name: str
    bytecode: bytes
    runtime: bytes
    constructor_types: tuple[str, ...]
    functions: Mapping[str, Function]
    events: Mapping[str, Function]
    errors: Mapping[bytes, Function]

    def deployment(self, *arguments: Any) -> bytes:
        """The data of the transaction that creates the contract."""
        return self.bytecode + encode(self.constructor_types, arguments)

    def is_code(self, code: bytes) -> bool:
        """Whether `code` is this contract's, whatever its constructor put into the places of its immutables."""
        template = bytearray(self.runtime)
        if len(code) != len(template):
            return False
        for place in _IMMUTABLE.finditer(self.runtime):
            template[place.start() : place.end()] = code[place.start() : place.end()]
        return bytes(template) == code


@cache
def load_artifact(name: str) -> Artifact:
    """The committed artefact of a contract by its Solidity name. Raises Malformed if there is none of that name."""
    try:
        text = resources.files("ledger.chain").joinpath("artifacts", f"{name}.json").read_text("utf-8")
    except OSError as error:
        raise Malformed("contract artefact", f"{name} is not among the compiled contracts") from error
    return parse_artifact(json.loads(text))


def parse_artifact(value: Mapping[str, Any]) -> Artifact:
    """An Artifact from the compiler's JSON object (`contractName`, `abi`, `bytecode` as 0x-hex)."""
    abi: Sequence[Mapping[str, Any]] = value["abi"]
    constructor_inputs: Sequence[Mapping[str, Any]] = next(
        (entry["inputs"] for entry in abi if entry["type"] == "constructor"), []
    )
    errors = [_function(entry) for entry in abi if entry["type"] == "error"]
    return Artifact(
        name=value["contractName"],
        bytecode=bytes.fromhex(value["bytecode"].removeprefix("0x")),
        runtime=bytes.fromhex(value.get("deployedBytecode", "").removeprefix("0x")),
        constructor_types=tuple(entry["type"] for entry in constructor_inputs),
        functions={entry["name"]: _function(entry) for entry in abi if entry["type"] == "function"},
        events={entry["name"]: _function(entry) for entry in abi if entry["type"] == "event"},
        errors={error.selector: error for error in errors},
    )


def _function(entry: Mapping[str, Any]) -> Function:
    element: Any = entry
    outputs: tuple[str, ...] = ()
    if entry["type"] == "event":
        selector = event_abi_to_log_topic(element)
    else:
        # an error is encoded like a function of its name and arguments
        element = {"outputs": [], "stateMutability": "view", **entry, "type": "function"}
        selector, outputs = function_abi_to_4byte_selector(element), tuple(get_abi_output_types(element))
    return Function(
        name=entry["name"],
        selector=bytes(selector),
        input_names=tuple(name or "" for name in get_abi_input_names(element)),
        input_types=tuple(get_abi_input_types(element)),
        output_types=outputs,
    )


def _decode(types: Sequence[str], data: bytes, what: str) -> tuple[Any, ...]:
    try:
        return decode(types, data)
    except (DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise Malformed(what, f"{len(data)} bytes that are not ({', '.join(types)})") from error
