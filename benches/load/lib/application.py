"""A node that answers as an application does: late, with tags, fragments and rights of visitors; it knows what it was asked.

    python3 application.py PORT

One thread of asyncio. GET /told tells what there was since the last time, as JSON.
"""

import asyncio
import json
import re
import sys

HASH_TYPE = "application/vnd.fos.user-context-hash"
FRAGMENTS = 20
PUBLIC = "public, s-maxage=3600, stale-while-revalidate=3600"


def answer(path, headers):
    """Seconds that it takes, header lines, body."""
    if match := re.fullmatch(r"/zipf/(\d+)", path):
        return 0.02, [f"Cache-Control: {PUBLIC}", f"xkey: zipf page-{match[1]}"], "z" * 1024
    if path.startswith("/assembled/"):
        includes = "".join(f'<esi:include src="/fragment{path}/{number}" onerror="continue"/>\n' for number in range(FRAGMENTS))
        return 0.05, [f"Cache-Control: {PUBLIC}", 'Surrogate-Control: content="ESI/1.0"'], f"<html>\n{includes}</html>\n"
    if path.startswith("/bomb/"):
        includes = "".join(f'<esi:include src="/bomb/{path.count("/")}/{number}{path}" onerror="continue"/>' for number in range(100))
        return 0, [f"Cache-Control: {PUBLIC}", 'Surrogate-Control: content="ESI/1.0"'], f"<html>{includes}</html>"
    if path.startswith("/fragment/"):
        return 0.05, [f"Cache-Control: {PUBLIC}"], "f" * 512
    if path.startswith("/whole/"):
        return 0.05, [f"Cache-Control: {PUBLIC}"], "<html>\n" + ("f" * 512 + "\n") * FRAGMENTS + "</html>\n"
    if path == "/_fos_user_context_hash":
        session = (re.search(r"eZSESSID=(\d+)", headers) or [0, "none"])[1]
        rights = RIGHTS.get(session, f"rights-{int(session) % 5}" if session != "none" else "anonymous")
        lines = [f"Content-Type: {HASH_TYPE}", f"X-User-Context-Hash: {rights}", "Cache-Control: public, max-age=600"]
        return 0.001, [*lines, "Vary: Cookie, Authorization", f"xkey: ez-user-context-hash session-{session}"], ""
    if path.startswith("/rights/"):
        rights = (re.search(r"(?i)x-user-context-hash: *(\S*)", headers) or [0, "none"])[1]
        return 0.001, [f"Cache-Control: {PUBLIC}", "Vary: X-User-Context-Hash", "xkey: page"], f"{path} for {rights}"
    return 0, ["Cache-Control: no-store"], "ok\n"


RIGHTS = {}
told = {"now": 0, "most": 0, "asked": []}


async def serve(reader, writer):
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        path = head.split(" ", 2)[1]
        if path == "/told":
            body, lines = json.dumps({"most": told["most"], "asked": told["asked"]}), []
            told["most"], told["asked"] = told["now"], []
        elif path.startswith("/grant/"):
            _, _, session, rights = path.split("/")
            RIGHTS[session] = rights
            body, lines = "", []
        else:
            if path != "/health":
                told["now"] += 1
                told["most"] = max(told["most"], told["now"])
                told["asked"].append(path)
            seconds, lines, body = answer(path, head)
            if seconds:
                await asyncio.sleep(seconds)
            told["now"] -= path != "/health"
        lines = [*lines, f"Content-Length: {len(body)}"]
        if not any(line.startswith("Content-Type") for line in lines):
            lines.append("Content-Type: text/html")
        writer.write(("HTTP/1.1 200 OK\r\n" + "\r\n".join(lines) + "\r\n\r\n" + body).encode())
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
