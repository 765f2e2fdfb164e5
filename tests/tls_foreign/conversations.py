"""Conversations that break a rule of TLS, each by tlslite-ng against a server of bitsd, and some that only look as if.

    conversations.py HOST PORT

Prints a line for each, and ends with 1 if one went another way than its rule says. A client that breaks a rule must hear
the alert of that rule (or one that is as good), be hung up, and nobody else may notice. That is what the scripts of
tlsfuzzer look for; these are written for the rules that a server of TLS 1.2 and 1.3 without renegotiation, compression
and early data has to keep. 4346: RFC 4346, and so on.
"""

import socket
import struct
import sys

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription as Alert
from tlslite.constants import CipherSuite, ContentType, ExtensionType, GroupName, HandshakeType, SignatureScheme
from tlslite.errors import TLSAbruptCloseError, TLSLocalAlert, TLSRemoteAlert
from tlslite.extensions import SNIExtension, SupportedGroupsExtension, TLSExtension
from tlslite.messages import Message

PATIENCE_S = 10
PING = (
    b"BITS_POST /a HTTP/1.1\r\nHost: localhost\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
)
# What a client hears.
GOES_ON, HUNG_UP, STOPS = "goes on", "hung up", "stops"
V12, V13 = (3, 3), (3, 4)


class Client(TLSConnection):
    """A client, with a word in each message before it is sent."""

    def __init__(self, change):
        super().__init__(socket.create_connection(ADDRESS, PATIENCE_S))
        self.change = change

    def _sendMsg(self, message, *arguments, **more):
        for changed in self.change(self, message):
            yield from super()._sendMsg(changed, *arguments, **more)

    def say(self, content_type, data):
        """A record, with the keys of the moment."""
        for _ in self._recordLayer.sendRecord(Message(content_type, bytearray(data))):
            pass

    def begin(self, version, **settings):
        chosen = HandshakeSettings()
        chosen.minVersion, chosen.maxVersion = version if isinstance(version, list) else (version, version)
        for name, value in settings.items():
            setattr(chosen, name, value)
        self.handshakeClientCert(settings=chosen, serverName="localhost")

    def ping(self):
        self.say(ContentType.application_data, PING)
        answer = b""
        while b"\r\n\r\n" not in answer:
            got = self.read(max=1, min=1)
            if not got:
                raise TLSAbruptCloseError()
            answer += bytes(got)
        return answer.startswith(b"HTTP/1.1 200 ")


def as_it_is(client, message):
    return [message]


def is_a(message, kind):
    return message.contentType == ContentType.handshake and message.write()[0] == kind


def at(kind, change):
    """Changes the bytes of one kind of handshake message."""
    return lambda client, message: change(message) if is_a(message, kind) else [message]


def handshake(data):
    return Message(ContentType.handshake, bytearray(data))


def hello(change):
    """Changes the ClientHello, as an object."""

    def changed(message):
        change(message)
        return [message]

    return at(HandshakeType.client_hello, changed)


def hello_bytes(change):
    """Changes the body of the ClientHello; its length is made to fit."""

    def changed(message):
        body = bytes(change(bytes(message.write()[4:])))
        return [handshake(struct.pack("!I", HandshakeType.client_hello << 24 | len(body)) + body)]

    return at(HandshakeType.client_hello, changed)


def heard(talk):
    """What becomes of a conversation."""
    try:
        return GOES_ON if talk() else STOPS
    except TLSRemoteAlert as alert:
        return alert.description
    except TLSLocalAlert as alert:
        return f"the server's answer is against the rules: {alert}"
    except (TLSAbruptCloseError, ConnectionError):
        return HUNG_UP
    except socket.timeout:
        return f"nothing for {PATIENCE_S} s"


def shake(version, change=as_it_is, after=lambda client: None, **settings):
    """A handshake, what comes after it, and a Ping."""

    def talk():
        client = Client(change)
        try:
            client.begin(version, **settings)
            after(client)
            return client.ping()
        finally:
            client.sock.close()

    return talk


