"""Publishes what it reads from its standard input, as engines do: one socket a replica.

python -m kvplane.tests.bench.zmq_feed REPLICAS
"""

import json
import struct
import sys

import zmq

HOST = "tcp://127.0.0.1"
_PORTS = (20000, 29999)
_HEADER = struct.Struct("<III")  # replica, number of the message, bytes
_JOIN_MS = 30_000


def main(replicas: int) -> None:
    """Print the endpoints, then `joined` once each has a subscriber, then publish until the input ends."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * replicas + 16)
    sockets = [context.socket(zmq.XPUB) for _ in range(replicas)]
    for socket in sockets:
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVTIMEO, _JOIN_MS)
    print(json.dumps([f"{HOST}:{socket.bind_to_random_port(HOST, *_PORTS)}" for socket in sockets]), flush=True)
    for socket in sockets:
        socket.recv()  # the subscription: what is sent before it is lost
    print("joined", flush=True)
    while header := sys.stdin.buffer.read(_HEADER.size):
        replica, number, size = _HEADER.unpack(header)
        sockets[replica].send_multipart((b"", struct.pack(">Q", number), sys.stdin.buffer.read(size)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
