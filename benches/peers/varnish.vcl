# Varnish as a fair peer: answers cached whole under URL and identity, whatever Laravel says of them, and equal requests at
# the same time are one, which is what Varnish does by itself. The load test replaces the port and the lifetime.
vcl 4.1;

backend vms {
    .host = "127.0.0.1";
    .port = "19000";
}

sub vcl_recv {
    # By its own rules Varnish would pass whatever has an Authorization.
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    hash_data(req.http.Authorization);
    hash_data(req.http.X-UUID);
    hash_data(req.http.X-Client);
    hash_data(req.http.X-Version);
    hash_data(req.http.Hl);
    return (lookup);
}

sub vcl_backend_response {
    unset beresp.http.Set-Cookie;
    unset beresp.http.Vary;
    if (beresp.status == 200) {
        set beresp.ttl = 1h;
    } else {
        set beresp.ttl = 0s;
    }
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    return (deliver);
}
