"""MQTT 5 topics: messages of cameras and devices, each a JSON object, at least once in and once in the log.

The broker keeps a durable session under the mapping's client id, and with it what is published while we are away. A
message is acknowledged (PUBACK) only after ledger, quarantine and mark are durable: kill us at any moment, and what we
did not acknowledge is sent again, and recognised by its key. Never more than `in_flight` messages are with us (MQTT 5
section 3.1.2.11.3, Receive Maximum): a flood waits at the broker, or at the devices.

One thread: nothing is read from the connection while a page is being sealed.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.jsonl_files import json_row
from adapters.sections import Section
from adapters.source import EXCERPT_CHARS, BadRow, Opening, Page, Row, excerpt
from ledger.errors import CouldNotRun, Malformed

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

SESSION_SECONDS = 0xFFFFFFFF
"""The session never expires (MQTT 5 section 3.1.2.11.2)."""

KEEPALIVE_SECONDS = 300
MAX_MESSAGE = 64 << 20
"""Bytes of a message that we still take, to say that it is too long."""

CONNECT_SECONDS = 20.0
ANSWER_SECONDS = 2.0

_CLIENT_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """`[source]` with kind = "mqtt"."""

    host: str | None
    host_env: str | None
    port: int
    tls: bool
    ca_file: str | None
    client_id: str
    topics: tuple[str, ...]
    user_env: str | None
    password_env: str | None
    in_flight: int
    idle_seconds: int
    only_new = True

    @classmethod
    def parse(cls, section: Section) -> MqttOptions:
        """Takes the options of this kind from a `[source]` table."""
        if ("host" in section) == ("host_env" in section):
            section.refuse('"source" needs either "host" or "host_env"')
        tls = section.get("tls", bool, True)
        topics = section.texts("topics")
        if not topics or not all(_is_filter(topic) for topic in topics):
            section.refuse('"source.topics" must name topics, e.g. "cameras/+/events" or "devices/#"')
        client_id = section.require("client_id", str)
        if not _CLIENT_ID.fullmatch(client_id):
            section.refuse('"source.client_id" must be 1 to 64 letters, digits, ".", "_" and "-"')
        port = section.get("port", int, 8883 if tls else 1883)
        in_flight = section.get("in_flight", int, 1000)
        idle_seconds = section.get("idle_seconds", int, 2)
        if not (1 <= port <= 65535 and 1 <= in_flight <= 65535 and 0 <= idle_seconds <= 3600):
            section.refuse('"source.port" and "in_flight" must be from 1 to 65535, "idle_seconds" from 0 to 3600')
        return cls(
            host=section.optional("host", str),
            host_env=section.optional("host_env", str),
            port=port,
            tls=tls,
            ca_file=section.optional("ca_file", str),
            client_id=client_id,
            topics=topics,
            user_env=section.optional("user_env", str),
            password_env=section.optional("password_env", str),
            in_flight=in_flight,
            idle_seconds=idle_seconds,
        )

    def open(self, opening: Opening) -> MqttTopics:
        """The topics. Raises CouldNotRun where the environment lacks something; nothing is connected yet."""
        if opening.override is not None:
            raise Malformed("source", "a path was given, but this mapping reads from an MQTT broker")
        host, port = self.host or "", self.port
        if self.host_env is not None:
            host, _, given = _value(opening, self.host_env).partition(":")
            port = int(given) if given.isdecimal() else port
        user = None if self.user_env is None else _value(opening, self.user_env)
        password = None if self.password_env is None else _value(opening, self.password_env)
        return MqttTopics(self, host, port, (user, password), opening)


def _value(opening: Opening, name: str) -> str:
    value = opening.environ.get(name)
    if not value:
        raise CouldNotRun(f"set the environment variable {name}: the mapping's [source] needs it")
    return value


def _is_filter(topic: str) -> bool:
    """A topic filter (MQTT 5 section 4.7): `+` and `#` are whole levels, `#` only the last."""
    levels = topic.split("/")
    wild = [("+" in level or "#" in level) and level not in ("+", "#") for level in levels]
    return 0 < len(topic) <= 1000 and topic.isprintable() and not any(wild) and "#" not in levels[:-1]


class MqttTopics:
    """Messages as a source. Its only part is the client id. It ends once nothing came for `idle_seconds`."""

    def __init__(
        self, options: MqttOptions, host: str, port: int, sign_in: tuple[str | None, str | None], opening: Opening
    ) -> None:
        self._options = options
        self._where = (host, port)
        self._sign_in = sign_in
        self._limits = opening.limits
        self._ca = None if options.ca_file is None else str(opening.base / options.ca_file)
        self._waiting: deque[MQTTMessage] = deque()
        self._overlong: dict[int, BadRow] = {}
        self._handed: list[MQTTMessage] = []
        self._granted = 0
        self._ended: str | None = None
        self._client: Client | None = None

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:  # noqa: ARG002 - the broker knows it
        """See Source. The mark says only which message was the last: where to go on is in the broker's session.

        Without `settled` nothing is acknowledged, and every message comes again: so a look takes nothing away.
        """
        size = min(size, self._options.in_flight)
        self._waiting.clear()
        self._overlong.clear()
        client = self._client = self._connect()
        try:
            while True:
                self._gather(client, size)
                if not self._waiting:
                    return
                count = min(size, len(self._waiting))
                self._handed = [self._waiting.popleft() for _ in range(count)]
                rows = tuple([self._row(message) for message in self._handed])
                # what we add to a message need not be mapped or ignored
                own = {name for row in rows if isinstance(row, Row) for name in row.values if not name.startswith("@")}
                yield Page(self._options.client_id, rows, json.dumps({"last": rows[-1].position}), columns=tuple(own))
        finally:
            self._client = None
            self._await_broker(client)
            client.disconnect()

    def settled(self) -> None:
        """Acknowledges the messages of the page before. See Acknowledging."""
        client = self._client
        if client is None:
            return
        for message in self._handed:
            client.ack(message.mid, message.qos)
        self._handed = []
        # what is acknowledged is with the broker before the next page, and before a disconnection
        while client.want_write() and self._ended is None:
            client.loop(0.01)

    def _connect(self) -> Client:
        try:
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties
            from paho.mqtt.subscribeoptions import SubscribeOptions
        except ImportError:
            raise CouldNotRun('MQTT sources need paho-mqtt; install it with: pip install "yunxi[mqtt]"') from None
        options = self._options
        # no connection of the library's own making: message ids mean something within one connection only
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, options.client_id, protocol=mqtt.MQTTv5,
            manual_ack=True, reconnect_on_failure=False,
        )  # fmt: skip
        self._ended, self._granted = None, 0
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if self._sign_in[0] is not None:
            client.username_pw_set(*self._sign_in)
        if options.tls:
            client.tls_set_context(ssl.create_default_context(cafile=self._ca))
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = options.in_flight
        # what is larger, a broker drops and says nothing (MQTT 5 section 3.1.2.11.4): so it is far above a row
        properties.MaximumPacketSize = self._limits.row_bytes + MAX_MESSAGE
        host, port = self._where
        try:
            client.connect(host, port, KEEPALIVE_SECONDS, clean_start=False, properties=properties)
            self._until(client, lambda: client.is_connected(), "does not answer")
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in options.topics])
            self._until(client, lambda: self._granted > 0, "does not grant the subscription")
        except (OSError, ValueError) as error:
            client.disconnect()
            raise CouldNotRun(
                f"the MQTT broker cannot be reached ({error}); check host, port, TLS and network"
            ) from error
        return client

    def _until(self, client: Client, done: Any, why: str) -> None:
        deadline = time.monotonic() + CONNECT_SECONDS
        while not done():
            if self._ended is None and time.monotonic() > deadline:
                self._ended = why
            if self._ended is not None:
                client.disconnect()
                raise CouldNotRun(f"the MQTT broker {self._ended}; check the mapping and the broker's log")
            client.loop(0.05)

    def _await_broker(self, client: Client) -> None:
        """Sees the broker answer something that was sent behind the acknowledgements: they could be lost with a
        connection that is closed while messages wait in it, and all of them would come again."""
        answered: list[int] = []
        client.on_unsubscribe = lambda _client, _data, mid, *_: answered.append(mid)
        with suppress(OSError, ValueError):
            client.unsubscribe(f"{self._options.client_id}/nothing")
            deadline = time.monotonic() + ANSWER_SECONDS
            while not answered and self._ended is None and time.monotonic() < deadline:
                client.loop(0.05)

    def _gather(self, client: Client, size: int) -> None:
        """Messages until a page is full, or until nothing came for a while: then what there is."""
        quiet_since = time.monotonic()
        count = len(self._waiting)
        while count < size and self._ended is None:
            client.loop(0.05)
            if len(self._waiting) > count:
                count, quiet_since = len(self._waiting), time.monotonic()
            # a page that has begun waits no longer than it must
            elif time.monotonic() - quiet_since > (0.1 if count else max(self._options.idle_seconds, 0.2)):
                return
        if self._ended is not None:
            # what is here was not acknowledged; message ids of a lost connection are worth nothing
            self._waiting.clear()
            raise CouldNotRun(f"the MQTT broker {self._ended}; what was not sealed is sent again")

    def _row(self, message: MQTTMessage) -> Row | BadRow:
        """The payload's members and `@topic`, `@topic.1` ..., `@sha256` of the payload, `@retained`."""
        if message.mid in self._overlong:
            return self._overlong.pop(message.mid)
        payload = bytes(message.payload)
        digest = hashlib.sha256(payload).hexdigest()
        position = f"{message.topic}:{digest[:16]}"[:500]
        row = json_row(position, payload, self._limits.columns)
        if isinstance(row, BadRow):
            return row
        levels = {f"@topic.{number}": level for number, level in enumerate(message.topic.split("/"), 1)}
        own = {"@topic": message.topic, **levels, "@sha256": digest, "@retained": bool(message.retain)}
        return Row(position, {**row.values, **own})

    # -- the library's events --

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        size = len(message.payload)
        if size > self._limits.row_bytes:
            # many of them may wait at once, so what is kept is what quarantine will show
            digest = hashlib.sha256(message.payload).hexdigest()
            detail = f"the message has {size:,} bytes, more than the {self._limits.row_bytes:,} allowed"
            position = f"{message.topic}:{digest[:16]}"[:500]
            self._overlong[message.mid] = BadRow(
                position, excerpt(bytes(message.payload[:EXCERPT_CHARS])), "too-long", detail
            )
            message.payload = b""
        self._waiting.append(message)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._ended = f"refuses the connection ({reason})"

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._ended = self._ended or f"closed the connection ({reason})"

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        self._granted = 1
        if refused := [str(reason) for reason in reasons if reason.is_failure or reason.value != 1]:
            self._ended = f"does not grant the topics at quality of service 1 ({refused[0]})"
