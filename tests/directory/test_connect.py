"""A URL names a store, or says what was wrong with it."""

import datetime
import ipaddress
import ssl
import traceback
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from kvplane.directory import BadUrl, DirectorySettings, HolderId, PagesDown, open_client, open_pages, seal
from kvplane.directory.connect import resolve_url
from kvplane.directory.wire import Checkpoint, Load
from kvplane.tests.forwarder import Forwarder


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key for 127.0.0.1 and its own signature under it, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, address = datetime.datetime.now(datetime.UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName([address]), critical=True)
    signed = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(key.private_bytes(pem, *plain) + signed.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


@pytest.mark.parametrize(
    "url, match",
    [
        ("http://localhost:6379", "begins with one of redis, rediss, redis.cluster, rediss.cluster; got 'http'"),
        ("localhost:6379", "begins with one of"),
        ("", "got 'no scheme'"),
        ("redis://", "names a host"),
        ("redis+cluster://a:1,,b:2", "names a host"),
        ("redis://a:1,b:2", "for several use redis.cluster"),
        ("redis+cluster://a:1/3", "database 0 only"),
        ("redis://a:port", "got host 'a:port'"),
        ("redis://a:1?no_such_option=1", "connection options and no others"),
    ],
)
async def test_a_url_that_names_no_store_says_what_was_wanted(url: str, match: str) -> None:
    with pytest.raises(BadUrl, match=match):
        async with open_pages(url, DirectorySettings()):
            pass


async def test_a_bad_url_does_not_print_its_password() -> None:
    with pytest.raises(BadUrl) as caught:
        async with open_pages("redis://user:hunter2@a:port", DirectorySettings()):
            pass

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("password", ["hunter2/", "hunter2?", "hunter2#", "hunter2[", "/hunter2", "hunter2\u2100"])
async def test_a_password_that_breaks_its_url_is_not_printed_either(password: str) -> None:
    with pytest.raises(BadUrl, match="write / as %2F") as caught:
        async with open_pages(f"redis://user:{password}@a:1", DirectorySettings()):
            pass

    assert "hunter2" not in "".join(traceback.format_exception(caught.value, limit=0))


async def test_a_url_may_stand_in_a_variable_or_a_file(
    server: str, holder: HolderId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = seal(Checkpoint(holder, 1, 0, Load()), b"k" * 32)
    monkeypatch.setenv("KV_URL", server)
    (tmp_path / "url").write_text(f"{server}\n")

    async with open_pages("env:KV_URL", DirectorySettings()) as by_variable:
        await by_variable.checkpoint(page)
    async with open_pages(f"file:{tmp_path / 'url'}", DirectorySettings()) as by_file:
        found = await anext(by_file.follow(holder))

    assert found == page
    assert resolve_url(server) == server


@pytest.mark.parametrize(
    "url, match",
    [
        ("env:NOT_SET", "should stand in env:NOT_SET, which is empty or not set"),
        ("env:", "should stand in env:, which"),
        ("file:/no/such/file", "cannot be read: .*No such file.*/no/such/file"),
        ("file:/dev/null", "should stand in file:/dev/null, which is empty"),
        ("env:ELSEWHERE", "begins with one of redis"),
    ],
)
async def test_a_url_that_is_not_where_it_should_stand_is_said(
    url: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "env:ELSEWHERE")

    with pytest.raises(BadUrl, match=match):
        async with open_client(url, DirectorySettings()):
            pass


async def test_a_database_and_an_option_in_the_url_are_used(server: str, holder: HolderId) -> None:
    page = seal(Checkpoint(holder, 1, 0, Load()), b"k" * 32)
    async with open_pages(f"{server}/3?client_name=test", DirectorySettings()) as third:
        await third.checkpoint(page)
        found = await anext(third.follow(holder))

    assert found == page


async def test_a_store_behind_tls_is_trusted_only_by_its_certificate(
    server: str, holder: HolderId, certificate: Path
) -> None:
    page = seal(Checkpoint(holder, 1, 0, Load()), b"k" * 32)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with Forwarder(("127.0.0.1", urlsplit(server).port or 0), tls) as front:
        async with open_pages(f"rediss://{front.address}?ssl_ca_certs={certificate}", DirectorySettings()) as trusting:
            await trusting.checkpoint(page)
            found = await anext(trusting.follow(holder))
        async with open_pages(f"rediss://{front.address}", DirectorySettings()) as wary:
            with pytest.raises(PagesDown, match="certificate verify failed"):
                await wary.checkpoint(page)

    assert found == page


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        DirectorySettings.model_validate({"shard": 3})


def test_settings_do_not_print_the_url() -> None:
    assert "hunter2" not in repr(DirectorySettings(url="redis://:hunter2@localhost"))
