"""Which addresses may be called: whatever way the operator's own networks are written, they are not."""

from __future__ import annotations

import ipaddress

import pytest

from service.errors import AddressNotAllowed
from service.webhooks.addresses import check_url, is_allowed, networks_of

INTERNAL = (
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.5.5",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo: the client is 192.0.2.45
    "2001:db8::1",
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressNotAllowed, match="public internet") as refused:
        check_url(f"https://{literal}/hook")
    assert refused.value.pointer == "/url"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0"])
def test_other_ways_to_write_loopback_are_refused(host: str) -> None:
    with pytest.raises(AddressNotAllowed):
        check_url(f"http://{host}/")


def test_networks_of_the_operator_are_allowed() -> None:
    allowed = networks_of("10.1.0.0/16, fd00::/8")
    assert is_allowed(ipaddress.ip_address("10.1.2.3"), allowed)
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert is_allowed(ipaddress.ip_address("fd12::1"), allowed)
    assert not is_allowed(ipaddress.ip_address("10.2.0.1"), allowed)
    target = check_url("http://127.0.0.1:8080/a?b=c", allowed=networks_of("127.0.0.0/8"))
    assert (target.host, target.port, [str(one) for one in target.addresses]) == ("127.0.0.1", 8080, ["127.0.0.1"])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:hunter2@example.com/",
        "https://example.com/#fragment",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://ex\u00e4mple.com/",
        "https://example.com/\r\nX: y",
        f"https://example.com/{'a' * 2000}",
    ],
)
def test_what_is_no_url_to_call_is_refused(url: str) -> None:
    with pytest.raises(AddressNotAllowed, match="must be like https://host/path") as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_that_is_not_found_is_refused() -> None:
    with pytest.raises(AddressNotAllowed, match=r"must be found, but no\.such\.host\.invalid is not"):
        check_url("https://no.such.host.invalid/")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everything", "10.0.0.0/33"])
def test_networks_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"10|everything"):
        networks_of(text)


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://169.254.169.254/x", "but got 169.254.169.254"), ("http://localhost/x", "but localhost is ")],
)
def test_an_address_is_said_once_and_what_a_name_leads_to(url: str, told: str) -> None:
    with pytest.raises(AddressNotAllowed, match=told):
        check_url(url)
