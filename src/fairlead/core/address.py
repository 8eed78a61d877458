"""Addresses that a server may be told to connect to: what a name may stand for (promises.md S11)."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

__all__ = ["reachable"]

METADATA = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"), ip_network("fd00:ec2::/32"))
"""Where clouds keep the credentials of a machine: denied even where private addresses are allowed."""
NAT64 = ip_network("64:ff9b::/96")


def reachable(text: str, *, allow_private: bool) -> bool:
    """Whether a numeric address (with or without a zone) may be connected to: a public one, or, where
    that is allowed, one of the own network or of this machine."""
    address = _inner(ip_address(text.partition("%")[0]))
    if address.is_multicast or address.is_unspecified or any(address in net for net in METADATA):
        return False
    return allow_private or address.is_global


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
