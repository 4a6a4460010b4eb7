from . import test_promises
from . import test_capture
from . import test_isolation
from . import test_journal
from . import test_versions
