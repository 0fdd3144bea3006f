"""System calls by their numbers on (x86_64, aarch64), and what a plan that makes one of them gets.

Sources: Linux ``arch/x86/entry/syscalls/syscall_64.tbl``, ``include/uapi/asm-generic/unistd.h``,
``include/uapi/linux/fcntl.h`` and ``include/uapi/asm-generic/mman-common.h``.
"""

from __future__ import annotations

REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "mincore": (27, 232),
    "ustat": (136, None),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "io_setup": (206, 0),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "personality": (135, 92),
    "process_mrelease": (448, 448),
    "nfsservctl": (180, 42),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
"""These get EPERM. System V objects and queues are memory that no process shows."""

MISSING: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "pidfd_open": (434, 434),
    "cachestat": (451, 451),
    "openat2": (437, 437),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "sysinfo": (99, 179),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "timer_create": (222, 107),
    "futex_waitv": (449, 449),
    "futex_wake": (454, 454),
    "futex_wait": (455, 455),
    "futex_requeue": (456, 456),
}
"""Answered as by a kernel without them, so that libraries fall back: from clone3 to clone, whose flags a filter can
read, and from anonymous files, which are in no process's count as long as no process maps them, to files in sized
folders. The others tell what happens outside: which shared files are opened (inotify) or in memory (cachestat, preadv2
with RWF_NOWAIT), which names were looked up (openat2 with RESOLVE_CACHED), how many processes there are (sysinfo, the
number of a pidfd) and how full the disk is (statfs). A timer can send SIGCONT to its own process, which would wake a
frozen worker. No C library uses the newer calls for futexes, by which one thread waits on 128 of them: two sandboxes
share those on pages of files that both see.
"""

DONE: dict[str, tuple[int, int]] = {
    "flock": (73, 32),
    "fadvise64": (221, 223),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "sync_file_range": (277, 84),
}
"""Answered with success, and nothing is done. A lock on a read-only file would be seen by every other sandbox that has
the same file, and so would advice that drops it from memory. What a plan can write is in memory and goes to no disk.
"""

FCNTL = (72, 25)
LOCKS = (6, 7, 37, 38)
"""F_SETLK, F_SETLKW, F_OFD_SETLK and F_OFD_SETLKW: answered with success, and nothing is locked."""

FILE_CONTROLS = (0, 1, 2, 3, 4, 5, 8, 9, 15, 16, 36, 1030, 1031, 1032, 1033, 1034)
"""The other commands of fcntl that a plan may use: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETOWN,
F_GETOWN, F_SETOWN_EX, F_GETOWN_EX, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS and
F_GET_SEALS. Not among them: leases, notes about a folder and hints about a file's life, which two sandboxes with the
same read-only file would share, and F_SETSIG, which turns what the agent reads into a SIGCONT for a frozen worker.
"""

MADVISE = (28, 233)
EVICTIONS = (20, 21)
"""MADV_COLD and MADV_PAGEOUT: another sandbox can measure which pages of a shared file are in memory."""
