"""One door to an Odoo with worker processes, which answers on two ports.

Odoo's workers refuse websockets: those must reach its evented port, and the browser knows one port
only. A web server in front usually sorts them out; here this does. The workers speak HTTP/1.0, one
request for each connection, so the first line of a connection says where all of it belongs.
"""

import argparse
import asyncio
import contextlib
import os

# A browser sends its first line at once; whoever does not shall not hold a connection for ever.
FIRST_LINE_TIMEOUT_S = 30
CHUNK_BYTES = 65536


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(reader, writer, options):
    with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.TimeoutError):
        line = await asyncio.wait_for(reader.readline(), FIRST_LINE_TIMEOUT_S)
        websocket = line.split(b"?")[0].split(b" ")[1:2] == [b"/websocket"]
        port = options.evented_port if websocket else options.http_port
        odoo_reader, odoo_writer = await asyncio.open_connection("127.0.0.1", port)
        odoo_writer.write(line)
        upwards = asyncio.create_task(copy(reader, odoo_writer))
        await copy(odoo_reader, writer)
        upwards.cancel()
        odoo_writer.close()
    writer.close()


async def main(options):
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, options), options.interface, options.port
    )
    async with server:
        while True:
            await asyncio.sleep(1)
            os.kill(options.pid, 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--interface", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--evented-port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True, help="ends when this process has ended")
    with contextlib.suppress(ProcessLookupError, KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
