#!/usr/bin/env python3
"""Who looks at what scripts/demo --whole did from outside, with tools that are not ours.

    witness.py bucket ENDPOINT NAME          makes a bucket that keeps versions
    witness.py listen PORT FILE              makes a stream in NATS, says "ready", and writes the
                                             first message that comes into the file
    witness.py object ENDPOINT NAME KEY FILE writes an object into the file, and prints as JSON what
                                             the store says of it
    witness.py compare SHA256 BYTES OBJECT EVENT LINES..
                                             holds what the store, the event and the ledger say
                                             against a digest, and tells of it
"""

import json
import socket
import sys


def client(endpoint):
    # Comes with moto. Credentials are in the environment, as for bitsd.
    import boto3

    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")


def bucket(endpoint, name):
    s3 = client(endpoint)
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def get_object(endpoint, name, key, file):
    s3 = client(endpoint)
    found = s3.get_object(Bucket=name, Key=key)
    with open(file, "wb") as out:
        out.write(found["Body"].read())
    parts = s3.list_multipart_uploads(Bucket=name).get("Uploads", [])
    versions = s3.list_object_versions(Bucket=name, Prefix=key)["Versions"]
    print(
        json.dumps(
            {
                "bytes": found["ContentLength"],
                "etag": found["ETag"].strip('"'),
                "version": found["VersionId"],
                "marks": found["Metadata"],
                "versions": len(versions),
                "uploads_left": len(parts),
            }
        )
    )


def compare(sha256, size, object_file, event_file, *ledger):
    def read(name):
        with open(name, encoding="utf-8") as text:
            return [json.loads(line) for line in text]

    [stored], [event] = read(object_file), read(event_file)
    [line] = [line for name in ledger for line in read(name)]
    named = {"bucket": "collected", "key": "hosts/evidence/first.bin"}
    named |= {"version": stored["version"], "etag": stored["etag"]}
    told = event["data"]
    for what, found, expected in [
        ("digest at the object", stored["marks"]["bitsd-sha256"], sha256),
        ("digest in the ledger", line["sha256"], sha256),
        ("digest in the event", told["sha256"], sha256),
        ("size", [stored["bytes"], line["bytes"], told["size"]], [int(size)] * 3),
        ("object in the ledger", line["object"], named),
        ("object in the event", told["object"], named),
        ("versions, and uploads left", [stored["versions"], stored["uploads_left"]], [1, 0]),
        ("user", [line["user"], told["user"]], ["demo", "demo"]),
        ("type", event["type"], "io.bitsd.upload.completed.v1"),
        ("id", event["id"], line["session"] + "-published"),
    ]:
        if found != expected:
            sys.exit(f"{what}: {found}, and not {expected}")
    print(f"digest  {sha256}: of the file, at the object, in the ledger, in the event")
    print(f"line    {line['time']} {line['user']} {line['client']} {line['path']}")
    print(f"event   {event['id']} {event['type']}")
    print(f"object  {named['bucket']}/{named['key']} version {named['version']}, once")


def listen(port, file):
    """The protocol of NATS, as far as it takes: https://docs.nats.io/reference/reference-protocols/nats-protocol"""
    stream = socket.create_connection(("127.0.0.1", int(port)), timeout=120)
    lines = stream.makefile("rb")
    lines.readline()  # INFO
    say = lambda text: stream.sendall(text.encode())
    say('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
    wanted = json.dumps({"name": "UPLOADS", "subjects": ["bitsd.>"]})
    say("SUB answer 1\r\n")
    say(f"PUB $JS.API.STREAM.CREATE.UPLOADS answer {len(wanted)}\r\n{wanted}\r\n")
    made = json.loads(message(lines, stream))
    assert "error" not in made, made
    say("SUB bitsd.> 2\r\nPING\r\n")
    while lines.readline().strip() != b"PONG":
        pass
    print("ready", flush=True)
    with open(file, "wb") as out:
        out.write(message(lines, stream))


def message(lines, stream):
    while True:
        words = lines.readline().split()
        if not words:
            sys.exit("NATS has hung up")
        if words[0] == b"PING":
            stream.sendall(b"PONG\r\n")
        elif words[0] == b"MSG":
            return payload(lines, int(words[-1]))
        elif words[0] == b"HMSG":
            return payload(lines, int(words[-1]))[int(words[-2]) :]


def payload(lines, length):
    text = lines.read(length)
    lines.read(2)
    return text


if __name__ == "__main__":
    tasks = {"bucket": bucket, "listen": listen, "object": get_object, "compare": compare}
    if len(sys.argv) < 2 or sys.argv[1] not in tasks:
        sys.exit(__doc__)
    tasks[sys.argv[1]](*sys.argv[2:])
