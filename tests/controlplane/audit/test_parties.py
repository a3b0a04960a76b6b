"""Who attacks whom, by the keys at hand; keys are never told."""

from pathlib import Path

import pytest

from kvplane.controlplane.audit.errors import AuditFailed
from kvplane.controlplane.audit.parties import CROSS, Level, pair_up, read_parties
from kvplane.controlplane.errors import ConfigError
from kvplane.tests.controlplane.audit.made_deployment import GLOBEX, PARTIES, RESEARCH, SUPPORT

FILE = """
tenants:
  - {organisation: globex, keys: [sk-globex-default-01, sk-globex-default-02]}
  - {organisation: acme, workspace: support, keys: [sk-acme-support-0001]}
  - {organisation: initech, disabled: true, keys: [sk-initech-default-1]}
"""


def test_each_level_has_its_own_victim_and_one_attacker() -> None:
    pairs = pair_up([GLOBEX, SUPPORT, RESEARCH], CROSS)

    assert {pair.attacker for pair in pairs.values()} == {SUPPORT}  # globex has no second workspace
    assert {level: pair.victim for level, pair in pairs.items()} == {
        Level.ORGANISATIONS: GLOBEX,
        Level.WORKSPACES: RESEARCH,
        Level.WITHIN: SUPPORT,
    }


def test_the_control_is_there_whatever_is_asked_for() -> None:
    assert list(pair_up(PARTIES, [Level.WORKSPACES])) == [Level.WORKSPACES, Level.WITHIN]
    assert list(pair_up([GLOBEX], [Level.WITHIN])) == [Level.WITHIN]


def test_who_is_missing_is_told_without_keys() -> None:
    with pytest.raises(AuditFailed, match="got acme/support, globex/default; name more") as caught:
        pair_up([SUPPORT, GLOBEX], CROSS)
    with pytest.raises(AuditFailed, match="got no keys"):
        pair_up([], CROSS)

    assert "sk-" not in str(caught.value) + repr(SUPPORT)


def test_keys_come_from_the_enabled_of_a_file_and_from_words_which_count_more(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(FILE)
    parties = read_parties(file, ["acme/research=sk-with=sign", "acme/support=sk-other"])

    assert {party.name: party.key for party in parties} == {
        "globex/default": "sk-globex-default-01",
        "acme/support": "sk-other",
        "acme/research": "sk-with=sign",
    }


@pytest.mark.parametrize("words", ["sk-secret", "acme=sk-secret", "acme/=sk-secret", "/a=sk-secret", "acme/secret="])
def test_a_key_that_cannot_be_read_is_not_repeated(words: str) -> None:
    with pytest.raises(AuditFailed, match="place 2") as caught:
        read_parties(None, ["acme/support=sk-fine", words])

    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_or_says_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuditFailed, match="--keys"):
        read_parties(tmp_path / "none.yaml", [])
    (tmp_path / "bad.yaml").write_text("tenants: 3")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_parties(tmp_path / "bad.yaml", [])
