# Varnish with an eZ Platform behind it: sessions do not prevent hits, because pages vary by a hash of the visitor's rights,
# which is looked up first. Purges by tag, Edge Side Includes, the page's headers as eZ wants them.
vcl 4.1;

import cookie;
import std;
import xkey;

backend default { .host = "127.0.0.1"; .port = "@NODE_PORT@"; }

acl invalidators { "127.0.0.1"; }

sub vcl_recv {
    set req.http.Surrogate-Capability = "abc=ESI/1.0";
    if (req.http.X-Forwarded-Proto == "https") {
        set req.http.X-Forwarded-Port = "443";
    } else {
        set req.http.X-Forwarded-Port = "80";
    }

    if (req.restarts == 0 && req.method == "PURGEKEYS") {
        if (client.ip !~ invalidators) { return (synth(405, "Not allowed")); }
        set req.http.removed = xkey.softpurge(req.http.xkey-softpurge) + xkey.purge(req.http.xkey-purge);
        return (synth(200, "Purged " + req.http.removed));
    }
    if (req.method != "GET" && req.method != "HEAD") { return (pass); }
    if (req.http.Authorization) { return (hash); }

    # The session alone counts.
    if (req.http.Cookie) {
        cookie.parse(req.http.Cookie);
        cookie.keep_re("^eZSESSID");
        set req.http.Cookie = cookie.get_string();
        if (req.http.Cookie == "") { unset req.http.Cookie; }
    }
    if (req.url ~ "\.(css|js|gif|jpe?g|bmp|png|tiff?|ico|img|tga|wmf|svg|swf|mp3|mp4|m4a|ogg|mov|avi|wmv|zip|gz|pdf|ttf|eot|wof)$") {
        return (hash);
    }
    set req.url = std.querysort(req.url);
    call hash_lookup;
    return (hash);
}

# First round: the request becomes that for the hash. Second round, after a restart: the page's own, with the hash.
sub hash_lookup {
    if (req.restarts == 0) {
        if (req.http.Accept ~ "application/vnd.fos.user-context-hash" || req.http.X-User-Context-Hash) {
            return (synth(400));
        }
        set req.http.X-Page-Url = req.url;
        if (req.http.Accept) { set req.http.X-Page-Accept = req.http.Accept; }
        set req.http.Accept = "application/vnd.fos.user-context-hash";
        set req.url = "/_fos_user_context_hash";
    } else if (req.http.Accept == "application/vnd.fos.user-context-hash") {
        set req.url = req.http.X-Page-Url;
        unset req.http.X-Page-Url;
        if (req.http.X-Page-Accept) {
            set req.http.Accept = req.http.X-Page-Accept;
            unset req.http.X-Page-Accept;
        } else {
            unset req.http.Accept;
        }
    }
}

sub vcl_backend_response {
    if (bereq.http.Accept ~ "application/vnd.fos.user-context-hash" && beresp.status >= 500) { return (abandon); }
    if (beresp.http.Surrogate-Control ~ "ESI/1.0") {
        unset beresp.http.Surrogate-Control;
        set beresp.do_esi = true;
    }
    set beresp.grace = 1h;
    set beresp.keep = 10m;
}

sub vcl_deliver {
    if (req.restarts == 0 && resp.http.Content-Type ~ "application/vnd.fos.user-context-hash") {
        set req.http.X-User-Context-Hash = resp.http.X-User-Context-Hash;
        return (restart);
    }
    if (resp.http.Vary ~ "X-User-Context-Hash") {
        if (req.http.Cookie) {
            set resp.http.Cache-Control = "private, no-cache, no-store, must-revalidate";
        } else if (resp.http.Cache-Control ~ "public") {
            set resp.http.Cache-Control = "public, s-maxage=600, stale-while-revalidate=300, stale-if-error=300";
        }
        set resp.http.Vary = regsub(resp.http.Vary, "(?i),? *X-User-Context-Hash *", "");
        set resp.http.Vary = regsub(resp.http.Vary, "^, *", "");
        if (resp.http.Vary == "") { unset resp.http.Vary; }
    }
    unset resp.http.X-User-Context-Hash;
    unset resp.http.xkey;
    unset resp.http.x-lang;
}
