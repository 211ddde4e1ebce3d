"""What runs on the node as the tests' eavesdropper: a line for each TCP segment with content to or from a port.

`192.0.2.1:40000>192.0.2.2:9090 SEQUENCE BASE64`. No dependencies.
"""

import base64
import socket
import struct
import sys

EVERYTHING = 0x0003
IPV4 = b"\x08\x00"
TCP = 6


def main(port: int) -> None:
    """Listens on every interface until it is killed."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING)) as ears:
        ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_000_000)
        print("listening", flush=True)
        while True:
            frame = ears.recv(262_144)
            packet = frame[14:]
            if frame[12:14] != IPV4 or packet[9] != TCP:
                continue
            total, size = struct.unpack(">H", packet[2:4])[0], (packet[0] & 15) * 4
            segment = packet[size:total]
            source, target, sequence = struct.unpack(">HHI", segment[:8])
            content = segment[(segment[12] >> 4) * 4 :]
            if content and port in {source, target}:
                addresses = [socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16)]
                text = base64.b64encode(content).decode()
                print(f"{addresses[0]}:{source}>{addresses[1]}:{target} {sequence} {text}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
