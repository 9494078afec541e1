# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._system import (
    CpuTimes,
    MemoryGroup,
    MemoryUse,
    Mount,
    Usage,
    clock_measurement,
    clock_sync_measurement,
    container_memory_measurement,
    cpu_measurement,
    cpu_percent,
    disk_measurement,
    inodes_measurement,
    kernel_oom_kills,
    load_measurement,
    memory_group,
    memory_measurement,
    memory_use,
    oom_kills_measurement,
    parse_cpu_times,
    parse_meminfo,
    parse_mountinfo,
    real_mounts,
    size_text,
    swap_measurement,
)

TARGET = Target("host.disk", "host", "/")

MOUNTINFO = """\
22 28 0:21 / /proc rw,nosuid - proc proc rw
23 28 0:22 / /sys rw - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
29 28 8:2 / /var rw - xfs /dev/sda2 rw
30 28 8:2 /log /srv/log rw - xfs /dev/sda2 rw
31 28 0:30 / /run rw - tmpfs tmpfs rw
32 28 7:0 / /snap/x ro - squashfs /dev/loop0 ro
33 28 11:0 / /media/cd ro - iso9660 /dev/sr0 ro
34 28 0:40 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/a
35 28 0:41 / /mnt/nfs rw - nfs4 server:/export rw
36 28 0:42 /@home /home rw - btrfs /dev/sdb rw
37 28 0:43 /@ /b rw - btrfs /dev/sdb rw
38 28 8:3 /resolv.conf /etc/resolv.conf rw - ext4 /dev/sdc rw
39 28 8:3 /volumes/data /var/lib/data rw - ext4 /dev/sdc rw
40 28 8:4 / /images ro - ext4 /dev/sdd ro
41 28 8:5 / /with\\040space rw - ext4 /dev/sde rw
42 28 8:6 / /hidden rw - ext4 /dev/sdf rw
43 28 0:44 / /hidden rw - tmpfs tmpfs rw
broken
44 28 8:7 / /short - ext4
"""


def directories(path: str) -> bool:
    assert path != "/mnt/nfs", "a network filesystem was touched"
    return path != "/etc/resolv.conf"


def test_only_filesystems_that_can_fill_up_count_once_each() -> None:
    mounts = real_mounts(parse_mountinfo(MOUNTINFO), directories)
    assert [mount.mount_point for mount in mounts] == [
        "/", "/b", "/mnt/nfs", "/var", "/var/lib/data", "/with space",
    ]  # fmt: skip
    assert mounts[2].network
    assert not mounts[0].network


def test_an_overlay_counts_at_the_root_where_a_container_plays_the_host() -> None:
    text = "1 0 0:50 / / rw - overlay overlay rw\n2 1 0:51 / /x rw - overlay overlay rw\n"
    assert [one.mount_point for one in real_mounts(parse_mountinfo(text), directories)] == ["/"]


def mount(*options: str) -> Mount:
    return Mount("8:1", "/", "/", "ext4", "/dev/sda1", frozenset(options))


def test_disk_usage_is_what_df_says() -> None:
    usage = Usage(100 << 30, 25 << 30, 20 << 30, 100, 50)
    measured = disk_measurement(TARGET, mount("rw"), usage)
    assert measured.value == 78.9  # 75 used of 95 that ordinary users can use
    assert measured.message == "78.9 % of 95.0 GiB used, 20.0 GiB left"
    assert measured.status is None


def test_a_filesystem_remounted_after_an_error_is_critical() -> None:
    usage = Usage(100, 50, 50, 0, 0)
    measured = disk_measurement(TARGET, mount("ro", "errors=remount-ro"), usage)
    assert measured.status == CRITICAL
    assert disk_measurement(TARGET, mount("rw", "errors=remount-ro"), usage).status is None


