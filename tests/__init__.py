from . import test_promises
