"""Which addresses this server may connect to when it calls another Odoo.

The one idea: what counts is the address that is connected to, not the name that somebody wrote.
A name is resolved once, each address is judged, and the connection goes to one that was judged.
Public addresses are allowed; of the others only what ``allowed_hosts`` names:

==================  ==========================================================================
``10.1.2.3``        this address
``10.1.0.0/16``     these
``erp.internal``    private addresses under this name; not loopback, link-local and the like,
                    which no name of another server has for an honest reason
==================  ==========================================================================

What may go wrong: :class:`~.errors.AddressRefused`, before anything was sent.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import typing
from urllib.parse import urlsplit

from ..sentences import _lt
from .errors import AddressRefused, RemoteTimeout, RemoteUnreachable

_NAT64 = ipaddress.ip_network('64:ff9b::/96')


class Target(typing.NamedTuple):
    """Where a URL leads.

    :param path: before every path, without a slash at the end
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def parse_url(url: str) -> Target:
    """:raise ValueError: with a sentence, which does not repeat the URL"""
    try:
        parts = urlsplit((url or '').strip())
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in ('http', 'https') or not parts.hostname:
        raise ValueError(_lt("Give the URL of the other server, such as https://erp.example.com."))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(_lt("The URL must hold no login, password, query or fragment."))
    port = port or (443 if parts.scheme == 'https' else 80)
    return Target(parts.scheme, parts.hostname, port, parts.path.rstrip('/'))


def parse_allowed(text: str | None) -> frozenset[str]:
    """Names, addresses and networks, separated by commas, spaces or lines.

    :raise ValueError: for one that looks like a network and is none
    """
    found = set()
    for word in (text or '').replace(',', ' ').split():
        if '/' in word:
            word = str(ipaddress.ip_network(word, strict=False))
        found.add(word.lower())
    return frozenset(found)


def is_allowed(address: str, host: str, allowed: frozenset[str]) -> bool:
    """Whether to connect to an address, which ``host`` has been resolved to."""
    ip = _plain(ipaddress.ip_address(address.partition('%')[0]))
    if ip.is_global and not ip.is_multicast and not ip.is_reserved:
        return True
    if any(_covers(word, ip) for word in allowed):
        return True
    special = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
    return ip.is_private and not special and host.lower() in allowed


def _plain(ip):
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if ip.version == 6:
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip.sixtofour:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
    return ip


def _covers(word: str, ip) -> bool:
    try:
        network = ipaddress.ip_network(word)
    except ValueError:
        return False
    return network.version == ip.version and ip in network


def resolve(host: str, port: int, timeout_s: float) -> list[tuple]:
    """What ``getaddrinfo`` says, in time.

    :raise RemoteUnreachable: there is no such name
    :raise RemoteTimeout: that is not known in time
    """
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def look_up():
        try:
            answers.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            answers.put(None)

    threading.Thread(target=look_up, name='tiered_cache.dns', daemon=True).start()
    try:
        found = answers.get(timeout=max(timeout_s, 0.001))
    except queue.Empty:
        raise RemoteTimeout('The name of the server is not resolved in time.') from None
    if not found:
        raise RemoteUnreachable('The name of the server cannot be resolved.')
    return found


def open_socket(target: Target, allowed: frozenset[str], timeout_s: float, left_s) -> socket.socket:
    """A TCP connection to an address that may be connected to.

    :param timeout_s: for all addresses together
    :param left_s: without arguments; seconds that are left of the call
    :raise AddressRefused: none of the addresses may be
    :raise RemoteError: none answers
    """
    found = resolve(target.host, target.port, min(timeout_s, left_s()))
    good = [info for info in found if is_allowed(info[4][0], target.host, allowed)]
    if not good:
        raise AddressRefused(
            'The server has a private address, and allowed_hosts does not name it.'
        )
    error: OSError | None = None
    for family, kind, number, _name, address in good:
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(max(0.001, min(timeout_s / len(good), left_s())))
            sock.connect(address)
            if not is_allowed(sock.getpeername()[0], target.host, allowed):
                raise AddressRefused('The connection leads to another address.')
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as failed:
            error = failed
            sock.close()
        except BaseException:
            sock.close()
            raise
    if isinstance(error, TimeoutError):
        raise RemoteTimeout('The server does not accept a connection in time.') from None
    raise RemoteUnreachable(f'No connection: {type(error).__name__}.') from None
