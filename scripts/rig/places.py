"""Where the runs put their files: file systems of the benchmark's own where root allows, and what they are.

On ext4 without a journal (as on some build machines' disks) names that were removed in the last minutes make every
creation search, and a sync is not what users have. So rows that make files run in images on loop devices that read and
write their image directly, past the page cache of the disk beneath.
"""

import os
import pathlib
import shutil
import subprocess

from rig.subjects import CannotRun

IMAGE_BYTES = 12 << 30
FREE_BYTES_MIN = 24 << 30
TMPFS_BYTES_MIN = 6 << 30
MAKE = {
    # Empty files of each run stay to the end (measure.clear): 280,000 of them a round, where an image of this size has
    # place for 786,432 by default. With one inode per 4 KiB it has 3,145,728. Its journal is as large as mke2fs makes
    # that of a disk from 128 GiB on: in the 64 MiB of an 8 GiB image, every few seconds of changes a write waits 30 ms
    # for a checkpoint (jbd2_log_do_checkpoint), which on a disk for uploads it does not.
    "ext4": ["mkfs.ext4", "-q", "-F", "-i", "4096", "-J", "size=1024", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}


class Image:
    """A file system in a file, mounted for as long as it is used."""

    def __init__(self, folder, name, kind="ext4", options=(), size=IMAGE_BYTES):
        self.image, self.path = folder / f"{name}.img", folder / name
        self.device = None
        self.path.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(size)
        try:
            run(MAKE[kind] + [self.image])
            self.device = attach(self.image)
            run(["mount", "-o", ",".join(["rw", *options]), self.device, self.path])
        except CannotRun:
            self.close()
            raise

    def close(self):
        subprocess.run(["umount", self.path], check=False, stderr=subprocess.DEVNULL)
        if self.device:
            subprocess.run(["losetup", "-d", self.device], check=False)
        self.image.unlink(missing_ok=True)


class Folder:
    """A disk as it is."""

    def __init__(self, folder):
        self.path = folder

    def close(self):
        pass


def attach(image):
    """A loop device for an image, without a second page cache where the disk beneath allows that."""
    for direct in (["--direct-io=on"], []):
        done = subprocess.run(["losetup", "--find", "--show", *direct, image], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    raise CannotRun(f"losetup: {done.stderr.strip()[-200:]}")


def run(command):
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    except FileNotFoundError:
        raise CannotRun(f"{command[0]} is not installed") from None
    if done.returncode:
        raise CannotRun(f"{command[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")


class Places:
    """The folder of each kind of file system, or why there is none, and what to say of them."""

    def __init__(self, disk, tmpfs, wanted):
        self.folders, self.refused, self.remarks, self.made = {}, {}, [], []
        name = f"bitsd-bench-{os.getpid()}"
        self.own = disk / name
        for kind in wanted:
            try:
                where = tmpfs if kind == "tmpfs" else self.make(kind, disk)
                if kind == "tmpfs" and describe(tmpfs)["kind"] != "tmpfs":
                    raise CannotRun(f"{tmpfs} is on {describe(tmpfs)['kind']}, not on tmpfs (--tmpfs DIR)")
                free = shutil.disk_usage(where).free
                if free < TMPFS_BYTES_MIN:
                    raise CannotRun(f"only {free >> 20} MiB are free in {where}")
                self.folders[kind] = where / name
                self.remarks.append(f"{kind}: {words(describe(where))}.")
            except CannotRun as error:
                self.refused[kind] = str(error)

    def make(self, kind, disk):
        if os.geteuid() != 0:
            found = describe(disk)
            if found["kind"] != kind:
                raise CannotRun(f"{disk} is on {found['kind']}, and only root can mount another file system (--disk DIR)")
            if found["journal"] is False:
                raise CannotRun(f"{disk} is on {kind} without a journal, and only root can mount another file system")
            return disk
        if shutil.disk_usage(disk).free < FREE_BYTES_MIN:
            raise CannotRun(f"less than {FREE_BYTES_MIN >> 30} GiB are free in {disk} (--disk DIR)")
        self.own.mkdir(exist_ok=True)
        image = Image(self.own, kind, kind)
        self.made.append(image)
        return image.path

    def close(self):
        # What is in an image goes with it: to remove a million names one by one takes minutes.
        for image in self.made:
            image.close()
        for folder in self.folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.own, ignore_errors=True)


def describe(folder):
    """The file system that a folder is on: its kind, options and device, and whether it has a journal (ext4)."""
    best, found = "", {"kind": "unknown", "options": "", "device": "", "journal": None}
    path = str(folder.resolve())
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        mount, options = left.split()[4:6]
        kind, device, more = right.split(maxsplit=2)
        if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, found = mount, {"kind": kind, "options": f"{options},{more}", "device": device, "journal": None}
    if found["kind"] == "ext4":
        task = pathlib.Path(f"/sys/fs/ext4/{pathlib.Path(found['device']).name}/journal_task")
        found["journal"] = task.exists() and task.read_text().strip().isdigit()
    return found


def words(found):
    journal = {True: " with a journal", False: " without a journal", None: ""}[found["journal"]]
    options = ",".join(dict.fromkeys(found["options"].split(",")))
    device = pathlib.Path(found["device"]).name
    loop = " (an image, read and written directly)" if device.startswith("loop") else ""
    return f"{found['kind']}{journal}, {options}, on {device}{loop}"


def written_bytes(folder):
    """What was written to the device of a folder so far; None where it has none."""
    device = pathlib.Path(describe(folder)["device"]).name
    stat = pathlib.Path(f"/sys/class/block/{device}/stat")
    # Sectors of 512 bytes, whatever the device has (kernel, Documentation/block/stat.rst).
    return int(stat.read_text().split()[6]) * 512 if stat.exists() else None
