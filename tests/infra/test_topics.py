"""Creating the topics: on a broker that creates none by itself."""

import pytest
from aiokafka import AIOKafkaProducer

from infra import topics
from infra.errors import TopicsDifferError
from schemas.topics import TOPICS, Topic


def _named(prefix: str) -> list[Topic]:
    return [
        Topic(f"{prefix}.{topic.name}", topic.record, topic.config, topic.follows_source) for topic in TOPICS
    ]


async def test_missing_topics_are_created_and_the_next_call_finds_them(kafka: str, topic_prefix: str) -> None:
    wanted = _named(topic_prefix)

    first = await topics.create(kafka, partitions=3, topics=wanted)
    second = await topics.create(kafka, partitions=3, topics=wanted)

    assert [state.name for state in first] == [topic.name for topic in wanted]
    assert all(state.created for state in first)
    assert not any(state.created for state in second)
    found = await topics.describe(kafka, wanted)
    assert found == {topic.name: 3 if topic.follows_source else 1 for topic in wanted}


async def test_another_number_of_partitions_is_refused_and_nothing_is_created(
    kafka: str, topic_prefix: str
) -> None:
    wanted = _named(topic_prefix)
    await topics.create(kafka, partitions=2, topics=wanted[:1])

    with pytest.raises(
        TopicsDifferError, match=r"chat\.requests has 2 and needs 4.*CHATGAUGE_KAFKA_PARTITIONS"
    ):
        await topics.create(kafka, partitions=4, topics=wanted)

    assert list(await topics.describe(kafka, wanted)) == [wanted[0].name]


async def test_a_block_of_sixteen_megabytes_fits_into_the_windows_topic(
    kafka: str, topic_prefix: str
) -> None:
    windows = next(topic for topic in _named(topic_prefix) if topic.name.endswith("chat.windows"))
    await topics.create(kafka, partitions=1, topics=[windows])
    block = bytes(16 * 1024 * 1024 - 1024)

    async with AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=17 * 1024 * 1024) as producer:
        written = await producer.send_and_wait(windows.name, block, key=b"block")

    assert written.offset == 0
