"""Every kind of source by the word that mapping files use: one file a kind, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from adapters.csv_files import CsvOptions
from adapters.folder import FolderOptions
from adapters.jsonl_files import JsonlOptions
from adapters.mqtt_topics import MqttOptions
from adapters.rest_api import RestOptions
from adapters.s3_buckets import S3Options
from adapters.sections import Section
from adapters.source import SourceOptions
from adapters.sql_tables import SqlOptions
from adapters.webhook import WebhookOptions
from adapters.xlsx_files import XlsxOptions
from adapters.xml_files import XmlOptions

KINDS: dict[str, Callable[[Section], SourceOptions]] = {
    "csv": CsvOptions.parse,
    "jsonl": JsonlOptions.parse,
    "xlsx": XlsxOptions.parse,
    "xls": XlsxOptions.parse,
    "xml": XmlOptions.parse,
    "folder": FolderOptions.parse,
    "mqtt": MqttOptions.parse,
    "rest": RestOptions.parse,
    "s3": S3Options.parse,
    "webhook": WebhookOptions.parse,
    "sql": SqlOptions.parse,
}
