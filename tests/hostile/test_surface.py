"""Escape and surface: what a cell can reach beyond itself."""

import unittest

from hostile import HostileTest


class Agent(HostileTest):
    """The agent (PID 1) holds the key and the stream."""

    def test_its_files_in_proc(self):
        self.assertRefused(
            "[(name, attempt(open, '/proc/1/' + name, 'rb')) for name in\n"
            " ('mem', 'environ', 'maps', 'auxv', 'smaps', 'io', 'pagemap',\n"
            "  'syscall', 'stack', 'personality', 'map_files')]",
            "EACCES", "EPERM", "ENOENT")
        self.assertRefused(
            "[(n, attempt(os.readlink, '/proc/1/' + n))\n"
            " for n in ('exe', 'cwd', 'root', 'fd/0', 'fd/1', 'fd/2')]",
            "EACCES", "EPERM")
        self.assertRefused("[attempt(os.listdir, '/proc/1/' + n)\n"
                           " for n in ('fd', 'fdinfo', 'map_files', 'root')]",
                           "EACCES", "EPERM", "ENOENT")

    def test_its_stdio(self):
        self.assertRefused(
            "[(n, mode, attempt(open, '/proc/1/fd/%d' % n, mode))\n"
            " for n in range(16) for mode in ('rb', 'wb', 'r+b')]",
            "EACCES", "EPERM")
        self.assertRefused(
            "[attempt(lambda: os.open('/proc/1/task/1/fd/1', os.O_WRONLY))]",
            "EACCES", "EPERM")

    def test_ptrace_and_its_relatives(self):
        self.assertRefused(
            "[('attach', syscall(101, 16, 1, 0, 0)),\n"
            " ('seize', syscall(101, 0x4206, 1, 0, 0)),\n"
            " ('readv', syscall(310, 1, ctypes.c_void_p(0), 0,\n"
            "                   ctypes.c_void_p(0), 0, 0)),\n"
            " ('kcmp', syscall(312, 1, os.getpid(), 0, 0, 0))]",
            "EPERM", "EACCES", "ENOSYS")

    def test_reading_its_memory(self):
        self.assertRefused(
            "buffer = ctypes.create_string_buffer(8)\n"
            "iov = struct.pack('PN', ctypes.addressof(buffer), 8)\n"
            "far = struct.pack('PN', 0x400000, 8)\n"
            "[syscall(310, 1, iov, 1, far, 1, 0),\n"
            " syscall(311, 1, iov, 1, far, 1, 0)]",
            "EPERM", "EACCES", "ENOSYS")

    def test_pidfds(self):
        self.assertRefused(
            "def steal():\n"
            "    fd = libc.syscall(434, 1, 0)\n"
            "    return 'EPERM' if fd < 0 else syscall(438, fd, 1, 0)\n"
            "[steal(), syscall(438, 0, 1, 0)]",
            "EPERM", "EACCES", "ENOSYS", "EBADF")

    def test_signals_do_nothing_to_it(self):
        self.ok("for n in range(1, 65):\n"
                "    try: os.kill(1, n)\n"
                "    except OSError: pass")

    def test_limits_and_priorities(self):
        self.assertRefused(
            "import resource\n"
            "zero = struct.pack('QQ', 0, 0)\n"
            "[syscall(302, 1, limit, zero, None) for limit in range(16)]",
            "EPERM", "EACCES", "ENOSYS")
        self.assertRefused(
            "[attempt(os.sched_setscheduler, 1, os.SCHED_IDLE,\n"
            "         os.sched_param(0)),\n"
            " attempt(os.setpriority, os.PRIO_PROCESS, 1, 19),\n"
            " attempt(os.sched_setaffinity, 1, {0}),\n"
            " syscall(251, 1, 1, 3 << 13)]",
            "EPERM", "EACCES", "ENOSYS")

    def test_it_can_neither_be_stopped_nor_killed_in_a_group(self):
        for target in "-1", "1", "-1 << 31":
            with self.subTest(target=target):
                self.assertRefused("[attempt(os.kill, %s, n)\n"
                                   " for n in (0, 9, 18, 19)]" % target,
                                   "EPERM", "ESRCH")
        for how, status in (("kill(0, 9)", "killed"),
                            ("killpg(os.getpgrp(), 9)", "killed"),
                            ("kill(0, 19)", "timeout")):
            with self.subTest(how=how):
                result = self.cell("import os\nos.%s\nos.pause()" % how,
                                   "--timeout", "2s")
                self.assertEqual((status, "restored"),
                                 (result["status"], result["state"]))
                self.assertAlive()


