#!/bin/bash
# Runs in the Debian that tests/package.rs boots, as root, and switches it off at the end. In
# /given: the packages old/ and new/, and the commands of docs/operations.md.
set -Eeuo pipefail
exec >/given/told 2>&1
trap 'code=$?; [ "$code" = 0 ] && echo ALL IS WELL || tell; systemctl poweroff --no-block' EXIT

tell() {
    echo "FAILED in line $line: $code"
    systemctl status bitsd --no-pager --lines 0 || true
    journalctl --sync || true
    journalctl -u bitsd -o short-monotonic --no-pager --lines 60 || true
}
trap 'line=$LINENO' ERR
line=0

# Waits for a condition, within bounds.
until_so() {
    local deadline=$((SECONDS + 180))
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "waited in vain: $*"
            return 1
        fi
        sleep 0.1
    done
}
fails() { ! "$@"; }
step() { echo "== $* ($SECONDS s)"; }
# So many reloads have come to an end that were good.
reloaded() { [ "$(journalctl -u bitsd -o cat | grep -c event=reloaded)" -ge "$1" ]; }
says() { grep -q -- "$2" <<<"$1" || { echo "not said: $2 in: $1"; return 1; }; }

export DEBIAN_FRONTEND=noninteractive HOME=/root
echo 'APT::Get::Assume-Yes "true"; DPkg::Options { "--force-confold"; };' >/etc/apt/apt.conf.d/90test
ip link set lo up
echo "127.0.1.1 $(cat /proc/sys/kernel/hostname)" >>/etc/hosts
# The packages may not be read by apt's own user where they are.
install -d /packages && cp -r /given/old /given/new /packages

step "the commands of the guide, from nothing to a watched service"
cd /packages/old
mapfile -t commands </given/commands
[ "${#commands[@]}" -le 5 ]
for command in "${commands[@]}"; do
    echo "\$ $command"
    # Installing starts nothing.
    if [[ $command == *"enable --now"* ]]; then fails systemctl is-active --quiet bitsd; fi
    # bash reads them from a person as well.
    bash -euc "$command"
