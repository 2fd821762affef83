"""Who may change things: whoever holds the admin key, and nobody by trying."""

from collections.abc import AsyncIterator

import httpx
import pytest

from api.access.first import KEY_ID, first_key, kept_key, renewed_key
from api.access.guard import Guard
from api.access.key import PREFIX, Hashed, make_key
from api.access.throttle import Throttle
from api.errors import ForbiddenError, ThrottledError, UnauthorizedError, UnavailableError
from api.models.rules import RULE_EXAMPLE
from infra.settings import AccessSettings, ClickHouseSettings
from schemas.time import SECOND
from schemas.topics import ACCESS
from tests.api.around import ADMIN, KEY, NOON, Around, MemoryTopics, Time

ADDRESS = "192.0.2.7"
CHANGES = [
    ("POST", "/api/rules"),
    ("PUT", "/api/rules/x"),
    ("DELETE", "/api/rules/x"),
    ("POST", "/api/silences"),
    ("DELETE", "/api/silences/x"),
    ("POST", "/api/endpoints"),
    ("PUT", "/api/endpoints/x"),
    ("DELETE", "/api/endpoints/x"),
    *(("POST", f"/api/endpoints/x/{what}") for what in ("rotate", "enable", "disable", "test", "redrive")),
    ("POST", "/api/alerts/x/acknowledge"),
    ("POST", "/api/deliveries/x/retry"),
]


class TestKeys:
    def test_a_key_has_256_bits_and_no_two_are_the_same(self) -> None:
        keys = {make_key() for _ in range(100)}
        assert len(keys) == 100
        assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)

    def test_what_is_kept_knows_the_key_and_does_not_hold_it(self) -> None:
        key = make_key()
        document = Hashed.of(key).document()
        assert key not in str(document)
        assert document["algorithm"] == "scrypt"
        again = Hashed.from_document(document)
        assert again.matches(key)
        assert not again.matches(key[:-1])

    def test_the_same_key_is_kept_differently_each_time(self) -> None:
        assert Hashed.of("one").digest != Hashed.of("one").digest

    @pytest.mark.parametrize(
        "change", [{"algorithm": "md5"}, {"n": 2**30}, {"salt": "no hex"}, {"digest": None}]
    )
    def test_what_could_not_be_a_key_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"hash|memory|known|hex|key"):
            Hashed.from_document(Hashed.of("one").document() | change)

    @pytest.mark.parametrize("weak", ["short", "x" * 23, "with a space in the middle", "ümlaut" * 6])
    def test_a_key_that_a_person_chose_must_be_long_and_plain(
        self, monkeypatch: pytest.MonkeyPatch, weak: str
    ) -> None:
        monkeypatch.setenv("CHATGAUGE_ACCESS_ADMIN_KEY", weak)
        with pytest.raises(ValueError, match="at least 24 characters"):
            AccessSettings()


class TestThrottle:
    def test_an_address_has_ten_tries_and_then_one_every_six_seconds(self) -> None:
        throttle = Throttle()
        for _ in range(10):
            assert throttle.wait(ADDRESS, NOON) == 0
            throttle.failed(ADDRESS, NOON)
        assert throttle.wait(ADDRESS, NOON) == 6 * SECOND
        assert throttle.wait(ADDRESS, NOON + 5 * SECOND) == SECOND
        assert throttle.wait(ADDRESS, NOON + 6 * SECOND) == 0
        throttle.failed(ADDRESS, NOON + 6 * SECOND)
        assert throttle.wait(ADDRESS, NOON + 6 * SECOND) == 6 * SECOND

    def test_others_are_not_held_up(self) -> None:
        throttle = Throttle()
        for _ in range(10):
            throttle.failed(ADDRESS, NOON)
        assert throttle.wait("192.0.2.8", NOON) == 0

    def test_the_addresses_of_one_network_share_their_tries(self) -> None:
        throttle = Throttle()
        for n in range(10):
            throttle.failed(f"2001:db8::{n}", NOON)
        assert throttle.wait("2001:db8::ffff", NOON) > 0
        assert throttle.wait("2001:db8:0:1::1", NOON) == 0

    def test_many_addresses_together_have_an_end_of_tries_too(self) -> None:
        throttle = Throttle()
        for n in range(100):
            throttle.failed(f"198.51.100.{n}", NOON)
        assert 0 < throttle.wait("203.0.113.1", NOON) <= SECOND

    def test_a_clock_that_goes_back_gives_no_tries(self) -> None:
        throttle = Throttle()
        for _ in range(10):
            throttle.failed(ADDRESS, NOON)
        assert throttle.wait(ADDRESS, NOON - 60 * SECOND) == 6 * SECOND


