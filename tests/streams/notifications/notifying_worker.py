"""The notifier in a worker: test_agent runs it as a process.

    python notifying_worker.py BOOTSTRAP PARTITIONS [--killed]

Told to be killed, it kills itself when its state is written, and the first notification would be sent.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from infra import logs
from infra.settings import KafkaSettings, NotificationSettings, WindowSettings
from streams.notifications import agent
from streams.notifications.state import Outbox
from streams.runtime import harness
from streams.runtime.ledger import Ledger


def main(bootstrap: str, partitions: str, *options: str) -> None:
    logs.begin()
    sys.argv = sys.argv[:1]
    if options:
        send = agent._send

        async def kill(outbox: Outbox, ledger: Ledger) -> None:
            if outbox.notifications:
                os.kill(os.getpid(), signal.SIGKILL)
            await send(outbox, ledger)

        agent._send = kill
    kafka = KafkaSettings(bootstrap=bootstrap, partitions=int(partitions))
    harness.run([agent.wired(kafka, NotificationSettings(), WindowSettings())], kafka)


if __name__ == "__main__":
    main(*sys.argv[1:])
