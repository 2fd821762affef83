"""Ids: random, cheap, and different after a fork."""

import os
import random
import socket

_random = random.Random(os.urandom(32))  # noqa: S311  ids must be unique, not secret


def new_id() -> str:
    """128 random bits in hex, as W3C trace ids are."""
    return f"{_random.getrandbits(128):032x}"


def new_span_id() -> str:
    """64 random bits in hex, as W3C span ids are."""
    return f"{_random.getrandbits(64):016x}"


def this_instance() -> str:
    """`host:pid`: the processes of one host sample states of their own."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _reseed() -> None:
    _random.seed(os.urandom(32))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)
