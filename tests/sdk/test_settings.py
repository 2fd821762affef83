"""Settings: arguments, then the environment; what is wrong is said when the gauge is made."""

import chatgauge
import pytest
from chatgauge.config import kafka_connection
from chatgauge.testing import CaptureTransport


def test_the_environment_fills_in_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGAUGE_SERVICE", "from-env")
    monkeypatch.setenv("CHATGAUGE_INSTANCE", "pod-7")
    monkeypatch.setenv("CHATGAUGE_REGION", "eu-central-1")
    monkeypatch.setenv("CHATGAUGE_ATTRIBUTES", "region, tier")
    transport = CaptureTransport()
    with chatgauge.Gauge(transport=transport) as gauge, gauge.request(attributes={"tier": "gold"}):
        pass
    assert b"from-env" in transport.messages[0].value
    assert b"pod-7" in transport.messages[0].value
    assert b"eu-central-1" in transport.messages[0].value
    assert b"tier=gold" in transport.messages[0].value


def test_the_connection_comes_from_the_environment_and_hides_its_password() -> None:
    environment = {
        "CHATGAUGE_KAFKA_BOOTSTRAP": "a:1,b:2",
        "CHATGAUGE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "CHATGAUGE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "CHATGAUGE_KAFKA_USERNAME": "gauge",
        "CHATGAUGE_KAFKA_PASSWORD": "hush",
    }
    connection = kafka_connection(None, environment)
    assert connection.bootstrap == "a:1,b:2"
    assert connection.password == "hush"
    assert "hush" not in repr(connection)
    assert kafka_connection("c:3", environment).bootstrap == "c:3"
    assert kafka_connection("c:3", environment).username == "gauge"


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"service": None}, {}, "CHATGAUGE_SERVICE"),
        ({"region": 5}, {}, "CHATGAUGE_REGION"),
        ({}, {"CHATGAUGE_REGION": "r" * 257}, "CHATGAUGE_REGION"),
        ({"kafka": "a:1,,b:2"}, {}, "host:port"),
        ({"buffer_bytes": 5}, {}, "CHATGAUGE_BUFFER_BYTES"),
        ({}, {"CHATGAUGE_BUFFER_BYTES": "50MB"}, "CHATGAUGE_BUFFER_BYTES"),
        ({}, {"CHATGAUGE_DISABLED": "perhaps"}, "CHATGAUGE_DISABLED must be 1 or 0"),
        ({"attributes": "region"}, {}, "set of names"),
        ({"attributes": {"a=b"}}, {}, "'a=b'"),
        ({}, {"CHATGAUGE_KAFKA_SECURITY_PROTOCOL": "TLS"}, "SASL_SSL"),
        ({}, {"CHATGAUGE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "CHATGAUGE_KAFKA_USERNAME"),
    ],
)
def test_a_wrong_setting_is_said_at_once(
    settings: dict[str, object],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(chatgauge.ConfigurationError, match=message):
        chatgauge.Gauge(**{"service": "s", **settings})  # type: ignore[arg-type]


def test_disabled_it_needs_no_settings_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGAUGE_DISABLED", "1")
    transport = CaptureTransport()
    gauge = chatgauge.Gauge(transport=transport)
    with gauge.request(model="m") as request, gauge.span("tool", "t"):
        request.first_token()
        assert chatgauge.current_request().recording is False

    def search() -> None:
        """Undecorated."""

    assert gauge.span("tool", "t")(search) is search
    gauge.sample("n", 1)
    assert gauge.flush()
    gauge.close()
    assert gauge.disabled
    assert gauge.stats() == chatgauge.Stats()
    assert transport.messages == []