def small_records(size):
    """A hello in many records."""

    def talk():
        client = Client(as_it_is)
        try:
            client.recordSize = size
            client.begin([V12, V13])
            client.recordSize = 1 << 14
            return client.ping()
        finally:
            client.sock.close()

    return talk


def plain(record):
    """A record before there are keys: (type, version, bytes)."""
    kind, version, data = record
    return plain_bytes(struct.pack("!BHH", kind, version, len(data)) + data)


def plain_bytes(data):
    def talk():
        with socket.create_connection(ADDRESS, PATIENCE_S) as stream:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            with stream.makefile("rb") as answer:
                head = answer.read(5)
                if len(head) < 5:
                    raise TLSAbruptCloseError()
                if head[0] != ContentType.alert:
                    return True
                raise Refused(answer.read(2)[1])

    return talk


class Refused(TLSRemoteAlert):
    def __init__(self, description):
        Exception.__init__(self)
        self.description = description


def without(kind):
    """A ClientHello without an extension."""
    return hello(lambda message: message.extensions.remove(message.getExtension(kind)))


def set_suites(*suites):
    def change(message):
        message.cipher_suites = list(suites)

    return hello(change)


def add(extension):
    return hello(lambda message: message.extensions.insert(0, extension))


def swap(kind, extension):
    def change(message):
        place = message.extensions.index(message.getExtension(kind))
        message.extensions[place] = extension

    return hello(change)


def compression(methods):
    """Other methods of compression than none: they stand behind the version, the random, the session and the suites."""

    def change(body):
        place = 35 + body[34]
        place += 2 + struct.unpack_from("!H", body, place)[0]
        return body[:place] + bytes([len(methods), *methods]) + body[place + 1 + body[place] :]

    return hello_bytes(change)


def old_version(version):
    return hello_bytes(lambda body: struct.pack("!H", version) + body[2:])


def raw(kind, data=b""):
    return TLSExtension(extType=kind).create(bytearray(data))


def finished_wrong(message):
    data = message.write()
    data[-1] ^= 1
    return [handshake(data)]


def key_exchange(point):
    """A ClientKeyExchange with another point (8422, 5.7)."""
    body = bytes([len(point)]) + point
    return at(HandshakeType.client_key_exchange, lambda message: [handshake(b"\x10" + len(body).to_bytes(3, "big") + body)])


def hello_twice(client, message):
    """The first of them is not in the client's own account of what was said."""
    if is_a(message, HandshakeType.client_hello):
        client.say(ContentType.handshake, message.write())
    return [message]


def before(kind, content_type, data):
    """A record before a handshake message."""
    return lambda client, message: [Message(content_type, bytearray(data)), message] if is_a(message, kind) else [message]


def after_it(content_type, data):
    return lambda client: client.say(content_type, data)


def broken_record(client):
    """A record of application data whose last bit is not what was sealed."""
    socket_of = client._recordLayer._recordSocket.sock

    class Bent:
        def __getattr__(self, name):
            return getattr(socket_of, name)

        def send(self, data, *more):
            data = bytearray(data)
            data[-1] ^= 1
            return socket_of.send(bytes(data), *more)

    client._recordLayer._recordSocket.sock = Bent()
    try:
        client.say(ContentType.application_data, PING)
    finally:
        client._recordLayer._recordSocket.sock = socket_of


def behind_the_keys(data):
    """Bytes that no key has sealed, after the handshake."""
    return lambda client: client.sock.sendall(data)


def key_update(value):
    return after_it(ContentType.handshake, bytes([HandshakeType.key_update, 0, 0, 1, value]))


def with_new_keys(client):
    """Asks for new keys, and uses them (8446, 4.6.3)."""
    for _ in client.send_keyupdate_request(1):
        pass


def again(client):
    """A second ClientHello."""
    client.say(ContentType.handshake, client.hello)


def keep_hello(client, message):
    if is_a(message, HandshakeType.client_hello):
        client.hello = message.write()
    return [message]