done
cd /root
until_so curl -fsS http://127.0.0.1:9180/ready
watched() { curl -fsSG http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=up{job="bitsd"}' | grep -q '"1"'; }
until_so watched
curl -fsS http://127.0.0.1:9090/api/v1/rules | grep -q BitsdDown

step "it serves"
echo hello >hello.txt
bitsd put hello.txt http://127.0.0.1:8080/
cmp hello.txt /var/lib/bitsd/hello.txt
[ "$(stat -c '%U %G %a' /var/lib/bitsd/hello.txt)" = "bitsd bitsd 640" ]
says "$(systemctl status bitsd --no-pager)" "Status:"
says "$(systemctl show bitsd -p ActiveState)" active
# Whoever is not of the group may not ask.
fails setpriv --reuid=65534 --regid=65534 --clear-groups bitsd status
setpriv --reuid=65534 --regid=65534 --groups="$(getent group bitsd | cut -d: -f3)" bitsd status >/dev/null
man -w bitsd >/dev/null 2>&1 || [ -e /usr/share/man/man1/bitsd.1.gz ]
[ "$(stat -c '%U %G %a' /etc/bitsd)" = "root bitsd 750" ]

step "a reload with a good file, and with a bad one"
pid=$(systemctl show bitsd -P MainPID)
cp /etc/bitsd.toml /root/good.toml
sed -i '1i upload_bytes_max = 3' /etc/bitsd.toml
systemctl reload bitsd
until_so reloaded 1
fails bitsd put --no-resume hello.txt http://127.0.0.1:8080/four.txt
cp /root/good.toml /etc/bitsd.toml
sed -i '1i alow_overwrite = true' /etc/bitsd.toml
fails systemctl reload bitsd
says "$(journalctl -u bitsd -n 20 -o cat)" "did you mean allow_overwrite"
[ "$(systemctl is-active bitsd)" = active ]
fails bitsd put --no-resume hello.txt http://127.0.0.1:8080/four.txt
cp /root/good.toml /etc/bitsd.toml
systemctl reload bitsd
until_so reloaded 2
bitsd put hello.txt http://127.0.0.1:8080/four.txt
[ "$pid" = "$(systemctl show bitsd -P MainPID)" ]

step "a shard that has no turn is found, and the service started again"
install -d /run/systemd/system/bitsd.service.d
printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n' >/run/systemd/system/bitsd.service.d/quick.conf
systemctl daemon-reload && systemctl restart bitsd
kill -STOP "$(systemctl show bitsd -P MainPID)"
restarted() { [ "$(systemctl show bitsd -P NRestarts)" -ge 1 ]; }
until_so restarted
until_so systemctl is-active bitsd
rm /run/systemd/system/bitsd.service.d/quick.conf
systemctl daemon-reload && systemctl restart bitsd

# One packet of BITS.
packet() {
    local kind=$1
    shift
    curl -fsS -o /dev/null -D /root/head -X BITS_POST -H "BITS-Packet-Type: $kind" "$@" http://127.0.0.1:8080/half.txt
}
step "an upgrade and a downgrade, with an upload under way"
packet Create-Session -H 'BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}' -H 'Content-Length: 0'
session=$(tr -d '\r' </root/head | sed -n 's/^BITS-Session-Id: *//Ip')
packet Fragment -H "BITS-Session-Id: $session" -H 'Content-Range: bytes 0-4/15' --data-binary 01234
first=$(dpkg-query -f '${Version}' -W bitsd)
apt install /packages/new/*.deb
dpkg --compare-versions "$(dpkg-query -f '${Version}' -W bitsd)" gt "$first"
until_so curl -fsS http://127.0.0.1:9180/ready
packet Fragment -H "BITS-Session-Id: $session" -H 'Content-Range: bytes 5-9/15' --data-binary 56789
apt install --allow-downgrades /packages/old/*.deb
[ "$first" = "$(dpkg-query -f '${Version}' -W bitsd)" ]
until_so curl -fsS http://127.0.0.1:9180/ready
packet Fragment -H "BITS-Session-Id: $session" -H 'Content-Range: bytes 10-14/15' --data-binary abcde
packet Close-Session -H "BITS-Session-Id: $session" -H 'Content-Length: 0'
[ "$(cat /var/lib/bitsd/half.txt)" = 0123456789abcde ]
cmp /root/good.toml /etc/bitsd.toml

step "restarts that no client notices"
knock() {
    while [ -e /root/knocking ]; do
        curl -fsS --max-time 60 -o /dev/null -X BITS_POST -H 'BITS-Packet-Type: Ping' \
            -H 'Content-Length: 0' http://127.0.0.1:8080/x || echo missed >>/root/missed
        echo >>/root/knocked
    done
}
ready() { [ "$(systemctl show bitsd -P ActiveState)" = active ] && curl -fsS http://127.0.0.1:9180/ready; }
touch /root/knocking
for _ in 1 2 3; do knock & done
for _ in 1 2 3 4 5; do
    # More than some starts within seconds would be too many.
    systemctl reset-failed bitsd
    systemctl restart bitsd
    until_so ready
done
pid=$(systemctl show bitsd -P MainPID)
made_way() { [ "$(journalctl -u bitsd -o cat | grep -c event=making_way)" -ge "$1" ]; }
for count in 1 2 3; do
    systemctl kill --signal=SIGUSR2 --kill-who=main bitsd
    until_so made_way "$count"
    until_so ready
done
[ "$pid" = "$(systemctl show bitsd -P MainPID)" ]
# A version that does not start: the listeners wait with systemd for one that does.
install -d /run/systemd/system/bitsd.service.d
printf '[Service]\nExecStartPre=/bin/sh -c "[ ! -e /run/broken ]"\nRestartSec=500ms\n' \
    >/run/systemd/system/bitsd.service.d/broken.conf
systemctl daemon-reload
systemctl reset-failed bitsd
touch /run/broken
fails systemctl restart bitsd
rm /run/broken
until_so ready
rm /run/systemd/system/bitsd.service.d/broken.conf
systemctl daemon-reload
rm /root/knocking
wait
[ ! -e /root/missed ]
[ "$(wc -l </root/knocked)" -gt 50 ]

step "a folder's group is its uploads'"
groupadd readers
install -d -o bitsd -g readers -m 2750 /var/lib/bitsd/shared
printf '[Service]\nSupplementaryGroups=readers\n' >/run/systemd/system/bitsd.service.d/group.conf
systemctl daemon-reload && systemctl restart bitsd
bitsd put hello.txt http://127.0.0.1:8080/shared/a.txt
[ "$(stat -c '%U %G %a' /var/lib/bitsd/shared/a.txt)" = "bitsd readers 640" ]

step "old uploads are removed by the example"
install -d -o bitsd -g bitsd /var/lib/bitsd/a-root
touch -d '100 days ago' /var/lib/bitsd/four.txt /var/lib/bitsd/.bitsd/old /var/lib/bitsd/a-root
systemd-tmpfiles --clean /usr/share/doc/bitsd/examples/retention.conf
[ ! -e /var/lib/bitsd/four.txt ] && [ -e /var/lib/bitsd/hello.txt ] && [ -e /var/lib/bitsd/.bitsd/old ]
[ -d /var/lib/bitsd/a-root ]
rm /var/lib/bitsd/.bitsd/old

step "port 80, and roots elsewhere, by the commands of the guide"
bash -eu /given/ports >/dev/null
bash -eu /given/roots >/dev/null
until_so curl -fsS http://127.0.0.1:9180/ready
bitsd put hello.txt http://127.0.0.1/logs/a.txt
bitsd put hello.txt 'http://[::1]/dumps/b.txt'
cmp hello.txt /srv/logs/a.txt && cmp hello.txt /srv/dumps/b.txt

step "a custody ledger, in the folder that is ready for it"
sed -i '1i custody = "/var/lib/bitsd-custody"' /etc/bitsd.toml
systemctl restart bitsd
until_so curl -fsS http://127.0.0.1:9180/ready
bitsd put hello.txt http://127.0.0.1/logs/custody.txt
bitsd custody verify --files
grep -q '"root":"/srv/logs","path":"custody.txt"' /var/lib/bitsd-custody/*.jsonl

step "removed, and purged: the uploads stay"
apt remove bitsd
fails systemctl is-active --quiet bitsd
fails curl -fsS --max-time 5 http://127.0.0.1:9180/live
[ -e /etc/bitsd.toml ] && [ ! -e /usr/bin/bitsd ]
apt purge bitsd
[ ! -e /etc/bitsd.toml ] && cmp hello.txt /var/lib/bitsd/hello.txt
[ -n "$(ls /var/lib/bitsd-custody)" ]

step "without the package, by the commands of INSTALL"
tar --extract --gzip --directory /root --file /packages/old/bitsd-*.tar.gz
cd /root/bitsd-*-linux
sed -n 's/^    //p' INSTALL >/root/install
[ "$(wc -l </root/install)" -ge 8 ]
bash -eux /root/install
# It was elsewhere before.
hash -r
until_so curl -fsS http://127.0.0.1:9180/ready
bitsd put /root/hello.txt http://127.0.0.1:8080/tarball.txt
cmp /root/hello.txt /var/lib/bitsd/tarball.txt
[ "$(readlink "/proc/$(systemctl show bitsd -P MainPID)/exe")" = /usr/local/bin/bitsd ]
