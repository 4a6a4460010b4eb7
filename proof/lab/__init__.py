"""What the programs share: checkers and whatever else has its own tests in ``tests/``."""
