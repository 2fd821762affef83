"""Webhooks by Standard Webhooks: the event as it is, or as the endpoint's template makes it, signed."""

from datetime import UTC, datetime

from streams.deliveries.channel import Response
from streams.deliveries.channels.posting import Posting, deadline_of, post
from streams.deliveries.channels.templating import Made, fault_of_json, made
from streams.deliveries.client import DeliveryClient
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.deliveries.signing import signature_headers
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.errors import SecretError
from streams.endpoints.secrets import Vault


class WebhookChannel:
    """Posts to an endpoint's URL; 2xx alone is success."""

    def __init__(self, client: DeliveryClient, vault: Vault, renderer: Renderer) -> None:
        self._client = client
        self._vault = vault
        self._renderer = renderer

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`."""
        assert endpoint.url is not None
        deadline = deadline_of(endpoint)
        try:
            signing = [
                self._vault.decrypt(secret.value, endpoint.id)
                for secret in endpoint.live_secrets(datetime.fromtimestamp(now, UTC))
            ]
            credential = endpoint.credential and self._vault.decrypt(endpoint.credential.value, endpoint.id)
        except SecretError as error:
            return Response(Verdict.FAILED, error=str(error))
        own = await self._body(endpoint, notification)
        body = notification.body if own.text is None else own.text
        posting = Posting(
            endpoint.url,
            body,
            {
                **endpoint.headers,
                "Content-Type": "application/json" if own.text is None else endpoint.content_type,
                **({"Authorization": credential} if credential else {}),
                **signature_headers(notification.notification_id, body, signing, now),
            },
            (credential,) if credential else (),
            own.note,
        )
        return await post(self._client, posting, deadline, now)

    async def _body(self, endpoint: Endpoint, notification: Notification) -> Made:
        own = await made(self._renderer, endpoint, notification, endpoint.template)
        if own.text is not None and "json" in endpoint.content_type and (fault := fault_of_json(own.text)):
            return Made(None, f"the template failed, so the standard body was sent; {fault}")
        return own

    async def close(self) -> None:
        """Nothing: the client is shared."""
