"""Chatgauge: measure a chat service that calls language models.

import chatgauge

gauge = chatgauge.Gauge(service="support-chat")

with gauge.request(provider="openai", model="gpt-4o", user_id="u1") as request:
    documents = retrieve()
    request.context_ready()
    for token in stream:
        request.chunk()
    request.usage(prompt_tokens=812, completion_tokens=96)
"""

from chatgauge.buffer import Stats
from chatgauge.config import KafkaConnection
from chatgauge.errors import ChatgaugeError, ConfigurationError
from chatgauge.gauge import Gauge
from chatgauge.request import Request, current_request
from chatgauge.span import Span

__version__ = "0.1.0"

__all__ = [
    "ChatgaugeError",
    "ConfigurationError",
    "Gauge",
    "KafkaConnection",
    "Request",
    "Span",
    "Stats",
    "__version__",
    "current_request",
]
