# Varnish for the load benches: the built-in VCL, and purges by tag. Everything else is as shipped.
vcl 4.1;

import std;
import xkey;

backend default { .host = "127.0.0.1"; .port = "@NODE_PORT@"; }

acl invalidators { "127.0.0.1"; }

sub vcl_recv {
    if (req.method == "PURGEKEYS") {
        if (client.ip !~ invalidators) { return (synth(405, "Not allowed")); }
        set req.http.removed = xkey.purge(req.http.xkey-purge);
        return (synth(200, "Purged " + req.http.removed));
    }
    set req.http.Surrogate-Capability = "key=ESI/1.0";
}

sub vcl_backend_response {
    if (beresp.http.Surrogate-Control ~ "ESI/1.0") {
        unset beresp.http.Surrogate-Control;
        set beresp.do_esi = true;
    }
}

sub vcl_deliver { unset resp.http.xkey; }
