#!/usr/bin/env python3
"""Gives a file to an object store in parts, one after the other, by one connection and without a checksum: what a store
takes for an upload in parts, beside which scripts/rig/store sets bitsd.

  in_parts.py STORE BUCKET KEY FILE PART_MIB        STORE is http://ADDRESS:PORT

Its keys are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import re
import sys
import urllib.parse

REGION = "us-east-1"
TIMEOUT_S = 300


def main():
    store, bucket, key, path, part_mib = sys.argv[1:]
    host = urllib.parse.urlsplit(store).netloc
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)

    def ask(method, query, body, length):
        target = f"/{bucket}/{key}"
        fields = signed(method, host, target, query)
        connection.putrequest(method, f"{target}?{query}", skip_host=True, skip_accept_encoding=True)
        for name, value in {**fields, "content-length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        body(connection.sock)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200 or "<Error>" in text:
            sys.exit(f"in_parts: {method} {query}: {answer.status} {text[:200]}")
        return answer, text

    _, text = ask("POST", "uploads=", lambda socket: None, 0)
    upload = urllib.parse.quote(re.search(r"<UploadId>([^<]+)", text)[1], safe="")
    part_bytes = int(part_mib) << 20
    parts = []
    with open(path, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        for number, begin in enumerate(range(0, total, part_bytes), start=1):
            length = min(part_bytes, total - begin)

            def send(socket, begin=begin, length=length):
                socket.sendfile(file, begin, length)

            answer, _ = ask("PUT", f"partNumber={number}&uploadId={upload}", send, length)
            parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.headers['etag']}</ETag></Part>")
    whole = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
    ask("POST", f"uploadId={upload}", lambda socket: socket.sendall(whole), len(whole))


def signed(method, host, path, query):
    """The fields of a request with AWS's signature, version 4; its body is not signed."""
    now = datetime.datetime.now(datetime.timezone.utc)
    date, time = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    fields = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": time}
    lines = "".join(f"{name}:{value}\n" for name, value in sorted(fields.items()))
    names = ";".join(sorted(fields))
    request = "\n".join([method, path, query, lines, names, fields["x-amz-content-sha256"]])
    scope = f"{date}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**fields, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


if __name__ == "__main__":
    main()