class TestGuard:
    KEPT = Hashed.of(KEY)

    def guard(self, time: Time, kept: Hashed | None = KEPT, override: str | None = None) -> Guard:
        return Guard(lambda: kept, time, override=override)

    @pytest.mark.parametrize("header", [None, "", KEY, f"Basic {KEY}", "Bearer", "Bearer  "])
    async def test_without_a_key_it_is_said_how_to_send_one(self, header: str | None) -> None:
        with pytest.raises(UnauthorizedError, match="Authorization: Bearer cg_") as refused:
            await self.guard(Time()).check(header, ADDRESS)
        assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_the_right_key_opens(self, scheme: str) -> None:
        guard = self.guard(Time())
        for _ in range(3):
            await guard.check(f"{scheme} {KEY}", ADDRESS)

    async def test_a_wrong_key_is_told_how_to_get_a_right_one(self) -> None:
        with pytest.raises(ForbiddenError, match="admin-key --renew"):
            await self.guard(Time()).check("Bearer cg_wrong", ADDRESS)

    async def test_whoever_guesses_has_to_wait_and_the_right_key_from_there_too(self) -> None:
        time = Time()
        guard = self.guard(time, override=KEY)
        for n in range(10):
            with pytest.raises(ForbiddenError):
                await guard.check(f"Bearer cg_{n}", ADDRESS)
        with pytest.raises(ThrottledError) as held:
            await guard.check(f"Bearer {KEY}", ADDRESS)
        assert held.value.headers == {"Retry-After": "6"}
        await guard.check(f"Bearer {KEY}", "192.0.2.8")
        time.passes(6)
        await guard.check(f"Bearer {KEY}", ADDRESS)

    async def test_a_key_of_the_settings_comes_before_the_one_that_is_kept(self) -> None:
        guard = self.guard(Time(), override="a-key-that-the-settings-give")
        await guard.check("Bearer a-key-that-the-settings-give", ADDRESS)
        with pytest.raises(ForbiddenError):
            await guard.check(f"Bearer {KEY}", ADDRESS)

    async def test_a_renewed_key_ends_the_one_before_at_once(self) -> None:
        kept = [Hashed.of(KEY)]
        guard = Guard(lambda: kept[-1], Time())
        await guard.check(f"Bearer {KEY}", ADDRESS)
        kept.append(Hashed.of("cg_another"))
        with pytest.raises(ForbiddenError):
            await guard.check(f"Bearer {KEY}", ADDRESS)
        await guard.check("Bearer cg_another", ADDRESS)

    async def test_while_no_key_is_known_nothing_opens(self) -> None:
        with pytest.raises(UnavailableError, match="not known yet"):
            await self.guard(Time(), None).check(f"Bearer {KEY}", ADDRESS)


