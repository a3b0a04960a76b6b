"""What befalls a fleet, as it is typed."""

import pytest

from kvplane.controlplane.replay.fleet import Incident
from kvplane.controlplane.replay.incidents import BadIncident, incidents


def test_incidents_are_read_and_put_in_order() -> None:
    found = incidents(["60:slows:1:2.5", "1.5:leaves:0", "90:joins:3", "95:joins:0"], 3, 100_000.0)

    assert found == (
        Incident(1500.0, "leaves", 0),
        Incident(60_000.0, "slows", 1, 2.5),
        Incident(90_000.0, "joins", 3),
        Incident(95_000.0, "joins", 0),
    )


@pytest.mark.parametrize(
    "texts, said",
    [
        (["60:explodes:1"], "wanted SECONDS:leaves|joins:REPLICA or SECONDS:slows:REPLICA:FACTOR; got 60:explodes:1"),
        (["soon:leaves:1"], "got soon:leaves:1"),
        (["60:slows:1"], "got 60:slows:1"),
        (["60:slows:1:0"], "got 60:slows:1:0"),
        (["60:leaves:1:2"], "got 60:leaves:1:2"),
        (["-1:leaves:1"], "got -1:leaves:1"),
        (["nan:leaves:1"], "got nan:leaves:1"),
        (["60"], "got 60"),
        (["101:leaves:1"], "before the last request, at 100 s; got 101:leaves:1"),
        (["60:leaves:2"], "a replica that is there, of 0, 1; got 60:leaves:2"),
        (["60:leaves:1", "70:slows:1:2"], "of 0; got 70:slows:1"),
        (["60:leaves:1", "70:leaves:0"], "at least one replica to stay; got 70:leaves:0"),
        (["60:joins:1"], "wanted replica 2 to join, or one that left; got 60:joins:1"),
        (["60:joins:3"], "wanted replica 2 to join, or one that left; got 60:joins:3"),
    ],
)
def test_what_cannot_happen_is_told(texts: list[str], said: str) -> None:
    with pytest.raises(BadIncident) as caught:
        incidents(texts, 2, 100_000.0)

    assert said in str(caught.value)
