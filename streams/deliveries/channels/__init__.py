"""The ways out, by the name that an endpoint has in `channel`."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.settings import DeliverySettings, MailSettings
from streams.deliveries.addresses import AllowList
from streams.deliveries.channel import Channel
from streams.deliveries.channels.alertmanager import AlertmanagerChannel
from streams.deliveries.channels.mail import MailChannel
from streams.deliveries.channels.pagerduty import PagerDutyChannel
from streams.deliveries.channels.slack import SlackChannel
from streams.deliveries.channels.teams import TeamsChannel
from streams.deliveries.channels.webhook import WebhookChannel
from streams.deliveries.client import DeliveryClient, trust
from streams.deliveries.rendering import Renderer
from streams.endpoints.secrets import Vault


@dataclass(frozen=True)
class Outlets:
    """All channels, and what they share."""

    channels: Mapping[str, Channel]
    client: DeliveryClient
    renderer: Renderer

    async def close(self) -> None:
        """Give up connections and processes."""
        for channel in self.channels.values():
            await channel.close()
        await self.client.close()
        await self.renderer.close()


def open_outlets(deliveries: DeliverySettings, mail: MailSettings, vault: Vault) -> Outlets:
    """All channels; to be opened and closed in a running event loop.

    Raises AllowListError when CHATGAUGE_DELIVERY_ALLOW can't be read.
    """
    client = DeliveryClient(AllowList.of(deliveries.allow), context=trust(deliveries.ca_file))
    renderer = Renderer()
    channels: dict[str, Channel] = {
        "webhook": WebhookChannel(client, vault, renderer),
        "mail": MailChannel(mail, renderer),
        "slack": SlackChannel(client, renderer),
        "teams": TeamsChannel(client, renderer),
        "pagerduty": PagerDutyChannel(client, vault),
        "alertmanager": AlertmanagerChannel(client, vault),
    }
    return Outlets(channels, client, renderer)
