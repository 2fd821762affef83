"""What can be set, and where each part finds the others: `CHATGAUGE_*` variables, or a `.env` file.

Each class is one concern; a part takes the ones it needs. `.env.example` lists them all.
"""

from datetime import timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.time import zone_of


def _config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        env_prefix=f"CHATGAUGE_{prefix}", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )


class KafkaSettings(BaseSettings):
    """Where Kafka is, how the event topics are created, and how much of one batch is read."""

    model_config = _config("KAFKA_")

    bootstrap: str = "127.0.0.1:9092"
    partitions: int = Field(4, ge=1)
    replication: int = Field(1, ge=1)
    max_unpacked_bytes: int = Field(64 * 1024 * 1024, ge=32 * 1024 * 1024)
    """That a record batch may unpack to; one that would have more is refused. Chatgauge's own have up to 16
    MiB."""


class RegistrySettings(BaseSettings):
    """A Confluent-compatible schema registry; without one, values carry their schema's fingerprint."""

    model_config = _config("SCHEMA_REGISTRY_")

    url: str | None = None


class ClickHouseSettings(BaseSettings):
    """Where ClickHouse's HTTP interface is."""

    model_config = _config("CLICKHOUSE_")

    host: str = "127.0.0.1"
    port: int = Field(8123, ge=1, le=65535)
    user: str = "default"
    password: SecretStr = SecretStr("")
    database: str = "chatgauge"
    secure: bool = False


class WindowSettings(BaseSettings):
    """The time rules of the windows."""

    model_config = _config("WINDOWS_")

    lateness: timedelta = timedelta(seconds=10)
    """How far the watermark stays behind the latest event: a pane closes this long after its end."""
    keep_seconds: timedelta = timedelta(minutes=15)
    keep_minutes: timedelta = timedelta(hours=26)
    """How long a closed one-minute pane still takes late events."""
    keep_days: timedelta = timedelta(days=3)
    timezone: ZoneInfo = ZoneInfo("UTC")
    """Where a day begins."""

    @field_validator("timezone", mode="before")
    @classmethod
    def _zone(cls, name: object) -> object:
        try:
            return zone_of(name) if isinstance(name, str) else name
        except ValueError as error:
            raise ValueError("there is no such time zone, write one as in Europe/Berlin") from error


class WorkerSettings(BaseSettings):
    """How the stream workers take steps."""

    model_config = _config("WORKER_")

    live_linger: timedelta = timedelta(milliseconds=80)
    usage_linger: timedelta = timedelta(seconds=1)
    write_interval: timedelta = timedelta(seconds=1)
    """How often an open pane of a minute or a day is written at most; those of a second always are."""
    max_fetch: int = Field(60_000, ge=1)
    """Most records in one step."""
    remember: int = Field(2_000_000, ge=0)
    """Most ids of recent events that are remembered per partition, to tell repeats: 16 to 32 bytes each."""
    rollup_metrics_port: int = Field(9101, ge=0, le=65535)
    """Where the rollup worker serves its Prometheus metrics; 0 switches them off."""
    usage_metrics_port: int = Field(9102, ge=0, le=65535)
    """Where the usage worker serves its Prometheus metrics; 0 switches them off."""
    alerts_metrics_port: int = Field(9104, ge=0, le=65535)
    """Where the alerts worker serves its Prometheus metrics; 0 switches them off."""
    deliveries_metrics_port: int = Field(9105, ge=0, le=65535)
    """Where the deliveries worker serves its Prometheus metrics; 0 switches them off."""


