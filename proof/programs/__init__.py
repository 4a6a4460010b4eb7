"""One module per command of ``proof/``, started by ``launch`` as its main program."""

import signal
import sys

# Whoever ends a program by SIGTERM gets its servers ended and its folders removed, too.
signal.signal(signal.SIGTERM, lambda *_args: sys.exit(143))
