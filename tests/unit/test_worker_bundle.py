"""The worker: what a value shows of itself beside its repr()."""
import unittest

from worker import INTERRUPTED, RESULT_MAX, WorkerTest

PICTURE = """
class Picture:
    def __repr__(self): return '<picture>'
    def _repr_html_(self): return '<b>\u00e4</b>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_svg_(self): return None
    def _repr_latex_(self): raise ValueError('no')
Picture()
"""


class Bundle(WorkerTest):
    def parts(self, code):
        return self.run_cell(code).parts

    def test_the_methods_of_a_class(self):
        self.assertEqual(self.parts(PICTURE), {
            "text/plain": "<picture>", "text/html": "<b>\u00e4</b>",
            "image/png": "iVBORw=="})

    def test_underscore_is_the_value(self):
        self.run_cell(PICTURE)
        self.assertEqual(self.result("type(_).__name__"), "'Picture'")

    def test_a_bundle_comes_before_single_methods(self):
        self.assertEqual(self.parts(
            "class C:\n"
            "    def __repr__(self): return 'C'\n"
            "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
            "        return ({'text/html': 'one', 'text/plain': 'no',\n"
            "                 'application/x': 'x', 7: 'no', 'y': 8}, {})\n"
            "    def _repr_html_(self): return 'two'\n"
            "C()"), {"text/plain": "C", "text/html": "one",
                     "application/x": "x"})

    def test_classes_and_builtins_have_none(self):
        self.run_cell(PICTURE)
        for code in "Picture", "[Picture()]", "1", "'a'", "{}", "len":
            self.assertEqual(list(self.parts(code)), ["text/plain"], code)

    def test_what_does_not_fit_is_left_out_and_said(self):
        parts = self.parts(
            "class C:\n"
            "    def __repr__(self): return 'C'\n"
            "    def _repr_html_(self): return 'x' * %d\n"
            "    def _repr_svg_(self): return 'y'\n"
            "C()" % RESULT_MAX)
        self.assertEqual(parts, {"text/plain": "C", "image/svg+xml": "y"})
        self.worker.wait_output("text/html is left out", 2)

    def test_too_many_parts(self):
        parts = self.parts(
            "class C:\n"
            "    def _repr_mimebundle_(self):\n"
            "        return {'a/%d' % i: 'x' for i in range(100)}\n"
            "C()")
        self.assertEqual(len(parts), 16)

    def test_hostile_methods(self):
        for body in ("return 7", "return [1]", "raise BaseException",
                     "self.__class__ = int", "return type('S', (str,), {})()",
                     "return '\\udc80'", "return {}"):
            self.worker.run(
                "class C:\n"
                "    def _repr_html_(self): %s\n"
                "    _repr_mimebundle_ = _repr_png_ = _repr_html_\n"
                "C()" % body)
            self.assertEqual(self.result("1 + 1"), "2", body)

    def test_an_interrupt_goes_through(self):
        self.worker.send(
            "import sys, time\n"
            "class C:\n"
            "    def _repr_html_(self):\n"
            "        print('there', flush=True)\n"
            "        time.sleep(600)\n"
            "C()")
        self.worker.wait_output("there")
        self.worker.interrupt()
        answer = self.worker.answer()
        self.assertEqual(answer.outcome, INTERRUPTED)
        self.assertEqual(answer.parts, {})

    def test_a_figure_is_a_picture(self):
        """By what matplotlib calls its class; the image has the real one."""
        parts = self.parts(
            "import sys, types\n"
            "class Figure:\n"
            "    def __repr__(self): return 'F'\n"
            "    def savefig(self, file): file.write(b'\\x89PNG')\n"
            "module = types.ModuleType('matplotlib.figure')\n"
            "module.Figure = Figure\n"
            "sys.modules['matplotlib.figure'] = module\n"
            "Figure()")
        self.assertEqual(parts, {"text/plain": "F", "image/png": "iVBORw=="})


if __name__ == "__main__":
    unittest.main()
