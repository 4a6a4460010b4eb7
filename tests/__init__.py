from . import test_promises
from . import test_capture
from . import test_isolation