class SinkSettings(BaseSettings):
    """How the sinks write."""

    model_config = _config("SINK_")

    linger: timedelta = timedelta(seconds=1)
    """How long events gather before an insert."""
    open_pane_interval: timedelta = timedelta(seconds=10)
    """How often an open pane is written at most."""
    max_rows: int = Field(100_000, ge=1)
    """Most rows in one insert."""
    dead_letter_share: float = Field(0.5, gt=0, le=1)
    """Most of the latest records of a partition that may be dead-lettered; beyond it the sink halts the
    partition and waits for a person. 1 allows all."""
    dead_letter_window: int = Field(10_000, ge=10)
    """How many records are the latest; a tenth of them must have been seen before they are judged."""
    rebuild_quiet: timedelta = timedelta(seconds=10)
    """How long nothing must have come for a past minute before it is rebuilt."""
    rebuild_delay: timedelta = timedelta(minutes=2)
    """How long that may put it off."""
    metrics_port: int = Field(9103, ge=0, le=65535)
    """Where the sinks serve their Prometheus metrics; 0 takes a free port."""


class MetricsSettings(BaseSettings):
    """Who can read the workers' and the sinks' Prometheus metrics."""

    model_config = _config("METRICS_")

    host: str = "127.0.0.1"
    """The address they are served on; 0.0.0.0 where they are scraped from other machines."""


class LivenessSettings(BaseSettings):
    """When a part that does not get on is ended, and started again."""

    model_config = _config("LIVENESS_")

    stall_after: timedelta = Field(timedelta(minutes=1), ge=timedelta(seconds=5))
    """How long a part may stand still, with work waiting and nothing declared that it waits for."""
    start_within: timedelta = Field(timedelta(minutes=1), ge=timedelta(seconds=1))
    """How long a part that `chatgauge up` starts may show no progress until it answers."""


class RetentionSettings(BaseSettings):
    """For how many days ClickHouse keeps what it is given, counted from arrival."""

    model_config = _config("RETENTION_")

    events_days: int = Field(90, ge=1, le=10_000)
    spans_days: int = Field(30, ge=1, le=10_000)
    samples_days: int = Field(30, ge=1, le=10_000)
    dead_letters_days: int = Field(90, ge=1, le=10_000)
    windows_days: int = Field(730, ge=1, le=10_000)
    """Panes of minutes and days."""
    live_windows_days: int = Field(3, ge=1, le=10_000)
    """Panes of seconds."""
    alerts_days: int = Field(730, ge=1, le=10_000)
    decisions_days: int = Field(30, ge=1, le=10_000)
    deliveries_days: int = Field(90, ge=1, le=10_000)
    """Notifications, and the attempts to deliver them."""


class ApiSettings(BaseSettings):
    """Where the API listens, and whose metrics it shows beside its own."""

    model_config = _config("API_")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    hosts: list[str] = []
    """Further host names that requests may be addressed to; those of this machine's loopback always are,
    and `*` takes any."""
    parts: dict[str, str] = Field(
        default_factory=lambda: {
            "rollup": "http://127.0.0.1:9101/metrics",
            "usage": "http://127.0.0.1:9102/metrics",
            "sink": "http://127.0.0.1:9103/metrics",
            "alerts": "http://127.0.0.1:9104/metrics",
            "deliveries": "http://127.0.0.1:9105/metrics",
        }
    )
    """Where each other part serves its Prometheus metrics."""


