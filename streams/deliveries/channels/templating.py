"""The body that an endpoint's own template makes, or the reason why there is none."""

import asyncio
from typing import NamedTuple

import orjson

from streams.deliveries.errors import TemplateError
from streams.deliveries.notification import Notification
from streams.deliveries.rendering import Renderer
from streams.endpoints.endpoint import Endpoint

# Of an endpoint's time; the rest is for sending.
_SHARE = 0.5


class Made(NamedTuple):
    """What a template made: `text`, or None and a `note` that says why the product's own is sent."""

    text: str | None = None
    note: str | None = None


async def made(
    renderer: Renderer, endpoint: Endpoint, notification: Notification, template: str | None
) -> Made:
    """What the template makes of the notification.

    An alert matters more than its looks: where the template fails, the product's own body goes out, and
    the log says so.
    """
    if template is None:
        return Made()
    event = {**orjson.loads(notification.body), "id": notification.notification_id}
    try:
        async with asyncio.timeout(endpoint.timeout * _SHARE):
            text = await renderer.render(
                template, event, owner=endpoint.id, html=endpoint.content_type.startswith("text/html")
            )
        return Made(text)
    except TemplateError as error:
        reason = str(error)
    except TimeoutError:
        reason = "it waited too long for its turn"
    return Made(None, f"the template failed, so the standard body was sent; {reason}")


def fault_of_json(text: str) -> str | None:
    """What keeps the text from being JSON; None where it is."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"line {error.lineno} of what it made is not JSON: {error.msg}"
    return None
