"""Settings: arguments of `Gauge`, else `CHATGAUGE_*` variables, else what is said here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from chatgauge.arguments import LONGEST_TEXT
from chatgauge.errors import ConfigurationError

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SMALLEST_BUFFER = 64 * 1024
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

DEFAULT_BUFFER_BYTES = 50_000_000


@dataclass(frozen=True)
class KafkaConnection:
    """Where Kafka is, and how to be let in.

    `bootstrap` is `host:port`, or several with commas between. TLS verifies the brokers against
    `ca_file` (PEM), or the system's authorities.
    """

    bootstrap: str = "127.0.0.1:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if not all(host.strip() for host in self.bootstrap.split(",")):
            raise ConfigurationError(
                f"bootstrap must be host:port[,host:port...], not {self.bootstrap!r}"
                " (CHATGAUGE_KAFKA_BOOTSTRAP)"
            )
        if self.security_protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"security_protocol must be one of {', '.join(_PROTOCOLS)}"
                " (CHATGAUGE_KAFKA_SECURITY_PROTOCOL)"
            )
        if self.sasl_mechanism not in _MECHANISMS:
            raise ConfigurationError(
                f"sasl_mechanism must be one of {', '.join(_MECHANISMS)} (CHATGAUGE_KAFKA_SASL_MECHANISM)"
            )
        if self.security_protocol.startswith("SASL") and not (self.username and self.password):
            raise ConfigurationError(
                "SASL needs a username and a password (CHATGAUGE_KAFKA_USERNAME, CHATGAUGE_KAFKA_PASSWORD)"
            )

    def __repr__(self) -> str:
        return f"KafkaConnection({self.bootstrap!r}, {self.security_protocol})"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "KafkaConnection":
        """From `CHATGAUGE_KAFKA_*`."""
        names = ("bootstrap", "security_protocol", "sasl_mechanism", "username", "password", "ca_file")
        found = {name: environment.get(f"CHATGAUGE_KAFKA_{name.upper()}") for name in names}
        return cls(**{name: value for name, value in found.items() if value})


def kafka_connection(given: str | KafkaConnection | None, environment: Mapping[str, str]) -> KafkaConnection:
    """Where Kafka is: an address given replaces that of the environment, and no other setting."""
    if isinstance(given, KafkaConnection):
        return given
    found = KafkaConnection.of(environment)
    return found if given is None else replace(found, bootstrap=given)


def switched_on(environment: Mapping[str, str], name: str) -> bool:
    """A yes-or-no variable; unset is no."""
    value = environment.get(name, "").strip().lower()
    if value not in _TRUE + _FALSE:
        raise ConfigurationError(f"{name} must be 1 or 0, not {value!r}")
    return value in _TRUE


def service_name(given: str | None, environment: Mapping[str, str]) -> str:
    """The service that reports: it must have a name."""
    name = given or environment.get("CHATGAUGE_SERVICE")
    if not name or not isinstance(name, str):
        raise ConfigurationError("name the service: Gauge(service='support-chat'), or set CHATGAUGE_SERVICE")
    return name


def region_name(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Where the service runs, if anybody says so."""
    name = given or environment.get("CHATGAUGE_REGION") or None
    if name is not None and (not isinstance(name, str) or len(name) > LONGEST_TEXT):
        raise ConfigurationError(
            f"region must be text of at most {LONGEST_TEXT} characters (CHATGAUGE_REGION)"
        )
    return name


def buffer_bytes(given: int | None, environment: Mapping[str, str]) -> int:
    """How much memory events may hold while they wait."""
    value = given if given is not None else environment.get("CHATGAUGE_BUFFER_BYTES", DEFAULT_BUFFER_BYTES)
    try:
        size = int(value)
    except ValueError:
        size = 0
    if size < _SMALLEST_BUFFER:
        raise ConfigurationError(
            f"the buffer must have at least {_SMALLEST_BUFFER} bytes, not {value!r} (CHATGAUGE_BUFFER_BYTES)"
        )
    return size


def attribute_names(given: Collection[str] | None, environment: Mapping[str, str]) -> Collection[str]:
    """The attributes that may be published: the argument, or `CHATGAUGE_ATTRIBUTES=tier,channel`."""
    if given is not None:
        return given
    listed = environment.get("CHATGAUGE_ATTRIBUTES", "").split(",")
    return {name.strip() for name in listed if name.strip()}
