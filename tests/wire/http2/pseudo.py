"""Pseudo-header fields, the request line of HTTP/2: RFC 9113, 8.3. What is refused must be no request to anyone."""

from attack import *

# What ends a stream may as well end the connection (RFC 9113, 5.4.2), as it does for whatever is no field at all.
REFUSED = ("reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR", "400")


def refused(client, fields):
    """The outcome of a request with these fields."""
    client.raw_request(fields)
    return client.outcome()


def changed(client, name, value):
    """A plain header with another value of a pseudo-header field, or without it."""
    fields = [(field, value if field == name else plain) for field, plain in client.header()]
    return [(field, value) for field, value in fields if value is not None]


@vector(*REFUSED)
def no_method(client):
    return refused(client, changed(client, ":method", None))


@vector(*REFUSED)
def no_scheme(client):
    return refused(client, changed(client, ":scheme", None))


@vector(*REFUSED)
def no_path(client):
    return refused(client, changed(client, ":path", None))


@vector(*REFUSED)
def an_empty_path(client):
    return refused(client, changed(client, ":path", ""))


@vector(*REFUSED)
def neither_an_authority_nor_a_host(client):
    return refused(client, changed(client, ":authority", None))


@vector("200", vms=1)
def a_host_in_place_of_an_authority(client):
    return refused(client, changed(client, ":authority", None) + [("host", "vms.local")])


@vector(*REFUSED)
def a_path_that_does_not_begin_with_a_slash(client):
    return refused(client, changed(client, ":path", client.name))


@vector(*REFUSED)
def a_path_that_names_a_server(client):
    return refused(client, changed(client, ":path", f"http://other.local/{client.name}"))


@vector(*REFUSED)
def a_path_that_is_a_star(client):
    return refused(client, changed(client, ":path", "*"))


@vector(*REFUSED)
def a_path_with_a_space(client):
    return refused(client, changed(client, ":path", f"/{client.name} HTTP/1.1"))


@vector(*REFUSED)
def a_path_with_a_tab(client):
    return refused(client, changed(client, ":path", f"/{client.name}\tHTTP/1.1"))


@vector(*REFUSED)
def a_path_with_a_line_break_and_a_field(client):
    path = f"/{client.name} HTTP/1.1\r\nHost: vms.local\r\n\r\nGET /smuggled"
    return refused(client, changed(client, ":path", path))


@vector(*REFUSED)
def a_path_with_a_bare_line_feed(client):
    return refused(client, changed(client, ":path", f"/{client.name}\nX: y"))


@vector(*REFUSED)
def a_path_with_a_nul(client):
    return refused(client, changed(client, ":path", f"/{client.name}\0"))


@vector("200", vms=1)
def a_path_with_a_fragment(client):
    """It is taken off: the VMS is asked for what the edge understood."""
    return refused(client, changed(client, ":path", f"/{client.name}#/smuggled"))


@vector(*REFUSED)
def a_path_that_is_but_a_fragment(client):
    return refused(client, changed(client, ":path", f"#/smuggled/{client.name}"))


@vector(*REFUSED)
def a_method_with_a_space(client):
    return refused(client, changed(client, ":method", f"GET /smuggled/{client.name} HTTP/1.1\r\nX:"))


@vector(*REFUSED)
def an_empty_method(client):
    return refused(client, changed(client, ":method", ""))


@vector(*REFUSED)
def an_authority_with_a_user(client):
    return refused(client, changed(client, ":authority", "ann@vms.local"))


@vector(*REFUSED)
def an_authority_with_a_path(client):
    return refused(client, changed(client, ":authority", "vms.local/smuggled"))


@vector(*REFUSED)
def an_authority_with_a_line_break(client):
    return refused(client, changed(client, ":authority", "vms.local\r\nX-Smuggled: 1"))


@vector(*REFUSED)
def an_empty_authority(client):
    return refused(client, changed(client, ":authority", ""))


@vector(*REFUSED)
def an_authority_that_is_not_the_host(client):
    return refused(client, client.header(("host", "other.local")))


@vector(*REFUSED)
def an_authority_and_two_hosts(client):
    return refused(client, client.header(("host", "vms.local"), ("host", "other.local")))


@vector(*REFUSED)
def a_scheme_with_a_line_break(client):
    return refused(client, changed(client, ":scheme", "https://vms.local/smuggled\r\nX: y"))


@vector(*REFUSED)
def two_methods(client):
    return refused(client, [(":method", "POST"), *client.header()])


@vector(*REFUSED)
def two_paths(client):
    return refused(client, [(":path", f"/smuggled/{client.name}"), *client.header()])


@vector(*REFUSED)
def two_authorities(client):
    return refused(client, [(":authority", "other.local"), *client.header()])


@vector(*REFUSED)
def two_schemes(client):
    return refused(client, [(":scheme", "http"), *client.header()])


@vector(*REFUSED)
def a_pseudo_header_field_after_a_plain_one(client):
    return refused(client, [("x-first", "1"), *client.header()])


@vector(*REFUSED)
def a_pseudo_header_field_that_nobody_knows(client):
    return refused(client, [*client.header(), (":smuggled", "1")])


@vector(*REFUSED)
def the_status_of_an_answer(client):
    return refused(client, [(":status", "200"), *client.header()])


@vector("405", *REFUSED)
def a_connect(client):
    return refused(client, [(":method", "CONNECT"), (":authority", "vms.local:80")])


@vector("405", *REFUSED)
def a_connect_with_a_path(client):
    return refused(client, client.header(method="CONNECT"))


@vector("405", *REFUSED)
def a_connect_with_a_protocol(client):
    return refused(client, [(":protocol", "websocket"), *client.header(method="CONNECT")])


@vector(*REFUSED)
def a_protocol_without_a_connect(client):
    return refused(client, [(":protocol", "websocket"), *client.header()])
