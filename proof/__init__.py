"""Long searches for a wrong value; each command of this folder is one. See ``README.md``."""
