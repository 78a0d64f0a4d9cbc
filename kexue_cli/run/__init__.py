"""What every run has: directory, device, seeds, ranks, signals, console."""