ADDRESS = None
UNEXPECTED = {Alert.unexpected_message}
MALFORMED = {Alert.decode_error, Alert.illegal_parameter}
GREASE = 0x4A4A
RSA_ONLY = (CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA, CipherSuite.TLS_RSA_WITH_AES_128_GCM_SHA256)
SECP521 = SupportedGroupsExtension().create([GroupName.secp521r1])
# One that a server may have given, with its age, and what proves it (8446, 4.2.11).
EARLY_KEY = b"\x00\x0a\x00\x04abcd" + bytes(4) + b"\x00\x21\x20" + bytes(32)
TINY_HELLO = b"\x01\x00\x00\x05\x03\x03\x00\x00\x00"

CONVERSATIONS = [
    # (what is said, the rule, how, what may be heard)
    ("nothing strange, 1.2", "5246", shake(V12), {GOES_ON}),
    ("nothing strange, 1.3", "8446", shake(V13), {GOES_ON}),
    ("a hello in records of 3 bytes", "5246 6.2.1, 8446 5.1", small_records(3), {GOES_ON}),
    ("a hello in records of 100 bytes", "5246 6.2.1, 8446 5.1", small_records(100), {GOES_ON}),
    # The version.
    ("SSL 3.0", "7568", plain((22, 0x0300, b"\x01\x00\x00\x2b\x03\x00" + bytes(33) + b"\x00\x02\x00\x2f\x01\x00\x00\x00")),
     {Alert.protocol_version, Alert.handshake_failure, *MALFORMED}),
    ("TLS 1.1", "8996", shake(V12, old_version(0x0302)), {Alert.protocol_version}),
    ("a version of the future in the old field", "5246 E.1", shake(V12, old_version(0x0305)), {GOES_ON}),
    # The suites.
    ("only suites of RSA", "9325 4.1", shake(V12, set_suites(*RSA_ONLY)), {Alert.handshake_failure}),
    ("only suites that nobody knows", "8446 4.1.1", shake(V13, set_suites(GREASE, 0xFAFA)), {Alert.handshake_failure}),
    ("no suite at all", "5246 7.4.1.2", shake(V12, set_suites()), {Alert.handshake_failure, *MALFORMED}),
    ("suites of grease beside good ones", "8701", shake(V13, hello(lambda it: it.cipher_suites.insert(0, GREASE))), {GOES_ON}),
    # Compression.
    ("compression by deflate only", "8446 4.1.2", shake(V12, compression([1])), {*MALFORMED, Alert.handshake_failure}),
    ("compression by deflate or none, 1.2", "5246 7.4.1.2", shake(V12, compression([1, 0])), {GOES_ON}),
    ("compression by deflate or none, 1.3", "8446 4.1.2", shake(V13, compression([1, 0])), {Alert.illegal_parameter}),
    ("no method of compression", "5246 7.4.1.2", shake(V12, compression([])), {*MALFORMED, Alert.handshake_failure}),
    # Extensions.
    ("an extension that nobody knows", "8446 4.2", shake(V13, add(raw(GREASE, b"abc"))), {GOES_ON}),
    ("the same extension twice", "8446 4.2", shake(V13, add(raw(ExtensionType.extended_master_secret))), MALFORMED),
    ("bytes behind the extensions", "8446 4.1.2", shake(V12, hello_bytes(lambda body: body + b"\x00")), MALFORMED),
    ("a name of a host that is none", "6066 3", shake(V13, swap(ExtensionType.server_name, raw(0, b"\x00\x05\x00\x00\x09ab"))), MALFORMED),
    ("an empty list of names", "6066 3", shake(V13, swap(ExtensionType.server_name, raw(0, b"\x00\x00"))), MALFORMED),
    ("no signature algorithms, 1.3", "8446 9.2", shake(V13, without(ExtensionType.signature_algorithms)),
     {Alert.missing_extension, Alert.handshake_failure}),
    ("no groups, 1.3", "8446 9.2", shake(V13, without(ExtensionType.supported_groups)),
     {Alert.missing_extension, Alert.handshake_failure, Alert.illegal_parameter}),
    ("no key shares, 1.3", "8446 9.2", shake(V13, without(ExtensionType.key_share)),
     {Alert.missing_extension, Alert.handshake_failure, Alert.illegal_parameter}),
    ("only a group that is not had", "8446 4.2.7", shake(V12, swap(ExtensionType.supported_groups, SECP521)), {Alert.handshake_failure}),
    ("a key that has to be asked for", "8446 4.1.4", shake(V13, keyShares=[]), {GOES_ON}),
    ("a key before the ones that count", "8446 4.2.11", shake(V13, add(raw(ExtensionType.pre_shared_key, EARLY_KEY))), MALFORMED),
    ("ways of points without the plain one", "8422 5.1.2", shake(V12, swap(ExtensionType.ec_point_formats, raw(11, b"\x01\x01"))),
     {Alert.illegal_parameter, Alert.handshake_failure, GOES_ON}),
    # Records.
    ("a kind of record that there is not", "8446 5", plain((99, 0x0301, b"abc")), UNEXPECTED),
    ("application data before all", "8446 5.2", plain((23, 0x0303, b"abc")), UNEXPECTED),
    ("what is no TLS", "8446 5", plain_bytes(b"SSH-2.0-OpenSSH_9.2\r\n"), UNEXPECTED),
    ("a record without bytes", "8446 5.1", plain((22, 0x0301, b"")), {*UNEXPECTED, *MALFORMED}),
    ("a record that is too long", "8446 5.1", plain((22, 0x0301, bytes(20_000))), {Alert.record_overflow, *MALFORMED}),
    ("a hello that is cut", "8446 4", plain((22, 0x0301, TINY_HELLO[:6])), {HUNG_UP, *MALFORMED}),
    ("a hello that is too short", "8446 4.1.2", plain((22, 0x0301, TINY_HELLO)), MALFORMED),
    ("a message that says it is very long", "8446 4", plain((22, 0x0301, b"\x01\xff\xff\xff" + bytes(100))),
     {*MALFORMED, *UNEXPECTED, Alert.record_overflow, Alert.handshake_failure}),
    ("a hello of a server", "8446 4", plain((22, 0x0301, b"\x02\x00\x00\x26\x03\x03" + bytes(36))), {*UNEXPECTED, *MALFORMED}),
    ("an alert that is cut", "8446 6", plain((21, 0x0301, b"\x02")), {*MALFORMED, HUNG_UP}),
    ("a heartbeat", "8446 5", plain((24, 0x0303, b"\x01\x40\x00")), UNEXPECTED),
    # In the middle of the handshake.
    ("a hello twice, 1.2", "5246 7.4.1.2", shake(V12, hello_twice), UNEXPECTED),
    ("a hello twice, 1.3", "8446 4.1.2", shake(V13, hello_twice), {*UNEXPECTED, Alert.bad_record_mac}),
    ("a point that is on no curve", "8422 5.11", shake(V12, key_exchange(b"\x04" + bytes(64)), eccCurves=["secp256r1"], keyShares=[]), MALFORMED | {Alert.handshake_failure}),
    ("no point", "8422 5.7", shake(V12, key_exchange(b"")), MALFORMED | {Alert.handshake_failure}),
    ("a Finished that is not right, 1.2", "5246 7.4.9", shake(V12, at(HandshakeType.finished, finished_wrong)), {Alert.decrypt_error}),
    ("a Finished that is not right, 1.3", "8446 4.4.4", shake(V13, at(HandshakeType.finished, finished_wrong)), {Alert.decrypt_error}),
    ("a Finished that is too short, 1.3", "8446 4.4.4", shake(V13, at(HandshakeType.finished, lambda it: [handshake(b"\x14\x00\x00\x03abc")])),
     {Alert.decrypt_error, *MALFORMED}),
    ("application data before Finished, 1.2", "5246 7.4.9", shake(V12, before(HandshakeType.finished, 23, PING)), UNEXPECTED),
    ("application data before Finished, 1.3", "8446 2", shake(V13, before(HandshakeType.finished, 23, PING)), UNEXPECTED),
    ("an alert before Finished", "8446 6.2", shake(V13, before(HandshakeType.finished, 21, b"\x02\x28")), {HUNG_UP, Alert.close_notify, *UNEXPECTED}),
    # After the handshake.
    ("a record that was changed, 1.2", "5246 7.2.2", shake(V12, after=broken_record), {Alert.bad_record_mac}),
    ("a record that was changed, 1.3", "8446 5.2", shake(V13, after=broken_record), {Alert.bad_record_mac}),
    ("bytes that no key has sealed, 1.2", "5246 6.2.3", shake(V12, after=behind_the_keys(b"\x17\x03\x03\x00\x20" + bytes(32))), {Alert.bad_record_mac}),
    ("bytes that no key has sealed, 1.3", "8446 5.2", shake(V13, after=behind_the_keys(b"\x17\x03\x03\x00\x20" + bytes(32))), {Alert.bad_record_mac}),
    ("a record too short for its tag", "8446 5.2", shake(V13, after=behind_the_keys(b"\x17\x03\x03\x00\x04abcd")), {Alert.bad_record_mac, *MALFORMED}),
    ("renegotiation", "5746, 5246 7.2.2", shake(V12, keep_hello, again), {Alert.no_renegotiation, *UNEXPECTED}),
    ("a hello after the handshake, 1.3", "8446 4.1.2", shake(V13, keep_hello, again), UNEXPECTED),
    ("no data in a record, 1.2", "5246 6.2.1", shake(V12, after=after_it(23, b"")), {GOES_ON}),
    ("no data in a record, 1.3", "8446 5.4", shake(V13, after=after_it(23, b"")), {GOES_ON}),
    ("no handshake message in a record, 1.3", "8446 5.1", shake(V13, after=after_it(22, b"")),
     # rustls lets it be (0.23), and nothing comes of it.
     {*UNEXPECTED, *MALFORMED, GOES_ON}),
    ("a kind of record that there is not, sealed", "8446 5.2", shake(V13, after=after_it(99, b"abc")), {*UNEXPECTED, *MALFORMED}),
    ("new keys, and they are used", "8446 4.6.3", shake(V13, after=with_new_keys), {GOES_ON}),
    ("new keys, and the old ones are used", "8446 4.6.3", shake(V13, after=key_update(0)), {Alert.bad_record_mac}),
    ("new keys of a kind that there is not", "8446 4.6.3", shake(V13, after=key_update(7)), MALFORMED),
    ("new keys in TLS 1.2", "5246 7.4", shake(V12, after=key_update(0)), {*UNEXPECTED, *MALFORMED}),
    ("a Finished again", "8446 4.4.4", shake(V13, after=after_it(22, b"\x14\x00\x00\x20" + bytes(32))), UNEXPECTED),
    ("a certificate that nobody asked for", "8446 4.4.2", shake(V13, after=after_it(22, b"\x0b\x00\x00\x04\x00\x00\x00\x00")), UNEXPECTED),
    ("a word of the end", "8446 6.1", shake(V13, after=after_it(21, b"\x01\x00")), {HUNG_UP, Alert.close_notify}),
    ("an alert that kills", "8446 6.2", shake(V13, after=after_it(21, b"\x02\x28")), {HUNG_UP, Alert.close_notify}),
    ("an alert that is cut, sealed", "8446 6", shake(V13, after=after_it(21, b"\x02")), {*MALFORMED, *UNEXPECTED}),
]


def named(outcome):
    return Alert.toRepr(outcome) if isinstance(outcome, int) else outcome


def main():
    global ADDRESS
    ADDRESS = (sys.argv[1], int(sys.argv[2]))
    wrong = 0
    for said, rule, talk, may_be in CONVERSATIONS:
        outcome = heard(talk)
        # Whoever breaks a rule leaves no trace with whoever does not.
        others = heard(shake(V13))
        is_right = outcome in may_be and others == GOES_ON
        wrong += not is_right
        expected = "" if is_right else f", not {' or '.join(sorted(map(named, may_be)))}; the next client: {others}"
        print(f"{'ok   ' if is_right else 'WRONG'} {said} (RFC {rule}): {named(outcome)}{expected}", flush=True)
    print(f"{len(CONVERSATIONS)} conversations, {wrong} of them wrong")
    sys.exit(wrong > 0)


main()
