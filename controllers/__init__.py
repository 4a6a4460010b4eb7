"""HTTP endpoints; none yet."""
