"""Runs a program under a seccomp profile as Docker and podman read it: PROFILE PROGRAM ARGUMENTS."""

import json
import os
import sys

import seccomp

with open(sys.argv[1], encoding="utf-8") as file:
    profile = json.load(file)
assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
rules = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
for group in profile["syscalls"]:
    assert group["action"] == "SCMP_ACT_ALLOW"
    arguments = []
    for rule in group.get("args", []):
        assert rule["op"] == "SCMP_CMP_MASKED_EQ"
        arguments.append(seccomp.Arg(rule["index"], seccomp.MASKED_EQ, rule["value"], rule["valueTwo"]))
    for name in group["names"]:
        try:
            rules.add_rule(seccomp.ALLOW, name, *arguments)
        except (OSError, RuntimeError):
            # One of another architecture, or newer than the library.
            assert not arguments, name
rules.load()
os.execvp(sys.argv[2], sys.argv[2:])
