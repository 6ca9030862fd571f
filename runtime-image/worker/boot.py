# Starts the worker: all the Python that is Cellar's. It must be parsed by any
# Python, 2.7 included, for it is what tells that an image's one is too old.
import sys

if sys.version_info < (3, 8) or sys.implementation.name != "cpython":
    sys.stderr.write("Cellar needs CPython 3.8 or later; %s is Python %s\n"
                     % (sys.executable, " ".join(sys.version.split())))
    sys.exit(203)

try:
    sys.path.insert(0, __file__.rpartition("/")[0])
    import _cellar
except Exception as reason:
    sys.stderr.write("%s could not load Cellar's extension: %s\n"
                     % (sys.executable, reason))
    sys.exit(204)

# The worker runs as the hook that is told of this exception: by then no frame
# of this file is left on the stack, so none is below those of a cell.
sys.excepthook = _cellar.main
raise Exception
