"""Keys speak for one domain each, and a bad file says what is wrong."""

from pathlib import Path

import pytest

from kvplane.controlplane.errors import ConfigError
from kvplane.controlplane.tenants import first_keys, label, parse_tenants, write_example
from kvplane.directory import Domain

FILE = """
tenants:
  - organisation: acme
    workspace: support
    keys: [sk-acme-0123456789, sk-acme-abcdefghij]
  - organisation: globex
    keys: [sk-globex-0123456789]
"""


def test_every_key_leads_to_its_domain_and_no_other() -> None:
    tenants = parse_tenants(FILE, "t.yaml")

    assert tenants.domain("sk-acme-0123456789") == Domain("acme", "support")
    assert tenants.domain("sk-acme-abcdefghij") == Domain("acme", "support")
    assert tenants.domain("sk-globex-0123456789") == Domain("globex", "default")
    assert tenants.domain("sk-acme-012345678") is None
    assert tenants.domains == {Domain("acme", "support"), Domain("globex", "default")}


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("tenants: []", "at least 1 item"),
        ("tenants: [{organisation: a, keys: [short]}]", "16 characters or more"),
        ("tenants: [{organisation: A B, keys: [0123456789abcdef]}]", "match pattern"),
        ("tenants: [{organisation: a, keys: [0123456789abcdef], role: x}]", "Extra inputs"),
        ("tenants: [", "line 1"),
        (FILE + "  - {organisation: 'x, keys: [0123456789abcdefg]}", "end of stream"),
        (FILE + "  - {organisation: third, keys: [sk-globex-0123456789]}", "two tenants"),
    ],
)
def test_a_bad_file_says_where_and_what_but_no_key(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        parse_tenants(text, "t.yaml")

    assert "t.yaml" in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_the_example_has_two_tenants_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tenants.yaml"
    write_example(path)

    keys = first_keys(path)
    assert set(keys) == {"acme", "globex"}
    assert label(Domain("acme", "default")) == "acme/default"
    assert path.stat().st_mode & 0o077 == 0