class AccessSettings(BaseSettings):
    """Who may change things through the API, and what keeps the secrets that are given to it."""

    model_config = _config("ACCESS_")

    admin_key: SecretStr | None = None
    """The admin key, instead of the one that was made at the first start."""
    secret_key: SecretStr | None = None
    """What encrypts the secrets of endpoints: 32 bytes in base64, several separated by commas, the newest
    first; the same for every part. Without it, the file `secret.key` in the data directory."""

    @field_validator("admin_key")
    @classmethod
    def _hard_to_guess(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            text = key.get_secret_value()
            if len(text) < _SHORTEST_KEY or not (text.isascii() and text.isprintable()) or " " in text:
                raise ValueError(f"a key has at least {_SHORTEST_KEY} characters: ASCII, without spaces")
        return key


class AlertSettings(BaseSettings):
    """Which rules there are besides those made through the API, and how panes are judged."""

    model_config = _config("ALERTS_")

    rules: Path | None = None
    """A folder of YAML files with rules, which the API shows and can't change."""
    default_rules: bool = True
    """Whether the rules that come with the product are there, too."""
    linger: timedelta = timedelta(milliseconds=50)
    """How long closed panes gather before they are judged."""
    patience: timedelta = timedelta(minutes=1)
    """How long a pane waits for source partitions that stay behind, before it is judged without them."""
    too_late: timedelta = timedelta(minutes=10)
    """How long ago a pane may have ended to change an alert still."""


class NotificationSettings(BaseSettings):
    """How alerts are put together for those who are told of them."""

    model_config = _config("NOTIFICATIONS_")

    group_wait: timedelta = Field(timedelta(milliseconds=300), ge=timedelta(0))
    """How long alerts of a group gather before the first is told."""
    group_interval: timedelta = Field(timedelta(minutes=1), ge=timedelta(0))
    """How often a group is told of at most, after that."""
    group_by: list[str] = Field(["rule"], max_length=10)
    """What the alerts of a group have in common: `rule`, `severity`, the name of a label, a key such as
    `model`. An empty list puts all alerts of an endpoint together."""
    public_url: str = Field("http://127.0.0.1:8000", pattern=r"^https?://\S+[^\s/]$")
    """Where people reach the API: what links in notifications begin with."""


class DeliverySettings(BaseSettings):
    """How notifications are delivered to endpoints."""

    model_config = _config("DELIVERY_")

    allow: list[str] = []
    """Networks and hosts that may be called although they aren't public, and without TLS, on one port or on
    all: `10.1.0.0/16`, `127.0.0.1:9093`, `hooks.example.internal`, `*.example.internal:8443`."""
    ca_file: Path | None = None
    """Certificates, in PEM, of further authorities that endpoints' certificates may come from."""
    schedule: list[timedelta] = [
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    ]
    """How long to wait after the first, the second, ... failed attempt; after the last there is no other."""
    most_under_way: int = Field(500, ge=1)
    """Most attempts at once; endpoints that keep failing get half of them."""
    backlog: int = Field(50_000, ge=1)
    """Most deliveries that may wait at an endpoint; what comes beyond is parked."""
    disable_after: timedelta = timedelta(days=5)
    """How long an endpoint may fail without a break before it is disabled."""
    remember: timedelta = timedelta(days=7)
    """For how long ids are remembered, to tell repeats; by the notifications' own time."""
    remember_ids: int = Field(2_000_000, ge=1)
    """Most ids per partition: 8 bytes each."""
    body_memory: int = Field(64 * 1024 * 1024, ge=0)
    """Bytes of notifications that are held in memory; others are read from Kafka again when they are due."""
    shutdown: timedelta = timedelta(seconds=20)
    """How long a worker that stops waits for attempts under way."""


class MailSettings(BaseSettings):
    """The server that takes mail to be sent."""

    model_config = _config("MAIL_")

    host: str | None = None
    """Without one, mail endpoints fail, and say so."""
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    """STARTTLS (usual on port 587), TLS from the first byte (on 465), or neither."""
    user: str | None = None
    password: SecretStr = SecretStr("")
    sender: str = "Chatgauge <chatgauge@localhost>"
    """Who mail is from."""
    ca_file: Path | None = None
    """Certificates, in PEM, of a further authority that the server's certificate may come from."""


class LocalSettings(BaseSettings):
    """The embedded Kafka and ClickHouse that `chatgauge up` starts."""

    model_config = _config("")

    data: Path = Path("var")
    """Where they keep their data, and where the parts log."""
    kafka_jars: Path | None = None
    """Where Kafka's jars are; `var/lib/kafka-<version>` of the checkout when not set."""


_SHORTEST_KEY = 24
_HINTS = {"time_delta_parsing": "; durations are written as in PT10S, PT0.1S, PT26H or P3D"}


def explained(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a line for each; values are left out, they may be secret."""
    classes = {each.__name__: each for each in BaseSettings.__subclasses__()}
    prefix = classes[error.title].model_config.get("env_prefix", "")
    return [
        f"{prefix}{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}{_HINTS.get(fault['type'], '')}"
        for fault in error.errors(include_input=False)
    ]
