"""Compiled kernels: building, loading, and what they share."""
