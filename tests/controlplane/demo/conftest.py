"""A chat server on loopback for the tests of the demo."""

from collections.abc import Iterator

import pytest

from kvplane.tests.controlplane.demo.fake_chat import FakeChat, serving_fake


@pytest.fixture
def fake_chat() -> Iterator[FakeChat]:
    with serving_fake() as fake:
        yield fake
