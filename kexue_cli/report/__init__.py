"""One static HTML page per run or sweep: opens from disk, needs no network."""