class TestFirstStart:
    async def test_a_key_is_made_once_and_what_is_kept_opens_to_it(self) -> None:
        topics = MemoryTopics()
        key = await first_key(topics[ACCESS], topics, Time())
        assert key is not None
        kept = kept_key(topics[ACCESS].items)
        assert kept is not None
        assert kept.matches(key)
        assert key.encode() not in b"".join(filter(None, topics[ACCESS].history))
        assert await first_key(topics[ACCESS], topics, Time()) is None

    async def test_a_lost_key_is_replaced(self) -> None:
        topics = MemoryTopics()
        first = await first_key(topics[ACCESS], topics, Time())
        second = await renewed_key(topics[ACCESS], topics, Time(), "a test")
        kept = kept_key(topics[ACCESS].items)
        assert kept is not None
        assert kept.matches(second)
        assert first is not None
        assert not kept.matches(first)
        assert topics[ACCESS].items[KEY_ID].revision == 2


class TestOverHttp:
    @pytest.fixture
    async def around(self, away: ClickHouseSettings) -> AsyncIterator[Around]:
        async with Around(away) as around:
            yield around

    @pytest.mark.parametrize(("method", "path"), CHANGES)
    async def test_nothing_changes_without_the_key(self, around: Around, method: str, path: str) -> None:
        async with around.http() as http:
            # A page elsewhere can make a browser send this much, and no more.
            sent = {"Content-Type": "text/plain", "Origin": "http://evil.example", "Cookie": f"key={KEY}"}
            bare = await http.request(method, path, content=b"{}", headers=sent)
            wrong = await http.request(method, path, headers={"Authorization": "Bearer cg_wrong"})
            named = await http.request(method, path, headers={**ADMIN, "Host": "evil.example"})
        assert (bare.status_code, wrong.status_code, named.status_code) == (401, 403, 421)
        assert bare.headers["content-type"] == "application/problem+json"
        assert bare.headers["www-authenticate"] == 'Bearer realm="chatgauge"'
        assert bare.json()["where"] == "Authorization"
        assert "access-control-allow-origin" not in bare.headers

    async def test_the_key_is_asked_for_before_the_body_is_looked_at(self, around: Around) -> None:
        async with around.http() as http:
            answer = await http.post("/api/rules", content=b"x" * 1_000_000)
        assert answer.status_code == 401

    async def test_guessing_from_one_address_does_not_lock_out_others(self, around: Around) -> None:
        async with around.http("203.0.113.9") as guessing, around.http() as http:
            for n in range(10):
                wrong = {"Authorization": f"Bearer cg_{n}"}
                assert (
                    await guessing.post("/api/rules", json=RULE_EXAMPLE, headers=wrong)
                ).status_code == 403
            held = await guessing.post("/api/rules", json=RULE_EXAMPLE, headers=dict(ADMIN))
            fine = await http.post("/api/rules", json=RULE_EXAMPLE, headers=dict(ADMIN))
        assert (held.status_code, held.headers["retry-after"]) == (429, "6")
        assert fine.status_code == 201

    @pytest.mark.parametrize(
        ("body", "kind", "status", "where"),
        [
            (b"{", "application/json", 400, "body"),
            (b"[]", "application/json", 400, "body"),
            (b'{"a": NaN}', "application/json", 400, "body"),
            (b"\xff", "application/json", 400, "body"),
            (b"[" * 100_000, "application/json", 400, "body"),
            (b"{}", "text/plain", 415, "Content-Type"),
            (b'{"a": "' + b"x" * 300_000 + b'"}', "application/json", 413, "body"),
        ],
    )
    async def test_a_body_that_is_none_is_refused(
        self, around: Around, body: bytes, kind: str, status: int, where: str
    ) -> None:
        async with around.http() as http:
            answer = await http.post("/api/rules", content=body, headers={**ADMIN, "Content-Type": kind})
        assert (answer.status_code, answer.json()["where"]) == (status, where)

    async def test_without_kafka_the_key_is_not_known_and_that_is_said(
        self, away: ClickHouseSettings
    ) -> None:
        async with Around(away, admin_key=None) as around, around.http() as http:
            answer: httpx.Response = await http.post("/api/rules", json=RULE_EXAMPLE, headers=dict(ADMIN))
        assert (answer.status_code, answer.json()["where"]) == (503, "kafka")
