"""A batch whose header could mean another user's: it passes through, or is refused, and nothing of it is remembered."""

from attack import *

WIDGET = (
    ("accept", "application/json"),
    ("x-client", "ios"),
    ("x-uuid", "phone"),
)


def batch(client, *fields, stream=1):
    """The outcome of a batch with these fields, and what `Cache-Status` says of it."""
    path = f"/api/v1/intercom/shows?ids[]=1&vector={client.name}"
    client.request(client.header(*WIDGET, *fields, path=path), stream=stream)
    outcome = client.outcome(stream)
    said = client.field("cache-status", stream) if outcome[0].isdigit() else ""
    return " ".join([outcome, *said.replace("vms-edge; ", "").split("; ")[:1]]).strip()


def twice(client, *fields):
    """The outcomes of the same batch twice: whatever it is, it must not be remembered."""
    return f"{batch(client, *fields)}, {batch(client, *fields, stream=3)}"


@vector("200 fwd=miss, 200 hit", vms=1)
def a_batch_twice(client):
    return twice(client, ("authorization", "Bearer ann"))


@vector("200 fwd=bypass, 200 fwd=bypass", vms=2)
def a_batch_with_two_tokens(client):
    return twice(client, ("authorization", "Bearer ann"), ("authorization", "Bearer bob"))


@vector("200 fwd=bypass, 200 fwd=bypass", vms=2)
def a_batch_with_a_list_of_tokens(client):
    return twice(client, ("authorization", "Bearer ann, Bearer bob"))


@vector("200 fwd=bypass, 200 fwd=bypass", vms=2)
def a_batch_with_a_tab_before_the_token(client):
    return twice(client, ("authorization", "Bearer\tann"))


@vector("200 fwd=bypass, 200 fwd=bypass", vms=2)
def a_batch_with_crumbs_of_a_cookie(client):
    return twice(client, ("authorization", "Bearer ann"), ("cookie", "a=b"), ("cookie", "c=d"))


@vector("401, 401")
def a_batch_without_a_token(client):
    return twice(client)


@vector("200 fwd=miss, 200 fwd=miss", vms=2)
def a_batch_for_two_hosts(client):
    first = batch(client, ("authorization", "Bearer ann"))
    path = f"/api/v1/intercom/shows?ids[]=1&vector={client.name}"
    other = [(":method", "GET"), (":scheme", "https"), (":authority", "other.local"), (":path", path)]
    client.request([*other, *WIDGET, ("authorization", "Bearer ann")], stream=3)
    outcome = client.outcome(3)
    return f"{first}, {outcome} {client.field('cache-status', 3).split('; ')[1]}"


@vector("200 fwd=bypass, 200 fwd=bypass", vms=2)
def a_batch_with_a_body_that_nobody_announced(client):
    outcomes = []
    path = f"/api/v1/intercom/shows?ids[]=1&vector={client.name}"
    for stream in (1, 3):
        fields = client.header(*WIDGET, ("authorization", "Bearer ann"), path=path)
        client.raw_request(fields, stream, flags=END_HEADERS)
        client.data(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", stream, ends=True)
        outcomes.append(f"{client.outcome(stream)} {client.field('cache-status', stream).split('; ')[1]}")
    return ", ".join(outcomes)
