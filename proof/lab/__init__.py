"""What the programs share: servers of their own, load over HTTP, checkers of what it saw."""
