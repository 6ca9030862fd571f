"""ipykernel through jupyter_client, measured for `cellar bench`.

    python3 ipykernel_bench.py start|cell|output|memory COUNT

Prints one JSON object: figures with their unit in the name, or `why` there are
none. `start`: from nothing to the first result, COUNT times. `cell`: `x+=1`,
COUNT times, until the reply and the kernel's word that it is idle have both
come. `output`: COUNT bytes of stdout in lines of 1 KB. `memory`: an idle
kernel's share of memory.
"""

import json
import sys
import time

PATIENCE_S = 60


def percentile(values, percent):
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def times(values):
    return {"p50_us": percentile(values, 50) * 1e6,
            "p99_us": percentile(values, 99) * 1e6}


class Kernel:
    """A kernel and a client of it; a context."""

    def __enter__(self):
        from jupyter_client import KernelManager
        self.manager = KernelManager(kernel_name="python3")
        self.manager.kernel_cmd = [sys.executable, "-m",
                                   "ipykernel_launcher", "-f",
                                   "{connection_file}"]
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=PATIENCE_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code):
        """Runs it to its end; the number of bytes of stdout, and the value."""
        asked = self.client.execute(code)
        written, value = 0, None
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE_S)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                written += len(content["text"])
            elif kind == "execute_result":
                value = content["data"]["text/plain"]
            elif kind == "error":
                raise RuntimeError(content["evalue"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
        while self.client.get_shell_msg(timeout=PATIENCE_S)[
                "parent_header"].get("msg_id") != asked:
            pass
        return written, value


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def first_result():
    with Kernel() as kernel:
        if kernel.run("1+1")[1] != "2":
            raise RuntimeError("1+1 is not 2")
        ended = time.perf_counter()
    return ended


def start(count):
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        taken.append(first_result() - began)
    return times(taken)


def cell(count):
    with Kernel() as kernel:
        kernel.run("x = 0")
        for _ in range(50):
            kernel.run("x+=1")
        return times([timed(lambda: kernel.run("x+=1"))
                      for _ in range(count)])


def output(count):
    code = "for _ in range(%d): print('x' * 1023)" % (count // 1024)
    with Kernel() as kernel:
        kernel.run("print('x' * 1023)")
        began = time.perf_counter()
        written = kernel.run(code)[0]
        taken = time.perf_counter() - began
    if written != count // 1024 * 1024:
        raise RuntimeError("%d bytes came" % written)
    return {"bytes_per_s": written / taken}


def memory(count):
    with Kernel() as kernel:
        kernel.run("x = 0")
        time.sleep(1)
        pid = kernel.manager.provisioner.process.pid
        with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return {"pss_bytes": int(line.split()[1]) * 1024}
    raise RuntimeError("the kernel tells of no PSS")


def main():
    measure = {"start": start, "cell": cell, "output": output,
               "memory": memory}[sys.argv[1]]
    try:
        import ipykernel
        import jupyter_client
        answer = measure(int(sys.argv[2]))
        answer["version"] = "ipykernel %s, jupyter_client %s" % (
            ipykernel.__version__, jupyter_client.__version__)
    except ImportError as error:
        answer = {"why": "%s: %s; name a Python that has ipykernel and "
                  "jupyter_client with --python" % (sys.executable, error)}
    except Exception as error:
        answer = {"why": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