def test_sizes_and_inodes_that_are_not_told_are_skipped() -> None:
    empty = Usage(0, 0, 0, 0, 0)
    assert disk_measurement(TARGET, mount("rw"), empty).status == SKIPPED
    assert inodes_measurement(TARGET, empty).status == SKIPPED
    measured = inodes_measurement(TARGET, Usage(1, 1, 1, 200, 50))
    assert (measured.value, measured.message) == (75.0, "75 % of 200 used, 50 left")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (200 << 20, "200 MiB"),
        (3 << 50, "3072 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


MEMINFO = """\
MemTotal:       1000 kB
MemFree:         100 kB
MemAvailable:    400 kB
SwapTotal:       200 kB
SwapFree:         50 kB
HugePages_Total:   3
Odd line
"""


def test_memory_is_what_is_not_available() -> None:
    measured = memory_measurement(TARGET, parse_meminfo(MEMINFO))
    assert (measured.value, measured.message) == (60.0, "60 % of 1000 KiB used, 400 KiB available")


def test_swap() -> None:
    measured = swap_measurement(TARGET, parse_meminfo(MEMINFO))
    assert (measured.value, measured.message) == (75.0, "75 % of 200 KiB used")
    assert swap_measurement(TARGET, {"SwapTotal": 0}).status == SKIPPED


def test_processor_times_leave_out_guests() -> None:
    text = "cpu  10 20 30 40 50 6 7 8 999 999\ncpu0 1 1 1 1\n"
    assert parse_cpu_times(text) == CpuTimes(171, 40, 50, 8)
    assert parse_cpu_times("cpu 1 2 3 4") == CpuTimes(10, 4, 0, 0)


def test_processor_use_leaves_out_waiting_and_the_check_itself() -> None:
    before, after = CpuTimes(1000, 500, 100, 0), CpuTimes(1100, 530, 120, 10)
    assert cpu_percent(before, after) == 50.0
    assert cpu_percent(before, after, own_ticks=20) == 30.0
    assert cpu_percent(before, after, own_ticks=999) == 0.0
    assert cpu_percent(before, before) == 0.0
    measured = cpu_measurement(TARGET, before, after, 0.3)
    assert measured.value == 50.0
    assert measured.message == "50 % used over 0.3 s (iowait 20 %, steal 10 %)"


def test_load_is_per_processor() -> None:
    measured = load_measurement(TARGET, "9.00 8.00 3.00 1/100 12345\n", 2)
    assert measured.value == 1.5
    assert measured.message == "1.5 per processor (load 3, 2 processors)"


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0.0, 0.0, "within 2 s"),
        (2.0, 0.0, "within 2 s"),
        (7.0, 5.0, "at least 5 s ahead of"),
        (-5.0, 5.0, "at least 5 s behind"),
        (3600.0, 3598.0, "ahead of"),
    ],
)
def test_the_clock_is_off_by_what_transit_cannot_explain(
    offset: float, value: float, words: str
) -> None:
    measured = clock_measurement(TARGET, 1_700_000_000.0, 1_700_000_000.0 + offset)
    assert measured.value == value
    assert words in measured.message


def test_no_controllers_time() -> None:
    assert clock_measurement(TARGET, None, 1.0).status == SKIPPED


def test_clock_synchronisation() -> None:
    assert clock_sync_measurement(TARGET, 0x2041, 0, 0).status == WARNING
    measured = clock_sync_measurement(TARGET, 0x2001, 500, 12000)
    assert measured.status == OK
    assert measured.message == "synchronized, estimated error 0.5 ms, at most 12 ms"


V1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V1_CPU = "31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
V1_PART = "30 25 0:26 /docker/node /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V2_UNIFIED = "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        ("0::/system.slice/a.scope\n", V2, (2, "/sys/fs/cgroup/system.slice/a.scope")),
        ("0::/\n", V2, (2, "/sys/fs/cgroup/")),
        ("0::/../../a\n", V2, (2, "/sys/fs/cgroup/a")),
        ("5:cpu:/docker/a\n4:memory:/docker/a\n0::/x\n", V1_CPU + V1 + V2_UNIFIED,
         (1, "/sys/fs/cgroup/memory/docker/a")),
        ("4:memory:/docker/node/docker/a\n", V1_PART, (1, "/sys/fs/cgroup/memory/docker/a")),
        ("4:memory:/docker/node\n", V1_PART, (1, "/sys/fs/cgroup/memory/")),
        ("4:memory:/docker/nodeX/a\n", V1_PART, (1, "/sys/fs/cgroup/memory/docker/nodeX/a")),
        ("4:memory:/a\n0::/a\n", V2, (2, "/sys/fs/cgroup/a")),
        ("4:memory:/a\n", V2, None),
        ("4:memory:/a\n", V1_CPU, None),
        ("", V2, None),
        ("0::\nodd", V2, None),
    ],
)  # fmt: skip
def test_where_a_memory_control_group_is(
    cgroup: str, mountinfo: str, expected: Optional[tuple[int, str]]
) -> None:
    found = memory_group(cgroup, parse_mountinfo(mountinfo))
    assert found == (None if expected is None else MemoryGroup(*expected))


