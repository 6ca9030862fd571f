"""Says of a cell's result whether an example's promise is kept.

The rule is doctest's own: the text that the example shows, under the flags of
the page, with the exception's last line where it shows one.
"""

import doctest
import re

CHECKER = doctest.OutputChecker()
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def shown(result):
    """What a prompt would have shown of a cell: its output and its value.

    Like doctest, a prompt begins on a line of its own.
    """
    text = result["stdout"]
    if result["result"] is not None:
        text += result["result"]["text/plain"] + "\n"
    return text + "\n" if text and not text.endswith("\n") else text


def exception_text(result):
    """The end of the traceback: from the exception's name to the last line."""
    lines = result["error"]["traceback"]
    name = re.escape(result["error"]["name"])
    start = re.compile(r"([\w.]+\.)?%s(:|$)" % name)
    for number in range(len(lines) - 1, -1, -1):
        if start.match(lines[number]):
            return "\n".join(lines[number:]) + "\n"
    return ""


def exception_kept(step, result):
    if result["status"] != "error":
        return False
    got, want, flags = exception_text(result), step.exc_msg, step.flags()
    if CHECKER.check_output(want, got, flags):
        return True
    return bool(flags & doctest.IGNORE_EXCEPTION_DETAIL
                and bare_name(want) == bare_name(got))


def bare_name(message):
    """What IGNORE_EXCEPTION_DETAIL leaves of "module.Name: detail"."""
    return message.split("\n")[0].split(":")[0].split(".")[-1].strip()


def kept(step, result):
    """Whether the cell shows what the example promises."""
    if step.exc_msg is not None:
        return exception_kept(step, result)
    return result["status"] == "ok" and CHECKER.check_output(
        step.want, shown(result), step.flags())


def identical(step, result, plain_got):
    """Whether it shows the very text that plain Python showed."""
    if step.exc_msg is not None:
        mine = exception_text(result) if result["status"] == "error" else ""
        return bool(mine) and plain_got.endswith(mine)
    return ADDRESS.sub("0x", shown(result)) == ADDRESS.sub("0x", plain_got)
