"""One running stack for each module."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The product, running: `chatgauge up --no-simulate`, on free ports."""
    running = Stack(tmp_path_factory.mktemp("stack"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
        running.api.close()