def test_memory_use_of_both_versions() -> None:
    assert memory_use(
        1,
        "1000\n",
        "2000\n",
        "cache 500\ninactive_file 1\ntotal_inactive_file 300\n",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    ) == MemoryUse(700, 2000, 2)
    assert memory_use(
        2, "1000\n", "2000\n", "inactive_file 300\n", "low 0\noom 9\noom_kill 1\n"
    ) == MemoryUse(700, 2000, 1)


def test_no_limit_and_less_than_was_expected() -> None:
    assert memory_use(1, "10", "9223372036854771712", "", "") == MemoryUse(10, None, 0)
    assert memory_use(2, "10", "max\n", "inactive_file 50\n", "odd\n") == MemoryUse(10, None, 0)
    assert memory_use(2, "", "", "", "") == MemoryUse(0, None, 0)


def test_the_fullest_container_speaks_for_the_service() -> None:
    uses = {
        "a-1": MemoryUse(50 << 20, 100 << 20, 0),
        "a-2": MemoryUse(90 << 20, 100 << 20, 0),
        "a-3": MemoryUse(500 << 20, None, 0),
    }
    measured = container_memory_measurement(TARGET, uses)
    assert measured.value == 90.0
    assert measured.message == "a-2: 90.0 MiB of 100 MiB used (90 %)"


def test_no_memory_limit_is_skipped_with_what_is_used() -> None:
    measured = container_memory_measurement(TARGET, {"a": MemoryUse(1 << 20, None, 0)})
    assert measured.status == SKIPPED
    assert measured.message == "the service has no memory limit, it uses 1.0 MiB"
    assert container_memory_measurement(TARGET, {}).message == "the service has no memory limit"


def test_kills_are_added_up_from_both_sources() -> None:
    uses = {"a-1": MemoryUse(0, None, 3), "a-2": MemoryUse(0, None, 0)}
    measured = oom_kills_measurement(TARGET, uses, [])
    assert measured.value == 3
    assert "a-1: 3 killed" in measured.message
    assert oom_kills_measurement(TARGET, uses, ["a-1", "a-2"]).value == 4
    assert oom_kills_measurement(TARGET, {}, ["a-3"], ["a-3"]).value == 1


def test_no_kills_and_none_that_could_be_read() -> None:
    assert oom_kills_measurement(TARGET, {"a": MemoryUse(0, None, 0)}, []).value == 0
    assert oom_kills_measurement(TARGET, {}, []).value == 0
    assert oom_kills_measurement(TARGET, {}, [], ["a"]).status == UNKNOWN


INNER, OUTER, OTHER = "a" * 64, "b" * 64, "c" * 64
KERNEL_LOG = f"""\
<6>[   10.000000] oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/docker/{OTHER},task=old,pid=1
<4>[90000.100000] python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0
<6>[90000.200000] oom-kill:constraint=C,task_memcg=/docker/{OUTER}/docker/{INNER},task=p
[90001.000000] oom-kill:constraint=C,task_memcg=/system.slice/docker-{INNER}.scope,task=p,pid=3
<6>[90002.000000] oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/user.slice,task=q,pid=4
"""


def test_the_kernels_log_outlives_a_restart() -> None:
    assert kernel_oom_kills(KERNEL_LOG, 90010.0, 86400.0) == {INNER: 2}
    assert kernel_oom_kills(KERNEL_LOG, 90010.0, 100000.0) == {INNER: 2, OTHER: 1}
    assert kernel_oom_kills("", 90010.0, 86400.0) == {}
    measured = oom_kills_measurement(TARGET, {"a": MemoryUse(0, None, 1)}, [], [], {"a": 2, "b": 1})
    assert measured.value == 3
    assert "a: 2 killed for want of memory in the last 24 hours" in measured.message
    assert oom_kills_measurement(TARGET, {}, [], ["a"], {}).value == 0
