"""A client of HTTP/2 that checks nothing of what it sends, and what a vector is.

Requests are made by the h2 package with its validation off; what even that has no call for is made of bytes. What comes
back is read frame by frame, so that nothing here hides how the edge ends things.
"""

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Callable

import h2.config
import h2.connection
import h2.errors
from hpack import Decoder

# How long anything is waited for: longer than the edge's deadlines.
PATIENCE = 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
WITH_PRIORITY = 32

VECTORS = []


@dataclass
class Vector:
    """Something that is sent, and what may come of it."""

    name: str
    plays: Callable
    outcomes: list
    least: int
    most: int


def vector(*outcomes, vms=0, at_most=None):
    """Makes a vector of a function that plays it and returns its outcome.

    `outcomes` are those allowed, see `Client.outcome`; `vms` is how many requests reach the VMS, or, with `at_most`, how
    many at the least.
    """

    def made(plays):
        name = plays.__name__.replace("_", "-")
        assert all(other.name != name for other in VECTORS), name
        most = vms if at_most is None else at_most
        VECTORS.append(Vector(name, plays, list(outcomes), vms, most))
        return plays

    return made


@dataclass
class Edge:
    port: int
    authority: str


class Broken(Exception):
    """Nothing came where something had to."""


def frame(kind, flags, stream, payload=b"", length=None):
    """A frame (RFC 9113, 4.1); one that lies about its length, if that is given."""
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def named(code):
    """What a code of RFC 9113, 7 is called."""
    try:
        return h2.errors.ErrorCodes(code).name
    except ValueError:
        return str(code)


class Client:
    """One connection. It has greeted, unless it is told not to, and acknowledges nothing by itself."""

    def __init__(self, edge, name, greets=True, settings=b""):
        self.edge = edge
        self.name = name
        self.bodies = {}
        self.fields = {}
        self.ended = set()
        self.pushed_back = None
        self._buffer = b""
        self._decoder = Decoder()
        context = ssl.create_default_context(cafile=edge.authority)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="vms.local")
        assert self.socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=False,
            validate_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        greeting = self.h2.data_to_send()
        if greets:
            self.send(greeting, frame(SETTINGS, 0, 0, settings) if settings else b"")

    def again(self, **how):
        """Another connection of the same vector."""
        return Client(self.edge, self.name, **how)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # What is sent.

    def header(self, *fields, method="GET", path=None):
        """A plain request's header, and these fields after it."""
        path = f"/{self.name}" if path is None else path
        plain = [(":method", method), (":scheme", "https"), (":authority", "vms.local"), (":path", path)]
        return plain + list(fields)

    def send(self, *frames):
        """Sends bytes. What the edge does not want to read any more is not sent, which is no fault here."""
        try:
            self.socket.sendall(b"".join(frames))
        except OSError as error:
            self.pushed_back = error

    def request(self, fields, stream=1, ends=True):
        """Sends a header, by the h2 package's rules of streams and frames, and without its rules of headers."""
        self.h2.send_headers(stream, fields, end_stream=ends)
        self.send(self.h2.data_to_send())

    def raw_request(self, fields, stream=1, flags=END_HEADERS | END_STREAM):
        """Sends a header in one frame, by no rules."""
        self.send(frame(HEADERS, flags, stream, block(fields)))

    def data(self, payload, stream=1, ends=False):
        self.send(frame(DATA, END_STREAM if ends else 0, stream, payload))

    # What comes.

    def read(self):
        """The next frame: kind, flags, stream, payload; `None` at the end of the connection."""
        head = self._exactly(9)
        if head is None:
            return None
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._exactly(length)
        if payload is None:
            return None
        if kind == HEADERS:
            # The table of the decoder has to see every header.
            self.fields.setdefault(stream, []).append(self._decoder.decode(payload, raw=True))
        if kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.ended.add(stream)
        return kind, flags, stream, payload

    def outcome(self, stream=1):
        """How a stream comes out: the status of its answer; or `reset CODE`, `goaway CODE`, or `closed`, whichever is
        first."""
        while (came := self.read()) is not None:
            kind, _, of, payload = came
            if kind == HEADERS and of == stream:
                return self.status(stream)
            if kind == RST_STREAM and of == stream:
                return f"reset {named(int.from_bytes(payload[:4], 'big'))}"
            if kind == GOAWAY:
                code = named(int.from_bytes(payload[4:8], "big"))
                if code != "NO_ERROR":
                    return f"goaway {code}"
        return "closed"

    def status(self, stream=1):
        """The status of the answer that came last."""
        return dict(self.fields[stream][-1])[b":status"].decode()

    def field(self, name, stream=1):
        """A field of the answer that came last."""
        return dict(self.fields[stream][-1]).get(name.encode(), b"").decode()

    def body(self, stream=1):
        """The whole body of an answer whose header has come."""
        while stream not in self.ended:
            came = self.read()
            if came is None or came[0] in (RST_STREAM, GOAWAY):
                raise Broken(f"the body of {stream} ends with {came}")
        return self.bodies.get(stream, b"")

    def end(self):
        """How the connection ends: `goaway CODE` or `closed`, whatever becomes of its streams."""
        while (came := self.read()) is not None:
            if came[0] == GOAWAY:
                code = named(int.from_bytes(came[3][4:8], "big"))
                if code != "NO_ERROR":
                    return f"goaway {code}"
        return "closed"

    def asks(self):
        """Asks as one should, on a stream of its own, and returns the status."""
        stream = self.h2.get_next_available_stream_id()
        self.request(self.header(), stream)
        outcome = self.outcome(stream)
        if outcome == "200":
            self.body(stream)
        return outcome

    def _exactly(self, count):
        while len(self._buffer) < count:
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError as late:
                raise Broken("nothing came") from late
            except OSError:
                return None
            if not more:
                return None
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def block(fields):
    """A header as HPACK of which nothing stays in a table."""
    return b"".join(literal(name, value) for name, value in fields)


def literal(name, value):
    """A field as HPACK, not indexed (RFC 7541, 6.2.2), whatever bytes it is made of."""
    return b"\x00" + string(name) + string(value)


def string(text):
    text = text if isinstance(text, bytes) else text.encode("latin-1")
    return integer(len(text), 7) + text


def integer(number, bits):
    """RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([number])
    coded = bytes([most])
    number -= most
    while number >= 128:
        coded += bytes([number % 128 + 128])
        number //= 128
    return coded + bytes([number])
