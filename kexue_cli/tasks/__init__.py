"""One room per task."""
