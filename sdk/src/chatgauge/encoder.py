"""From what a caller noted to what is sent: ids, pseudonyms, the Kafka key, the bytes."""

from typing import Any

from chatgauge.identity import new_id, this_instance
from chatgauge.notices import Notices
from chatgauge.privacy import Pseudonyms
from chatgauge.transport import REQUESTS, SAMPLES, SPANS, EncodedMessage
from chatgauge.wire import record_type

UNENCODABLE = "an event could not be encoded"


class Encoder:
    """Completes records and encodes them. Sending thread only.

    An event gets its id here, once; whatever is sent again is the same bytes.
    """

    def __init__(
        self,
        service: str,
        instance: str | None,
        region: str | None,
        pseudonyms: Pseudonyms,
        notices: Notices,
    ) -> None:
        self._service = service
        self._region = region
        self._given_instance = instance
        self._instance = instance or this_instance()
        self._pseudonyms = pseudonyms
        self._notices = notices

    def renew(self) -> None:
        """This is another process now: a forked child."""
        self._instance = self._given_instance or this_instance()

    def message(self, topic: str, record: dict[str, Any], charge: int) -> EncodedMessage | None:
        """The record's message, or None (counted) when it can't be made."""
        record["event_id"] = new_id()
        record["service"] = self._service
        record["instance"] = self._instance
        if self._region is not None and topic != SAMPLES:
            record.setdefault("region", self._region)
        self._keep_private(record)
        encode = record_type(topic).encode
        try:
            try:
                value = encode(record)
            except UnicodeEncodeError:
                record = {name: _speakable(content) for name, content in record.items()}
                value = encode(record)
            return EncodedMessage(topic, _key(topic, record).encode("utf-8"), value, charge)
        except Exception as error:  # whatever it is, the other events must go on
            self._notices.count(UNENCODABLE, f"{topic}: {type(error).__name__}")
            return None

    def _keep_private(self, record: dict[str, Any]) -> None:
        user_id = record.get("user_id")
        if user_id is not None:
            record["user_id"] = self._pseudonyms.of(user_id)
        for name in ("space_id", "conversation_id"):
            opaque = record.get(name)
            if opaque is not None:
                record[name] = self._pseudonyms.unless_email(opaque, name)
        attributes = record.get("attributes")
        if attributes:
            kept = (self._pseudonyms.unless_email(pair, "an attribute") for pair in attributes)
            record["attributes"] = [pair for pair in kept if pair is not None]


def _key(topic: str, record: dict[str, Any]) -> str:
    """What decides the partition: events of one key stay in order."""
    if topic == REQUESTS:
        return str(record.get("user_id") or record["request_id"])
    if topic == SPANS:
        return str(record["trace_id"])
    if topic == SAMPLES:
        return f"{record['service']}/{record['instance']}"
    raise ValueError(f"no such topic: {topic}")


def _speakable(content: object) -> object:
    """Text without lone surrogates, which UTF-8 can't hold."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode("utf-8")
    if isinstance(content, list):
        return [_speakable(part) for part in content]
    return content