class Kernel(HostileTest):
    def test_what_status_says(self):
        lines = self.out("print(open('/proc/self/status').read())")
        fields = dict(line.split(":\t", 1) for line in lines.splitlines()
                      if ":\t" in line)
        self.assertEqual(("1", "2"),
                         (fields["NoNewPrivs"], fields["Seccomp"]))
        for name in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
            self.assertEqual(0, int(fields[name], 16), name)
        self.assertEqual(1, len(set(fields["Uid"].split())))
        self.assertGreater(int(fields["Uid"].split()[0]), 61000)
        self.assertIn(fields["Groups"].strip(),
                      ("", fields["Gid"].split()[0]))

    def test_namespaces_and_mounts(self):
        self.assertRefused(
            "[('unshare', flag, syscall(272, flag)) for flag in\n"
            " (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x4000000)] + [\n"
            " ('clone', syscall(56, 0x10000000 | 17, 0, 0, 0, 0)),\n"
            " ('mount', syscall(165, b'none', b'/tmp', b'tmpfs', 0, None)),\n"
            " ('umount', syscall(166, b'/tmp', 0)),\n"
            " ('pivot', syscall(155, b'/tmp', b'/tmp')),\n"
            " ('chroot', attempt(os.chroot, '/tmp')),\n"
            " ('mknod', attempt(os.mknod, '/tmp/n', 0o20600, 259)),\n"
            " ('setns', syscall(308, os.open('/proc/self/ns/net', 0), 0))]",
            "EPERM", "EACCES", "ENOSYS")

    def test_clone3_with_namespaces(self):
        self.assertRefused(
            "arguments = struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17,\n"
            "                        0, 0, 0)\n"
            "[syscall(435, arguments, len(arguments))]",
            "EPERM", "ENOSYS")

    def test_becoming_somebody_else(self):
        self.assertRefused(
            "[attempt(os.setuid, 0), attempt(os.setgid, 0),\n"
            " attempt(os.setgroups, [0]), attempt(os.setresuid, 0, 0, 0)]",
            "EPERM")

    def test_rare_system_calls(self):
        self.assertRefused(
            "buffer = ctypes.create_string_buffer(128)\n"
            "[('io_uring', syscall(425, 1, buffer)),\n"
            " ('bpf', syscall(321, 0, buffer, 128)),\n"
            " ('userfaultfd', syscall(323, 0)),\n"
            " ('keyctl', syscall(250, 0, -3, 0)),\n"
            " ('add_key', syscall(248, b'user', b'k', b'v', 1, -3)),\n"
            " ('perf', syscall(298, buffer, 0, -1, -1, 0)),\n"
            " ('memfd_secret', syscall(447, 0)),\n"
            " ('by_handle', syscall(304, -100, buffer, 0)),\n"
            " ('kexec', syscall(246, 0, 0, None, 0)),\n"
            " ('module', syscall(175, buffer, 128, b'')),\n"
            " ('reboot', syscall(169, 0xfee1dead, 672274793, 0)),\n"
            " ('swapon', syscall(167, b'/tmp', 0)),\n"
            " ('quotactl', syscall(179, 0, None, 0, None)),\n"
            " ('fanotify', syscall(300, 0, 0))]",
            "EPERM", "EACCES", "ENOSYS")

    def test_writing_to_the_kernels_files(self):
        self.assertRefused(
            "import glob\n"
            "[(path, attempt(open, path, 'w')) for path in\n"
            " ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger',\n"
            "  '/proc/sys/vm/overcommit_memory', '/sys/kernel/uevent_helper',\n"
            "  '/proc/self/oom_score_adj', '/proc/self/oom_adj'] +\n"
            " glob.glob('/sys/fs/cgroup/**/release_agent', recursive=True) +\n"
            " glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True)]",
            "EACCES", "EPERM", "EROFS", "ENOENT")

    def test_the_engines_sockets_are_absent(self):
        self.assertRefused(
            "[attempt(os.stat, path) for path in ('/var/run/docker.sock',\n"
            " '/run/docker.sock', '/run/containerd', '/run/podman')]",
            "ENOENT", "EACCES")


