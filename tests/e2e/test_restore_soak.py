"""A long session in which every fifth cell loses the worker, and in which named
checkpoints are taken and restored. Beside it stands a model, the same program
run here: after each cell the session's values are those of the model after the
last good cell, one by one.

CELLAR_SOAK_CELLS says how many cells, CELLAR_SOAK_SEED which program.
"""

import collections
import os
import random
import time
import unittest

from restoring import FATAL, RestoreTest

CELLS = int(os.environ.get("CELLAR_SOAK_CELLS", "500"))
SEED = int(os.environ.get("CELLAR_SOAK_SEED", "20"))
EVERY = 5
WAYS = ["a fault", "abort", "exit", "a kill", "a timeout", "an interrupt",
        "memory", "another program"]

# What both sides begin with: a value of each kind that is changed in place,
# and objects that refer to one another, in circles too.
PROGRAM = """
import zlib

class Node:
    def __init__(self, name):
        self.name, self.links, self.data = name, [], {}

def dump():
    '''All values, one a line, so that what differs can be seen.'''
    number = {id(node): i for i, node in enumerate(nodes)}
    return [('count', count), ('text', text),
            *sorted(table.items()), *enumerate(numbers),
            ('blob', len(blob), zlib.crc32(blob), bytes(blob[:64])),
            *[(node.name, sorted(node.data.items()),
               [number[id(other)] for other in node.links])
              for node in nodes],
            ('shared', numbers is shared, same is nodes[0])]

count, text = 0, ''
table, numbers, blob, nodes = {}, [], bytearray(4096), [Node('root')]
shared, same = numbers, nodes[0]
"""

STEPS = [
    "table['k%(a)d'] = 'v%(b)d' * %(small)d",
    "table.pop('k%(a)d', None)",
    "numbers.append(%(b)d)",
    "numbers[:] = sorted(numbers)[:%(limit)d]",
    "numbers.insert(len(numbers) // 2, %(b)d.5)",
    "blob[%(at)d:%(at)d + %(small)d] = b'%(letter)s' * %(small)d",
    "blob.extend(b'%(letter)s' * %(b)d)",
    "del blob[:%(b)d]",
    "nodes.append(Node('n%(b)d')); nodes[%(a)d %% len(nodes)]"
    ".links.append(nodes[-1])",
    "nodes[%(a)d %% len(nodes)].links.append(nodes[%(b)d %% len(nodes)])",
    "nodes[%(a)d %% len(nodes)].data['%(letter)s'] = %(b)d",
    "nodes[%(a)d %% len(nodes)].links.clear()",
    "text = (text + '%(letter)s' * %(small)d)[-200:]",
    "text, count = '%(letter)s' + text[:%(a)d], count * 2 %% 1000003",
]


class Program:
    """Cells of a random program, always the same ones."""

    def __init__(self):
        self.random = random.Random(SEED)

    def cell(self):
        lines = ["count += 1"]
        for _ in range(self.random.randrange(1, 6)):
            pick = self.random.randrange
            lines.append(self.random.choice(STEPS) % {
                "a": pick(40), "b": pick(1000), "small": 1 + pick(9),
                "limit": 20 + pick(40), "at": pick(3000),
                "letter": chr(97 + pick(26))})
        return "\n".join(lines)


class Model:
    """What the globals are when every lost cell is as if it never was."""

    def __init__(self, history=()):
        self.names = {}
        self.history = []
        for code in history or [PROGRAM]:
            self.run(code)

    def run(self, code):
        exec(compile(code, "<model>", "exec"), self.names)
        self.history.append(code)

    def dump(self):
        return self.names["dump"]()


class Soak(RestoreTest):
    MEMORY = "192m"

    def setUp(self):
        self.program = Program()
        self.model = Model()
        self.agent = self.live()
        self.good = self.ok(self.agent, PROGRAM).cell
        self.named = {}  # the histories that lead to them
        self.lost = collections.Counter()

    def check(self):
        """This is a cell too, and a good one."""
        done = self.ok(self.agent, "dump()")
        told = eval(done.result[b"text/plain"].decode(),
                    {"__builtins__": {}})
        self.assertEqual(self.model.dump(), told)
        self.good = done.cell

    def run_one(self):
        code = self.program.cell()
        self.good = self.ok(self.agent, code).cell
        self.model.run(code)

    def lose_one(self, i):
        way = WAYS[i // EVERY % len(WAYS)]
        with self.subTest(cell=self.agent.cells + 1, way=way):
            self.assertRestored(self.agent, FATAL[way], self.good,
                                before=self.program.cell() + "\n")
        self.lost[way] += 1

    def keep_one(self):
        name = self.program.random.choice("abcd")
        self.must(self.agent, "checkpoint", name)
        self.named[name] = list(self.model.history)

    def go_back(self):
        name = self.program.random.choice(sorted(self.named))
        self.must(self.agent, "restore", name)
        self.model = Model(self.named[name])
        self.lost["restored by name"] += 1

    def test_every_value_is_that_of_the_last_good_cell(self):
        began = time.monotonic()
        for i in range(CELLS):
            if i % EVERY == EVERY - 1:
                self.lose_one(i)
            else:
                self.run_one()
            if i % 7 == 0:
                self.keep_one()
            if i % 31 == 30:
                self.go_back()
            self.check()
        print("\n  %d cells, and as many that look; %s; %.0f s; seed %d" % (
            CELLS, ", ".join("%s %d" % pair for pair in self.lost.items()),
            time.monotonic() - began, SEED))


if __name__ == "__main__":
    unittest.main()
