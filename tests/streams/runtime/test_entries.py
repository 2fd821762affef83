"""Which entries of a changelog partition hold: the rules, one by one."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.entries import (
    RANK_HEADER,
    UNCLAIMED,
    Claim,
    Entries,
    Entry,
    Rank,
    Since,
    SupersededError,
    rank_of,
)

Said = tuple[int, int] | None
"""What a record says of its rank: epoch and sequence."""
MOST = 10**17


def entry(offset: int, key: str | None, value: str | None, rank: Said = None) -> Entry:
    return Entry(
        offset,
        None if key is None else key.encode(),
        None if value is None else value.encode(),
        None if rank is None else Rank(*rank),
    )


def recovered(claim: Claim, *records: tuple[int, str | None, str | None, Said]) -> Entries:
    entries = Entries(claim)
    for record in records:
        entries.take(entry(*record))
    return entries


def owned(*records: tuple[int, str | None, str | None, Said], claim: Claim = UNCLAIMED) -> Entries:
    entries = recovered(claim, *records)
    entries.own(entries.next_claim())
    return entries


def values(entries: Entries) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in entries.values.items()}


def outdated(entries: Entries) -> Sequence[str]:
    return [key.decode() for key in entries.outdated]


# A record's rank.


def test_a_later_owner_ranks_higher_and_of_one_owner_the_later_record() -> None:
    assert Rank(2, 0) > Rank(1, 99)
    assert Rank(2, 2) > Rank(2, 1)


@given(st.integers(0, MOST - 1), st.integers(0, MOST - 1))
def test_a_rank_is_read_from_the_header_that_it_is_written_to(epoch: int, sequence: int) -> None:
    rank = Rank(epoch, sequence)
    assert rank_of([("other", Rank(9, 9).encode()), (RANK_HEADER, rank.encode())]) == rank


def test_the_name_and_the_form_of_the_header_stay() -> None:
    assert RANK_HEADER == "chatgauge-rank"
    assert Rank(1, 2).encode() == bytes.fromhex("00000000000000010000000000000002")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"x",
        Rank(1, 2).encode() + b"\0",
        Rank(1, 2).encode()[:-1],
        struct.pack(">qq", -1, 0),
        struct.pack(">qq", 0, -1),
        struct.pack(">qq", MOST, 0),
        struct.pack(">qq", 0, MOST),
        b"\x7f" + b"\xff" * 15,
        b"\xff" * 16,
    ],
)
def test_what_no_owner_can_have_written_is_no_rank(value: bytes | None) -> None:
    assert rank_of([(RANK_HEADER, value)]) is None
    assert rank_of([(RANK_HEADER, value), (RANK_HEADER, Rank(3, 4).encode())]) == (3, 4)


@given(st.lists(st.tuples(st.sampled_from([RANK_HEADER, "other"]), st.none() | st.binary(max_size=20))))
def test_headers_may_be_anything(headers: list[tuple[str, bytes | None]]) -> None:
    rank = rank_of(headers)
    assert rank is None or (0 <= rank.epoch < MOST and 0 <= rank.sequence < MOST)


@pytest.mark.parametrize("rank", [(MOST - 1, 0), (0, MOST - 1)])
def test_whatever_rank_is_read_its_successor_can_be_written(rank: tuple[int, int]) -> None:
    claim = recovered(UNCLAIMED, (0, "k", "v", rank)).next_claim()
    assert Claim.read(claim.note()) == claim
    Rank(claim.epoch, 0).encode()


# A claim, and the note that keeps it.

offsets = st.integers(0, 10**18 - 1)
sinces = st.builds(Since, offsets, offsets)


@given(st.builds(Claim, offsets, offsets, st.none() | sinces))
def test_a_claim_is_read_from_its_note(claim: Claim) -> None:
    assert Claim.read(claim.note()) == claim
    assert len(claim.note()) < 200, "Kafka takes 4,096 bytes"


def test_the_form_of_the_note_stays() -> None:
    assert Claim(2, 50).note() == "owner: epoch 2 since 50"
    assert Claim(3, 70, Since(2, 50)).note() == "owner: epoch 3 since 70 after epoch 2 since 50"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "committed by hand",
        "owner: epoch 2",
        "owner: epoch 2 since",
        "owner: epoch 2 since 50 ",
        " owner: epoch 2 since 50",
        "owner: epoch -2 since 50",
        "owner: epoch 2 since 5.0",
        "owner: epoch ² since 50",
        "owner: epoch ٢ since 50",
        "owner: epoch 2 since 50 after",
        "owner: epoch 2 since 50 after epoch 1",
        "owner: epoch 2 since 50 after epoch 1 since x",
        "owner: epoch 2 since 50\n",
        f"owner: epoch {'9' * 19} since 50",
        f"owner: epoch 2 since {'9' * 19}",
        f"owner: epoch {'9' * 4_400} since 50",
    ],
)
def test_any_other_note_is_no_claim(note: str) -> None:
    assert Claim.read(note) == UNCLAIMED


@given(st.text())
def test_a_note_may_be_anything(note: str) -> None:
    assert Claim.read(note) == UNCLAIMED or note.startswith("owner: ")


def test_a_complete_claim_names_no_earlier_one() -> None:
    assert Claim(3, 70, Since(2, 50)).complete() == Claim(3, 70)
    assert Claim(3, 70).complete() == Claim(3, 70)


@pytest.mark.parametrize(
    ("offset", "epoch", "is_refused"),
    [(69, 0, False), (70, 2, True), (70, 3, False), (70, 4, False), (71, 2, True), (0, 3, False)],
)
def test_a_claim_refuses_earlier_owners_from_its_offset_on(offset: int, epoch: int, is_refused: bool) -> None:
    assert Claim(3, 70).refuses(offset, epoch) is is_refused


@pytest.mark.parametrize(
    ("offset", "epoch", "is_refused"),
    [(49, 1, False), (50, 1, True), (69, 1, True), (69, 2, False), (50, 3, False), (70, 2, True)],
)
def test_until_it_is_complete_it_refuses_what_the_one_before_refused(
    offset: int, epoch: int, is_refused: bool
) -> None:
    assert Claim(3, 70, Since(2, 50)).refuses(offset, epoch) is is_refused


def test_without_a_claim_nothing_is_refused() -> None:
    assert not UNCLAIMED.refuses(0, 0)


# Recovery.


def test_an_empty_partition() -> None:
    entries = recovered(UNCLAIMED)
    assert (values(entries), outdated(entries), len(entries), entries.next_offset) == ({}, [], 0, 0)
    assert entries.next_claim() == Claim(1, 0)
    assert not entries.is_owned


def test_the_last_record_of_a_key_holds_if_it_is_the_newest() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "old", (1, 0)), (1, "k", "new", (1, 1)), (5, "l", "l", (1, 2)))
    assert values(entries) == {"k": "new", "l": "l"}
    assert (outdated(entries), len(entries), entries.next_offset) == ([], 2, 6)


def test_the_newest_record_holds_if_it_is_not_the_last_and_is_to_be_written_again() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "new", (2, 0)), (1, "k", "old", (1, 9)))
    assert (values(entries), outdated(entries)) == ({"k": "new"}, ["k"])


def test_a_deletion_holds_as_a_value_does() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "v", (1, 0)), (1, "k", None, (1, 1)), (2, "k", "v", (1, 0)))
    assert (values(entries), outdated(entries)) == ({}, ["k"])


def test_a_key_is_up_to_date_when_the_newest_comes_after_all() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "b", (1, 1)), (1, "k", "a", (1, 0)), (2, "k", "c", (1, 2)))
    assert (values(entries), outdated(entries)) == ({"k": "c"}, [])


def test_a_record_that_was_written_twice_is_the_same() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "v", (1, 1)), (1, "k", "v", (1, 1)))
    assert (values(entries), outdated(entries)) == ({"k": "v"}, [])


def test_a_zombies_record_never_holds_though_nothing_else_is_left_of_its_key() -> None:
    entries = recovered(Claim(2, 5), (4, "j", "v", (1, 7)), (5, "k", "v", (1, 8)), (6, "l", "v", (2, 0)))
    assert (values(entries), outdated(entries)) == ({"j": "v", "l": "v"}, ["k"])


def test_a_zombies_record_is_of_no_weight_for_those_that_follow() -> None:
    entries = recovered(Claim(3, 5), (1, "k", "v", (1, 0)), (6, "k", "zombie", (2, 9)), (7, "k", "v", (1, 0)))
    assert (values(entries), outdated(entries)) == ({"k": "v"}, ["k"])


def test_what_lay_between_two_claims_is_judged_by_the_first_until_the_second_is_complete() -> None:
    zombie = (6, "k", "v", (1, 8))
    assert values(recovered(Claim(3, 8, Since(2, 5)), zombie)) == {}
    assert values(recovered(Claim(3, 8, Since(2, 7)), zombie)) == {"k": "v"}


def test_a_record_without_a_key_replaces_nothing() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "v", (1, 0)), (1, None, "v", (9, 0)), (2, None, None, None))
    assert (values(entries), outdated(entries), entries.next_offset) == ({"k": "v"}, [], 3)


def test_records_that_come_in_another_order_hold_all_the_same() -> None:
    entries = recovered(UNCLAIMED, (5, "k", "new", (2, 0)), (1, "k", "old", (1, 0)))
    assert (values(entries), entries.next_offset) == ({"k": "new"}, 6)


# Records of versions that knew of no ranks.


def test_of_records_that_do_not_say_the_last_holds() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "old", None), (1, "k", "new", None))
    assert (values(entries), outdated(entries)) == ({"k": "new"}, [])


def test_a_record_that_says_is_newer_than_one_before_it_that_does_not() -> None:
    entries = recovered(UNCLAIMED, (900, "k", "old", None), (901, "k", "new", (1, 0)))
    assert (values(entries), outdated(entries)) == ({"k": "new"}, [])


def test_a_zombie_of_an_earlier_version_is_one_as_well() -> None:
    entries = recovered(Claim(1, 5), (4, "j", "v", None), (5, "k", "v", None))
    assert (values(entries), outdated(entries)) == ({"j": "v"}, ["k"])


def test_an_earlier_version_that_ran_in_between_left_no_claim_and_its_records_hold() -> None:
    entries = recovered(UNCLAIMED, (6, "k", "new version", (3, 2)), (7, "k", "old version", None))
    assert (values(entries), outdated(entries)) == ({"k": "old version"}, [])
    assert entries.next_claim() == Claim(4, 8)


def test_with_a_claim_on_record_it_did_not_run() -> None:
    entries = recovered(Claim(3, 9), (6, "k", "new version", (3, 2)), (7, "k", "late", None))
    assert (values(entries), outdated(entries)) == ({"k": "new version"}, ["k"])


# The next claim.


def test_the_next_epoch_is_past_that_on_record_and_past_all_that_have_written() -> None:
    assert recovered(Claim(4, 0)).next_claim().epoch == 5
    assert recovered(Claim(4, 0), (0, "k", "v", (7, 0))).next_claim().epoch == 8
    assert recovered(UNCLAIMED, (0, "k", "v", (7, 0)), (1, "k", "v", (2, 0))).next_claim().epoch == 8
    assert Entries(Claim(4, 0), epoch=6).next_claim().epoch == 7
    assert Entries(Claim(4, 0), epoch=2).next_claim().epoch == 5


def test_a_zombies_epoch_counts_too_though_its_record_does_not_hold() -> None:
    assert recovered(Claim(9, 0), (0, "k", "v", (8, 0))).next_claim().epoch == 10


def test_a_claim_begins_where_the_known_records_end() -> None:
    assert recovered(UNCLAIMED, (41, "k", "v", (1, 0))).next_claim() == Claim(2, 42)


def test_a_claim_names_the_one_before_it_if_something_is_to_be_restored() -> None:
    zombie = (6, "k", "v", (1, 8))
    assert recovered(Claim(2, 5), zombie).next_claim() == Claim(3, 7, Since(2, 5))
    assert recovered(Claim(2, 7), zombie).next_claim() == Claim(3, 7)


def test_it_names_the_last_that_was_complete() -> None:
    assert recovered(Claim(3, 6, Since(2, 5)), (6, "k", "v", (1, 8))).next_claim() == Claim(4, 7, Since(2, 5))
    assert recovered(Claim(3, 6, Since(2, 5)), (6, "k", "v", (3, 0))).next_claim() == Claim(4, 7)


def test_without_a_claim_on_record_there_is_none_to_name() -> None:
    entries = recovered(UNCLAIMED, (0, "k", "v", (1, 1)), (1, "k", "v", (1, 0)))
    assert (outdated(entries), entries.next_claim()) == (["k"], Claim(2, 2))


# Owning.


def test_an_owner_writes_under_its_epoch_in_a_sequence_from_zero() -> None:
    entries = owned((0, "k", "v", (4, 17)))
    assert entries.is_owned
    assert entries.claim == Claim(5, 1)
    assert [entries.write(key, b"w") for key in (b"k", b"l", b"k")] == [(5, 0), (5, 1), (5, 2)]
    entries.own(entries.next_claim())
    assert entries.write(b"k", b"x") == (6, 0)


def test_what_is_written_holds_at_once_and_is_outdated_until_kafka_has_it() -> None:
    entries = owned((0, "k", "v", (1, 0)), (1, "l", "v", (1, 1)))
    entries.write(b"k", b"w")
    entries.write(b"l", None)
    entries.write(b"m", None)
    assert (values(entries), outdated(entries)) == ({"k": "w"}, ["k", "l", "m"])

    entries.written([b"k", b"m"], [2, 4])

    assert (values(entries), outdated(entries)) == ({"k": "w"}, ["l"])


def test_what_kafka_may_not_have_is_outdated_also_for_the_next_claim() -> None:
    entries = owned((0, "k", "v", (1, 0)))
    entries.write(b"k", b"w")
    assert entries.next_claim() == Claim(3, 1, Since(2, 1))
    entries.own(entries.next_claim())
    assert (values(entries), outdated(entries)) == ({"k": "w"}, ["k"])


def test_what_was_outdated_stays_so_when_the_partition_is_owned() -> None:
    assert outdated(owned((6, "k", "v", (1, 8)), claim=Claim(2, 5))) == ["k"]


def test_the_offsets_between_the_owners_are_those_of_others() -> None:
    entries = owned((9, "k", "v", (1, 0)))
    assert (entries.end, entries.others(10)) == (10, [])
    entries.write(b"k", b"w")
    entries.written([b"k"], [11])
    assert entries.end == 12
    assert entries.others(entries.end) == [10]
    assert entries.others(14) == [10, 12, 13]
    assert entries.others(9) == []


def test_what_has_been_looked_at_is_not_looked_at_again() -> None:
    entries = owned((9, "k", "v", (1, 0)))
    entries.written([], [11, 13])
    assert entries.end == 14
    entries.repel([], 13)
    assert (entries.next_offset, entries.end, entries.others(15)) == (13, 14, [14])
    entries.repel([], 12)
    assert (entries.next_offset, entries.others(15)) == (13, [14])
    entries.repel([], 14)
    assert (entries.next_offset, entries.end, entries.others(15)) == (14, 14, [14])


def test_a_record_of_others_does_not_hold_and_its_key_is_outdated() -> None:
    entries = owned((0, "k", "v", (1, 0)), (1, "l", "v", (1, 1)))
    entries.repel([entry(2, "k", "zombie", (1, 7)), entry(3, "new", "zombie", (1, 8))], 4)
    assert (values(entries), outdated(entries)) == ({"k": "v", "l": "v"}, ["k", "new"])


def test_so_is_one_that_does_not_say_and_one_of_our_own_that_lands_again() -> None:
    entries = owned()
    entries.repel([entry(0, "k", "v", None), entry(1, "l", "v", (1, 0)), entry(2, None, "v", None)], 3)
    assert (values(entries), outdated(entries), entries.next_offset) == ({}, ["k", "l"], 3)


def test_a_record_of_a_later_owner_ends_the_ownership() -> None:
    entries = owned((0, "k", "v", (1, 0)))
    assert entries.claim.epoch == 2
    found = [entry(1, "k", "zombie", (2, 0)), entry(2, "k", "theirs", (3, 0))]
    with pytest.raises(SupersededError, match="epoch 3 has begun, ours was 2"):
        entries.repel(found, 3)
    assert entries.next_offset == 2, "it has still to be taken"


# Owning again what was owned last.


def test_of_a_partition_that_was_ours_only_what_came_since_is_anothers() -> None:
    entries = owned((0, "k", "v", (1, 0)), (1, "l", "v", (1, 1)))
    entries.write(b"k", b"w")
    entries.written([b"k"], [2])
    entries.repel([], 3)

    for again in (entry(0, "k", "v", (1, 0)), entry(2, "k", "w", (2, 0)), entry(3, "l", "late", (1, 9))):
        entries.take(again)

    assert (values(entries), outdated(entries)) == ({"k": "w", "l": "v"}, ["l"])
    assert entries.next_offset == 4
    assert entries.next_claim() == Claim(3, 4, Since(2, 2))


def test_its_next_epoch_is_past_all_that_were_seen() -> None:
    entries = owned((0, "k", "v", (1, 0)))
    entries.take(entry(1, "k", "v", (6, 0)))
    assert entries.next_claim().epoch == 7