class Network(HostileTest):
    def test_no_address_answers(self):
        self.assertRefused(
            "[(a, attempt(socket.create_connection, a, 2)) for a in\n"
            " (('169.254.169.254', 80), ('1.1.1.1', 53),\n"
            "  ('172.17.0.1', 2375), ('10.0.0.1', 80), ('::1', 80))]",
            "ENETUNREACH", "EPERM", "EACCES", "EAFNOSUPPORT",
            "ECONNREFUSED", "EADDRNOTAVAIL")

    def test_only_loopback_is_there(self):
        self.assertEqual("['lo']", self.value(
            "[name for _, name in socket.if_nameindex()]"))

    def test_no_name_is_found(self):
        self.assertEqual("gaierror", self.cell(
            "socket.getaddrinfo('example.org', 80)")["error"]["name"])

    def test_other_families(self):
        self.assertRefused(
            "[(f, attempt(socket.socket, f, t, p)) for f, t, p in\n"
            " ((17, 3, 0), (40, 1, 0), (2, 3, 255), (38, 5, 0))]",
            "EPERM", "EACCES", "EAFNOSUPPORT", "ESOCKTNOSUPPORT",
            "EPROTONOSUPPORT")


class Files(HostileTest):
    def test_the_file_system_is_read_only(self):
        self.assertRefused(
            "[(p, attempt(open, p + '/stain', 'w')) for p in\n"
            " ('', '/usr', '/usr/bin', '/etc', '/cellar', '/root', '/var',\n"
            "  '/proc', '/sys', '/dev', '/home', '/run', '/var/tmp')]",
            "EROFS", "EACCES", "EPERM", "ENOENT")

    def test_cellars_own_files(self):
        self.assertRefused(
            "[(f, attempt(open, '/cellar/' + f, 'r+b'))\n"
            " for f in os.listdir('/cellar')\n"
            " if not os.path.isdir('/cellar/' + f)] + [\n"
            " attempt(open, '/proc/self/exe', 'r+b'),\n"
            " attempt(os.unlink, '/cellar/agent'),\n"
            " attempt(os.rename, '/cellar', '/cellar2'),\n"
            " attempt(os.chmod, '/cellar/agent', 0o777)]",
            "EROFS", "EACCES", "EPERM", "ETXTBSY")

    def test_the_agents_program_cannot_be_read(self):
        self.assertRefused("[attempt(open, '/cellar/agent', 'rb')]", "EACCES")

    def test_a_program_in_tmp_does_not_run(self):
        self.assertRefused(
            "import shutil, subprocess\n"
            "words = []\n"
            "for folder in '/tmp', '/dev/shm':\n"
            "    shutil.copy('/bin/true', folder + '/mine')\n"
            "    os.chmod(folder + '/mine', 0o755)\n"
            "    words.append(attempt(subprocess.run, [folder + '/mine']))\n"
            "    os.unlink(folder + '/mine')\n"
            "words", "EACCES", "EPERM")

    def test_a_library_in_tmp_is_not_loaded(self):
        self.assertEqual("'refused'", self.value(
            "import glob, shutil\n"
            "shutil.copy(glob.glob('/lib/*/libm.so.6')[0], '/tmp/m.so')\n"
            "try: ctypes.CDLL('/tmp/m.so'); word = 'allowed'\n"
            "except OSError: word = 'refused'\n"
            "os.unlink('/tmp/m.so')\nword"))

    def test_open_files_are_the_workers_own(self):
        links = eval(self.value(
            "[os.readlink('/proc/self/fd/' + n)\n"
            " for n in os.listdir('/proc/self/fd')\n"
            " if os.path.lexists('/proc/self/fd/' + n)]"))
        for link in links:
            self.assertRegex(link, r"^(pipe:|socket:|/dev/null$|anon_inode:)")

    def test_no_setuid_program_is_there(self):
        """Or none that counts: this machine's own /usr is mounted nosuid."""
        self.assertEqual("[]", self.value(
            "found = []\n"
            "for folder, _, names in os.walk('/usr'):\n"
            "    for name in names:\n"
            "        path = os.path.join(folder, name)\n"
            "        if not os.path.islink(path) and \\\n"
            "                os.stat(path).st_mode & 0o6000 and \\\n"
            "                not os.statvfs(path).f_flag & os.ST_NOSUID:\n"
            "            found.append(path)\n"
            "found"))


if __name__ == "__main__":
    unittest.main()
